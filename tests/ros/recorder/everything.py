"""A robot that publishes every type of message that a contract can name, step by step, from the test."""

from __future__ import annotations

import array
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from episodes.contract import Source
from episodes.messages import encode_tags
from ros_nodes import qos
from ros_nodes.convert import set_stamp
from ros_nodes.recorder.remote import RemoteRecorder
from ros_nodes.recorder.status import RECORDING, StreamStatus

from ..conftest import Peer

SHAPE = (24, 32)
PICTURES = {
    "rgb": ("rgb8", "uint8", 3),
    "bgr": ("bgr8", "uint8", 3),
    "grey": ("mono8", "uint8", 1),
    "depth": ("16UC1", "uint16", 1),
    "metres": ("32FC1", "float32", 1),
}
"""Stream: encoding, dtype, channels."""
CONTRACT = """
robot: everything
rate_hz: 20
reference: state
observations:
  rgb: {topic: rgb, type: sensor_msgs/msg/Image, shape: [24, 32, 3], align: nearest, max_age_ms: 60000}
  bgr: {topic: bgr, type: sensor_msgs/msg/Image, shape: [24, 32, 3], align: nearest, max_age_ms: 60000}
  grey: {topic: grey, type: sensor_msgs/msg/Image, shape: [24, 32, 1], align: nearest, max_age_ms: 60000}
  depth: {topic: depth, type: sensor_msgs/msg/Image, shape: [24, 32, 1], dtype: uint16, align: nearest,
          max_age_ms: 60000}
  jpeg: {topic: rgb/compressed, type: sensor_msgs/msg/CompressedImage, shape: [24, 32, 3], align: nearest,
         max_age_ms: 60000}
  png: {topic: depth/compressed, type: sensor_msgs/msg/CompressedImage, shape: [24, 32, 1], dtype: uint16,
        align: nearest, max_age_ms: 60000}
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [b, a], max_age_ms: 60000}
  effort: {topic: joint_states, type: sensor_msgs/msg/JointState, field: effort, names: [a, b],
           max_age_ms: 60000}
  numbers: {topic: numbers, type: std_msgs/msg/Float64MultiArray, names: [x, y], max_age_ms: 60000}
  twist: {topic: twist, type: geometry_msgs/msg/TwistStamped, names: [vx, vy, vz, wx, wy, wz],
          max_age_ms: 60000}
  pose: {topic: pose, type: geometry_msgs/msg/PoseStamped, names: [x, y, z, qx, qy, qz, qw],
         max_age_ms: 60000}
  wrench: {topic: wrench, type: geometry_msgs/msg/WrenchStamped, names: [fx, fy, fz, tx, ty, tz],
           max_age_ms: 60000}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: trajectory_msgs/msg/JointTrajectory, names: [a, b],
        record_from: topic, record_topic: leader/arm, lower: [-9, -9], upper: [9, 9], max_velocity: [1, 1]}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [grip],
            lower: [0], upper: [1]}
recorded:
  metres: {topic: metres, type: sensor_msgs/msg/Image, shape: [24, 32, 1], dtype: float32}
  speed: {topic: joint_states, type: sensor_msgs/msg/JointState, field: velocity, names: [a], unit: rad/s}
  leader: {topic: leader/arm, type: trajectory_msgs/msg/JointTrajectory, names: [b, a]}
  joy: {topic: joy, type: sensor_msgs/msg/Joy, axes: [x, y], buttons: [trigger]}
  held: {topic: held, type: std_msgs/msg/Bool}
  spoken: {topic: spoken, type: std_msgs/msg/String}
  rare: {topic: rare, type: std_msgs/msg/Bool, required: false}
"""


def picture(stream: str, k: int) -> np.ndarray:
    """What stream `stream` shows at step k, as a sample of the contract."""
    _, dtype, channels = PICTURES[stream]
    rng = np.random.default_rng([k, sum(map(ord, stream))])
    if dtype == "float32":
        metres = rng.standard_normal((*SHAPE, channels)).astype(np.float32)
        metres[0, :2, 0] = np.nan, np.inf  # REP 118: no return, and out of range
        return metres
    if dtype == "uint16":
        return rng.integers(0, 65536, (*SHAPE, channels), dtype=np.uint16)
    smooth = cv2.resize(rng.integers(0, 256, (3, 4, channels), dtype=np.uint8), SHAPE[::-1])
    return smooth.reshape(*SHAPE, channels)


def image(stream: str, k: int) -> Image:
    encoding = PICTURES[stream][0]
    pixels = picture(stream, k)
    pixels = pixels[..., ::-1] if encoding == "bgr8" else pixels
    data = np.ascontiguousarray(pixels)
    message = Image(height=SHAPE[0], width=SHAPE[1], encoding=encoding, step=data.nbytes // SHAPE[0])
    message.data = array.array("B", data.tobytes())
    return message


def compressed(kind: str, pixels: np.ndarray) -> CompressedImage:
    ordered = pixels[..., ::-1] if pixels.shape[2] == 3 else pixels
    data = cv2.imencode(f".{kind}", ordered)[1].tobytes()
    return CompressedImage(format=kind, data=array.array("B", data))


def twist(k: int) -> TwistStamped:
    message = TwistStamped()
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (k + n / 10 for n in range(6))
    return message


def pose(k: int) -> PoseStamped:
    message = PoseStamped()
    at, turn = message.pose.position, message.pose.orientation
    at.x, at.y, at.z, turn.x, turn.y, turn.z, turn.w = (k + n / 10 for n in range(7))
    return message


def wrench(k: int) -> WrenchStamped:
    message = WrenchStamped()
    force, torque = message.wrench.force, message.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = (k + n / 10 for n in range(6))
    return message


def trajectory(names: list[str], positions: list[float], tags: str = "") -> JointTrajectory:
    message = JointTrajectory(joint_names=names, points=[JointTrajectoryPoint(positions=positions)])
    message.header.frame_id = tags
    return message


MESSAGES: dict[str, Callable[[int], Any]] = {
    "control/command": lambda k: trajectory(
        ["grip", "a", "b"], [1.0, 7.0, 7.0], encode_tags(Source.POLICY, observation_ns=5)
    ),
    "leader/arm": lambda k: trajectory(["b", "a"], [k / 10, k / 20]),
    **{name: lambda k, name=name: image(name, k) for name in PICTURES},
    "rgb/compressed": lambda k: compressed("jpg", picture("rgb", k)),
    "depth/compressed": lambda k: compressed("png", picture("depth", k)),
    "joint_states": lambda k: JointState(
        name=["a", "x", "b"], position=[k, 0.0, -k], velocity=[k / 2, 0.0, 0.0], effort=[k / 4, 0.0, k / 8]
    ),
    "numbers": lambda k: Float64MultiArray(data=[k, k / 3]),
    "twist": twist,
    "pose": pose,
    "wrench": wrench,
    "joy": lambda k: Joy(axes=[k / 10, -1.0], buttons=[k % 2]),
    "held": lambda k: Bool(data=k % 2 == 0),
    "spoken": lambda k: String(data=f"step {k}"),
}
"""Topic to its message of step k."""
STEP_NS = 50_000_000
NOTHING_YET = ("rare", "commands")
"""Rows of the status that may be empty: a topic that nobody publishes, commands that are not complete."""


class Robot:
    """Publishes everything, one step at a time."""

    def __init__(self, peer: Peer, recorder: RemoteRecorder) -> None:
        self._peer, self._recorder = peer, recorder
        self._published = 0
        self._due_ns = 0
        self._publishers = {
            topic: peer.node.create_publisher(type(make(0)), topic, qos.STREAM)
            for topic, make in MESSAGES.items()
        }
        peer.matched(*self._publishers.values())

    def step(self, k: int) -> int:
        """Publish step k, everything with one stamp, which is returned."""
        self._published += 1
        stamp_ns = int(self._peer.node.get_clock().now().nanoseconds)
        for topic, make in MESSAGES.items():
            message = make(k)
            if hasattr(message, "header"):
                set_stamp(message.header.stamp, stamp_ns)
            self._publishers[topic].publish(message)
        return stamp_ns

    def publish(self, topic: str, message: Any) -> None:
        """Publish one message of anybody's making."""
        self._publishers[topic].publish(message)

    def heal(self) -> None:
        """Publish good messages until nothing of what came last is refused any more."""
        self._idle_until(lambda row: row.samples > 0 and not row.problem)

    def _idle_until(self, condition: Callable[[StreamStatus], bool]) -> None:
        """Publish step 0 again and again until the condition holds of every row of the status."""

        def met() -> bool:
            if time.monotonic_ns() > self._due_ns:
                self._due_ns = time.monotonic_ns() + STEP_NS
                self.step(0)
            status = self._recorder.status
            rows = status.streams if status is not None else ()
            return bool(rows) and all(condition(row) for row in rows if row.name not in NOTHING_YET)

        self._peer.until(met)

    def record(self, steps: int, close: str) -> tuple[list[int], str]:
        """Have steps 1 to `steps` recorded, after and before any number of steps 0.

        Returns the stamps of the steps, and what the service that closes the episode answers.
        """
        self._idle_until(lambda row: row.samples > 0)
        before = self._published
        ok, text = self._recorder.call("start")
        assert ok, text
        self._peer.until(
            lambda: self._recorder.status is not None and self._recorder.status.state == RECORDING
        )
        stamps = [self.step(k) for k in range(1, steps + 1)]
        # What was published before the start may still have been on its way, and count; messages of one topic
        # keep their order, so that so many of them hold all the steps.
        self._idle_until(lambda row: row.samples >= before + steps)
        ok, text = self._recorder.call(close)
        assert ok, text
        return stamps, text
