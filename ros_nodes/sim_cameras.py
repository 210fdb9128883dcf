"""The cameras of a simulation in real time: what they see is drawn in a thread of its own.

Drawing three small pictures in software takes longer than the driver's period. The libraries that draw let
go of Python's lock meanwhile, so the driver keeps its pace on another core. A camera that is asked for its
next frame before the last one is drawn leaves that one out, and counts it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from rclpy.node import Node

from episodes.contract import ObservationStream
from episodes.picture_messages import IMAGE_ENCODINGS
from ros_nodes import qos
from ros_nodes.pictures.outlet import PictureOutlet
from ros_nodes.sim_faults import CameraFault, FaultyCamera
from ros_nodes.streams import TopicEncoder

Pixels = NDArray[Any]


class View(Protocol):
    """Draws snapshots; made, used and closed in one thread."""

    def render(self, snapshot: NDArray[Any], camera: str, height: int, width: int) -> Pixels:
        """(height, width, 3) uint8 RGB."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class Eye:
    """A picture stream and the simulated camera that fills it."""

    stream: ObservationStream
    camera: str


class CameraOutlet:
    """One picture stream on its way out: its fault, its message, its counters. Used by one thread."""

    def __init__(self, node: Node, eye: Eye) -> None:
        self.eye = eye
        self.faulty = FaultyCamera()
        self._encoder = TopicEncoder([eye.stream])
        self._publisher = node.create_publisher(self._encoder.type, eye.stream.topic, qos.STREAM)
        self._handed = PictureOutlet(node, eye.stream.topic)
        self._encoding = IMAGE_ENCODINGS[eye.stream.dtype, eye.stream.shape[2]]
        self.sent = 0
        self.skipped = 0
        """Frames that were left out because the one before was still being drawn."""
        self.drawing_ms = 0.0
        """How long the last frame took."""

    def take(self, pixels: Pixels, stamp_ns: int) -> None:
        """A frame was taken; publish what the camera's fault lets through."""
        self._send(self.faulty.take(pixels, stamp_ns, time.monotonic_ns()))

    def flush(self) -> None:
        """Publish frames that have waited long enough."""
        self._send(self.faulty.due(time.monotonic_ns()))

    def _send(self, frames: list[tuple[Pixels, int]]) -> None:
        for pixels, stamp_ns in frames:
            self._handed.publish(pixels, stamp_ns, self._encoding, "")
            if self._publisher.get_subscription_count():
                self._publisher.publish(self._encoder.encode({self.eye.stream.name: pixels}, stamp_ns))
            self.sent += 1


class DrawingThread:
    """Draws and publishes the frames that are asked for, the newest of each camera.

    To make a GL context holds up the whole process for some tenths of a second, so every camera draws once
    before this returns.

    Args:
        outlets: by stream name; used by the thread alone from here on.
        open_view: makes the eyes; called in the thread.
        snapshot: what is drawn first, and not published.
    """

    def __init__(
        self, outlets: Mapping[str, CameraOutlet], open_view: Callable[[], View], snapshot: NDArray[Any]
    ) -> None:
        self._outlets = outlets
        self._open_view = open_view
        self._jobs: dict[str, tuple[int, NDArray[Any]]] = {}
        self._faults: Mapping[str, CameraFault] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="cameras")
        self._warm = threading.Event()
        self._future = self._executor.submit(self._work, snapshot)
        self._future.add_done_callback(lambda future: self._warm.set())
        self._warm.wait()

    def request(self, name: str, stamp_ns: int, snapshot: NDArray[Any]) -> None:
        """Ask for a frame of the scene as it was in `snapshot`. Raises what ended the thread, if it ended."""
        if self._future.done():
            self._future.result()
        with self._wake:
            if name in self._jobs:
                self._outlets[name].skipped += 1
            self._jobs[name] = (stamp_ns, snapshot)
            self._wake.notify()

    def set_faults(self, faults: Mapping[str, CameraFault]) -> None:
        """From the next frame on."""
        with self._wake:
            self._faults = faults
            self._wake.notify()

    def close(self) -> None:
        """End the thread after the frame that it draws."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._executor.shutdown()

    def _work(self, snapshot: NDArray[Any]) -> None:
        with closing(self._open_view()) as view:
            for outlet in self._outlets.values():
                self._render(view, outlet, snapshot)
            self._warm.set()
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._closed or bool(self._jobs), self._patience_s())
                    if self._closed:
                        return
                    job = next(iter(self._jobs.items()), None)
                    if job is not None:
                        del self._jobs[job[0]]
                    for name, outlet in self._outlets.items():
                        outlet.faulty.fault = self._faults.get(name)
                if job is not None:
                    self._draw(view, job[0], *job[1])
                for outlet in self._outlets.values():
                    outlet.flush()

    def _draw(self, view: View, name: str, stamp_ns: int, snapshot: NDArray[Any]) -> None:
        outlet = self._outlets[name]
        began_ns = time.monotonic_ns()
        pixels = self._render(view, outlet, snapshot)
        outlet.drawing_ms = (time.monotonic_ns() - began_ns) / 1e6
        outlet.take(pixels, stamp_ns)

    @staticmethod
    def _render(view: View, outlet: CameraOutlet, snapshot: NDArray[Any]) -> Pixels:
        height, width, _ = outlet.eye.stream.shape
        return view.render(snapshot, outlet.eye.camera, height, width)

    def _patience_s(self) -> float | None:
        """Until the next delayed frame has to leave."""
        waiting = [ns for o in self._outlets.values() if (ns := o.faulty.next_ns) is not None]
        return max(0.0, (min(waiting) - time.monotonic_ns()) * 1e-9) if waiting else None
