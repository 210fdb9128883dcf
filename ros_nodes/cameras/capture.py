"""The capture thread: opens a source, reads it, opens it again when it is lost. Waits for nobody.

Frames go into a slot that holds the newest one alone (of each stream, where they come one by one). So a
publisher that is held up by a slow network or subscriber costs frames on its own side, counted, and never
delays a stamp or fills the driver's queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ArmchairError, MachineError
from ros_nodes.cameras.backoff import Backoff
from ros_nodes.cameras.clock import DeviceClock, WallClock
from ros_nodes.cameras.frames import Clock, Device, Frame, Picture, Source, SourceEnded, SourceLost
from ros_nodes.cameras.health import Limits, Report, StreamHealth

T = TypeVar("T")

READ_TIMEOUT_S = 0.2
"""How late a stop may be noticed while a source is silent."""


class Newest(Generic[T]):
    """The newest value of each key between two threads; one that was not taken is replaced and counted."""

    def __init__(self) -> None:
        self._filled = threading.Condition()
        self._values: dict[str, T] = {}
        self.dropped = 0

    def put(self, value: T, key: str = "") -> None:
        """Replace what is there under `key`; never waits for the taker."""
        with self._filled:
            self.dropped += self._values.pop(key, None) is not None
            self._values[key] = value
            self._filled.notify()

    def take(self, timeout_s: float) -> T | None:
        """The value that has waited longest, or None when none came in time."""
        with self._filled:
            if not self._filled.wait_for(lambda: bool(self._values), timeout_s):
                return None
            return self._values.pop(next(iter(self._values)))


@dataclass(frozen=True)
class Shot:
    """A frame that is new, with its stamp on the wall clock of this host, ns."""

    pictures: tuple[Picture, ...]
    stamp_ns: int


@dataclass(frozen=True)
class Patience:
    """How long a camera is waited for."""

    first_s: float = 30.0
    """For the device to appear at the start; negative: for ever."""
    silent_s: float = 5.0
    """Without a frame, after which the device is opened anew."""
    longest_retry_s: float = 6.0
    """Between two attempts to open it."""


@dataclass
class Connection:
    """The state of the connection to the device."""

    device: str = ""
    """Its name, once it was opened."""
    connected: bool = False
    reconnects: int = 0
    problem: str = "not opened yet"
    """Why it is not connected."""
    attempts: int = 0
    """Since the last frame."""
    clock_restarts: int = 0


@dataclass
class Capture:
    """Runs a source in a thread of its own; `slot` gets the frames."""

    source: Source
    patience: Patience
    backoff: Backoff
    log: Callable[[str], None]
    latency_ns: int = 0
    """Taken off every stamp: from exposure to the moment that the stamp tells."""
    slot: Newest[Shot] = field(default_factory=Newest)
    connection: Connection = field(default_factory=Connection)
    failure: ArmchairError | None = None
    """What ended the thread, if it was not `stop`."""
    ended: bool = False
    """The source has nothing more."""
    device: Device | None = None

    def __post_init__(self) -> None:
        now_ns = time.monotonic_ns()
        self._began_ns = now_ns
        self._lock = threading.Lock()
        self._health = {stream: StreamHealth(Limits(0), now_ns) for stream in self.source.streams}
        self._pixels: dict[str, NDArray[Any]] = {}
        self._wall = WallClock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience_s: float) -> bool:
        """End the thread and free the device; False when a driver holds it longer than `patience_s`."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(patience_s)
        return not self._thread.is_alive()

    def is_running(self) -> bool:
        """Whether the thread lives; an error of the program ends it without `failure` or `ended`."""
        return self._thread.is_alive()

    def reports(self, now_ns: int) -> dict[str, Report]:
        """The state of each stream."""
        with self._lock:
            return {stream: health.report(now_ns) for stream, health in self._health.items()}

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._connect()
                    self._read()
                except MachineError as error:
                    self._lost(error)
        except SourceEnded:
            self.ended = True
        except ArmchairError as error:
            self.failure = error
        finally:
            self.connection.connected = False
            self.source.close()

    def _connect(self) -> None:
        device = self.source.open()
        self.log(f"opened {device.name}: {', '.join(device.streams)}")
        again = self.device is not None
        self.device = device
        now_ns = time.monotonic_ns()
        with self._lock:
            for stream, health in self._health.items():
                health.reopened(Limits.at_rate(device.streams[stream].rate_hz), now_ns)
        connection = self.connection
        connection.device, connection.connected, connection.problem = device.name, True, ""
        connection.reconnects += again

    def _lost(self, error: MachineError) -> None:
        connection = self.connection
        self.source.close()
        connection.connected = False
        connection.attempts += 1
        waited_s = (time.monotonic_ns() - self._began_ns) / 1e9
        if self.device is None and 0 <= self.patience.first_s <= waited_s:
            raise MachineError(f"{error} Waited for it {waited_s:.0f} s.") from error
        delay_ns = self.backoff.failed()
        if str(error) != connection.problem:
            self.log(f"{error} Trying again, at first in {delay_ns / 1e9:.1f} s.")
        connection.problem = str(error)
        self._stopping.wait(delay_ns / 1e9)

    def _read(self) -> None:
        # Depth and colour may come one by one, each on a clock of its own.
        clocks = {stream: DeviceClock() for stream in self.source.streams}
        restarts = self.connection.clock_restarts
        last_ns = time.monotonic_ns()
        longest_s = max([self.patience.silent_s, *(h.limits.silent_ns / 1e9 for h in self._health.values())])
        while not self._stopping.is_set():
            frame = self.source.read(READ_TIMEOUT_S)
            if frame is None:
                silent_s = (time.monotonic_ns() - last_ns) / 1e9
                if silent_s > longest_s:
                    raise SourceLost(f"{self.connection.device} has sent no frame for {silent_s:.1f} s.")
                continue
            last_ns = frame.received_ns
            if self._watch(frame):
                first = frame.pictures[0].stream
                # Neither may one push the other out of the slot.
                self.slot.put(Shot(frame.pictures, self._stamp(clocks[first], frame)), first)
                self.backoff.worked()
                self.connection.attempts = 0
                self.connection.clock_restarts = restarts + sum(clock.restarts for clock in clocks.values())

    def _watch(self, frame: Frame) -> bool:
        """Whether the frame is new; a frame that a device hands out again would be recorded twice."""
        new = False
        for picture in frame.pictures:
            before = self._pixels.get(picture.stream)
            same = before is not None and is_same(before, picture.pixels)
            self._pixels[picture.stream] = picture.pixels
            with self._lock:
                new |= self._health[picture.stream].frame(
                    frame.stamp_ns, frame.received_ns, number=picture.number, identical=same
                )
        return new

    def _stamp(self, clock: DeviceClock, frame: Frame) -> int:
        if frame.clock is Clock.SYSTEM:
            return frame.stamp_ns - self.latency_ns
        taken_ns = frame.stamp_ns
        if frame.clock is Clock.DEVICE:
            taken_ns = clock.map(frame.stamp_ns, frame.received_ns)
        difference_ns = self._wall.difference(time.monotonic_ns(), time.time_ns(), time.monotonic_ns())
        return taken_ns + difference_ns - self.latency_ns


def is_same(before: NDArray[Any], now: NDArray[Any]) -> bool:
    """Whether two pictures are equal to the last bit; a few rows tell most of them apart at once."""
    if before.shape != now.shape or before.dtype != now.dtype:
        return False
    return np.array_equal(before[::97], now[::97]) and np.array_equal(before, now)
