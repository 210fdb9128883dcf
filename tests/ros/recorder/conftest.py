"""Recorders, and robots for them: generators in processes of their own, or messages out of the test's."""

from __future__ import annotations

import subprocess
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState

from bench.record_stand import Sensor, Stand, camera, end, joints, stand
from ros_nodes import qos
from ros_nodes.convert import set_stamp
from ros_nodes.recorder.remote import RemoteRecorder
from ros_nodes.recorder.status import FAILED, RECORDING, RecorderStatus

from ..conftest import PATIENCE_NS

SMALL = (camera("front", 48, 64), joints())
"""One small camera and the joints."""
ARM = """
robot: arm
rate_hz: 20
reference: state
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [a, b], max_age_ms: 500}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: trajectory_msgs/msg/JointTrajectory, names: [a, b],
        record_from: next_state, measured_by: state, lower: [-9, -9], upper: [9, 9], max_velocity: [1, 1]}
"""
"""Two joints, led by hand."""
WATCHED = ARM.replace(
    "observations:\n",
    "observations:\n"
    "  front: {topic: front, type: sensor_msgs/msg/Image, shape: [240, 320, 3], align: nearest,"
    " max_age_ms: 500}\n",
)
"""The same, with a camera that looks on."""
Message = Callable[[int], Any]


def joint_state(k: int) -> JointState:
    """Where the two joints are at step k."""
    return JointState(name=["a", "b"], position=[k / 100, -k / 100])


def frame(k: int) -> Image:
    """A picture of 230 kB, all of one grey: that of step k."""
    return Image(height=240, width=320, encoding="rgb8", step=960, data=array("B", [k % 256]) * 230_400)


class Puppet:
    """Publishes messages out of the test's own loop at a fixed rate, whenever that spins."""

    def __init__(self, made: Stand, topics: Mapping[str, Message], rate_hz: float = 50.0) -> None:
        """`topics` gives the message of step k of each topic; its header, if any, gets the stamp of now."""
        self._made, self._period_ns = made, round(1e9 / rate_hz)
        self._topics = dict(topics)
        self._publishers = {
            topic: made.node.create_publisher(type(make(0)), topic, qos.STREAM)
            for topic, make in topics.items()
        }
        self.silent: set[str] = set()
        """Topics that send nothing."""
        self.ahead_ns: dict[str, int] = {}
        """How far the clock that stamps a topic is ahead."""
        self.now_ns: Callable[[], int] = time.time_ns
        """The clock of the stamps."""
        self.k = 0
        made.loop.at(0, self._step)

    def _step(self) -> None:
        self.k += 1
        for topic, make in self._topics.items():
            if topic not in self.silent:
                message = make(self.k)
                if hasattr(message, "header"):
                    set_stamp(message.header.stamp, self.now_ns() + self.ahead_ns.get(topic, 0))
                self._publishers[topic].publish(message)
        self._made.loop.at(self._made.loop.now_ns() + self._period_ns, self._step)


class Running:
    """A recorder process of a stand."""

    def __init__(self, made: Stand, recorder: RemoteRecorder, popen: subprocess.Popen[bytes]) -> None:
        self.made, self.recorder, self.popen = made, recorder, popen

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.made.log("recorder")

    def until(self, condition: Callable[[RecorderStatus], bool]) -> RecorderStatus:
        """Wait until the recorder's status fulfils a condition, and return it."""
        recorder = self.recorder

        def met() -> bool:
            return recorder.status is not None and condition(recorder.status)

        self.wait(met)
        assert recorder.status is not None
        return recorder.status

    def wait(self, condition: Callable[[], bool]) -> None:
        """Dispatch until a condition holds, or fail with what the recorder printed."""
        held = self.made.loop.spin_until(condition, time.monotonic_ns() + PATIENCE_NS)
        assert held, f"it did not come: {self.recorder.status}\n{self.log}"

    def ready(self) -> None:
        """Wait until every stream brings something."""
        self.until(lambda status: all(row.samples for row in status.streams))

    def samples(self, stream: str, count: int) -> None:
        """Wait until so many samples of a stream have come since the start."""
        self.until(lambda s: any(row.name == stream and row.samples >= count for row in s.streams))

    def failed(self) -> str:
        """Wait until an episode has failed and its file is closed; returns what the operator is told."""
        return self.until(lambda status: status.state == FAILED and not status.closing).error

    def refused(self, command: str) -> str:
        """Why a service refuses."""
        ok, text = self.recorder.call(command)
        assert not ok, text
        return text

    def call(self, command: str) -> Path:
        """The file that a service answers with; fails where it refuses."""
        ok, text = self.recorder.call(command)
        assert ok, text
        return Path(text)

    def start(self) -> Path:
        """Begin an episode as soon as the recorder lets us, and wait until its status says so."""
        path = Path(self.made.start(self.recorder))
        self.until(lambda status: status.state == RECORDING and status.path == str(path))
        return path


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path fits into one line of a screen, whatever the runner calls its own folders."""
    with TemporaryDirectory(prefix="arm") as folder:
        yield Path(folder)


@pytest.fixture
def standing(short_path: Path) -> Callable[..., AbstractContextManager[Stand]]:
    """A stand in a folder of the test's own."""

    def make(sensors: tuple[Sensor, ...] = SMALL) -> AbstractContextManager[Stand]:
        return stand(short_path / "stand", sensors, "test")

    return make


@pytest.fixture
def small(short_path: Path) -> Iterator[Stand]:
    """A stand with one small camera and the joints, each a process."""
    with stand(short_path / "stand", SMALL, "test") as made:
        yield made


@pytest.fixture
def bare(tmp_path: Path) -> Callable[..., AbstractContextManager[Stand]]:
    """A stand whose contract is given as text (two joints led by hand) and where nothing publishes yet."""

    def make(contract: str = ARM) -> AbstractContextManager[Stand]:
        return stand(tmp_path / "stand", (), "test", contract)

    return make


@pytest.fixture
def stranger() -> Iterator[Callable[[type, str], Publisher]]:
    """Makes publishers of another participant: one participant has one type on a topic."""
    with ExitStack() as stack:

        def make(kind: type, topic: str) -> Publisher:
            context = rclpy.Context()
            rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
            stack.callback(context.try_shutdown)
            node = Node("stranger", context=context)
            stack.callback(node.destroy_node)
            return node.create_publisher(kind, topic, qos.STREAM)

        yield make


@contextmanager
def recorder_of(made: Stand, **parameters: Any) -> Iterator[Running]:
    """A recorder on a stand; ended, if it still runs, when the block is left."""
    popen, recorder = made.record(**parameters)
    try:
        yield Running(made, recorder, popen)
    finally:
        end(popen)
