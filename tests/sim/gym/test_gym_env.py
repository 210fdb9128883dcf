"""Gymnasium's environments keep the environment's promises, and the papers' are as their sources say."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator

import numpy as np
import pytest

from episodes.errors import ConfigError, MachineError
from sim.behaviours import acts
from sim.conformance import EnvConformance
from sim.env import Env, Step
from sim.gym.camera import pose
from sim.gym.env import GymEnv, seed_of
from sim.gym.state import by_attributes
from sim.gym.tasks import VLMRM_VIEW
from sim.make import horizon_of, make_env


class TestCartPole(EnvConformance):
    camera = "screen"

    def make(self) -> Env:
        return make_env("gymnasium/CartPole-v1", horizon=15)


class TestContinuousCartPole(EnvConformance):
    camera = "screen"

    def make(self) -> Env:
        return make_env("rl-vlm-f/CartPole", horizon=15)


@pytest.mark.long
class TestFixedCartPole(EnvConformance):
    camera = "screen"

    def make(self) -> Env:
        return make_env("vlmrm/CartPole", horizon=15)


class TestMountainCar(EnvConformance):
    camera = "screen"

    def make(self) -> Env:
        return make_env("gymnasium/MountainCarContinuous-v0", horizon=15)


@pytest.mark.long
class TestPendulum(EnvConformance):
    """By its id alone; gymnasium's own picture of it needs pygame, and is not looked at here."""

    def make(self) -> Env:
        return make_env("gymnasium/Pendulum-v1", horizon=15)


class TestTaxi(EnvConformance):
    """Kept by its actions: an observation that is a number, six actions, no attribute `state`."""

    def make(self) -> Env:
        return make_env("gymnasium/Taxi-v4", horizon=15)


class TestHumanoid(EnvConformance):
    camera = "default"
    steps = 4

    def make(self) -> Env:
        return make_env("vlmrm/Humanoid", horizon=6)


@pytest.mark.long
class TestAnt(EnvConformance):
    """Another of MuJoCo's, by its id; it ends when it is unhealthy."""

    camera = "default"
    steps = 4

    def make(self) -> Env:
        return make_env("gymnasium/Ant-v5", horizon=6)


def played(name: str, kind: str, episode: int = 0, seed: int = 0) -> list[Step]:
    env = make_env(name)
    behaviour = acts(name, kind, seed, episode)  # type: ignore[arg-type]
    rng, spec = behaviour.rng(), env.spec
    steps = [env.reset(seed=seed, episode=episode)]
    while not (steps[-1].terminated or steps[-1].truncated):
        action = behaviour.act(
            steps[-1].observation["state"], rng, len(steps) - 1, spec.action_lower, spec.action_upper
        )
        steps.append(env.step(action))
    env.close()
    return steps


def test_a_pole_that_falls_terminates_and_one_that_stands_is_truncated() -> None:
    fallen, standing = played("gymnasium/CartPole-v1", "random"), played("gymnasium/CartPole-v1", "expert")
    assert (fallen[-1].terminated, fallen[-1].truncated, fallen[-1].success) == (True, False, False)
    assert len(standing) == 501
    assert (standing[-1].terminated, standing[-1].truncated, standing[-1].success) == (False, True, True)


def test_a_car_at_the_flag_terminates_with_success_and_the_fixed_one_is_held_there() -> None:
    ending = played("gymnasium/MountainCarContinuous-v0", "expert")
    assert (ending[-1].terminated, ending[-1].success) == (True, True)
    assert len(ending) < 200
    fixed = played("vlmrm/MountainCarContinuous", "expert")
    assert len(fixed) == 201
    assert fixed[-1].truncated
    np.testing.assert_allclose(fixed[-1].observation["state"], [0.45, 0.0], atol=1e-6)


def test_the_fixed_cart_pole_never_ends_and_is_held_at_its_limits() -> None:
    steps = played("vlmrm/CartPole", "random")
    assert len(steps) == 201
    angles = np.array([step.observation["state"][2] for step in steps])
    assert np.abs(angles).max() == pytest.approx(math.radians(12.0), rel=1e-6)
    assert steps[-1].truncated
    assert {step.reward for step in steps[1:]} == {0.0, 1.0}


def test_the_continuous_cart_pole_is_the_papers() -> None:
    """One step by hand (RL-VLM-F, envs/cartpole.py), the reward in degrees, the limits, 100 steps."""
    env = make_env("rl-vlm-f/CartPole")
    x, x_dot, theta, theta_dot = env.reset(seed=0, episode=0).observation["state"]
    temp = (10.0 * 0.5 + 0.05 * theta_dot**2 * math.sin(theta)) / 1.1
    theta_acc = (9.8 * math.sin(theta) - math.cos(theta) * temp) / (
        0.5 * (4.0 / 3.0 - 0.1 * math.cos(theta) ** 2 / 1.1)
    )
    x_acc = temp - 0.05 * theta_acc * math.cos(theta) / 1.1
    step = env.step([0.5])
    expected = [
        x + 0.02 * x_dot,
        x_dot + 0.02 * x_acc,
        theta + 0.02 * theta_dot,
        theta_dot + 0.02 * theta_acc,
    ]
    np.testing.assert_allclose(step.observation["state"], expected, atol=1e-6)
    assert step.reward == pytest.approx(-abs(math.degrees(step.observation["state"][2])), abs=1e-4)
    for _ in range(99):
        step = env.step([1.0])
    assert step.truncated
    assert step.observation["state"][0] == pytest.approx(0.8 * 2.4)
    assert abs(step.observation["state"][2]) == pytest.approx(math.radians(30.0))
    assert not step.success
    steps = played("rl-vlm-f/CartPole", "expert")
    assert steps[-1].success
    assert (
        sum(step.reward for step in steps)
        > -100.0
        > sum(step.reward for step in played("rl-vlm-f/CartPole", "random"))
    )


def test_the_humanoid_falls_and_the_episode_goes_on() -> None:
    steps = played("vlmrm/Humanoid", "random")
    assert len(steps) == 101
    assert steps[-1].truncated
    assert steps[-1].observation["state"][0] < 0.9, "it lies"
    assert played("gymnasium/Humanoid-v5", "random")[-1].terminated


def test_vlmrms_camera_looks_at_the_humanoid_from_in_front() -> None:
    position, quaternion = pose(VLMRM_VIEW)
    tilt = math.radians(10.0)
    np.testing.assert_allclose(position, [3.5 * math.cos(tilt), 0.0, 1.0 + 3.5 * math.sin(tilt)], atol=1e-12)
    w, x, y, z = quaternion
    forward = -np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    np.testing.assert_allclose(forward, [-math.cos(tilt), 0.0, -math.sin(tilt)], atol=1e-9)
    up = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
    assert up[2] > 0.9, "the right way up"


def test_training_and_evaluation_share_no_seed_and_neither_do_two_seeds() -> None:
    drawn = {
        (split, seed, k): seed_of(split, seed, k)  # type: ignore[arg-type]
        for split in ("train", "evaluation")
        for seed in range(5)
        for k in range(100)
    }
    assert len(set(drawn.values())) == len(drawn)


@pytest.fixture
def pendulum() -> Iterator[GymEnv]:
    env = GymEnv("gymnasium/Pendulum-v1", horizon=5)
    yield env
    env.close()


def test_a_step_in_the_middle_and_at_the_end_can_be_saved(pendulum: GymEnv) -> None:
    pendulum.reset(seed=1, episode=1)
    for _ in range(5):
        last = pendulum.step([0.5])
    state = pendulum.save_state()
    pendulum.reset(seed=2, episode=0)
    again = pendulum.restore_state(state)
    assert again.truncated
    assert again.reward == last.reward
    with pytest.raises(RuntimeError, match="reset"):
        pendulum.step([0.0])


def test_a_state_of_another_environment_or_no_state_is_refused(pendulum: GymEnv) -> None:
    other = GymEnv("rl-vlm-f/CartPole")
    other.reset(seed=0, episode=0)
    with pytest.raises(ConfigError, match="is one of rl-vlm-f/CartPole"):
        pendulum.restore_state(other.save_state())
    with pytest.raises(ConfigError, match="no saved state"):
        pendulum.restore_state(np.zeros(100, dtype=np.uint8))


def test_what_gymnasium_cannot_draw_here_names_the_line_that_installs_it(pendulum: GymEnv) -> None:
    assert pendulum.spec.cameras == ("rgb_array",)
    pendulum.reset(seed=0, episode=0)
    if importlib.util.find_spec("pygame") is None:
        with pytest.raises(MachineError, match="pygame"):
            pendulum.render("rgb_array", 20, 30)
    else:
        assert pendulum.render("rgb_array", 20, 30).shape == (20, 30, 3)


@pytest.mark.parametrize("name", ["gymnasium/CartPol-v1", "vlmrm/Cartpole", "rl-vlm-f/nothing"])
def test_an_unknown_name_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match=r"CartPole|known"):
        make_env(name)


def test_horizons_are_known_without_making_the_environment() -> None:
    assert horizon_of("gymnasium/CartPole-v1") == 500
    assert horizon_of("vlmrm/Humanoid") == 100
    assert horizon_of("softgym-equivalent/RopeFlatten") == 75
    assert horizon_of("metaworld/drawer-open-v3") == 150


def test_fetch_names_the_line_that_installs_it_or_keeps_its_promises() -> None:
    """gymnasium-robotics is no requirement: where it is there, Fetch is run; where not, the message is."""
    if importlib.util.find_spec("gymnasium_robotics") is None:
        with pytest.raises(MachineError, match="pip install gymnasium-robotics"):
            make_env("gymnasium/FetchReach-v4", horizon=5)
        return
    env = make_env("gymnasium/FetchReach-v4", horizon=5)
    assert isinstance(env, GymEnv)
    names = env.spec.observation_names["state"]
    assert names[:6] == (*(f"achieved_goal_{i}" for i in range(3)), *(f"desired_goal_{i}" for i in range(3)))
    assert names[6:] == tuple(f"observation_{i}" for i in range(10))
    assert env.spec.cameras[0] == "default"
    assert by_attributes(env._inner)
    env.reset(seed=0, episode=0)
    env.step(np.zeros(4))
    state = env.save_state()
    first = env.step(np.full(4, 0.3))
    env.restore_state(state)
    second = env.step(np.full(4, 0.3))
    np.testing.assert_array_equal(first.observation["state"], second.observation["state"])
    env.close()
