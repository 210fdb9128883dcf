"""With a jerk limit position, velocity, acceleration and jerk hold together, and nothing legal is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.contract import Contract, Source, parse_contract
from episodes.errors import ContractError
from policy.runtime.control import Chunk, Controller, Heartbeat, Inputs, Measured
from policy.runtime.jerk import JerkBound
from policy.runtime.safety import Limiter, Limits

PERIOD_NS = 10_000_000
H_S = PERIOD_NS * 1e-9
Vector = NDArray[np.float64]

JERKY_ARM = """
robot: arm2
rate_hz: 100
reference: state
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [j0, j1, finger], max_age_ms: 40}
actions:
  arm: {kind: joint_position, topic: arm, type: std_msgs/msg/Float64MultiArray, names: [j0, j1],
        lower: [-1.0, -2.0], upper: [1.0, 2.0], max_velocity: [2.0, 1.0], max_acceleration: [8.0, 5.0],
        max_jerk: [80.0, 100.0], measured_by: state}
  gripper: {kind: gripper, topic: gripper, type: std_msgs/msg/Float64MultiArray, names: [finger],
            lower: [0.0], upper: [0.08], max_velocity: [0.2], measured_by: state}
"""


@pytest.fixture(scope="module")
def jerky() -> Contract:
    return parse_contract(JERKY_ARM, "arm2.yaml")


def joints(n: int, rng: np.random.Generator) -> Limits:
    """n joints with limits of all sizes; every fifth has no jerk limit."""
    none = np.full(n, np.inf)
    jerk = np.exp(rng.uniform(np.log(5.0), np.log(5000.0), n))
    jerk[::5] = np.inf
    return Limits(
        lower=-rng.uniform(0.01, 3.0, n),
        upper=rng.uniform(0.01, 3.0, n),
        velocity=rng.uniform(0.1, 4.0, n),
        acceleration=rng.uniform(0.5, 60.0, n),
        deviation=none,
        workspace_lower=-none,
        workspace_upper=none,
        metres=np.ones(n),
        stop_is_zero=np.zeros(n, dtype=bool),
        is_delta=np.zeros(n, dtype=bool),
        period_ns=PERIOD_NS,
        jerk=jerk,
    )


def one_joint(**changes: float) -> Limits:
    given = {"lower": -3.0, "upper": 3.0, "velocity": 1.0, "acceleration": 5.0, "jerk": 50.0} | changes
    return replace(
        joints(1, np.random.default_rng(0)),
        **{k: np.array([v]) for k, v in given.items()},  # type: ignore[arg-type]
    )


def violations(limits: Limits, commands: Vector, steps_s: Vector) -> dict[str, int]:
    """How often the stream (ticks, dim), at rest before its first row, breaks each limit."""
    assert limits.jerk is not None
    h_s = steps_s[:, None]
    velocity = np.diff(commands, axis=0) / h_s
    acceleration = np.diff(velocity, axis=0, prepend=0.0) / h_s
    jerk = np.diff(acceleration, axis=0, prepend=0.0) / h_s
    # Positions are rounded to 2e-16 of their size, which three differences over a short tick blow up.
    rounding = 4e-15 / h_s**3
    return {
        "position": int(((commands < limits.lower) | (commands > limits.upper)).sum()),
        "velocity": int((np.abs(velocity) > limits.velocity * (1 + 1e-9)).sum()),
        "acceleration": int((np.abs(acceleration) > limits.acceleration * (1 + 1e-6)).sum()),
        "jerk": int((np.abs(jerk) > limits.jerk * (1 + 1e-6) + rounding).sum()),
    }


@pytest.mark.parametrize("even", [True, False], ids=["even ticks", "uneven ticks"])
def test_random_targets_and_stops_break_none_of_the_four_limits(even: bool) -> None:
    rng = np.random.default_rng(7)
    ticks, n = 400, 100
    limits = joints(n, rng)
    limiter = Limiter(limits)
    start, span = rng.uniform(limits.lower, limits.upper), limits.upper - limits.lower
    steps_ns = np.full(ticks, PERIOD_NS)
    if not even:
        steps_ns = rng.integers(PERIOD_NS // 50, 2 * PERIOD_NS, ticks)
        steps_ns[0] = PERIOD_NS
    now_ns = 5_000_000_000
    limiter.start(now_ns, start)
    commands, now_ns = [start], now_ns - PERIOD_NS
    target = rng.uniform(-1.0, 2.0, n)
    for k, step_ns in enumerate(steps_ns):
        now_ns += int(step_ns)
        target = np.where(rng.random(n) < 0.1, rng.uniform(-1.0, 2.0, n), target)
        wanted = limits.lower + span * (target + rng.normal(0.0, 0.02, n))
        stopping = k % 130 >= 100
        commands.append(limiter.stop(now_ns) if stopping else limiter.step(now_ns, wanted)[0])
    found = violations(limits, np.array(commands), np.minimum(steps_ns, PERIOD_NS) * 1e-9)
    assert found == {"position": 0, "velocity": 0, "acceleration": 0, "jerk": 0}
    reached = np.abs(np.diff(commands, axis=0)).max(axis=0)
    assert np.median(reached / (limits.velocity * H_S)) > 0.6, "the limiter lets the joints move"


def minimum_jerk(begin: Vector, end: Vector, limits: Limits, share: float) -> Vector:
    """(ticks, dim) A stream from rest to rest that uses `share` of every limit at most."""
    assert limits.jerk is not None
    way = np.abs(end - begin)
    lasts_s = np.max(
        [
            1.875 * way / (share * limits.velocity),
            np.sqrt(5.7735 * way / (share * limits.acceleration)),
            np.cbrt(60.0 * way / (share * limits.jerk)),
        ]
    )
    ticks = int(np.ceil(lasts_s / H_S)) + 1
    s = (np.arange(1, ticks + 1) / ticks)[:, None]
    return begin + (end - begin) * s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_stream_inside_all_four_limits_passes_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = joints(1, rng)
    limits = replace(limits, jerk=np.exp(rng.uniform(np.log(5.0), np.log(5000.0), 1)))
    limiter = Limiter(limits)
    at = rng.uniform(limits.lower, limits.upper)
    limiter.start(0, at)
    k = 0
    for _ in range(3):
        end = rng.uniform(limits.lower, limits.upper)
        for wanted in minimum_jerk(at, end, limits, 0.97)[:300]:
            command, clamped = limiter.step(k * PERIOD_NS, wanted)
            assert command.tobytes() == wanted.tobytes()
            assert clamped == {}
            k, at = k + 1, wanted
        if limiter.at_rest:
            continue
        while not limiter.at_rest:
            at = limiter.stop(k * PERIOD_NS)
            k += 1


def test_a_sine_through_zero_with_full_acceleration_is_not_taken_for_a_stop() -> None:
    """Reversing in the middle of the box needs no reserve for braking."""
    limits = one_joint(velocity=2.0, acceleration=6.0, jerk=40.0)
    limiter = Limiter(limits)
    limiter.start(0, np.zeros(1))
    rate = 5.0
    for k in range(600):
        t = k * H_S
        ease = min(1.0, t / 2.0) ** 3 * (10 - 15 * min(1.0, t / 2.0) + 6 * min(1.0, t / 2.0) ** 2)
        wanted = np.array([0.2 * ease * np.sin(rate * t)])
        command, clamped = limiter.step(k * PERIOD_NS, wanted)
        assert (command[0], clamped) == (wanted[0], {})


@settings(max_examples=8, deadline=None)
@example(seed=818871)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_pose_far_off_is_reached_exactly_and_without_shooting_past_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = joints(5, rng)
    start, wanted = rng.uniform(limits.lower, limits.upper), rng.uniform(limits.lower, limits.upper)
    limits = replace(limits, velocity=limits.velocity + 1.0)
    limiter = Limiter(limits)
    limiter.start(0, start)
    for k in range(3_000):
        command, clamped = limiter.step(k * PERIOD_NS, wanted)
        assert (np.sign(wanted - start) * (command - wanted) <= 1e-12).all()
        if not clamped and limiter.at_rest:
            break
    assert command.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("way", [1.0, 0.001])
def test_the_way_takes_hardly_longer_than_the_shortest_time(way: float) -> None:
    limits = one_joint()
    limiter = Limiter(limits)
    limiter.start(0, np.zeros(1))
    ticks = 0
    while ticks == 0 or not limiter.at_rest:
        limiter.step(ticks * PERIOD_NS, np.array([way]))
        ticks += 1
    # Full speed: d/V + V/A + A/J; a short way has four jerk phases.
    shortest_s = way + 1.0 / 5.0 + 5.0 / 50.0 if way == 1.0 else 4.0 * np.cbrt(way / (2.0 * 50.0))
    assert ticks * H_S <= shortest_s + 0.04


def test_a_stop_sheds_speed_with_bounded_jerk_and_then_holds_the_same_bytes() -> None:
    limits = one_joint()
    limiter = Limiter(limits)
    limiter.start(0, np.zeros(1))
    positions, k = [np.zeros(1)], 0
    while len(positions) < 60:
        positions.append(limiter.step(k * PERIOD_NS, np.array([2.5]))[0])
        k += 1
    while not limiter.at_rest:
        positions.append(limiter.stop(k * PERIOD_NS))
        k += 1
        assert k < 200
    rest = limiter.stop(k * PERIOD_NS)
    assert rest.tobytes() == limiter.stop((k + 1) * PERIOD_NS).tobytes()
    found = violations(limits, np.array(positions), np.full(len(positions) - 1, H_S))
    assert set(found.values()) == {0}
    assert (np.diff(positions, axis=0) >= 0.0).all(), "the arm does not turn round"


def test_a_moving_target_is_caught_up_with_and_then_followed_exactly() -> None:
    limiter = Limiter(one_joint())
    limiter.start(0, np.zeros(1))
    lag = []
    for k in range(250):
        wanted = np.array([0.3 + 0.5 * k * H_S])
        lag.append(float((wanted - limiter.step(k * PERIOD_NS, wanted)[0])[0]))
    assert lag[20] > 0.2
    assert min(lag) > -1e-3
    assert lag[-50:] == [0.0] * 50


def test_outside_its_box_a_joint_moves_only_inwards() -> None:
    limits = one_joint()
    limiter = Limiter(limits)
    previous = np.array([3.4])
    limiter.start(0, previous)
    for k in range(300):
        command, _ = limiter.step(k * PERIOD_NS, np.array([9.0 if k < 20 else 3.0]))
        assert command[0] <= max(previous[0], 3.0)
        previous = command
    assert previous[0] == pytest.approx(3.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    v=st.floats(-1.0, 1.0),
    a=st.floats(-5.0, 5.0),
    ticks=st.lists(st.floats(0.0005, H_S), min_size=200, max_size=200),
)
def test_no_stop_in_ticks_goes_further_than_the_bound_says(v: float, a: float, ticks: list[float]) -> None:
    """D of `jerk` against the stop itself, in ticks of any length."""
    bound = JerkBound(one_joint())
    speed, accel = np.array([v]), np.array([a])
    up, down = (float(bound.distance(side * speed, side * accel)[0]) for side in (1.0, -1.0))
    x, seen = 0.0, [0.0]
    for h_s in ticks:
        speed, accel = bound.stop(speed, accel, h_s)
        x += float(speed[0]) * h_s
        seen.append(x)
    assert max(seen) <= up + 1e-12
    assert min(seen) >= -down - 1e-12


def test_jerk_is_clamped_and_counted_by_its_name(jerky: Contract) -> None:
    limiter = Limiter(Limits.of(jerky))
    limiter.start(0, np.array([0.0, 0.0, 0.04]))
    command, clamped = limiter.step(0, np.array([0.01, 0.0, 0.041]))
    assert clamped["jerk"].tolist() == [True, False, False]
    assert command[0] == pytest.approx(80.0 * H_S**3)
    assert command[2] == 0.041, "the gripper has no jerk limit"


def test_a_contract_without_a_jerk_limit_keeps_its_hash_and_one_with_it_differs(jerky: Contract) -> None:
    plain = parse_contract(JERKY_ARM.replace("max_jerk: [80.0, 100.0], ", ""), "arm2.yaml")
    assert "max_jerk" not in str(plain.limits_form)
    assert plain.limits_sha256 != jerky.limits_sha256
    assert plain.interface_sha256 == jerky.interface_sha256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_acceleration: [8.0, 5.0],", "", r"max_acceleration' is missing: a jerk limit needs"),
        ("max_jerk: [80.0, 100.0]", "max_jerk: [80.0, 0.0]", r"max_jerk' has the value 0\.0: j1"),
        ("max_velocity: [0.2]", "max_velocity: [0.2], max_jerk: [9]", r"gripper\.max_jerk.*only a joint_pos"),
    ],
)
def test_a_jerk_limit_that_makes_no_sense_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        parse_contract(JERKY_ARM.replace(old, new), "arm2.yaml")


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_a_policy_sends_control_keeps_all_four_limits(jerky: Contract, seed: int) -> None:
    """Chunks that jump, break off, are cut by an e-stop source, and go on."""
    rng = np.random.default_rng(seed)
    controller, limits = Controller(jerky), Limits.of(jerky)
    pose, now_ns = np.array([0.0, 0.0, 0.04]), 1_000_000_000
    commands = [pose]

    def inputs(chunk: Chunk | None = None, pressed: bool = False) -> Inputs:
        measured = {"state": Measured(commands[-1], now_ns)}
        return Inputs(chunk=chunk, measured=measured, estop={"pendant": Heartbeat(pressed, now_ns)})

    assert controller.enable(now_ns, inputs()).accepted
    for _ in range(150):
        chunk = None
        if rng.random() < 0.3:
            actions = rng.uniform(-3, 3, (int(rng.integers(1, 12)), 3))
            chunk = Chunk(now_ns, now_ns, PERIOD_NS, actions, Source.POLICY)
        command = controller.tick(now_ns, inputs(chunk, pressed=rng.random() < 0.01))
        assert command.action is not None
        commands.append(command.action)
        now_ns += PERIOD_NS
    arm = replace(
        limits,
        **{key: getattr(limits, key)[:2] for key in ("lower", "upper", "velocity", "acceleration", "jerk")},
    )
    found = violations(arm, np.array(commands)[:, :2], np.full(len(commands) - 1, H_S))
    assert found == {"position": 0, "velocity": 0, "acceleration": 0, "jerk": 0}
