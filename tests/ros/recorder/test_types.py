"""Every type of stream that a contract can name, over real DDS into a file and back."""

from __future__ import annotations

import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from episodes.contract import Source
from episodes.reader import Episode
from ros_nodes import qos
from ros_nodes.convert import encode_tags, set_stamp
from ros_nodes.recorder.remote import RemoteRecorder

from ..conftest import NodeProcess, Peer
from ..test_failures import call

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
        return rng.standard_normal((*SHAPE, channels)).astype(np.float32)
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
STEPS = 6


class Robot:
    """Publishes everything, and knows the stamps of what it published while an episode ran."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._publishers = {
            topic: peer.node.create_publisher(type(make(0)), topic, qos.STREAM)
            for topic, make in MESSAGES.items()
        }
        peer.matched(*self._publishers.values())

    def step(self, k: int) -> int:
        """Publish step k, everything with one stamp, which is returned."""
        stamp_ns = int(self._peer.node.get_clock().now().nanoseconds)
        for topic, make in MESSAGES.items():
            message = make(k)
            if hasattr(message, "header"):
                set_stamp(message.header.stamp, stamp_ns)
            self._publishers[topic].publish(message)
        return stamp_ns


def record(
    peer: Peer, start: Callable[..., NodeProcess], folder: Path, close: str, **parameters: object
) -> tuple[list[int], Path]:
    """Record one episode of everything; stamps of its steps, and its file."""
    (folder / "contract.yaml").write_text(CONTRACT)
    start(
        "recorder_node",
        contract=folder / "contract.yaml",
        dataset=folder / "data",
        silent_s=30.0,
        **parameters,
    )
    robot, recorder = Robot(peer), RemoteRecorder(peer.node, peer.loop)

    def begins() -> bool:
        robot.step(0)
        return call(peer, Trigger, "recorder/start")[0]

    peer.until(begins)
    stamps = [robot.step(k) for k in range(1, STEPS)]
    rare = ("rare",)
    peer.until(
        lambda: (
            recorder.status is not None
            and recorder.status.state == "recording"
            and all(row.samples >= len(stamps) for row in recorder.status.streams if row.name not in rare)
        )
    )
    ok, text = call(peer, Trigger, f"recorder/{close}")
    assert ok, text
    return stamps, Path(text)


def steps_of(episode: Episode, name: str, stamps: list[int]) -> np.ndarray:
    """The samples of the steps; what was published before the start may be in front of them."""
    stream = episode.streams[name]
    rows = np.flatnonzero(np.isin(stream.stamp_ns, stamps))
    assert len(rows) == len(stamps), f"{name}: {len(stream)} samples"
    assert (stream.recv_ns[rows] > stream.stamp_ns[rows]).all()
    return stream.read(rows)


@pytest.mark.parametrize("storage", ["jpeg", "lzf", "raw"])
def test_every_type_of_stream_comes_back_as_it_was_published(
    peer: Peer, start: Callable[..., NodeProcess], tmp_path: Path, storage: str
) -> None:
    stamps, path = record(peer, start, tmp_path, "success", image_storage=storage)
    steps = np.arange(1, STEPS)
    with Episode.open(path) as episode:
        for stream in PICTURES:
            found = steps_of(episode, stream, stamps)
            shown = np.stack([picture(stream, k) for k in steps])
            lossy = storage == "jpeg" and PICTURES[stream][1] == "uint8"
            assert episode.streams[stream].encoding == (
                "jpeg" if lossy else "lzf" if storage == "jpeg" else storage
            )
            if lossy:
                assert np.abs(found.astype(int) - shown).mean() < 4, "colours in the right order"
            else:
                assert (found == shown).all()
        vectors = {
            "state": np.stack([-steps, steps], 1),
            "effort": np.stack([steps / 4, steps / 8], 1),
            "speed": steps[:, None] / 2,
            "twist": steps[:, None] + np.arange(6) / 10,
            "pose": steps[:, None] + np.arange(7) / 10,
            "wrench": steps[:, None] + np.arange(6) / 10,
            "leader": np.stack([steps / 10, steps / 20], 1),
            "joy": np.stack([steps / 10, -np.ones(STEPS - 1), steps % 2], 1),
        }
        for stream, wanted in vectors.items():
            np.testing.assert_allclose(steps_of(episode, stream, stamps), wanted, rtol=1e-6)
        assert (steps_of(episode, "png", stamps) == np.stack([picture("depth", k) for k in steps])).all()
        unstamped = {"numbers": np.stack([steps, steps / 3], 1), "held": steps[:, None] % 2 == 0}
        for stream, wanted in unstamped.items():
            found = episode.streams[stream]
            assert (found.read()[-len(steps) :] == wanted).all()
            assert (found.stamp_ns == found.recv_ns).all(), "no header: the time of receipt stands for it"
        assert len(episode.streams["rare"]) == 0
        assert (episode.streams["speed"].unit, episode.streams["joy"].names) == (
            "rad/s",
            ("x", "y", "trigger"),
        )
        said = [event.value for event in episode.events if event.name == "spoken"]
        assert said[-len(steps) :] == [f"step {k}" for k in steps]
        commands = episode.commands
        assert commands is not None
        # Until the first command for the gripper has come there is none for the whole robot.
        rows = np.flatnonzero(np.isin(commands.stamp_ns, stamps[1:]))
        wanted = np.stack([steps / 20, steps / 10, np.ones(STEPS - 1)], 1)[1:]
        np.testing.assert_allclose(commands.values[rows], wanted)
        assert set(commands.source[rows].tolist()) == {Source.TELEOP}, "the leader arm leads"


def test_jpeg_bytes_are_stored_as_the_camera_sent_them(
    peer: Peer, start: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    stamps, path = record(peer, start, tmp_path, "stop", jpeg_quality=20)
    with Episode.open(path) as episode:
        assert (episode.attrs["outcome"], episode.attrs["outcome_source"]) == ("unknown", "none")
        stream = episode.streams["jpeg"]
        (row,) = np.flatnonzero(stream.stamp_ns == stamps[2])
        sent = bytes(compressed("jpg", picture("rgb", 3)).data)
        ends = episode._file["streams/jpeg/offsets"][:]
        first = int(ends[row - 1]) if row else 0
        assert episode._file["streams/jpeg/data"][first : int(ends[row])].tobytes() == sent
