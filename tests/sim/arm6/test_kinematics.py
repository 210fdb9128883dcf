"""The chain of the contract is the arm of the MJCF, and the inverse finds its way back."""

from __future__ import annotations

import numpy as np
import pytest

from episodes.contract import Contract
from episodes.errors import ConfigError
from sim.arm6.kinematics import CHAIN, LINKS, solve, tool_down
from sim.arm6.model import HOME, JOINTS
from sim.arm6.plant import Plant
from sim.gl import load_mujoco

LOWER = np.array([j.lower for j in JOINTS])
UPPER = np.array([j.upper for j in JOINTS])


def test_the_contracts_chain_is_the_arms(arm6: Contract) -> None:
    assert arm6.actions["arm"].kinematics == LINKS


def test_tool_and_jacobian_are_mujocos() -> None:
    mujoco = load_mujoco()  # not at import: a collected module must not decide what draws
    plant, rng = Plant("reach"), np.random.default_rng(0)
    model, data = plant.model, plant.data
    site = model.site("tool").id
    for _ in range(50):
        joints = rng.uniform(LOWER, UPPER)
        for spec, angle in zip(JOINTS, joints, strict=True):
            data.joint(spec.name).qpos = angle
        mujoco.mj_forward(model, data)
        position, rotation = CHAIN.pose(joints)
        np.testing.assert_allclose(position, data.site_xpos[site], atol=1e-12)
        np.testing.assert_allclose(rotation, data.site_xmat[site].reshape(3, 3), atol=1e-12)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, site)
        columns = [int(model.joint(spec.name).dofadr[0]) for spec in JOINTS]
        np.testing.assert_allclose(
            CHAIN.jacobian(joints), np.concatenate([linear, angular])[:, columns], atol=1e-12
        )


def test_the_chain_takes_many_joint_vectors_at_once() -> None:
    joints = np.random.default_rng(1).uniform(LOWER, UPPER, (5, 4, 6))
    tools = CHAIN(joints)
    assert tools.shape == (5, 4, 3)
    np.testing.assert_allclose(tools[2, 3], CHAIN(joints[2, 3]), atol=1e-15)


def test_a_pose_inside_the_limits_is_found_again() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        radius, azimuth, height = rng.uniform(0.3, 0.5), rng.uniform(-0.7, 0.7), rng.uniform(0.02, 0.3)
        position = np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), height])
        rotation = tool_down(rng.uniform(-0.7, 0.7))
        joints = solve(position, rotation, HOME[:6])
        reached, turned = CHAIN.pose(joints)
        np.testing.assert_allclose(reached, position, atol=1e-6)
        np.testing.assert_allclose(turned, rotation, atol=1e-6)
        assert (joints >= LOWER).all()
        assert (joints <= UPPER).all()


def test_home_holds_the_open_gripper_straight_down_over_the_table() -> None:
    position, rotation = CHAIN.pose(HOME[:6])
    np.testing.assert_allclose(position, [0.38, 0.0, 0.30], atol=2e-4)
    np.testing.assert_allclose(rotation, tool_down(0.0), atol=2e-4)


def test_a_pose_out_of_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot bring its tool to"):
        solve(np.array([1.4, 0.0, 0.2]), tool_down(0.0), HOME[:6])
