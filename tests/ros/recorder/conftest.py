"""A robot made of noise, and recorders of it: processes of one ROS domain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench.record_stand import Sensor, Stand, camera, end, joints, stand
from ros_nodes.recorder.remote import RemoteRecorder
from ros_nodes.recorder.status import RecorderStatus

from ..conftest import PATIENCE_NS

SMALL = (camera("front", 48, 64), joints())
"""One small camera and the joints."""

Standing = Callable[..., AbstractContextManager[Stand]]
Recorders = Callable[..., tuple["Running", RemoteRecorder]]


class Running:
    """A recorder process of a stand."""

    def __init__(self, made: Stand, recorder: RemoteRecorder, popen: object) -> None:
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


@pytest.fixture
def standing(tmp_path: Path) -> Standing:
    """A stand in a folder of the test's own."""

    def make(sensors: tuple[Sensor, ...] = SMALL) -> AbstractContextManager[Stand]:
        return stand(tmp_path / "stand", sensors, "test")

    return make


@pytest.fixture
def small(standing: Standing) -> Iterator[Stand]:
    """A stand with one small camera and the joints."""
    with standing() as made:
        yield made


@contextmanager
def recorder_of(made: Stand, **parameters: str | int | float) -> Iterator[Running]:
    """A recorder on a stand; ended, if it still runs, when the block is left."""
    popen, recorder = made.record(**parameters)
    try:
        yield Running(made, recorder, popen)
    finally:
        end(popen)
