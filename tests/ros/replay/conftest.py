"""A robot that the test itself plays, a real policy node and a real recorder that both hear it."""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import Contract, Source, load_contract
from policy.runtime.chunks import Chunk
from ros_nodes import qos
from ros_nodes.convert import ChunkDecoder, CommandEncoder, message_type, set_stamp
from ros_nodes.pictures.outlet import PictureOutlet
from ros_nodes.recorder.remote import RemoteRecorder

from ..conftest import NodeProcess, Peer
from .identity import write_identity

MS = 1_000_000
PERIOD_NS = 5 * MS
CONTRACT = """
robot: mirror
rate_hz: 200
reference: front
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, field: position, names: [j0, j1, j2],
          align: linear, max_age_ms: 60000, unit: rad}
  speed: {topic: joint_states, type: sensor_msgs/msg/JointState, field: velocity, names: [j0, j1, j2],
          align: hold, max_age_ms: 60000, unit: rad/s}
  turn: {topic: turn, type: sensor_msgs/msg/JointState, field: position, names: [qx, qy, qz, qw],
         align: slerp, max_age_ms: 60000}
  pose: {topic: pose, type: geometry_msgs/msg/PoseStamped, names: [x, y, z, qx, qy, qz, qw], align: nearest,
         max_age_ms: 60000}
  depth: {topic: depth/image_raw, type: sensor_msgs/msg/Image, shape: [4, 6, 1], dtype: uint16,
          max_age_ms: 60000}
  wrist: {topic: wrist/image_raw/compressed, type: sensor_msgs/msg/CompressedImage, shape: [8, 8, 3],
          max_age_ms: 60000}
  front: {topic: front/image_raw, type: sensor_msgs/msg/Image, shape: [6, 8, 3], max_age_ms: 60000}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: std_msgs/msg/Float64MultiArray, names: [j0, j1],
        lower: [-9, -9], upper: [9, 9], max_velocity: [9, 9], unit: rad}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [grip],
            lower: [0], upper: [1]}
"""
"""The reference comes last, so that a node which finds several messages waiting takes it last."""

Stamps = dict[str, int]


@dataclass(frozen=True)
class Sent:
    """One message that was published, as it went over the wire."""

    topic: str
    kind: str
    stamp_ns: int
    at_ns: int
    data: bytes


def picture(seed: int, height: int, width: int, channels: int, dtype: str) -> NDArray[Any]:
    """Pixels that follow from their number."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype=dtype)


def message_of(topic: str, number: int) -> Any:
    """The message `number` of a topic, without its stamp."""
    rng = np.random.default_rng(number)
    if topic == "joint_states":
        # In another order than the contract's, with a joint more.
        names = ["extra", "j2", "j0", "j1"]
        return JointState(name=names, position=rng.normal(size=4), velocity=rng.normal(size=4))
    if topic == "turn":
        q = rng.normal(size=4)
        return JointState(name=["qx", "qy", "qz", "qw"], position=q / np.linalg.norm(q))
    if topic == "pose":
        message = PoseStamped()
        for part, names in ((message.pose.position, "xyz"), (message.pose.orientation, "xyzw")):
            for name in names:
                setattr(part, name, float(rng.normal()))
        return message
    if topic == "depth/image_raw":
        return _image(picture(number, 4, 6, 1, "uint16"), "16UC1")
    if topic == "wrist/image_raw/compressed":
        smooth = cv2.resize(picture(number, 3, 3, 3, "uint8"), (8, 8), interpolation=cv2.INTER_CUBIC)
        data = cv2.imencode(".jpg", smooth)[1].tobytes()
        return CompressedImage(format="jpeg", data=array.array("B", data))
    return _image(picture(number, 6, 8, 3, "uint8"), "bgr8" if number % 3 == 0 else "rgb8")


def _image(pixels: NDArray[Any], encoding: str) -> Image:
    height, width = pixels.shape[:2]
    data = array.array("B", pixels.tobytes())
    return Image(height=height, width=width, encoding=encoding, step=len(data) // height, data=data)


@dataclass
class Robot:
    """Publishes what a robot does, and hears what the policy and the recorder answer."""

    peer: Peer
    contract: Contract
    recorder: RemoteRecorder
    publishers: dict[str, Publisher]
    outlets: dict[str, PictureOutlet] = field(default_factory=dict)
    """Of the topics whose pictures go by ticket too."""
    chunks: list[tuple[Chunk | None, int]] = field(default_factory=list)
    """Every answer of the policy with the tick that it answers."""
    acknowledged: list[int] = field(default_factory=list)
    """Stamps of the ticks that a recorder in lock-step has."""
    sent: list[Sent] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        decoder = ChunkDecoder(self.contract.action_names, "policy/action_chunk")
        self._commands = CommandEncoder(self.contract.action_names)
        loop = self.peer.loop
        loop.subscribe(
            JointTrajectory,
            "policy/action_chunk",
            qos.STREAM,
            lambda m: self.chunks.append(decoder.decode(m)),
        )
        loop.subscribe(
            Header,
            "recorder/ack",
            qos.STREAM,
            lambda m: self.acknowledged.append(m.stamp.sec * 10**9 + m.stamp.nanosec),
        )

    @property
    def topics(self) -> list[str]:
        """Topics of the observations, the reference's last."""
        return list(dict.fromkeys(stream.topic for stream in self.contract.observations.values()))

    def publish(self, topic: str, stamp_ns: int, message: Any = None) -> None:
        """Publish the next message of a topic with this stamp, and keep it."""
        self._number += 1
        message = message_of(topic, self._number) if message is None else message
        set_stamp(message.header.stamp, stamp_ns)
        kind = type(message).__module__.split(".")[0] + "/msg/" + type(message).__name__
        self.sent.append(Sent("/" + topic, kind, stamp_ns, time.time_ns(), serialize_message(message)))
        if topic in self.outlets:
            dtype = "uint16" if message.encoding == "16UC1" else "uint8"
            pixels = np.frombuffer(message.data, dtype).reshape(message.height, message.width, -1)
            self.outlets[topic].publish(pixels, stamp_ns, message.encoding, "")
        self.publishers[topic].publish(message)

    def command(self, stamp_ns: int, observation_ns: int) -> None:
        """Publish what control would have sent."""
        values = np.array([self._number % 7 / 7, -0.5, self._number % 2])
        self.publish(
            "control/command",
            stamp_ns,
            self._commands.encode(
                values, stamp_ns=stamp_ns, observation_ns=observation_ns, source=Source.POLICY
            ),
        )

    def call(self, name: str) -> tuple[bool, str]:
        """Call a Trigger service."""
        client = self.peer.loop.client(Trigger, name)
        self.peer.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self.peer.until(future.done)
        return future.result().success, future.result().message

    def write_bag(self, path: Path, recv_ns: Callable[[Sent], int], storage: str = "mcap") -> Path:
        """A bag of everything that was published, byte for byte, with these receive stamps."""
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        types: Any = get_typestore(Stores.ROS2_JAZZY)
        connections: dict[str, Any] = {}
        with Writer(path, version=9, storage_plugin=plugin) as writer:
            for sent in sorted(self.sent, key=recv_ns):
                if sent.topic not in connections:
                    connections[sent.topic] = writer.add_connection(sent.topic, sent.kind, typestore=types)
                writer.write(connections[sent.topic], recv_ns(sent), sent.data)
        return path


@dataclass(frozen=True)
class Scene:
    """The robot, and the processes that hear it."""

    robot: Robot
    policy: NodeProcess
    recorder: NodeProcess
    dataset: Path


@pytest.fixture
def scene(peer: Peer, start: Callable[..., NodeProcess], tmp_path: Path) -> Callable[..., Scene]:
    """Starts the processes in a mode, and returns once everybody hears everybody."""

    def make(mode: str, *, image_storage: str = "lzf", execute: int = 1, handed: Sequence[str] = ()) -> Scene:
        path = tmp_path / "mirror.yaml"
        path.write_text(CONTRACT)
        contract = load_contract(path)
        write_identity(tmp_path / "bundle", contract, execute=execute)
        publishers = {
            stream.topic: peer.node.create_publisher(message_type(stream.type), stream.topic, qos.STREAM)
            for stream in contract.observations.values()
        }
        publishers["control/command"] = peer.node.create_publisher(
            JointTrajectory, "control/command", qos.STREAM
        )
        if mode == "lockstep":
            publishers["episode/truth"] = peer.node.create_publisher(JointState, "episode/truth", qos.STREAM)
        outlets = {topic: PictureOutlet(peer.node, topic) for topic in handed}
        policy = start("policy_node", contract=path, bundle=tmp_path / "bundle", mode=mode)
        recorder = start(
            "recorder_node",
            contract=path,
            dataset=tmp_path / "dataset",
            mode=mode,
            image_storage=image_storage,
            silent_s=60.0,
            dead_s=0.0,
        )
        robot = Robot(peer, contract, RemoteRecorder(peer.node, peer.loop), publishers, outlets)
        heard = dict.fromkeys(robot.topics, 2) | {"control/command": 1, "episode/truth": 1}
        peer.until(lambda: all(p.get_subscription_count() >= heard[topic] for topic, p in publishers.items()))
        peer.until(lambda: robot.recorder.is_there)
        peer.until(lambda: peer.node.count_publishers("policy/action_chunk") > 0)
        peer.until(lambda: robot.call("policy/ready")[0])
        return Scene(robot, policy, recorder, tmp_path / "dataset")

    return make
