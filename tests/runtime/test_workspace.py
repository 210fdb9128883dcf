"""The workspace box bounds where deltas add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.contract import parse_contract
from episodes.errors import ConfigError
from policy.runtime.safety import Limiter, Limits

WORKSPACE = """
robot: reach
rate_hz: 50
reference: tip
observations:
  tip: {topic: tip, type: std_msgs/msg/Float64MultiArray, names: [x, y], max_age_ms: 50}
actions:
  arm: {kind: cartesian_delta, topic: arm, type: std_msgs/msg/Float64MultiArray, names: [x, y], unit: 0.01 m,
        lower: [-1, -1], upper: [1, 1], workspace_lower: [0.0, -0.1], workspace_upper: [0.2, 0.1],
        measured_by: tip EXTRA}
"""


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), slew=st.sampled_from([None, 5.0, 20.0, 200.0]))
def test_the_integrated_target_of_deltas_never_leaves_the_workspace(seed: int, slew: float | None) -> None:
    extra = "" if slew is None else f", max_velocity: [{slew}, {slew}]"
    contract = parse_contract(WORKSPACE.replace(" EXTRA", extra), "reach.yaml")
    rng = np.random.default_rng(seed)
    limiter = Limiter(Limits.of(contract))
    target = rng.uniform([0.0, -0.1], [0.2, 0.1])
    limiter.start(0, target)
    last = np.zeros(2)
    wanted = rng.uniform(-2, 2, 2)
    for k in range(120):
        wanted = rng.uniform(-2, 2, 2) if rng.random() < 0.1 else wanted
        if rng.random() < 0.1:
            delta = limiter.stop(k * contract.period_ns)
        else:
            delta, _ = limiter.step(k * contract.period_ns, wanted)
        target = target + 0.01 * delta
        assert (target >= np.array([0.0, -0.1]) - 1e-12).all()
        assert (target <= np.array([0.2, 0.1]) + 1e-12).all()
        if slew is not None:
            assert (np.abs(delta - last) <= slew * 0.02 * (1 + 1e-9)).all()
        last = delta


def test_deltas_that_stay_inside_the_workspace_pass_and_those_outside_may_only_come_back() -> None:
    contract = parse_contract(WORKSPACE.replace(" EXTRA", ""), "reach.yaml")
    limiter = Limiter(Limits.of(contract))
    limiter.start(0, np.array([0.25, 0.0]))
    command, clamped = limiter.step(0, np.array([0.5, 0.25]))
    assert command.tolist() == [0.0, 0.25]
    assert clamped["workspace"].tolist() == [True, False]
    command, clamped = limiter.step(contract.period_ns, np.array([-0.75, 0.25]))
    assert command.tolist() == [-0.75, 0.25]
    assert clamped == {}


def test_a_workspace_in_a_unit_that_is_no_length_is_refused() -> None:
    text = WORKSPACE.replace(" EXTRA", "").replace("0.01 m", "furlong")
    with pytest.raises(ConfigError, match=r"actions.arm.unit' has the value 'furlong'.*'0.01 m'"):
        Limits.of(parse_contract(text, "reach.yaml"))


def test_a_blocked_tip_keeps_the_integrated_target_within_the_largest_deviation() -> None:
    text = WORKSPACE.replace(" EXTRA", ", max_deviation: [0.03, 0.03]")
    contract = parse_contract(text, "reach.yaml")
    limiter = Limiter(Limits.of(contract))
    blocked = np.array([0.1, 0.0])
    limiter.start(0, blocked)
    total, rules = blocked.copy(), set()
    for k in range(20):
        delta, clamped = limiter.step(k * contract.period_ns, np.array([1.0, 0.0]), blocked)
        total += 0.01 * delta
        rules |= set(clamped)
    assert total[0] == pytest.approx(0.13)
    assert rules == {"deviation"}
