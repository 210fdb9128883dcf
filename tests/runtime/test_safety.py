"""Position, velocity and acceleration hold together, and what lies inside them is not touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.contract import Contract, parse_contract
from episodes.errors import ConfigError
from policy.runtime.safety import Limiter, Limits, braking_velocity

PERIOD_NS = 10_000_000
H_S = PERIOD_NS * 1e-9
Vector = NDArray[np.float64]


def joints(n: int, rng: np.random.Generator) -> Limits:
    """n position joints with limits of all sizes."""
    none = np.full(n, np.inf)
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
    )


def violations(limits: Limits, commands: Vector, steps_s: Vector) -> dict[str, int]:
    """How often the stream (ticks, dim), at rest before its first row, breaks each limit."""
    velocity = np.diff(commands, axis=0) / steps_s[:, None]
    acceleration = np.diff(velocity, axis=0, prepend=0.0) / steps_s[:, None]
    return {
        "position": int(((commands < limits.lower) | (commands > limits.upper)).sum()),
        "velocity": int((np.abs(velocity) > limits.velocity * (1 + 1e-9)).sum()),
        "acceleration": int((np.abs(acceleration) > limits.acceleration * (1 + 1e-6)).sum()),
    }


def random_targets(limits: Limits, ticks: int, rng: np.random.Generator) -> Vector:
    """Targets that stay for a while, far outside and inside, with noise on top."""
    span = limits.upper - limits.lower
    held = rng.uniform(-1.0, 2.0, (ticks, len(span)))
    stays = rng.random((ticks, len(span))) < 0.9
    for k in range(1, ticks):
        held[k] = np.where(stays[k], held[k - 1], held[k])
    return limits.lower + span * held + rng.normal(0.0, 0.02, held.shape) * span


@pytest.mark.parametrize("even", [True, False], ids=["even ticks", "uneven ticks"])
def test_200_000_random_ticks_break_no_limit(even: bool) -> None:
    rng = np.random.default_rng(7)
    ticks, n = 2_000, 100
    limits = joints(n, rng)
    limiter = Limiter(limits)
    start = rng.uniform(limits.lower, limits.upper)
    steps_ns = np.full(ticks, PERIOD_NS)
    if not even:
        steps_ns = rng.integers(PERIOD_NS // 50, 2 * PERIOD_NS, ticks)
        steps_ns[0] = PERIOD_NS
    now_ns = 5_000_000_000
    limiter.start(now_ns, start)
    commands, now_ns = [start], now_ns - PERIOD_NS
    for step_ns, target in zip(steps_ns, random_targets(limits, ticks, rng), strict=True):
        now_ns += int(step_ns)
        commands.append(limiter.step(now_ns, target)[0])
    found = violations(limits, np.array(commands), np.minimum(steps_ns, PERIOD_NS) * 1e-9)
    assert found == {"position": 0, "velocity": 0, "acceleration": 0}


def test_clamping_one_limit_after_the_other_breaks_them_in_the_same_trial() -> None:
    rng = np.random.default_rng(7)
    ticks, n = 2_000, 100
    limits = joints(n, rng)
    last = rng.uniform(limits.lower, limits.upper)
    velocity, commands = np.zeros(n), [last]
    for target in random_targets(limits, ticks, rng):
        wanted = (np.clip(target, limits.lower, limits.upper) - last) / H_S
        wanted = np.clip(wanted, -limits.velocity, limits.velocity)
        gain = limits.acceleration * H_S
        velocity = np.clip(wanted, velocity - gain, velocity + gain)
        last = last + velocity * H_S
        commands.append(last)
    assert violations(limits, np.array(commands), np.full(ticks, H_S))["position"] > 1_000


def legal_interval(limits: Limits, last: Vector, velocity: Vector) -> tuple[Vector, Vector]:
    """The next commands that all limits allow, written the other way round: v²/(2a) + v·h ≤ d, bisected."""

    def fastest(room: Vector) -> Vector:
        low, high = np.zeros_like(room), np.full_like(room, 1e3)
        for _ in range(200):
            middle = (low + high) / 2
            fits = middle**2 / (2 * limits.acceleration) + middle * H_S <= room
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        return low

    gain = limits.acceleration * H_S
    up = np.minimum.reduce([limits.velocity, velocity + gain, fastest(limits.upper - last)])
    down = np.minimum.reduce([limits.velocity, gain - velocity, fastest(last - limits.lower)])
    return last - H_S * down, last + H_S * up


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_command_inside_all_limits_passes_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = joints(7, rng)
    limiter = Limiter(limits)
    last, velocity = rng.uniform(limits.lower, limits.upper), np.zeros(7)
    limiter.start(0, last)
    for k in range(40):
        lowest, highest = legal_interval(limits, last, velocity)
        share = rng.choice([rng.random(7), np.full(7, 1e-9), np.full(7, 1 - 1e-9)])
        wanted = lowest + share * (highest - lowest)
        command, clamped = limiter.step(k * PERIOD_NS, wanted)
        assert command.tobytes() == wanted.tobytes()
        assert clamped == {}
        last, velocity = command, (command - last) / H_S


def test_a_command_exactly_on_a_limit_is_inside_it() -> None:
    limits = replace(
        joints(1, np.random.default_rng(0)),
        lower=np.array([-3.0]),
        upper=np.array([3.0]),
        velocity=np.array([0.7]),
        acceleration=np.array([5.0]),
    )
    limiter = Limiter(limits)
    limiter.start(0, np.array([-2.9]))
    position, velocity = -2.9, 0.0
    for k in range(600):
        velocity = min(0.7, velocity + 5.0 * H_S) if position < 2.8 else max(0.0, velocity - 5.0 * H_S)
        position += velocity * H_S
        command, clamped = limiter.step(k * PERIOD_NS, np.array([position]))
        assert (command[0], clamped) == (position, {})


def test_without_limits_but_a_box_everything_inside_the_box_passes(robot: Contract) -> None:
    rng = np.random.default_rng(1)
    limiter = Limiter(Limits.of(robot))
    limiter.start(0, np.zeros(3))
    for k in range(500):
        wanted = rng.choice([rng.uniform(-1, 1, 3), np.array([1.0, -1.0, 1.0])])
        command, clamped = limiter.step(k * robot.period_ns, wanted)
        assert command.tobytes() == wanted.tobytes()
        assert clamped == {}


def test_each_rule_reports_the_entries_that_it_clamped(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    limiter.start(0, np.array([0.0, 0.0, 0.25, 0.04]))
    _, clamped = limiter.step(0, np.array([9.0, 0.0005, 0.25, -1.0]))
    assert {rule: mask.tolist() for rule, mask in clamped.items()} == {
        "box": [True, False, False, True],
        "velocity": [True, False, False, False],
        "acceleration": [True, False, False, False],
        "braking": [True, False, False, False],
    }


@given(distance=st.floats(1e-9, 100.0), acceleration=st.floats(0.01, 1000.0), h_s=st.floats(0.0005, 0.2))
def test_the_braking_velocity_solves_its_equation_and_never_exceeds_the_bound_for_even_ticks(
    distance: float, acceleration: float, h_s: float
) -> None:
    v = float(braking_velocity(np.array([distance]), np.array([acceleration]), h_s)[0])
    assert v * v / (2 * acceleration) + v * h_s == pytest.approx(distance, rel=1e-9)
    # a·h·(−½ + √(¼ + 2d/(a·h²))), without its cancellation
    even = 2 * distance / (h_s * (0.5 + np.sqrt(0.25 + 2 * distance / (acceleration * h_s**2))))
    assert v <= even * (1 + 1e-12)
    assert v * h_s <= distance * (1 + 1e-12)


def test_the_bound_for_even_ticks_overshoots_in_the_last_tick_before_rest() -> None:
    a, v = 8.0, 0.04
    distance = v * v / (2 * a) + v * H_S / 2
    even = a * H_S * (-0.5 + np.sqrt(0.25 + 2 * distance / (a * H_S**2)))
    assert even == pytest.approx(v)
    assert v * H_S - distance == pytest.approx(a * H_S**2 / 8)
    assert braking_velocity(np.array([distance]), np.array([a]), H_S)[0] * H_S <= distance


def test_outside_its_box_a_joint_moves_only_inwards_and_keeps_still_in_a_stop(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    found = np.array([1.2, -2.5, 0.25, 0.04])
    limiter.start(0, found)
    assert (limiter.stop(0) == found).all()
    previous = found
    for k in range(1, 300):
        wanted = np.array([5.0, 0.0, 0.25, 0.04])
        command, _ = limiter.step(k * arm.period_ns, wanted)
        assert previous[0] <= 1.0 or command[0] < previous[0]
        assert previous[1] >= -2.0 or command[1] > previous[1]
        previous = command
    np.testing.assert_allclose(previous, [1.0, 0.0, 0.25, 0.04], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_pose_far_off_is_reached_without_shooting_past_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = joints(5, rng)
    limiter = Limiter(limits)
    start, wanted = rng.uniform(limits.lower, limits.upper), rng.uniform(limits.lower, limits.upper)
    limiter.start(0, start)
    command = start
    for k in range(6_000):
        command, clamped = limiter.step(k * PERIOD_NS, wanted)
        assert (np.sign(wanted - start) * (command - wanted) <= 0.0).all()
        if not clamped and limiter.at_rest:
            break
    assert command.tobytes() == wanted.tobytes()


def test_a_wanted_pose_that_moves_is_caught_up_with_and_then_followed_exactly(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    limiter.start(0, np.array([-0.9, 0.0, 0.25, 0.04]))
    lag = []
    for k in range(80):
        wanted = np.array([-0.7 + 1.0 * k * H_S, 0.0, 0.25, 0.04])
        command, _ = limiter.step(k * arm.period_ns, wanted)
        lag.append(wanted[0] - command[0])
    assert lag[10] > 0.1
    assert min(lag) > -8.0 * H_S**2
    assert lag[-10:] == [0.0] * 10


def test_a_stop_decelerates_at_the_limit_and_then_holds_the_same_bytes(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    limiter.start(0, np.array([-0.9, 0.0, 0.25, 0.04]))
    positions, k = [-0.9], 0
    while len(positions) < 2 or positions[-1] < -0.2:
        positions.append(limiter.step(k * arm.period_ns, np.array([0.9, 0.0, 0.25, 0.04]))[0][0])
        k += 1
    assert not limiter.at_rest
    speed = (positions[-1] - positions[-2]) / H_S
    while not limiter.at_rest:
        positions.append(limiter.stop(k * arm.period_ns)[0])
        k += 1
    rest = limiter.stop(k * arm.period_ns)
    assert rest.tobytes() == limiter.stop((k + 1) * arm.period_ns).tobytes()
    accelerations = np.diff(positions, 2) / H_S**2
    assert accelerations.min() == pytest.approx(-8.0, rel=1e-6)
    assert rest[0] + 0.2 < speed**2 / (2 * 8.0) + speed * H_S


def test_the_stop_of_deltas_and_velocities_is_zero_and_a_gripper_holds(robot: Contract) -> None:
    limiter = Limiter(Limits.of(robot))
    limiter.start(0, np.zeros(3))
    limiter.step(0, np.array([0.5, -0.5, 0.7]))
    assert limiter.stop(robot.period_ns).tolist() == [0.0, 0.0, 0.7]
    assert limiter.at_rest


def test_a_velocity_with_a_slew_limit_comes_to_zero_within_it() -> None:
    text = """
robot: base
rate_hz: 50
reference: odom
observations:
  odom: {topic: odom, type: std_msgs/msg/Float64MultiArray, names: [x], max_age_ms: 50}
actions:
  base: {kind: twist, topic: cmd, type: geometry_msgs/msg/TwistStamped, names: [vx, wz],
         lower: [-1, -2], upper: [1, 2], max_velocity: [2, 5]}
"""
    contract = parse_contract(text, "base.yaml")
    limiter = Limiter(Limits.of(contract))
    limiter.start(0, np.array([0.9, 0.9]))
    stream = [np.zeros(2)]
    for k in range(80):
        now_ns = k * contract.period_ns
        stream.append(limiter.step(now_ns, np.array([1.0, -2.0]))[0] if k < 40 else limiter.stop(now_ns))
    slew = np.abs(np.diff(stream, axis=0)) / 0.02
    assert (slew <= np.array([2.0, 5.0]) * (1 + 1e-9)).all()
    assert stream[40].tolist() == [pytest.approx(1.0), pytest.approx(-2.0)]
    assert stream[-1].tolist() == [0.0, 0.0]


def test_a_velocity_whose_slew_has_inertia_comes_to_zero_without_turning_round() -> None:
    text = """
robot: base
rate_hz: 50
reference: odom
observations:
  odom: {topic: odom, type: std_msgs/msg/Float64MultiArray, names: [x], max_age_ms: 50}
actions:
  base: {kind: joint_velocity, topic: cmd, type: std_msgs/msg/Float64MultiArray, names: [wheel],
         lower: [-1], upper: [1], max_velocity: [2], max_acceleration: [6]}
"""
    contract = parse_contract(text, "base.yaml")
    limiter = Limiter(Limits.of(contract))
    limiter.start(0, np.zeros(1))
    stream = [0.0]
    for k in range(150):
        now_ns = k * contract.period_ns
        moving = k < 60
        stream.append(float((limiter.step(now_ns, np.ones(1))[0] if moving else limiter.stop(now_ns))[0]))
    assert stream[60] == 1.0
    assert min(stream) == 0.0
    assert limiter.at_rest
    assert stream[-1] == 0.0
    assert np.abs(np.diff(stream, 2)).max() <= 6.0 * 0.02**2 * (1 + 1e-6)


def test_a_late_tick_moves_no_further_than_one_period_and_a_stalled_setpoint_starts_from_rest(
    arm: Contract,
) -> None:
    limiter = Limiter(Limits.of(arm))
    pose = np.array([-0.9, 0.0, 0.25, 0.04])
    limiter.start(0, pose)
    for k in range(60):
        before = limiter.last
        command, _ = limiter.step(k * arm.period_ns, np.array([0.9, 0.0, 0.25, 0.04]))
    cruising = command[0] - before[0]
    late, _ = limiter.step(61 * arm.period_ns, np.array([0.9, 0.0, 0.25, 0.04]))
    assert late[0] - command[0] <= cruising + 8.0 * H_S**2 * (1 + 1e-6)
    after, _ = limiter.step(90 * arm.period_ns, np.array([0.9, 0.0, 0.25, 0.04]))
    assert after[0] - late[0] == pytest.approx(8.0 * H_S**2)


def test_two_calls_for_one_moment_give_the_same_command(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    limiter.start(0, np.array([0.0, 0.0, 0.25, 0.04]))
    first, _ = limiter.step(0, np.array([0.5, 0.5, 0.3, 0.05]))
    again, clamped = limiter.step(0, np.array([-0.5, 0.5, 0.3, 0.05]))
    assert again.tobytes() == first.tobytes()
    assert clamped == {}
    assert limiter.stop(10).tobytes() == first.tobytes()


def test_a_command_stays_within_the_largest_deviation_of_a_blocked_arm(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    blocked = np.array([0.0, 0.0, 0.25, 0.04])
    limiter.start(0, blocked)
    commands = [blocked]
    seen = set()
    for k in range(200):
        command, clamped = limiter.step(k * arm.period_ns, np.array([0.9, 0.0, 0.25, 0.04]), blocked)
        commands.append(command)
        seen |= set(clamped)
    stream = np.array(commands)[:, 0]
    assert "deviation" in seen
    assert stream[-1] == pytest.approx(0.3)
    assert np.abs(np.diff(stream, 2)).max() <= 8.0 * H_S**2 * (1 + 1e-6)
    assert stream.max() <= 0.3


def test_an_entry_that_is_not_measured_has_no_deviation(arm: Contract) -> None:
    limiter = Limiter(Limits.of(arm))
    limiter.start(0, np.array([0.0, 0.0, 0.25, 0.04]))
    wanted = np.array([0.0005, 0.0, 0.25, 0.08])
    command, clamped = limiter.step(0, wanted, np.full(4, np.nan))
    assert command.tobytes() == wanted.tobytes()
    assert clamped == {}


def test_deltas_allow_no_other_loop_rate_than_the_contracts(robot: Contract, arm: Contract) -> None:
    with pytest.raises(ConfigError, match=r"'period_ns' has the value 5000000: channel 'arm' takes deltas"):
        Limits.of(robot, 5_000_000)
    assert Limits.of(arm, 5_000_000).period_ns == 5_000_000
