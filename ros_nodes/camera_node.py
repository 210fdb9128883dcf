"""One camera as a process: pictures, calibration and its state.

    publishes   camera/<name>/color/image_raw, .../image_raw/compressed, .../camera_info, and the same under
                depth/ (image_rect_raw) and aligned_depth_to_color/ for a RealSense; .../shared, tickets of
                raw pictures, beside each; /diagnostics
    services    ~/set_camera_info SetCameraInfo, ~/ready Trigger

Three threads: capture (waits for the device and for nobody else), publishing (may be held up by the network),
and the loop of all nodes for services and diagnostics.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.srv import SetCameraInfo

from episodes.errors import ConfigError, StackError
from ros_nodes import qos
from ros_nodes.cameras.backoff import Backoff
from ros_nodes.cameras.capture import Capture, Patience
from ros_nodes.cameras.diagnostics import diagnostics
from ros_nodes.cameras.frames import COLOR, Source
from ros_nodes.cameras.health import Level
from ros_nodes.cameras.intrinsics import Intrinsics, calibration_path, load_calibration, save_calibration
from ros_nodes.cameras.parameters import CameraConfig, make_source
from ros_nodes.cameras.publishing import Publishing
from ros_nodes.cameras.topics import StreamTopics, intrinsics_of, optical_frame_of, topic_of
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.shell import run_node

SETTABLE = ("jpeg_quality",)
TICK_NS = 100_000_000
DIAGNOSTICS_NS = 1_000_000_000
DROPS_TOLD_NS = 2_000_000_000
FAREWELL_S = 2.0
"""How long threads and unacknowledged pictures are waited for at the end."""


class CameraNode:
    """Builds topics and services; capture and publishing run in threads of their own."""

    def __init__(
        self,
        node: Node,
        loop: TakeLoop,
        config: CameraConfig,
        new_source: Callable[[CameraConfig], Source] = make_source,
    ) -> None:
        self._node, self._loop, self._config = node, loop, config
        self._name = name = config.camera_name or node.get_name()
        if not 1 <= config.jpeg_quality <= 100:
            raise ConfigError(f"parameter 'jpeg_quality' is {config.jpeg_quality}: write 1 to 100.")
        self._file = calibration_path(config.camera_info_url)
        self._calibration = self._load()
        source = new_source(config)
        base = f"{config.camera_namespace}/{name}"
        self._topics = {
            stream: StreamTopics(
                node,
                topic_of(stream, base, config.color_namespace),
                config.frame_id or optical_frame_of(stream, name),
                compressed=stream == COLOR,
            )
            for stream in source.streams
        }
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", qos.STREAM)
        patience = Patience(config.wait_for_device_timeout, config.silent_timeout, config.reconnect_timeout)
        backoff = Backoff(longest_ns=round(patience.longest_retry_s * 1e9), rng=random.Random())
        latency_ns = round(config.latency_ms * 1e6)
        self._capture = Capture(source, patience, backoff, self._log, latency_ns)
        self._publishing = Publishing(
            self._capture.slot,
            self._topics,
            self._intrinsics,
            lambda: node.get_parameter("jpeg_quality").value,
        )
        node.create_service(SetCameraInfo, "~/set_camera_info", self._set_camera_info)
        loop.trigger("~/ready", self._ready)
        self._dropped = self._dropped_ns = self._told_ns = 0
        self._told: list[bytes] = []
        self._capture.start()
        self._publishing.start()
        loop.at(0, self._tick)

    def _log(self, text: str) -> None:
        self._node.get_logger().info(f"{self._name}: {text}")

    def _load(self) -> Intrinsics | None:
        if self._file is None:
            return None
        if not self._file.exists():
            self._log(f"no calibration at {self._file} yet: camera_info says uncalibrated until it is set.")
            return None
        return load_calibration(self._file)

    def _intrinsics(self, stream: str) -> Intrinsics | None:
        """What the device holds, else the calibration file."""
        device = self._capture.device
        held = device.streams[stream].intrinsics if device is not None else None
        return held or self._calibration

    def _set_camera_info(
        self, request: SetCameraInfo.Request, response: SetCameraInfo.Response
    ) -> SetCameraInfo.Response:
        device = self._capture.device
        response.success = False
        if device is not None and any(info.intrinsics for info in device.streams.values()):
            response.status_message = f"{device.name} holds its own calibration, which is published"
        elif self._file is None:
            response.status_message = "set the parameter camera_info_url to the file that is to hold it"
        else:
            found = intrinsics_of(request.camera_info)
            try:
                save_calibration(self._file, found, self._name)
            except OSError as error:
                response.status_message = f"{self._file} cannot be written: {error.strerror}"
            else:
                self._calibration = found
                response.success, response.status_message = True, f"written to {self._file}"
        return response

    def _ready(self, reply: Reply) -> None:
        connection, published = self._capture.connection, self._publishing.published
        if connection.connected and published:
            reply(True, f"{published} frames of {connection.device}")
        else:
            reply(False, connection.problem or "waiting for the first frame")

    def _tick(self) -> None:
        capture = self._capture
        if capture.failure is not None:
            raise capture.failure
        if capture.ended:
            self._loop.stop(f"{capture.connection.device} has ended")
        elif not (capture.is_running() and self._publishing.is_running()):
            raise StackError(f"{self._name}: a thread of the camera node has failed; its error stands above.")
        else:
            now_ns = self._loop.now_ns()
            self._tell(now_ns)
            self._loop.at(now_ns + TICK_NS, self._tick)

    def _tell(self, now_ns: int) -> None:
        """Publish the diagnostics once a second, and at once when a level changes."""
        dropped = self._capture.slot.dropped
        if dropped > self._dropped:
            self._dropped, self._dropped_ns = dropped, now_ns
        behind = self._dropped > 0 and now_ns - self._dropped_ns < DROPS_TOLD_NS
        figures = {
            "published": self._publishing.published,
            "dropped": dropped,
            "publish_max_ms": self._publishing.longest_ns / 1e6,
            "jpegs": sum(topics.jpegs for topics in self._topics.values()),
        }
        message = diagnostics(
            self._name,
            self._capture.connection,
            self._capture.reports(now_ns),
            figures,
            time.time_ns(),
            warning=f"publishing does not keep up: {dropped} frames dropped so far" if behind else "",
        )
        levels = [status.level for status in message.status]
        if levels == self._told and now_ns - self._told_ns < DIAGNOSTICS_NS:
            return
        for status, before in zip(message.status, self._told or levels, strict=True):
            if status.level != before:
                part = status.name.removeprefix(f"{self._name}: ")
                self._log(f"{part} {Level(status.level[0]).name}: {status.message}")
        self._told, self._told_ns = levels, now_ns
        self._publishing.restart_longest()
        self._diagnostics.publish(message)

    def close(self, reason: str) -> None:
        """End the threads, and wait until reliable subscribers have the last pictures."""
        if not self._capture.stop(FAREWELL_S):
            self._log("the driver does not let go of the device; leaving it to the kernel.")
        self._publishing.stop(FAREWELL_S)
        if self._capture.ended:
            for topics in self._topics.values():
                topics.flush(FAREWELL_S)
        self._tell_totals()

    def _tell_totals(self) -> None:
        dropped, reconnects = self._capture.slot.dropped, self._capture.connection.reconnects
        self._log(
            f"{self._publishing.published} frames published, {dropped} dropped, {reconnects} reconnects."
        )


def run_camera(new_source: Callable[[CameraConfig], Source]) -> int:
    """Run the node on sources that `new_source` makes. Exit codes: 0 ended, 1 failed with a message."""
    build = partial(CameraNode, new_source=new_source)
    return run_node("camera", CameraConfig, build, settable=SETTABLE)


def main() -> int:
    """Entry point of the executable `camera_node`."""
    return run_camera(make_source)


if __name__ == "__main__":
    sys.exit(main())
