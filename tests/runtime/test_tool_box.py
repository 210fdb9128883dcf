"""The tool of a joint-position channel stays in its workspace box, whatever the joints are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.contract import Contract, check_compatible, parse_contract
from episodes.errors import ConfigError, ContractError
from policy.runtime.control import Chunk, ControlConfig, Controller, Inputs, Measured, State
from policy.runtime.kinematics import Chain
from policy.runtime.safety import Limiter, Limits
from policy.runtime.tool_box import tool_boxes

Vector = NDArray[np.float64]

PLANAR = """
robot: planar
rate_hz: 20
reference: state
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [q0, q1, q2], max_age_ms: 200}
actions:
  arm:
    kind: joint_position
    topic: arm
    type: std_msgs/msg/Float64MultiArray
    names: [q0, q1, q2]
    measured_by: state
    lower: [-3, -2.5, -2.5]
    upper: [3, 2.5, 2.5]
    max_velocity: [1.5, 2, 3]
    max_acceleration: [6, 8, 12]
    workspace_lower: [0.1, -0.4, -0.1]
    workspace_upper: [0.7, 0.4, 0.3]
    kinematics:
      - {joint: q0, xyz: [0, 0, 0.1]}
      - {joint: q1, xyz: [0.4, 0, 0], rpy: [1.5708, 0, 0]}
      - {joint: q2, xyz: [0.3, 0, 0], axis: [0, 0, 2]}
      - {xyz: [0.1, 0, 0]}
"""
INSIDE = np.array([0.2, 0.9, -1.4])
LOWER, UPPER = np.array([0.1, -0.4, -0.1]), np.array([0.7, 0.4, 0.3])


def planar(jerk: bool = False) -> Contract:
    text = PLANAR.replace("    workspace_lower", "    max_jerk: [80, 90, 100]\n    workspace_lower")
    return parse_contract(text if jerk else PLANAR, "planar.yaml")


@pytest.fixture(scope="module")
def contract() -> Contract:
    return planar()


def chain(contract: Contract) -> Chain:
    channel = contract.actions["arm"]
    assert channel.kinematics is not None
    return Chain(channel.kinematics, channel.names)


def new_limiter(contract: Contract, period_ns: int) -> Limiter:
    limits = Limits.of(contract, period_ns)
    return Limiter(limits, tool_boxes(contract, limits, {}))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    period_ns=st.sampled_from([5_000_000, 50_000_000]),
    even=st.booleans(),
    jerk=st.booleans(),
)
def test_no_sequence_of_targets_stops_and_ticks_leads_the_tool_out_of_the_box(
    seed: int, period_ns: int, even: bool, jerk: bool
) -> None:
    contract, rng = planar(jerk), np.random.default_rng(seed)
    limiter, tool = new_limiter(contract, period_ns), chain(contract)
    limits = limiter.limits
    limiter.start(0, INSIDE)
    now_ns, wanted, moved, last = -period_ns, INSIDE, 0.0, INSIDE
    for k in range(150):
        now_ns += period_ns if even or k == 0 else int(rng.integers(period_ns // 50, 2 * period_ns))
        if rng.random() < 0.15:
            wanted = rng.uniform(limits.lower, limits.upper)
        command = limiter.stop(now_ns) if rng.random() < 0.05 else limiter.step(now_ns, wanted)[0]
        at = tool(command)
        assert (at >= LOWER).all()
        assert (at <= UPPER).all()
        moved += float(np.abs(command - last).max())
        last = command
    assert moved > 0.01


@pytest.mark.parametrize("jerk", [False, True])
def test_the_box_leaves_the_other_limits_as_they_are(jerk: bool) -> None:
    contract, rng = planar(jerk), np.random.default_rng(5)
    limiter = new_limiter(contract, 50_000_000)
    limits, h_s = limiter.limits, 0.05
    limiter.start(0, INSIDE)
    commands, rules = [INSIDE], set()
    for k in range(600):
        if k % 25 == 0:
            wanted = rng.uniform(limits.lower, limits.upper)
        command, clamped = limiter.step(k * 50_000_000, wanted)
        commands.append(command)
        rules |= set(clamped)
    stream = np.array(commands)
    velocity = np.diff(stream, axis=0) / h_s
    acceleration = np.diff(velocity, axis=0, prepend=0.0) / h_s
    assert (stream >= limits.lower).all()
    assert (stream <= limits.upper).all()
    assert (np.abs(velocity) <= limits.velocity * (1 + 1e-9)).all()
    assert (np.abs(acceleration) <= limits.acceleration * (1 + 1e-6)).all()
    if limits.jerk is not None:
        change = np.diff(acceleration, axis=0, prepend=0.0) / h_s
        assert (np.abs(change) <= limits.jerk * (1 + 1e-6)).all()
    assert "workspace" in rules


def test_a_path_inside_the_box_passes_bit_for_bit(contract: Contract) -> None:
    limiter, tool = new_limiter(contract, 50_000_000), chain(contract)
    limiter.start(0, INSIDE)
    swing = np.array([0.25, -0.2, 0.3])
    for k in range(200):
        wanted = INSIDE + swing * (1.0 - np.cos(1.2 * k * 0.05)) / 2
        assert (tool(wanted) > LOWER + 0.01).all()
        assert (tool(wanted) < UPPER - 0.01).all()
        command, clamped = limiter.step(k * 50_000_000, wanted)
        assert command.tobytes() == wanted.tobytes()
        assert clamped == {}


def test_at_the_wall_the_arm_stands_and_from_there_it_may_come_back(contract: Contract) -> None:
    limiter, tool = new_limiter(contract, 50_000_000), chain(contract)
    limiter.start(0, INSIDE)
    outside = np.array([2.5, 0.9, -1.4])
    for k in range(100):
        command, clamped = limiter.step(k * 50_000_000, outside)
    assert clamped["workspace"].any()
    assert UPPER[1] - 0.02 < tool(command)[1] <= UPPER[1], "it went up to the wall"
    for k in range(100, 200):
        command, _ = limiter.step(k * 50_000_000, INSIDE)
    assert command.tobytes() == INSIDE.tobytes()


def test_a_tool_found_outside_may_only_come_back(contract: Contract) -> None:
    limiter, tool = new_limiter(contract, 50_000_000), chain(contract)
    found = np.array([1.0, 0.9, -1.4])
    assert tool(found)[1] > UPPER[1]
    limiter.start(0, found)
    further, _ = limiter.step(0, found + np.array([0.4, 0.0, 0.0]))
    assert tool(further)[1] <= tool(found)[1] + 1e-9
    before = tool(further)[1]
    for k in range(1, 120):
        command, _ = limiter.step(k * 50_000_000, INSIDE)
        assert tool(command)[1] <= max(before, UPPER[1]) + 1e-9
        before = tool(command)[1]
    assert command.tobytes() == INSIDE.tobytes()


def test_kinematics_may_be_given_to_control_instead(contract: Contract) -> None:
    text = PLANAR[: PLANAR.index("    kinematics:")]
    bare = parse_contract(text, "bare.yaml")
    with pytest.raises(ConfigError, match=r"bare\.yaml: key 'actions\.arm\.kinematics' is missing"):
        Controller(bare)
    with pytest.raises(ConfigError, match=r"'kinematics' names \['leg'\]"):
        Controller(contract, ControlConfig(kinematics={"leg": chain(contract)}))
    controller = Controller(bare, ControlConfig(kinematics={"arm": chain(contract)}))
    tool, now_ns, pose = chain(contract), 1_000_000_000, INSIDE
    for k in range(60):
        measured = {"state": Measured(pose, now_ns)}
        chunk = Chunk(now_ns, now_ns, 50_000_000, np.array([[2.5, 0.9, -1.4]]))
        inputs = Inputs(chunk=chunk, measured=measured)
        if k == 0:
            assert controller.enable(now_ns, inputs).accepted
        command = controller.tick(now_ns, inputs)
        assert command.state is State.POLICY
        assert command.action is not None
        pose = command.action
        assert tool(pose)[1] <= UPPER[1]
        now_ns += 50_000_000
    assert controller.counts["arm/workspace"] > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "kind: joint_position",
            "kind: joint_velocity",
            r"workspace_lower.*only a cartesian_delta or a joint",
        ),
        ("[0.1, -0.4, -0.1]", "[0.1, -0.4]", r"workspace_lower.*2 numbers for 3 names"),
        ("[0.7, 0.4, 0.3]", "[0.7, -0.5, 0.3]", r"y: workspace_lower -0\.4 must lie under"),
        ("{joint: q2,", "{joint: q9,", r"kinematics\[2\]\.joint.*'q9': known: q0"),
        ("{joint: q2,", "{joint: q1,", r"kinematics.*'q1' must stand in it once"),
        ("axis: [0, 0, 2]", "axis: [0, 0, 0]", r"kinematics\[2\]\.axis.*direction"),
        ("xyz: [0.1, 0, 0]", "xzy: [0.1, 0, 0]", r"unknown key 'actions\.arm\.kinematics\[3\]\.xzy'"),
    ],
)
def test_kinematics_that_make_no_sense_are_refused(old: str, new: str, message: str) -> None:
    assert old in PLANAR
    with pytest.raises(ContractError, match=message):
        parse_contract(PLANAR.replace(old, new), "planar.yaml")


def test_the_box_belongs_to_the_limits_and_may_only_get_tighter(contract: Contract) -> None:
    tighter = parse_contract(PLANAR.replace("[0.7, 0.4, 0.3]", "[0.6, 0.4, 0.3]"), "tighter.yaml")
    check_compatible(contract, tighter)
    with pytest.raises(ContractError, match=r"arm\.workspace_upper\[x\] 0\.7 is looser than 0\.6"):
        check_compatible(tighter, contract)
    longer = parse_contract(PLANAR.replace("{xyz: [0.1, 0, 0]}", "{xyz: [0.2, 0, 0]}"), "longer.yaml")
    assert longer.interface_sha256 == contract.interface_sha256
    assert longer.limits_sha256 != contract.limits_sha256
    with pytest.raises(ContractError, match=r"arm\.kinematics differ"):
        check_compatible(contract, longer)
