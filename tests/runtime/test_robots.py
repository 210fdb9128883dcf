"""The shipped contracts: they load, hash, fit control, and stay inside what the makers publish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Contract, load_contract
from policy.runtime.control import Controller, Heartbeat, Inputs, Measured, State
from policy.runtime.kinematics import Chain
from policy.runtime.safety import Limits

CONTRACTS = Path(__file__).parents[2] / "launch" / "contracts"
DEGREE = np.pi / 180.0
ROBOTS = ("arm6_sim", "arm6_sim_state", "ur5e_realsense", "dressing_arm7", "lowcost6")
MAKERS = {
    "ur5e_realsense": {
        "lower": [-360, -360, -180, -360, -360, -360],
        "upper": [360, 360, 180, 360, 360, 360],
        "velocity": [180] * 6,
    },
    "dressing_arm7": {
        "lower": [-180, -128.9, -180, -147.8, -180, -120.3, -180],
        "upper": [180, 128.9, 180, 147.8, 180, 120.3, 180],
        "velocity": [79.6] * 4 + [69.9] * 3,
    },
    "lowcost6": {
        "lower": [-180, -108, -123, -180, -100, -180],
        "upper": [180, 114, 92, 180, 123, 180],
        "velocity": [180] * 6,
    },
}
"""Degrees and degrees per second, from the sources that the contracts name."""


def robot(name: str) -> Contract:
    return load_contract(CONTRACTS / f"{name}.yaml")


def chain(contract: Contract) -> Chain:
    arm = contract.actions["arm"]
    assert arm.kinematics is not None
    return Chain(arm.kinematics, arm.names)


def inside(contract: Contract) -> np.ndarray:
    """Some arm pose whose tool is in the box."""
    arm, rng = contract.actions["arm"], np.random.default_rng(0)
    poses = rng.uniform(arm.lower, arm.upper, (20_000, arm.dim))
    tools = chain(contract)(poses)
    lower, upper = np.array(arm.workspace_lower), np.array(arm.workspace_upper)
    fits = ((tools > lower + 0.05) & (tools < upper - 0.05)).all(axis=1)
    return poses[int(np.argmax(fits))]


def test_every_robot_has_hashes_of_its_own() -> None:
    contracts = [robot(name) for name in ROBOTS]
    assert len({c.interface_sha256 for c in contracts}) == len(ROBOTS)
    assert all(c.actions["arm"].kind == "joint_position" for c in contracts)
    assert contracts[0].limits_form["actions"] == contracts[1].limits_form["actions"]


@pytest.mark.parametrize("name", MAKERS)
def test_no_limit_is_looser_than_the_makers(name: str) -> None:
    arm, maker = robot(name).actions["arm"], MAKERS[name]
    assert (np.array(arm.lower) >= np.array(maker["lower"]) * DEGREE).all()
    assert (np.array(arm.upper) <= np.array(maker["upper"]) * DEGREE).all()
    assert (np.array(arm.max_velocity) <= 0.6 * np.array(maker["velocity"]) * DEGREE).all()
    text = robot(name).text
    assert "# Sources:" in text, "the file says where its numbers come from"


@pytest.mark.parametrize("name", ROBOTS)
def test_control_runs_each_robot_from_its_contract_alone(name: str) -> None:
    contract = robot(name)
    controller, limits = Controller(contract), Limits.of(contract)
    assert contract.simulation is not None or contract.estop, "a real arm declares its e-stop"
    pose = 0.5 * (limits.lower + limits.upper)
    pose[contract.action_slices["arm"]] = inside(contract)
    now_ns = 1_000_000_000
    for tick in range(20):
        stream = contract.observations["joints"]
        values = np.array([pose[contract.action_names.index(n)] for n in stream.names or ()])
        inputs = Inputs(
            measured={"joints": Measured(values, now_ns)},
            estop={topic: Heartbeat(False, now_ns) for topic in contract.estop},
        )
        if tick == 0:
            reply = controller.enable(now_ns, inputs)
            assert reply.accepted, reply.why
        command = controller.tick(now_ns, inputs)
        assert command.state is State.HOLD
        assert command.action is not None
        np.testing.assert_array_equal(command.action, pose)
        now_ns += contract.period_ns


def test_the_ur5e_chain_is_the_makers_dh_table() -> None:
    a, d = [0.0, -0.425, -0.3922, 0.0, 0.0, 0.0], [0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996]
    alpha = np.array([90.0, 0.0, 0.0, 90.0, -90.0, 0.0]) * DEGREE
    contract, rng = robot("ur5e_realsense"), np.random.default_rng(1)
    for joints in rng.uniform(-3, 3, (20, 6)):
        pose = np.eye(4)
        for q, ai, di, turn in zip(joints, a, d, alpha, strict=True):
            pose = pose @ np.array(
                [
                    [np.cos(q), -np.sin(q) * np.cos(turn), np.sin(q) * np.sin(turn), ai * np.cos(q)],
                    [np.sin(q), np.cos(q) * np.cos(turn), -np.cos(q) * np.sin(turn), ai * np.sin(q)],
                    [0.0, np.sin(turn), np.cos(turn), di],
                    [0.0, 0.0, 0.0, 1.0],
                ]
            )
        tip = (pose @ [0.0, 0.0, 0.163, 1.0])[:3]
        # ROS's base_link is UR's base turned by half a turn.
        np.testing.assert_allclose(chain(contract)(joints), tip * [-1.0, -1.0, 1.0], atol=1e-9)


def test_the_gen3_stands_upright_at_zero_and_the_wx250s_reaches_forward() -> None:
    upright = chain(robot("dressing_arm7"))(np.zeros(7))
    np.testing.assert_allclose(upright, [0.0, -0.0246, 1.1874], atol=5e-4)
    forward = chain(robot("lowcost6"))(np.zeros(6))
    np.testing.assert_allclose(forward, [0.40775, 0.0, 0.36065], atol=1e-9)
