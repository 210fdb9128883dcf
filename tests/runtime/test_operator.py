"""The operator: the dead-man, what is followed while it is held, and how the arm is handed back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.contract import Contract, Source
from policy.runtime.control import Chunk, Command, ControlConfig, FaultCode, Heartbeat, OperatorCommand, State
from policy.runtime.operator import Change, DeadMan, Operator
from policy.runtime.safety import Limiter, Limits

from .test_control import MS, PERIOD_NS, POSE, Cell

SILENCE_NS = ControlConfig().teleop_silence_ns


@pytest.fixture
def cell(arm: Contract) -> Cell:
    """A cell whose operator's dead-man has been heard released."""
    cell = Cell(arm)
    cell.enable()
    cell.operator(held=False)
    return cell


def plan(cell: Cell, *action: float, n: int = 40) -> Chunk:
    return cell.chunk(*action, n=n)


# ---------------------------------------------------------------------------------------------- the dead-man


def test_a_dead_man_engages_only_on_the_way_from_released_to_held() -> None:
    deadman = DeadMan(SILENCE_NS, 20 * MS)
    assert deadman.update(0, Heartbeat(True, 0)) is Change.NONE, "it may be jammed"
    assert deadman.update(1, Heartbeat(False, 1)) is Change.NONE
    assert deadman.update(2, Heartbeat(True, 2)) is Change.ENGAGED
    assert deadman.update(3, Heartbeat(False, 3)) is Change.RELEASED


def test_a_dead_man_that_falls_silent_opens_in_time_and_must_be_released_before_it_engages_again() -> None:
    deadman = DeadMan(SILENCE_NS, 20 * MS)
    deadman.update(0, Heartbeat(False, 0))
    deadman.update(1, Heartbeat(True, 1))
    assert deadman.update(1 + SILENCE_NS, None) is Change.NONE
    assert deadman.update(2 + SILENCE_NS, None) is Change.SILENT
    assert deadman.update(3 + SILENCE_NS, Heartbeat(True, 3 + SILENCE_NS)) is Change.NONE
    assert not deadman.engaged
    deadman.update(4 + SILENCE_NS, Heartbeat(False, 4 + SILENCE_NS))
    assert deadman.update(5 + SILENCE_NS, Heartbeat(True, 5 + SILENCE_NS)) is Change.ENGAGED


def test_a_heartbeat_from_the_future_is_silence() -> None:
    deadman = DeadMan(SILENCE_NS, 20 * MS)
    deadman.update(0, Heartbeat(False, 0))
    assert deadman.update(1, Heartbeat(True, 900 * MS)) is Change.NONE
    assert not deadman.engaged


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * SILENCE_NS), st.sampled_from([None, True, False])), max_size=40))
def test_a_dead_man_is_never_engaged_without_a_recent_word_that_it_is_held(
    steps: list[tuple[int, bool | None]],
) -> None:
    deadman, now_ns, heard_ns, said = DeadMan(SILENCE_NS, 20 * MS), 0, 0, None
    released = False
    for step_ns, held in steps:
        now_ns += step_ns
        if held is not None:
            heard_ns, said = now_ns, held
            released |= not held
        change = deadman.update(now_ns, None if held is None else Heartbeat(held, now_ns))
        if deadman.engaged:
            assert said is True
            assert released
            assert now_ns - heard_ns <= SILENCE_NS
        assert (change is Change.ENGAGED) <= deadman.engaged


# --------------------------------------------------------------------------------------------- being in force


def test_without_the_dead_man_an_operators_commands_are_not_followed(cell: Cell) -> None:
    command = OperatorCommand({"arm": np.array([0.3, 0.0, 0.25])}, cell.now_ns + PERIOD_NS)
    assert cell.tick(cell.inputs_next(teleop=command)).state is State.HOLD
    assert cell.controller.counts["teleop_not_engaged"] == 1


def test_a_dead_man_that_is_held_while_control_is_enabled_moves_nothing(arm: Contract) -> None:
    cell = Cell(arm)
    cell.enable()
    assert {cell.operator(0.3, 0.0, 0.25, 0.04).state for _ in range(50)} == {State.HOLD}
    cell.operator(held=False)
    assert cell.operator(0.3, 0.0, 0.25, 0.04).state is State.TELEOP


def test_an_operator_who_holds_the_dead_man_and_says_nothing_has_the_arm_held_not_the_policy(
    cell: Cell,
) -> None:
    cell.follow(3, 0.5, 0.0, 0.25, 0.04)
    beats = [
        cell.tick(
            cell.inputs_next(
                cell.chunk(0.5, 0.0, 0.25, 0.04), deadman=Heartbeat(True, cell.now_ns + PERIOD_NS)
            )
        )
        for _ in range(100)
    ]
    assert {c.state for c in beats} == {State.HOLD}
    assert beats[-1].fault is None


def test_an_operators_command_stands_for_150_ms(cell: Cell) -> None:
    cell.operator(0.3, 0.0, 0.25, 0.04)
    states = []
    for _ in range(30):
        beat = Heartbeat(True, cell.now_ns + PERIOD_NS)
        states.append(cell.tick(cell.inputs_next(deadman=beat)).state)
    assert states == [State.TELEOP] * 15 + [State.HOLD] * 15


def test_channels_that_the_operator_does_not_name_come_to_rest_without_turning_back(cell: Cell) -> None:
    moving = cell.follow(60, 0.9, 0.0, 0.25, 0.04)
    assert moving.action is not None
    stream = [moving.action[0]]
    for _ in range(60):
        now_ns = cell.now_ns + PERIOD_NS
        only = OperatorCommand({"gripper": np.array([0.02])}, now_ns)
        command = cell.tick(cell.inputs_next(teleop=only, deadman=Heartbeat(True, now_ns)))
        assert command.state is State.TELEOP
        assert command.action is not None
        stream.append(command.action[0])
    assert (np.diff(stream) >= -1e-12).all()
    assert stream[-1] == stream[-2]
    assert cell.pose[3] == pytest.approx(0.02)


def test_poses_that_come_20_times_a_second_are_driven_at_an_even_speed_at_100_hz(cell: Cell) -> None:
    velocities = []
    for k in range(200):
        now_ns = cell.now_ns + PERIOD_NS
        new = k % 5 == 0
        pose = OperatorCommand({"arm": np.array([0.5 * 0.01 * k, 0.0, 0.25])}, now_ns) if new else None
        before = cell.pose[0]
        cell.tick(cell.inputs_next(teleop=pose, deadman=Heartbeat(True, now_ns)))
        velocities.append((cell.pose[0] - before) / 0.01)
    assert velocities[100:] == pytest.approx([0.5] * 100, abs=0.02)


def test_after_a_silence_the_way_to_the_next_command_begins_where_the_arm_stopped(arm: Contract) -> None:
    operator = Operator(arm, PERIOD_NS, silence_ns=SILENCE_NS, max_age_ns=50 * MS, skew_ns=20 * MS)
    operator.update(0, Heartbeat(False, 0))
    operator.update(1, Heartbeat(True, 1))
    rest = np.array([0.0, 0.0, 0.25, 0.04])
    operator.take(OperatorCommand({"arm": np.array([0.5, 0.0, 0.25])}, 1), 1, rest, rest)
    assert operator.at(2) is not None
    assert operator.at(200 * MS) is None, "the command is too old"
    stopped = np.array([0.1, 0.0, 0.25, 0.04])
    now_ns = 201 * MS
    operator.take(OperatorCommand({"arm": np.array([0.2, 0.0, 0.25])}, now_ns), now_ns, stopped, stopped)
    asked = operator.at(now_ns)
    assert asked is not None
    assert 0.1 <= asked[0] < 0.2, "between where it stands and what is asked for, not from the old command"


@pytest.mark.parametrize(
    "values",
    [
        {"arm": np.array([0.0, np.nan, 0.25])},
        {"arm": np.array([0.0, np.inf, 0.25])},
        {"arm": np.zeros(2)},
        {"arm": np.zeros(3, dtype=np.int64)},
        {"leg": np.zeros(3)},
        {},
    ],
    ids=["NaN", "infinite", "short", "integers", "unknown", "empty"],
)
def test_a_command_that_cannot_be_executed_is_a_fault_while_the_operator_drives_and_nothing_before(
    cell: Cell, values: dict[str, np.ndarray]
) -> None:
    bad = OperatorCommand(values, cell.now_ns + PERIOD_NS)
    assert cell.tick(cell.inputs_next(teleop=bad)).fault is None
    cell.operator()
    now_ns = cell.now_ns + PERIOD_NS
    bad = OperatorCommand(values, now_ns)
    command = cell.tick(cell.inputs_next(teleop=bad, deadman=Heartbeat(True, now_ns)))
    assert command.fault is not None
    assert command.fault.code is FaultCode.TELEOP_INVALID


def test_a_chunk_on_the_policys_way_cannot_claim_to_be_an_operators(cell: Cell) -> None:
    command = cell.follow(1, source=Source.INTERVENTION)
    assert command.fault is not None
    assert command.fault.code is FaultCode.CHUNK_INVALID
    assert "dead-man" in command.fault.message


# ------------------------------------------------------------------------------------- taking and giving back


def test_a_takeover_before_the_policys_first_action_is_an_intervention_too(cell: Cell) -> None:
    command = cell.operator(policy=plan(cell))
    assert command.source is Source.INTERVENTION


def test_a_plan_from_before_the_release_is_not_gone_on_with(cell: Cell) -> None:
    cell.tick(cell.inputs_next(plan(cell, 0.5, 0.0, 0.25, 0.04)))
    for _ in range(5):
        cell.operator(-0.3, 0.0, 0.25, 0.04)
    released = [cell.operator(held=False) for _ in range(10)]
    assert {c.state for c in released} == {State.HOLD}
    assert cell.follow(1, 0.0, 0.0, 0.25, 0.04).state is State.POLICY


def test_after_a_release_the_policy_has_the_time_of_its_dropped_plan_for_a_new_one(cell: Cell) -> None:
    long = plan(cell, 0.5, 0.0, 0.25, 0.04, n=100)
    cell.tick(cell.inputs_next(long))
    cell.operator()
    cell.operator(held=False)
    while cell.operator(held=False).state is not State.FAULT:
        pass
    late_ns = cell.now_ns - (long.end_ns + PERIOD_NS)
    assert late_ns == pytest.approx(ControlConfig().starved_fault_ns, abs=PERIOD_NS)


def test_a_dead_man_that_falls_silent_in_a_takeover_is_a_fault_since_nobody_gave_the_arm_back(
    cell: Cell,
) -> None:
    cell.follow(3)
    cell.operator()
    heard_ns = cell.now_ns
    while cell.controller.state is not State.FAULT:
        cell.tick(cell.inputs_next(cell.chunk()))
    assert SILENCE_NS < cell.now_ns - heard_ns <= SILENCE_NS + PERIOD_NS
    assert cell.controller.fault is not None
    assert cell.controller.fault.code is FaultCode.TELEOP_SILENT


def test_a_dead_man_that_falls_silent_in_teleoperation_holds(cell: Cell) -> None:
    cell.operator()
    heard_ns = cell.now_ns
    while cell.tick(cell.inputs_next()).state is State.TELEOP:
        pass
    assert cell.now_ns - heard_ns <= SILENCE_NS + PERIOD_NS
    for _ in range(40):
        cell.tick(cell.inputs_next())
    assert cell.operator().state is State.HOLD, "it must be released first"
    assert cell.controller.counts["teleop_silent"] == 1


def test_a_policy_that_reports_trouble_stops_the_arm_only_while_it_drives_it(cell: Cell) -> None:
    cell.operator(policy=cell.chunk())
    now_ns = cell.now_ns + PERIOD_NS
    held = cell.inputs_next(cell.chunk(), policy="frozen: front", deadman=Heartbeat(True, now_ns))
    assert cell.tick(held).fault is None
    assert cell.operator(held=False, policy=cell.chunk()).state is State.HOLD, "it is not followed"
    cell.tick(cell.inputs_next(cell.chunk(), policy=""))
    assert cell.follow(2).state is State.POLICY
    command = cell.tick(cell.inputs_next(cell.chunk(), policy="frozen: front"))
    assert command.fault is not None
    assert (command.fault.code, command.fault.message) == (FaultCode.REPORTED, "policy: frozen: front")


def worst_of(stream: list[Command], arm: Contract) -> tuple[float, float]:
    """Largest velocity and acceleration of the commands, as shares of the limits."""
    limits = Limits.of(arm)
    values = np.array([c.action for c in stream])
    velocity = np.diff(values, axis=0) / 0.01
    gain = np.diff(velocity, axis=0) / 0.01
    return float((np.abs(velocity) / limits.velocity).max()), float(
        (np.abs(gain) / limits.acceleration).max()
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.tuples(*[st.floats(-1.0, 1.0)] * 4), st.integers(1, 30)), max_size=12
    )
)
def test_whoever_takes_and_gives_back_the_worst_step_of_the_command_is_within_the_limits(
    arm: Contract, turns: list[tuple[bool, tuple[float, float, float, float], int]]
) -> None:
    cell = Cell(arm)
    cell.enable()
    cell.operator(held=False)
    for held, target, ticks in turns:
        for _ in range(ticks):
            chunk = cell.chunk(*(-v for v in target))
            cell.operator(*target, held=held, policy=chunk)
    if len(cell.commands) > 2:
        velocity, acceleration = worst_of(cell.commands, arm)
        assert velocity <= 1 + 1e-6
        assert acceleration <= 1 + 1e-6


@pytest.mark.parametrize("interval_ms", [10, 15, 25, 50, 80, 140])
@pytest.mark.parametrize("goal", [(0.5, 0.2, 0.0, 0.02), (-0.9, 1.5, 0.4, 0.0), (0.0, -0.01, 0.26, 0.04)])
def test_a_pose_that_is_asked_for_again_and_again_is_gone_to_and_not_past_however_often_it_comes(
    cell: Cell, interval_ms: int, goal: tuple[float, float, float, float]
) -> None:
    start = cell.pose.copy()
    due_ns = cell.now_ns
    for _ in range(400):
        now_ns = cell.now_ns + PERIOD_NS
        command = None
        if now_ns >= due_ns:
            due_ns += interval_ms * MS
            values = np.array(goal)
            command = OperatorCommand({"arm": values[:3], "gripper": values[3:]}, now_ns)
        cell.tick(cell.inputs_next(teleop=command, deadman=Heartbeat(True, now_ns)))
        past = (cell.pose - np.array(goal)) * np.sign(np.array(goal) - start)
        assert past.max() <= 1e-9
    assert cell.pose == pytest.approx(np.array(goal), abs=1e-9)


# --------------------------------------------------------------------------------------------- reduced speed


def test_a_reduced_speed_bounds_positions_by_velocity_and_deltas_by_their_box(
    arm: Contract, robot: Contract
) -> None:
    slow, full = Limits.of(arm, speed_scale=0.1), Limits.of(arm)
    assert slow.velocity[:3] == pytest.approx(0.1 * full.velocity[:3])
    assert slow.upper.tolist() == full.upper.tolist()
    assert slow.acceleration.tolist() == full.acceleration.tolist()
    delta = Limits.of(robot, speed_scale=0.1)
    assert delta.upper.tolist() == [0.1, 0.1, 1.0], "a gripper's box is no speed"
    limiter = Limiter(slow)
    limiter.start(0, np.array(POSE))
    for k in range(1, 200):
        limiter.step(k * PERIOD_NS, np.array([1.0, 2.0, 0.5, 0.0]))
    assert limiter.last[0] <= POSE[0] + 0.1 * 2.0 * 1.99 + 1e-9
