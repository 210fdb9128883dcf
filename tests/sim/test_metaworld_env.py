"""MetaWorld's tasks keep the environment's promises and show what a policy needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.contract import load_contract
from episodes.errors import ConfigError, ContractError
from sim.conformance import EnvConformance
from sim.env import Env
from sim.experts import scripted_action
from sim.make import make_env
from sim.metaworld_env import ACTION_NAMES, JOINT_NAMES, STATE_NAMES, MetaWorldEnv, task_names
from sim.world import World

CONTRACTS = Path(__file__).parents[2] / "launch" / "contracts"


class TestDrawerOpen(EnvConformance):
    camera = "corner2"

    def make(self) -> Env:
        return make_env("metaworld/drawer-open-v3", horizon=15)


class TestPickPlace(EnvConformance):
    """A task with a free body and attributes that its reward changes on the way."""

    camera = "corner"

    def make(self) -> Env:
        return make_env("metaworld/pick-place-v3", horizon=15)


@pytest.fixture(scope="module")
def env() -> Iterator[MetaWorldEnv]:
    env = MetaWorldEnv("drawer-open-v3", horizon=150)
    yield env
    env.close()


def test_one_step_is_an_eightieth_of_a_second(env: MetaWorldEnv) -> None:
    assert env.spec.period_ns == 12_500_000


def test_the_goal_is_in_the_state_from_the_first_frame_in_both_splits() -> None:
    for split in ("train", "evaluation"):
        env = MetaWorldEnv("drawer-open-v3", split=split)
        reset, step = env.reset(seed=0, episode=0), env.step(np.zeros(4))
        # The drawer is open when its handle has moved by 0.2 m from where it stands closed.
        expected = env.goal + np.array([0.0, -0.16 - 0.2, 0.09])
        for observation in (reset.observation, step.observation):
            np.testing.assert_allclose(observation["state"][36:], expected, atol=1e-12)
        env.close()


def test_the_previous_frame_is_in_the_state(env: MetaWorldEnv) -> None:
    before = env.reset(seed=0, episode=0).observation["state"]
    for _ in range(3):
        after = env.step(np.array([1.0, 0.5, 0.0, -1.0])).observation["state"]
        np.testing.assert_array_equal(after[18:36], before[:18])
        before = after


def test_joints_are_the_arms_own(env: MetaWorldEnv) -> None:
    env.reset(seed=0, episode=0)
    joints = [env.step(np.array([0.0, 0.0, 0.0, effort])).observation["joints"] for effort in (1.0,) * 10]
    assert np.ptp([j[-1] for j in joints]) > 1e-3, "closing the gripper moves its finger"


def test_the_script_opens_the_drawer_and_success_does_not_end_the_episode(env: MetaWorldEnv) -> None:
    step = env.reset(seed=0, episode=0)
    successes, steps = [], 0
    while not step.truncated:
        step = env.step(scripted_action("drawer-open-v3", step.observation["state"]))
        steps += 1
        successes.append(step.success)
        assert not step.terminated
    assert steps == 150
    assert 60 < successes.index(True) < 110
    assert successes[-1]


def test_pictures_are_upright_and_not_mirrored(env: MetaWorldEnv) -> None:
    """Seen from corner2 the red arm stands on the left, the green drawer on the right, and the floor is
    below."""
    env.reset(seed=0, episode=0)
    picture = env.render("corner2", 84, 84).astype(int)
    red, green, blue = (picture[..., i] for i in range(3))
    arm = (red > 2 * green) & (red > 2 * blue) & (red > 60)
    drawer = (green > 1.3 * red) & (green > 1.3 * blue)
    assert arm.sum() > 100
    assert drawer.sum() > 40
    assert _middle(arm)[1] < 35 < 45 < _middle(drawer)[1]
    assert _middle(arm)[0] < 55
    assert picture[:15].std(axis=(0, 1)).max() < 1.0, "nothing but background in the top quarter"


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize("renderer", ["auto", "raycast"])
def test_the_cropped_camera_is_the_papers_part_of_the_whole_picture(renderer) -> None:
    env = make_env("metaworld/drawer-open-v3", renderer=renderer)
    env.reset(seed=0, episode=0)
    whole = env.render("corner2", 480, 480)
    part = whole[100:400, 80:380].astype(int)
    wide = env.render("corner2_cropped", 300, 400).astype(int)
    for drawn in (env.render("corner2_cropped", 300, 300).astype(int), wide[:, 50:350]):
        assert np.mean(np.abs(drawn - part).max(axis=-1) > 8) < 1e-3
    np.testing.assert_array_equal(env.render("corner2", 480, 480), whole)
    env.close()


def test_names_are_those_of_the_shipped_contracts(env: MetaWorldEnv) -> None:
    for name in ("sawyer_sim.yaml", "sawyer_sim_state.yaml"):
        contract = load_contract(CONTRACTS / name)
        assert contract.observations["state"].names == STATE_NAMES
        assert contract.observations["joints"].names == JOINT_NAMES
        assert contract.action_names == ACTION_NAMES
        world = World(contract, env)
        world.reset(seed=0, episode=0)
        samples = world.samples()
        for stream in contract.observations.values():
            assert samples[stream.name].shape == stream.shape
            assert samples[stream.name].dtype == stream.dtype


def test_a_saved_state_of_another_task_is_refused(env: MetaWorldEnv) -> None:
    env.reset(seed=0, episode=0)
    other = MetaWorldEnv("drawer-close-v3")
    other.reset(seed=0, episode=0)
    with pytest.raises(ConfigError, match="drawer-open-v3"):
        other.restore_state(env.save_state())


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="drawer-open-v3"):
        make_env("metaworld/drawer-open-v2")
    with pytest.raises(ConfigError, match="metaworld/TASK"):
        make_env("softjim/ClothFold")


def test_a_camera_that_is_not_there_is_refused_with_the_nearest_name(env: MetaWorldEnv) -> None:
    env.reset(seed=0, episode=0)
    with pytest.raises(ConfigError, match="did you mean 'corner"):
        env.render("cornerr", 8, 8)


def test_a_contract_that_does_not_fit_the_environment_is_refused(env: MetaWorldEnv) -> None:
    text = (CONTRACTS / "sawyer_sim.yaml").read_text()
    from episodes.contract import parse_contract

    for old, new, match in (
        ("rate_hz: 80", "rate_hz: 20", "write 80"),
        ("names: [dx, dy, dz]", "names: [dx, dy, dw]", "takes"),
        ("front: corner2", "front: corner9", "did you mean"),
        ("right_j6", "right_j8", "right_j8"),
    ):
        assert old in text
        with pytest.raises(ContractError, match=match):
            World(parse_contract(text.replace(old, new), "robot.yaml"), env)


def test_actions_in_the_contracts_order_reach_the_right_axis(env: MetaWorldEnv) -> None:
    from episodes.contract import parse_contract

    text = (CONTRACTS / "sawyer_sim_state.yaml").read_text().replace("[dx, dy, dz]", "[dz, dx, dy]")
    world = World(parse_contract(text, "robot.yaml"), env)
    world.reset(seed=0, episode=0)
    before = world.step.observation["state"][:3]
    for _ in range(5):
        world.apply(np.array([1.0, 0.0, 0.0, 0.0]))
    moved = world.step.observation["state"][:3] - before
    assert moved[2] > 0.01
    assert np.abs(moved[:2]).max() < 0.005
    np.testing.assert_array_equal(
        world.in_contract_order(np.array([1.0, 2.0, 3.0, 4.0])), [3.0, 1.0, 2.0, 4.0]
    )


@pytest.mark.long
def test_every_task_of_mt50_is_a_function_of_seed_and_episode() -> None:
    for name in task_names():

        class Conformance(EnvConformance):
            camera = "corner2"
            task = name

            def make(self) -> Env:
                return make_env(self.task, horizon=15)

        checks = Conformance()
        for check in (
            checks.test_seed_and_episode_alone_fix_a_trajectory,
            checks.test_a_saved_state_goes_on_as_the_original_did,
            checks.test_drawing_does_not_change_the_trajectory,
        ):
            env = checks.make()
            check(env)
            env.close()
