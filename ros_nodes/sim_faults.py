"""Faults that the simulated robot shows on demand, for drills: of its cameras and of its driver. Pure.

    camera_faults    drop      no frames
                     freeze    the last picture again and again, with new stamps: a camera that hangs behind
                               a living driver
                     stuck     the last picture again and again, with its old stamp
                     delay:S   each frame S seconds after it was taken, stamped when it was taken
    driver_fault     silent    no joint states; commands are followed
                     ignore    joint states; commands are not taken, so the driver holds by itself
                     stall     neither
    clock_jump_s     how far /clock and all stamps are off; a change makes them jump

They are parameters of the simulation node, in real time and as fast as it goes: in lock-step every tick
waits for its answer, and one that is left out ends the run. A reset leaves them as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from episodes.errors import ConfigError, did_you_mean

CAMERA_FAULTS = ("drop", "freeze", "stuck", "delay")
DRIVER_FAULTS = ("", "silent", "ignore", "stall")
FAULT_PARAMETERS = ("camera_faults", "driver_fault", "clock_jump_s")
LONGEST_DELAY_S = 60.0

Frame = tuple[NDArray[Any], int]
"""Pixels (H, W, C) and stamp, ns."""


@dataclass(frozen=True)
class CameraFault:
    """What is wrong with one camera."""

    kind: str
    """One of CAMERA_FAULTS."""
    delay_s: float = 0.0
    """How late a frame is (delay only)."""


@dataclass(frozen=True)
class Faults:
    """All faults that are in force."""

    cameras: Mapping[str, CameraFault]
    driver: str
    clock_jump_ns: int

    @property
    def silent(self) -> bool:
        """Whether no joint states come."""
        return self.driver in ("silent", "stall")

    @property
    def ignores(self) -> bool:
        """Whether commands are not taken."""
        return self.driver in ("ignore", "stall")


def parse_faults(
    values: Mapping[str, Any], cameras: Collection[str], *, lockstep: bool, publish_clock: bool
) -> Faults:
    """The faults that the parameters `values` ask for.

    Raises:
        ConfigError: a value that is no fault, any fault in lock-step, or a jump of a clock that nobody hears.
    """
    words = [word for word in values["camera_faults"] if word]
    driver, jump_s = str(values["driver_fault"]), float(values["clock_jump_s"])
    if lockstep and (words or driver or jump_s):
        raise ConfigError(
            f"{', '.join(FAULT_PARAMETERS)}: faults are shown in the modes 'realtime' and 'asfast'."
        )
    if jump_s and not publish_clock:
        raise ConfigError(
            "clock_jump_s: only a simulation that publishes /clock can let it jump: set publish_clock."
        )
    if driver not in DRIVER_FAULTS:
        raise ConfigError(
            f"driver_fault {driver!r} is unknown: write silent, ignore or stall, or nothing for a driver "
            "that works."
        )
    return Faults(parse_camera_faults(words, cameras), driver, round(jump_s * 1e9))


def parse_camera_faults(words: Sequence[str], cameras: Collection[str]) -> dict[str, CameraFault]:
    """`['front=freeze', 'side=delay:0.5']` by name of the picture stream.

    Raises:
        ConfigError: no such camera or fault, a camera twice, or a delay that is no time.
    """
    faults: dict[str, CameraFault] = {}
    for word in words:
        name, _, fault = word.partition("=")
        kind, _, delay = fault.partition(":")
        if name not in cameras:
            raise ConfigError(f"camera_faults: no camera {name!r} in {word!r}: {did_you_mean(name, cameras)}")
        if name in faults:
            raise ConfigError(f"camera_faults: camera {name!r} is named twice: give one fault each.")
        if kind not in CAMERA_FAULTS or bool(delay) != (kind == "delay"):
            raise ConfigError(
                f"camera_faults: {word!r} is no fault: write {name}=drop, {name}=freeze, {name}=stuck or "
                f"{name}=delay:SECONDS."
            )
        faults[name] = CameraFault(kind, _seconds(delay, word) if delay else 0.0)
    return faults


def _seconds(text: str, word: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= LONGEST_DELAY_S:
        raise ConfigError(
            f"camera_faults: {word!r}: write the delay in seconds, above 0 and at most {LONGEST_DELAY_S:g}."
        )
    return value


class FaultyCamera:
    """What leaves a camera: each frame as it is taken, or what its fault makes of it.

    When the fault changes, frames that still wait are lost: no older frame follows a newer one.
    """

    def __init__(self) -> None:
        self._fault: CameraFault | None = None
        self._last: Frame | None = None
        self._waiting: deque[tuple[int, Frame]] = deque()

    @property
    def fault(self) -> CameraFault | None:
        """What is wrong with it."""
        return self._fault

    @fault.setter
    def fault(self, fault: CameraFault | None) -> None:
        if fault != self._fault:
            self._fault = fault
            self._waiting.clear()

    @property
    def next_ns(self) -> int | None:
        """When the next frame that waits is to leave, on the clock of `take`."""
        return self._waiting[0][0] if self._waiting else None

    def take(self, pixels: NDArray[Any], stamp_ns: int, now_ns: int) -> list[Frame]:
        """A frame stamped `stamp_ns` was taken; what leaves the camera now. Pixels are kept, not copied."""
        fault = self._fault
        kind = fault.kind if fault else ""
        if fault is not None and kind == "delay":
            self._waiting.append((now_ns + round(fault.delay_s * 1e9), (pixels, stamp_ns)))
            return self.due(now_ns)
        if kind == "drop":
            return []
        if kind == "freeze" and self._last is not None:
            self._last = (self._last[0], stamp_ns)
        elif kind != "stuck" or self._last is None:
            self._last = (pixels, stamp_ns)
        return [self._last]

    def due(self, now_ns: int) -> list[Frame]:
        """Frames that have waited long enough, oldest first."""
        frames = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._last = self._waiting.popleft()[1]
            frames.append(self._last)
        return frames
