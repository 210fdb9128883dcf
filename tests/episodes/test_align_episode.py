"""Alignment of whole recordings: equal to the live path, without holes, and never shifted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes.align import Aligned, AlignedEpisode, CausalAligner, align_episode
from episodes.contract import Contract, Source, parse_contract
from episodes.errors import EpisodeError
from episodes.reader import Episode
from episodes.writer import TERMINATED, EpisodeWriter

MS = 1_000_000
Writer = Callable[..., EpisodeWriter]


def replay(episode: Episode, aligned: AlignedEpisode) -> None:
    """Push the raw streams in receive order, as a live node gets them, and compare byte for byte."""
    contract = episode.contract
    aligner = CausalAligner(contract.observations, contract.reference)
    samples = []
    for name in contract.observations:
        stream = episode.stream(name)
        values = stream.read()
        for n, (stamp, recv) in enumerate(zip(stream.stamp_ns, stream.recv_ns, strict=True)):
            samples.append((int(recv), len(samples), name, values[n], int(stamp)))
    waiting = sorted(samples, key=lambda s: (s[0], s[1]))
    for k, tick in enumerate(aligned.tick_ns.tolist()):
        while waiting and waiting[0][0] <= tick:
            recv, _, name, value, stamp = waiting.pop(0)
            aligner.push(name, value, stamp, recv)
        got = aligner.at(tick)
        assert isinstance(got, Aligned)
        assert got.observation_ns == aligned.observation_ns[k]
        for name, values in aligned.observations.items():
            assert got.values[name].dtype == values.dtype
            assert got.values[name].tobytes() == values[k].tobytes()


def test_a_lock_step_recording_aligns_to_exactly_its_frames(robot: Any, record: Any) -> None:
    with Episode.open(record(steps=12)) as episode:
        aligned = align_episode(episode)
        replay(episode, aligned)
    assert len(aligned) == 12
    np.testing.assert_array_equal(aligned.observation_ns, [robot.stamp_ns(k) for k in range(13)])
    np.testing.assert_array_equal(aligned.tick_ns, aligned.observation_ns)
    for name, sample in (("front", robot.front), ("state", robot.state), ("pose", robot.pose)):
        np.testing.assert_array_equal(aligned.observations[name], np.stack([sample(k) for k in range(13)]))
    np.testing.assert_array_equal(aligned.actions, np.stack([robot.action(k) for k in range(12)]))
    assert set(aligned.sources) == {Source.SCRIPT}
    assert aligned.skipped == {}


def test_the_reward_of_a_step_belongs_to_the_frame_after_it(record: Any) -> None:
    with Episode.open(record(steps=12)) as episode:
        aligned = align_episode(episode, streams=())
    assert aligned.rewards_truth is not None
    assert aligned.success is not None
    np.testing.assert_array_equal(aligned.rewards_truth, np.arange(1, 13) / 10)
    np.testing.assert_array_equal(aligned.success, np.arange(1, 13) > 5)


def test_only_the_streams_asked_for_are_decoded(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Episode.open(record()) as episode:
        monkeypatch.setattr(episode.stream("front"), "read", None)
        aligned = align_episode(episode, streams=("state",))
    assert set(aligned.observations) == {"state"}


def test_termination_and_truncation_are_apart(robot: Any, new_writer: Writer) -> None:
    for episode_id, reason in (("a", TERMINATED), ("b", "horizon")):
        with new_writer(episode_id) as writer:
            robot.record(writer, 3)
            path = writer.finish("unknown", "none", reason)
        with Episode.open(path) as episode:
            aligned = align_episode(episode, streams=())
        assert aligned.terminated == (reason == TERMINATED)
        assert aligned.truncated != aligned.terminated


def test_an_episode_that_was_cut_before_its_end_did_not_terminate(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        robot.record(writer, 5)
        at = robot.stamp_ns(7)
        writer.append("front", robot.front(7), at, at)
        path = writer.finish("unknown", "none", TERMINATED)
    with Episode.open(path) as episode:
        aligned = align_episode(episode, streams=("state",))
    assert len(aligned) == 5
    assert aligned.truncated
    assert sum(aligned.skipped.values()) == 1


def test_of_several_runs_the_longest_is_taken_and_the_rest_is_counted(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        for k in range(20):
            robot.frame(writer, k)
            if k != 7:
                robot.command(writer, k)
        path = writer.finish()
    with Episode.open(path) as episode:
        aligned = align_episode(episode, streams=("state",))
    np.testing.assert_array_equal(aligned.observations["state"][:, 0], np.arange(8, 20))
    assert aligned.skipped == {"not in the longest run": 7, "no command": 1}


def test_a_frame_without_truth_ends_the_run(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        robot.record(writer, 6)
        robot.command(writer, 6)
        at = robot.stamp_ns(7)
        for name, value in (("front", robot.front(7)), ("state", robot.state(7)), ("pose", robot.pose(7))):
            writer.append(name, value, at, at)
        path = writer.finish()
    with Episode.open(path) as episode:
        aligned = align_episode(episode, streams=())
    assert len(aligned) == 6
    assert aligned.skipped == {"no truth": 1}


def test_which_transitions_remain_does_not_depend_on_the_streams_asked_for(
    robot: Any, new_writer: Writer
) -> None:
    with new_writer() as writer:
        for k in range(20):
            at = robot.stamp_ns(k)
            writer.append("front", robot.front(k), at, at)
            writer.append("mode", [0.0], at, at)
            writer.append("pose", robot.pose(k), at, at)
            if k not in (8, 9, 10):
                writer.append("state", robot.state(k), at, at)
            robot.command(writer, k)
        path = writer.finish()
    with Episode.open(path) as episode:
        few, all_ = align_episode(episode, streams=("front",)), align_episode(episode)
    np.testing.assert_array_equal(few.tick_ns, all_.tick_ns)
    assert few.skipped == all_.skipped
    assert few.skipped["state stale"] == 2


def test_nothing_to_align_says_why(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        robot.frame(writer, 0)
        robot.frame(writer, 1)
        path = writer.finish()
    with Episode.open(path) as episode, pytest.raises(EpisodeError, match="no command"):
        align_episode(episode)


def test_an_empty_stream_is_refused_by_name_only_when_asked_for(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        for k in range(4):
            at = robot.stamp_ns(k)
            writer.append("front", robot.front(k), at, at)
            robot.command(writer, k)
        path = writer.finish()
    with Episode.open(path) as episode:
        assert set(align_episode(episode).observations) == {"front"}
        with pytest.raises(EpisodeError, match="'state' holds no sample"):
            align_episode(episode, streams=("state",))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_replaying_a_robot_recording_gives_the_same_bytes(
    seed: int, tmp_path_factory: pytest.TempPathFactory, robot: Any, contract: Contract
) -> None:
    """Streams at their own rates with jitter, delay, drops, duplicates and stamps out of order."""
    rng = np.random.default_rng(seed)
    tmp_path = tmp_path_factory.mktemp("robot")
    samples = []
    for name, period_ms, delay_ms, jitter_ms in (
        ("front", 33, 25, 6),
        ("state", 10, 2, 3),
        ("pose", 17, 4, 3),
        ("mode", 400, 1, 0),
    ):
        for n in range(2000 // period_ms):
            if name != "mode" and rng.random() < 0.05:
                continue
            stamp = n * period_ms * MS + int(rng.integers(0, jitter_ms * MS + 1))
            for _ in range(1 + int(rng.random() < 0.03)):
                recv = stamp + delay_ms * MS + int(rng.integers(0, 20 * MS))
                samples.append((recv, name, n, stamp))
    with EpisodeWriter(tmp_path, contract, clock="ros", started_ns=0, episode_id="r") as writer:
        for recv, name, n, stamp in sorted(samples):
            value = np.ones(1) if name == "mode" else getattr(robot, name)(n)
            writer.append(name, value, stamp, recv)
        for k in range(400):
            writer.append_command(robot.action(k), k * 5 * MS, k * 5 * MS, 0, Source.TELEOP)
        path = writer.finish()
    with Episode.open(path) as episode:
        aligned = align_episode(episode)
        replay(episode, aligned)
    assert len(aligned) > 10
    assert set(np.diff(aligned.tick_ns)) == {contract.period_ns}
    assert (np.diff(aligned.observation_ns) >= 0).all()


@pytest.mark.parametrize("delay_ms", [0, 3, 30, 70])
def test_a_recorded_policy_of_known_delay_shows_no_shift_by_one(
    delay_ms: int, tmp_path: Path, robot: Any, contract: Contract
) -> None:
    """The policy's action is the number of the frame that it saw."""
    period_ms = contract.period_ns // MS
    sent: list[tuple[int, int, int]] = []
    with EpisodeWriter(tmp_path, contract, clock="ros", started_ns=0) as writer:
        for k in range(40):
            at = (100 + k * period_ms) * MS
            for name, value in (("state", robot.state(k)), ("pose", robot.pose(k)), ("mode", [0.0])):
                writer.append(name, value, at, at)
            writer.append("front", robot.front(k), at, at + 5 * MS)
            sent.append((at + (5 + delay_ms) * MS, at, k))
        for stamp, observation, k in sent:
            writer.append_command([k / 100, 0.0, 0.0], stamp, stamp, observation, Source.POLICY)
        path = writer.finish()
    with Episode.open(path) as episode:
        aligned = align_episode(episode, streams=("state",))
    assert len(aligned) >= 38
    np.testing.assert_array_equal(aligned.actions[:, 0], aligned.observations["state"][:-1, 0] / 100)


def test_actions_can_come_from_the_next_measured_state(
    tmp_path: Path, robot: Any, contract_text: str
) -> None:
    text = contract_text.replace(
        "max_velocity: [1.0, 1.0]", "max_velocity: [1.0, 1.0], record_from: next_state"
    )
    no_gripper = text[: text.index("  gripper:")] + text[text.index("simulation:") :]
    measured = parse_contract(
        no_gripper.replace("unit: rad}\nsim", "measured_by: state}\nsim"), "kinesthetic"
    )
    with EpisodeWriter(tmp_path, measured, clock="sim", started_ns=0) as writer:
        for k in range(8):
            at = robot.stamp_ns(k)
            for name in ("front", "state", "pose"):
                writer.append(name, getattr(robot, name)(k), at, at)
            writer.append("mode", [0.0], at, at)
        path = writer.finish()
    with Episode.open(path) as episode:
        aligned = align_episode(episode)
    np.testing.assert_array_equal(aligned.actions, aligned.observations["state"][1:, :2])
    assert set(aligned.sources) == {Source.TELEOP}
