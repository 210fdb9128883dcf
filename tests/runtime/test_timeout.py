"""What a channel does when commands stop: as its kind and the contract say, or the contract is refused."""

from __future__ import annotations

import numpy as np
import pytest

from episodes.contract import parse_contract
from episodes.errors import ContractError
from policy.runtime.safety import Limiter, Limits

CHANNEL = """
robot: one
rate_hz: 50
reference: state
observations:
  state: {topic: state, type: std_msgs/msg/Float64MultiArray, names: [x], max_age_ms: 50}
actions:
  it: {kind: KIND, topic: cmd, type: std_msgs/msg/Float64MultiArray, names: [x], measured_by: state,
       lower: [-1], upper: [1] EXTRA}
"""
LIMITED = ", max_velocity: [2], max_acceleration: [10]"
POSITIONS, VELOCITIES = ("joint_position", "gripper"), ("joint_velocity", "twist", "cartesian_delta")


def text(kind: str, extra: str) -> str:
    return CHANNEL.replace("KIND", kind).replace(" EXTRA", extra)


def stopped(kind: str, extra: str) -> np.ndarray:
    """Commands of a channel that was brought to 0.5 in motion, and then of its stop."""
    contract = parse_contract(text(kind, extra), "one.yaml")
    limiter = Limiter(Limits.of(contract))
    limiter.start(0, np.zeros(1))
    stream, k = [0.0], 0
    while stream[-1] < 0.3:
        stream.append(float(limiter.step(k * contract.period_ns, np.array([0.9]))[0][0]))
        k += 1
    moving = len(stream) - 1
    while not limiter.at_rest:
        stream.append(float(limiter.stop(k * contract.period_ns)[0]))
        k += 1
        assert k < 500
    return np.array(stream[moving:])


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("choice", ["", ", on_timeout: hold", ", on_timeout: decelerate"])
def test_a_position_decelerates_within_its_limits_and_holds(kind: str, choice: str) -> None:
    stream = stopped(kind, LIMITED + choice)
    assert stream[-1] > stream[0] > 0.2
    assert np.abs(np.diff(stream, 2)).max() <= 10 * 0.02**2 * (1 + 1e-9)


def test_a_position_without_an_acceleration_limit_holds_where_it_is() -> None:
    stream = stopped("gripper", "")
    assert (stream == stream[0]).all()


@pytest.mark.parametrize("kind", VELOCITIES)
@pytest.mark.parametrize("choice", ["", ", on_timeout: stop", ", on_timeout: decelerate"])
def test_a_velocity_goes_to_zero_within_its_slew_limit(kind: str, choice: str) -> None:
    stream = stopped(kind, ", max_velocity: [5]" + choice)
    assert stream[-1] == 0.0
    assert np.abs(np.diff(stream)).max() <= 5 * 0.02 * (1 + 1e-9)


@pytest.mark.parametrize("kind", VELOCITIES)
def test_a_velocity_without_a_slew_limit_is_zero_at_once(kind: str) -> None:
    assert stopped(kind, "")[1:].tolist() == [0.0]


@pytest.mark.parametrize(
    ("kind", "choice", "message"),
    [
        ("joint_velocity", "hold", r"on_timeout' has the value 'hold': to hold a joint_velocity is to go on"),
        ("twist", "hold", r"to hold a twist is to go on moving: write stop or decelerate"),
        ("cartesian_delta", "hold", r"write stop or decelerate"),
        ("joint_position", "stop", r"has no zero to stop at: write hold or decelerate"),
        ("gripper", "stop", r"has no zero to stop at"),
        ("gripper", "release", r"knows no such thing"),
        ("gripper", "decelerate", r"how fast is for 'max_acceleration' to say"),
        ("twist", "decelerate", r"how fast is for 'max_velocity' to say"),
    ],
)
def test_a_time_out_that_makes_no_sense_for_its_kind_is_refused(kind: str, choice: str, message: str) -> None:
    extra = f", on_timeout: {choice}" + (", max_velocity: [1]" if kind == "joint_position" else "")
    with pytest.raises(ContractError, match=message):
        parse_contract(text(kind, extra), "one.yaml")
