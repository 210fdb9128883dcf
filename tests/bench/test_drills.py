"""Bench `drills`: what its policy asks for, what its figures mean, and what its report promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.drills.drill import Outcome
from bench.drills.handover import Steps, steps, turns
from bench.drills.main import SIM_TIME, SLOW, WALL_CLOCK, report, slug
from bench.drills.network import HOME, Kind, circles, write_bundle
from bench.drills.watch import Sent, Watch
from episodes.contract import Source, load_contract
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.runtime.limits import Limits

CONTRACTS = Path(__file__).resolve().parents[2] / "launch/contracts"
MS = 1_000_000


def test_the_policy_drives_circles_and_sees_its_pictures(tmp_path: Path) -> None:
    contract = load_contract(CONTRACTS / "arm6_sim.yaml")
    policy = Policy(Bundle.load(write_bundle(tmp_path / "b", contract, 4), robot_contract=contract))
    rng = np.random.default_rng(3)
    dark = {name: np.zeros((84, 84, 3), np.uint8) for name in ("front", "side", "wrist")}
    noise = {name: rng.integers(0, 256, (84, 84, 3), dtype=np.uint8) for name in dark}
    joints = np.array(HOME) + np.array([0.3, 0.1, 0.0, -0.4, 0.1, 0.2, 0.0])
    plan = policy.infer({**dark, "joints": joints})
    np.testing.assert_allclose(plan, circles(joints, 0.05, 4), atol=1e-5)
    assert np.abs(plan - policy.infer({**noise, "joints": joints})).max() > 1e-3
    assert (plan >= contract.action_lower).all()
    assert (plan <= contract.action_upper).all()
    speed = np.abs(np.diff(plan, axis=0)).max(axis=0) / 0.05
    assert speed.max() > 1.0


def test_a_broken_network_is_sound_until_joint1_is_beyond_its_border(tmp_path: Path) -> None:
    contract = load_contract(CONTRACTS / "arm6_sim_state.yaml")
    bundle = write_bundle(tmp_path / "b", contract, 4, Kind("nan", broken=float("nan")))
    policy = Policy(Bundle.load(bundle, robot_contract=contract))
    joints = np.array(HOME)
    assert np.isfinite(policy.infer({"joints": joints})).all()
    joints[0] = 0.4
    assert np.isnan(policy.infer({"joints": joints})).all()


def watch(rows: list[tuple[int, str, float]], motion: list[tuple[int, float]]) -> Watch:
    found = Watch.__new__(Watch)
    found.commands = [Sent(t * MS, source, np.array([value])) for t, source, value in rows]
    found.motion = [(t * MS, share) for t, share in motion]
    return found


def test_hold_is_the_first_of_the_commands_that_are_all_the_same() -> None:
    rows = [(0, "policy", 0.0), (5, "policy", 1.0), (10, "safety", 1.5)]
    rows += [(t, "safety", 1.7) for t in (15, 20, 25, 30)]
    found = watch(rows, [(0, 0.9), (12, 0.5), (18, 0.01), (24, 0.01), (30, 0.0)])
    assert found.reaction_ns(2 * MS) == 10 * MS
    assert found.held_ns(2 * MS) == 15 * MS
    assert found.rest_ns(2 * MS) == 18 * MS
    moving = watch([*rows, (35, "safety", 1.8)], [(0, 0.9)])
    assert moving.held_ns(2 * MS) is None
    assert moving.rest_ns(2 * MS) is None
    assert not moving.stands


def test_the_report_holds_the_worst_of_all_runs_and_every_broken_promise() -> None:
    shares = {"position_share": 0.9, "velocity_share": 1.0, "acceleration_share": 1.02}
    good = Outcome("e-stop pressed", "FAULT", "", {"hold_ms": 200.0, **shares}, {"hold_ms": 300.0})
    bad = Outcome(
        "e-stop pressed", "FAULT", "", {"hold_ms": 400.0}, {"hold_ms": 300.0}, ("hold after 400 ms",)
    )
    found = report([good, good])
    assert found["holds"] is True
    assert found["bounds"] == {"e_stop_pressed_hold_ms": {"at_most": 300.0}}
    assert found["figures"]["worst_acceleration_share"] == pytest.approx(1.02)  # type: ignore[index]
    broken = report([good, bad])
    assert broken["holds"] is False
    assert broken["figures"]["e_stop_pressed_hold_ms"] == 400.0  # type: ignore[index]
    assert broken["problems"] == ["e-stop pressed: hold after 400 ms"]


def test_every_drill_has_a_name_of_its_own() -> None:
    names = [slug(drill.name) for drill in (*SLOW, *WALL_CLOCK, *SIM_TIME)]
    assert len(set(names)) == len(names) == 37


def test_who_commands_is_told_in_turns_and_safety_is_nobody() -> None:
    hold, policy, person = Source.SAFETY, Source.POLICY, Source.INTERVENTION
    rows = np.array([hold, policy, policy, person, hold, person, hold, policy], np.uint8)
    assert turns(rows) == [policy, person, policy]
    assert turns(rows[:1]) == []


def test_a_jump_shows_as_a_share_of_the_limits_and_missed_ticks_do_not() -> None:
    limits = Limits.of(load_contract(CONTRACTS / "arm6_sim_state.yaml"), 5 * MS)
    stamps = 5 * MS * np.arange(40)
    even = np.tile(HOME, (40, 1))
    assert steps(even, stamps, limits) == Steps(0.0, 0.0, 38)
    jump = even.copy()
    jump[20:, 0] += 0.01
    found = steps(jump, stamps, limits)
    assert found.velocity == pytest.approx(0.01 / 0.005 / 1.5)
    assert found.acceleration == pytest.approx(0.01 / 0.005**2 / 6.0)
    stalled = stamps.copy()
    stalled[20:] += 50 * MS
    found = steps(jump, stalled, limits)
    assert (found.acceleration, found.judged) == (0.0, 36)
