"""Cameras that die and come back, clocks that jump: what a recorder process says, keeps and refuses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from bench.record_stand import Stand, end
from episodes.checks.findings import Level
from episodes.checks.run import check
from episodes.contract import parse_contract
from episodes.dataset import Dataset
from episodes.reader import Episode
from ros_nodes import qos
from ros_nodes.convert import set_stamp
from ros_nodes.recorder.parts import PictureSettings
from ros_nodes.recorder.realtime import RealtimeSources, SourceSettings
from ros_nodes.recorder.recording import Recording
from ros_nodes.recorder.status import RECORDING

from ..conftest import Peer
from .conftest import ARM, SMALL, WATCHED, Puppet, Running, frame, joint_state, recorder_of

SECOND_NS = 10**9
CAMERA = "camera/front/image_raw"
Bare = Callable[..., AbstractContextManager[Stand]]


def silence(running: Running) -> None:
    """Wait until the recorder says that the camera is silent."""
    assert CAMERA in running.until(lambda status: status.error.startswith("silent: ")).error


def test_a_camera_that_is_killed_and_revived_marks_the_episode_and_is_no_success_meanwhile(
    small: Stand,
) -> None:
    levels: list[bytes] = []
    small.loop.subscribe(
        DiagnosticStatus, "episode/status", qos.LATCHED, lambda message: levels.append(message.level)
    )
    told: list[str] = []
    small.loop.subscribe(
        DiagnosticArray, "/diagnostics", qos.STREAM, lambda array: told.append(array.status[0].message)
    )
    with recorder_of(small, silent_s=0.5, dead_s=0.0, task="hold still") as running:
        running.start()
        running.samples("front", 10)
        end(small.generators["front"], number=9)
        silence(running)
        assert levels[-1] == DiagnosticStatus.ERROR
        assert running.recorder.status is not None
        assert running.recorder.status.state == RECORDING, "it goes on"
        small.generate(SMALL[0])
        running.until(lambda status: not status.error)
        assert levels[-1] == DiagnosticStatus.OK
        running.wait(lambda: any(text.startswith(f"silent: {CAMERA}") for text in told))
        running.samples("front", 30)
        path = running.call("success")
        with Episode.open(path) as episode:
            events = {event.name: event.value for event in episode.events}
            assert [events[name]["topic"] for name in ("stream_silent", "stream_back")] == [CAMERA] * 2
            gap_s = int(episode.streams["front"].attrs["gap_max_ns"]) / 1e9
            assert gap_s > 0.5
            assert events["stream_back"]["after_s"] == pytest.approx(gap_s, abs=1.0)
            assert int(episode.streams["state"].attrs["gap_max_ns"]) < int(gap_s * 1e9)
        gaps = [f for f in check([path]).findings if f.check == "gaps" and f.stream == "front"]
        assert [finding.level for finding in gaps] == [Level.FAIL], "and the check tells it"

        running.start()
        running.samples("front", 10)
        end(small.generators["front"], number=9)
        silence(running)
        text = running.refused("success")
        assert f"not a success but a failure, silent: {CAMERA} for" in text
        (info,) = [i for i in Dataset.open(small.folder / "dataset").infos() if i.outcome == "failure"]
        assert "silent: " in str(info.attrs["termination_reason"])
        assert f"{CAMERA} (the last message came" in running.refused("start")


def test_a_camera_that_stays_dead_ends_the_episode_as_a_failure(bare: Bare) -> None:
    with bare(WATCHED) as made, recorder_of(made, silent_s=0.2, dead_s=2.5) as running:
        robot = Puppet(made, {"front": frame, "joint_states": joint_state})
        running.start()
        running.samples("front", 10)
        robot.silent.add("front")
        error = running.failed()
        assert "the episode ended as a failure: front brought nothing for" in error
        assert running.refused("success") == error
        robot.silent.clear()
        # The camera's clock leaps: the episode goes on, and says when. Ten minutes off it is refused.
        path = running.start()
        running.samples("front", 10)
        robot.ahead_ns["front"] = 3 * SECOND_NS
        running.wait(lambda: "front: the clock that stamps it jumped by" in running.log)
        robot.ahead_ns["front"] = 3600 * SECOND_NS
        problem = running.until(lambda status: bool(status.streams[0].problem)).streams[0].problem
        assert "set the recorder's parameter 'stamps' to 'receive'" in problem
        robot.ahead_ns["front"] = 0
        running.until(lambda status: not status.streams[0].problem)
        assert running.call("failure") == path
        with Episode.open(path) as episode:
            jumps = [e.value["by_s"] for e in episode.events if e.name == "stamp_jump"]
            assert [round(by) for by in jumps] == [3, -3]
            assert int(episode.streams["front"].attrs["dropped"]) > 0, "what was refused is counted"
        monotonic = [f for f in check([path]).findings if f.check == "monotonic" and f.stream == "front"]
        assert max(f.level for f in monotonic) is Level.FAIL


@pytest.mark.parametrize(("by_ns", "way"), [(-3 * SECOND_NS, "back"), (3 * SECOND_NS, "forward")])
def test_a_computers_clock_that_is_set_ends_the_episode(
    peer: Peer, tmp_path: Path, by_ns: int, way: str
) -> None:
    """The clock of a real node, set by its override: this machine's own is not ours to set."""
    contract = parse_contract(ARM, "arm")
    settings = SourceSettings(
        PictureSettings("jpeg", "raw", 95, "420"), "header", SECOND_NS, 0, clock_jump_ns=SECOND_NS
    )
    sources = RealtimeSources(peer.node, peer.loop, contract, settings)
    made = Stand(tmp_path, {}, peer.node, peer.loop)
    clock, offset = peer.node.get_clock(), 0

    def tick() -> None:
        clock.set_ros_time_override(Time(nanoseconds=time.time_ns() + offset, clock_type=clock.clock_type))
        peer.loop.at(peer.loop.now_ns() + 1_000_000, tick)

    tick()
    clock._set_ros_time_is_active(True)
    Puppet(made, {"joint_states": joint_state})
    peer.until(lambda: not sources.missing())
    dataset = Dataset.open_or_create(tmp_path / "data", contract)
    one = Recording(lambda: dataset.new_writer(clock="ros", started_ns=1, episode_id="one"), 1 << 20)
    sources.begin(one)
    peer.until(lambda: one.samples > 10)
    assert not sources.trouble
    offset = by_ns
    peer.until(lambda: bool(sources.trouble))
    assert re.match(
        rf"the clock was set {way} by (2\.[5-9]|3\.[0-4])\d+ s: stamps from before", sources.trouble
    )
    one.abort(sources.trouble)
    info = dataset.info("one")
    assert info.outcome == "failure"
    assert f"the clock was set {way}" in str(info.attrs["termination_reason"])


TWO_PARTS = ARM.replace(
    "observations:\n",
    "observations:\n"
    "  speed: {topic: joint_states, type: sensor_msgs/msg/JointState, field: velocity, names: [a, b],"
    " max_age_ms: 500}\n",
)
"""Positions and velocities out of one message."""


def test_what_is_wrong_with_one_part_of_a_message_is_told_until_a_sound_one_comes_or_the_episode_ends(
    peer: Peer, tmp_path: Path
) -> None:
    contract = parse_contract(TWO_PARTS, "arm")
    settings = SourceSettings(
        PictureSettings("jpeg", "raw", 95, "420"), "header", SECOND_NS, 0, clock_jump_ns=SECOND_NS
    )
    sources = RealtimeSources(peer.node, peer.loop, contract, settings)
    speed = [0.0, 0.0]

    def both(k: int) -> JointState:
        message = joint_state(k)
        message.velocity = speed
        return message

    def told() -> set[str]:
        return {row.problem for row in sources.rows()}

    Puppet(Stand(tmp_path, {}, peer.node, peer.loop), {"joint_states": both})
    peer.until(lambda: not sources.missing())
    dataset = Dataset.open_or_create(tmp_path / "data", contract)
    one = Recording(lambda: dataset.new_writer(clock="ros", started_ns=1, episode_id="one"), 1 << 20)
    sources.begin(one)
    peer.until(lambda: one.samples > 10)
    assert told() == {""}
    speed = [0.0, float("nan")]
    peer.until(lambda: told() == {"speed holds a non-finite number"})
    speed = [0.0]
    peer.until(lambda: all("2 names but 1 values" in text for text in told()))
    speed = [0.0, float("inf")]
    peer.until(lambda: told() == {"speed holds a non-finite number"})
    sources.end()
    peer.until(lambda: told() == {""})
    one.abort("enough")


@pytest.mark.parametrize(
    ("by_ns", "way"),
    [(-SECOND_NS, "back"), pytest.param(60 * SECOND_NS, "forward", marks=pytest.mark.long)],
)
def test_a_simulated_clock_that_jumps_ends_the_episode(bare: Bare, by_ns: int, way: str) -> None:
    """Over /clock, in a recorder process that runs on simulated time."""
    with bare() as made, recorder_of(made, use_sim_time=True, dead_s=0.0) as running:
        now_ns = 100 * SECOND_NS

        def clock(k: int) -> Clock:
            nonlocal now_ns
            now_ns += SECOND_NS // 50
            message = Clock()
            set_stamp(message.clock, now_ns)
            return message

        robot = Puppet(made, {"joint_states": joint_state})
        robot.now_ns = lambda: now_ns
        running.wait(lambda: "clock (use_sim_time is set, but no time has come)" in running.refused("start"))
        Puppet(made, {"clock": clock})
        running.start()
        running.samples("state", 20)
        now_ns += by_ns
        error = running.failed()
        assert f"the clock was set {way} by" in error
        assert "stamps from before and after do not fit together" in error
        (info,) = Dataset.open(made.folder / "dataset").infos()
        assert (info.outcome, info.attrs["outcome_source"]) == ("failure", "none")
        with Episode.open(info.path) as episode:
            times = episode.streams["state"].recv_ns
            assert (times[1:] >= times[:-1]).all(), "nothing that came after the jump is in it"
        running.start()
        running.samples("state", 5)
        running.call("success")
