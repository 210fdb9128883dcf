"""Hostile messages of every type to a recorder process: it lives, tells, and records only what fits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from episodes.checks.findings import Level
from episodes.checks.run import check
from episodes.contract import Source
from episodes.reader import Episode
from ros_nodes.convert import set_stamp
from ros_nodes.recorder.realtime import FAR_NS
from ros_nodes.recorder.remote import RemoteRecorder
from ros_nodes.recorder.status import RECORDING, RecorderStatus

from .. import hostile
from ..conftest import NodeProcess, Peer
from .everything import CONTRACT, MESSAGES, Robot

COUNTS = [(1, 80), pytest.param(8, 1_250, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
"""Episodes, and hostile messages of every topic in each."""
STEP_NS = 4_000_000
Draw = Callable[[Any, np.random.Generator], Any]
DRAWS: dict[type, Draw] = {
    JointTrajectory: hostile.trajectory,
    Image: hostile.image,
    CompressedImage: hostile.compressed,
    JointState: hostile.joint_state,
    Float64MultiArray: hostile.multi_array,
    TwistStamped: hostile.spatial,
    PoseStamped: hostile.spatial,
    WrenchStamped: hostile.spatial,
    Joy: hostile.joy,
    Bool: lambda good, rng: Bool(data=bool(rng.random() < 0.5)),
    String: hostile.text,
}


def judge(path: Path) -> tuple[int, bool]:
    """Whatever came, a file holds what fits the contract; (how many are missing, whether any is odd)."""
    dropped, odd = 0, False
    with Episode.open(path) as episode:
        assert episode.attrs["outcome"] == "success"
        for stream in episode.streams.values():
            values = stream.read()
            assert values.shape == (len(stream), *stream.shape)
            assert (np.abs(stream.stamp_ns - stream.recv_ns) <= FAR_NS).all()
            assert (np.diff(stream.recv_ns) >= 0).all()
            dropped += int(stream.attrs["dropped"])
            observed = stream.name in episode.contract.observations and values.ndim == 2
            odd |= observed and not bool(np.isfinite(values).all())
        commands = episode.commands
        assert commands is not None
        assert np.isfinite(commands.values).all()
        assert (np.diff(commands.stamp_ns) >= 0).all()
        assert (commands.observation_ns >= 0).all()
        assert set(commands.source.tolist()) <= {int(source) for source in Source}
    return dropped, odd


def failed(path: Path, name: str) -> bool:
    """Whether `armchair episodes check` finds that fault with a file."""
    report = check([path], only=(name,))
    return any(f.check == name and f.level is Level.FAIL for f in report.findings)


@pytest.mark.parametrize(("episodes", "count"), COUNTS)
def test_a_recorder_outlives_fuzzed_messages_of_every_type_tells_and_records_only_what_fits(
    peer: Peer, start: Callable[..., NodeProcess], tmp_path: Path, episodes: int, count: int
) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    node = start(
        "recorder_node",
        contract=tmp_path / "contract.yaml",
        dataset=tmp_path / "data",
        silent_s=60.0,
        dead_s=0.0,
    )
    recorder = RemoteRecorder(peer.node, peer.loop)
    robot = Robot(peer, recorder)
    rng = np.random.default_rng(11)
    problems: set[str] = set()
    seen: set[int] = set()

    def look() -> RecorderStatus | None:
        status = recorder.status
        if status is not None and recorder.heard_ns not in seen:
            seen.add(recorder.heard_ns)
            problems.update(row.name for row in status.streams if row.problem)
        return status

    for _ in range(episodes):
        robot.heal()
        assert recorder.call("start")[0]
        peer.until(lambda: recorder.status is not None and recorder.status.state == RECORDING)
        for k in range(count):
            for topic, make in MESSAGES.items():
                good = make(k)
                if hasattr(good, "header"):
                    set_stamp(good.header.stamp, time.time_ns())
                message = good if rng.random() < 0.2 else DRAWS[type(good)](good, rng)
                robot.publish(topic, message)
            peer.loop.spin_until(lambda: False, time.monotonic_ns() + STEP_NS)
            assert node.popen.poll() is None, node.finish()
            look()
        robot.heal()
        ok, path = recorder.call("success")
        assert ok, path
        dropped, odd = judge(Path(path))
        assert dropped > count, "what was refused is counted in the file"
        assert odd == failed(Path(path), "finite"), "what is not finite is found"
    status = look()
    assert status is not None
    assert status.undecodable > episodes * count
    assert {"state", "rgb", "jpeg", "joy", "commands"} <= problems, "the operator is told"
    code, text = node.end()
    assert code == 0, text
    assert "Traceback" not in text
