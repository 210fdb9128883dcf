"""A robot with a stream of every type, its messages as functions of their number, and bags made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from episodes.contract import Contract, parse_contract
from episodes.dataset import Dataset

TYPES: Any = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
SHAPE = (24, 32, 3)

CONTRACT = """
robot: arm3
rate_hz: 20
reference: front
observations:
  front: {topic: camera/front/image_raw, type: sensor_msgs/msg/Image, shape: [24, 32, 3], max_age_ms: 200}
  wrist: {topic: camera/wrist/image_raw/compressed, type: sensor_msgs/msg/CompressedImage, shape: [24, 32, 3],
          max_age_ms: 200}
  depth: {topic: camera/depth/image_raw, type: sensor_msgs/msg/Image, shape: [24, 32, 1], dtype: uint16,
          max_age_ms: 200}
  range: {topic: camera/range/image_raw, type: sensor_msgs/msg/Image, shape: [24, 32, 1], dtype: float32,
          max_age_ms: 200}
  grey: {topic: camera/grey/image_raw, type: sensor_msgs/msg/Image, shape: [24, 32, 1], max_age_ms: 200}
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, field: position, names: [j0, j1, j2],
          align: linear, max_age_ms: 100, unit: rad}
  speed: {topic: joint_states, type: sensor_msgs/msg/JointState, field: velocity, names: [j0, j1, j2],
          align: linear, max_age_ms: 100, unit: rad/s}
  tactile: {topic: tactile, type: std_msgs/msg/Float64MultiArray, names: [t0, t1], align: hold,
            max_age_ms: 2000}
  twist: {topic: twist, type: geometry_msgs/msg/TwistStamped, names: [vx, vy, vz, wx, wy, wz],
          align: linear, max_age_ms: 200}
  pose: {topic: pose, type: geometry_msgs/msg/PoseStamped, names: [x, y, z, qx, qy, qz, qw], align: linear,
         max_age_ms: 200}
  wrench: {topic: wrench, type: geometry_msgs/msg/WrenchStamped, names: [fx, fy, fz, tx, ty, tz],
           align: linear, max_age_ms: 200}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: trajectory_msgs/msg/JointTrajectory, names: [j0, j1],
        lower: [-1.5, -1.5], upper: [1.5, 1.5], max_velocity: [1.0, 1.0], unit: rad}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [grip],
            lower: [0.0], upper: [1.0]}
"""
FROM_TOPIC = CONTRACT.replace(
    "topic: arm/commands,", "topic: arm/commands, record_from: topic, record_topic: leader/arm,"
).replace(
    "topic: gripper/commands,", "topic: gripper/commands, record_from: topic, record_topic: leader/grip,"
)


class Sent(NamedTuple):
    """One message as a recorder receives it."""

    topic: str
    kind: str
    recv_ns: int
    message: Any


def make(kind: str, **fields: Any) -> Any:
    """A message of `kind`."""
    return TYPES.types[kind](**fields)


def header(stamp_ns: int, frame_id: str = "") -> Any:
    """A std_msgs Header."""
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def picture(k: int) -> np.ndarray:
    """A smooth picture that changes with its number."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.stack([rows * 3 + k, columns * 2 + 3 * k, rows + columns + 7 * k], -1).astype(np.uint8)


def image(stamp_ns: int, pixels: np.ndarray, encoding: str) -> Any:
    """A sensor_msgs Image."""
    data = np.frombuffer(np.ascontiguousarray(pixels).tobytes(), np.uint8)
    return make(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=data.size // pixels.shape[0],
        data=data,
    )


def compressed(stamp_ns: int, pixels: np.ndarray, suffix: str = ".jpg") -> Any:
    """A sensor_msgs CompressedImage."""
    data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].reshape(-1)
    return make(
        "sensor_msgs/msg/CompressedImage", header=header(stamp_ns), format=suffix.strip("."), data=data
    )


def joints(stamp_ns: int, k: int) -> Any:
    """A JointState in another order than the contract's, with a joint more."""
    values = np.array([9.0, k / 50, -k / 40, k / 30])
    return make(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns),
        name=["extra", "j2", "j0", "j1"],
        position=values,
        velocity=values * 2,
        effort=np.zeros(0),
    )


def array(values: list[float]) -> Any:
    """A Float64MultiArray."""
    layout = make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    return make("std_msgs/msg/Float64MultiArray", layout=layout, data=np.array(values, dtype=np.float64))


def vector(x: float, y: float, z: float, kind: str = "geometry_msgs/msg/Vector3") -> Any:
    """Three numbers."""
    return make(kind, x=x, y=y, z=z)


def trajectory(stamp_ns: int, names: list[str], values: list[float], frame_id: str = "") -> Any:
    """A JointTrajectory with one point."""
    point = make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=np.array(values, dtype=np.float64),
        velocities=np.zeros(0),
        accelerations=np.zeros(0),
        effort=np.zeros(0),
        time_from_start=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
    )
    return make(
        "trajectory_msgs/msg/JointTrajectory",
        header=header(stamp_ns, frame_id),
        joint_names=names,
        points=[point],
    )


def command(stamp_ns: int, observation_ns: int, k: int) -> Any:
    """A control/command whose joints come in another order."""
    tags = f"source=policy;observation_ns={observation_ns}"
    return trajectory(stamp_ns, ["grip", "j1", "j0"], [k % 2, -k / 100, k / 100], tags)


@dataclass(frozen=True)
class Session:
    """What every topic of the robot sends in `seconds` from `start_ns` on, in the order of receipt."""

    seconds: float = 1.0
    start_ns: int = START_NS
    prefix: str = "/"
    seed: int = 0

    def __iter__(self) -> Iterator[Sent]:
        return iter(sorted(self._all(), key=lambda sent: sent.recv_ns))

    def _all(self) -> Iterator[Sent]:
        rng = np.random.default_rng(self.seed)
        for topic, kind, period_ms, build in self._topics():
            for k in range(int(self.seconds * 1000 / period_ms)):
                stamp_ns = self.start_ns + round(k * period_ms * MS) + int(rng.integers(0, MS))
                late_ns = int(rng.integers(1, 12 * MS))
                yield Sent(self.prefix + topic, kind, stamp_ns + late_ns, build(stamp_ns, k))

    def _topics(self) -> list[tuple[str, str, float, Callable[[int, int], Any]]]:
        sensor, geometry, std = "sensor_msgs/msg/", "geometry_msgs/msg/", "std_msgs/msg/"
        v3 = geometry + "Vector3"
        return [
            ("camera/front/image_raw", sensor + "Image", 33.3, lambda t, k: image(t, picture(k), "rgb8")),
            (
                "camera/wrist/image_raw/compressed",
                sensor + "CompressedImage",
                40,
                lambda t, k: compressed(t, picture(k)),
            ),
            (
                "camera/depth/image_raw",
                sensor + "Image",
                40,
                lambda t, k: image(t, picture(k)[..., :1].astype(np.uint16) * 100, "16UC1"),
            ),
            (
                "camera/range/image_raw",
                sensor + "Image",
                40,
                lambda t, k: image(t, picture(k)[..., :1].astype(np.float32) / 7, "32FC1"),
            ),
            (
                "camera/grey/image_raw",
                sensor + "Image",
                40,
                lambda t, k: image(t, picture(k)[..., 0], "mono8"),
            ),
            ("joint_states", sensor + "JointState", 10, joints),
            ("tactile", std + "Float64MultiArray", 100, lambda t, k: array([k / 10, -k])),
            (
                "twist",
                geometry + "TwistStamped",
                20,
                lambda t, k: make(
                    geometry + "TwistStamped",
                    header=header(t),
                    twist=make(geometry + "Twist", linear=vector(k, 1, 2), angular=vector(3, 4, k, v3)),
                ),
            ),
            (
                "pose",
                geometry + "PoseStamped",
                20,
                lambda t, k: make(
                    geometry + "PoseStamped",
                    header=header(t),
                    pose=make(
                        geometry + "Pose",
                        position=vector(k / 9, 1, 2, geometry + "Point"),
                        orientation=make(geometry + "Quaternion", x=0.0, y=0.0, z=0.6, w=0.8),
                    ),
                ),
            ),
            (
                "wrench",
                geometry + "WrenchStamped",
                20,
                lambda t, k: make(
                    geometry + "WrenchStamped",
                    header=header(t),
                    wrench=make(geometry + "Wrench", force=vector(k, 0, 9.8), torque=vector(0, k, 0)),
                ),
            ),
            (
                "control/command",
                "trajectory_msgs/msg/JointTrajectory",
                50,
                lambda t, k: command(t, t - 5 * MS, k),
            ),
            (
                "leader/arm",
                "trajectory_msgs/msg/JointTrajectory",
                20,
                lambda t, k: trajectory(t, ["j1", "j0"], [k / 100, -k / 100]),
            ),
            ("leader/grip", std + "Float64MultiArray", 25, lambda t, k: array([float(k % 2)])),
        ]


def text(value: str) -> Any:
    """A std_msgs String."""
    return make("std_msgs/msg/String", data=value)


def write_bag(
    path: Path,
    sent: Iterable[Sent],
    storage: str = "mcap",
    compression: str = "",
) -> Path:
    """A real bag of these messages, written by rosbags; the path of its folder."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(path, version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, kind, recv_ns, message in sent:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], recv_ns, TYPES.serialize_cdr(message, kind))
    return path


def storage_file(bag: Path) -> Path:
    """The one storage file of a bag's folder."""
    (file,) = [f for f in bag.iterdir() if f.suffix in (".mcap", ".db3")]
    return file


@pytest.fixture(scope="session")
def contract() -> Contract:
    return parse_contract(CONTRACT, "arm3.yaml")


@pytest.fixture(scope="session")
def from_topic() -> Contract:
    return parse_contract(FROM_TOPIC, "arm3_leader.yaml")


@pytest.fixture
def dataset(tmp_path: Path, contract: Contract) -> Dataset:
    return Dataset.create(tmp_path / "dataset", contract)


@pytest.fixture(scope="session", params=["mcap", "sqlite3"])
def bag(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of everything, in either storage."""
    return write_bag(tmp_path_factory.mktemp(request.param) / "session", Session(), request.param)
