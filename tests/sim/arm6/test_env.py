"""The arm's tasks keep the environment's promises and begin where they say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from episodes.contract import Contract
from episodes.errors import ConfigError
from sim.arm6.env import STATE_NAMES, Arm6Env
from sim.arm6.model import ACTION_NAMES, CAMERAS, HOME
from sim.arm6.tasks import (
    APART_M,
    CUBE_HALF_M,
    Scene,
    draw,
    pick_place_outcome,
    reach_outcome,
    split_of,
)
from sim.conformance import EnvConformance
from sim.env import Env
from sim.make import make_env
from sim.world import World

X, Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


class TestReach(EnvConformance):
    camera = "front"

    def make(self) -> Env:
        return make_env("arm6/reach", horizon=15)


class TestPickPlace(EnvConformance):
    camera = "wrist"

    def make(self) -> Env:
        return make_env("arm6/pick-place", horizon=15)


@pytest.fixture(scope="module")
def env() -> Iterator[Arm6Env]:
    env = Arm6Env("pick-place")
    yield env
    env.close()


def named(state: np.ndarray) -> dict[str, float]:
    return dict(zip(STATE_NAMES, state.tolist(), strict=True))


def test_one_step_is_a_twentieth_of_a_second(env: Arm6Env) -> None:
    assert env.spec.period_ns == 50_000_000
    assert env.spec.cameras == CAMERAS == ("front", "side", "wrist")


@pytest.mark.parametrize("task", ["reach", "pick-place", "push", "drawer"])
def test_train_and_evaluation_share_no_goal_and_neither_do_two_seeds(task: str) -> None:
    train = [draw(task, "train", seed, k).goal_m for seed in range(3) for k in range(60)]
    held_out = [draw(task, "evaluation", seed, k).goal_m for seed in range(3) for k in range(60)]
    assert {split_of(goal) for goal in train} == {"train"}
    assert {split_of(goal) for goal in held_out} == {"evaluation"}
    assert len({goal.tobytes() for goal in train + held_out}) == 360


def test_cube_and_pad_begin_apart_on_the_table_within_reach(env: Arm6Env) -> None:
    for episode in range(40):
        seen = named(env.reset(seed=2, episode=episode).observation["state"])
        cube = np.array([seen["object_x"], seen["object_y"], seen["object_z"]])
        goal = np.array([seen["goal_x"], seen["goal_y"], seen["goal_z"]])
        assert np.linalg.norm(cube - goal) >= APART_M
        assert cube[2] == goal[2] == CUBE_HALF_M
        assert np.hypot(*cube[:2]) < 0.55
        assert (goal == env.goal_m).all()


def test_the_episode_begins_at_rest_at_home_and_stays_there_under_gravity(env: Arm6Env) -> None:
    first = env.reset(seed=0, episode=0)
    np.testing.assert_array_equal(first.observation["joints"], HOME)
    for _ in range(40):
        step = env.step(HOME)
    assert np.abs(step.observation["joints"] - HOME).max() < 1e-6
    seen = named(step.observation["state"])
    assert abs(seen["object_z"] - CUBE_HALF_M) < 5e-4, "the cube lies on the table"
    assert max(abs(seen[f"{name}_velocity"]) for name in ACTION_NAMES) < 1e-6


def test_a_joint_ends_where_it_is_sent(env: Arm6Env) -> None:
    env.reset(seed=0, episode=0)
    target = HOME + np.array([0.5, -0.3, 0.2, 0.4, -0.3, -0.6, -0.03])
    for _ in range(60):
        step = env.step(target)
    np.testing.assert_allclose(step.observation["joints"], target, atol=2e-4)


def test_reach_is_solved_where_the_tool_is_in_the_target() -> None:
    goal = np.array([0.4, 0.1, 0.2])

    def at(offset_m: float) -> tuple[float, bool]:
        return reach_outcome(Scene(goal + offset_m * X, goal, 0.08, goal, 0.0))

    assert at(0.019) == (1.0, True)
    assert not at(0.021)[1]
    rewards = [at(d)[0] for d in (0.0, 0.03, 0.1, 0.3, 0.6)]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[1] < 0.9


def test_pick_place_is_solved_where_the_cube_rests_on_the_pad_and_was_let_go_of() -> None:
    goal = np.array([0.4, 0.1, CUBE_HALF_M])

    def outcome(cube: np.ndarray, opening: float = 0.075, speed: float = 0.0) -> tuple[float, bool]:
        return pick_place_outcome(Scene(cube + 0.1 * Z, goal, opening, cube, speed))

    assert outcome(goal) == (1.0, True)
    assert not outcome(goal, opening=0.04)[1], "still in the hand"
    assert not outcome(goal, speed=0.3)[1], "still moving"
    assert not outcome(goal + 0.03 * X)[1]
    assert not outcome(goal + 0.05 * Z)[1], "above the pad"
    assert all(outcome(goal + d * X)[0] < 0.95 for d in (0.03, 0.1, 0.3))


def test_both_tasks_fit_both_contracts(arm6: Contract, arm6_cameras: Contract) -> None:
    for name in ("arm6/reach", "arm6/pick-place"):
        for contract in (arm6, arm6_cameras):
            env = make_env(name)
            world = World(contract, env)
            world.reset(seed=0, episode=0)
            samples = world.samples()
            for stream in contract.observations.values():
                assert samples[stream.name].shape == stream.shape
                assert samples[stream.name].dtype == stream.dtype
            world.close()


def test_the_contracts_with_and_without_cameras_describe_one_arm(
    arm6: Contract, arm6_cameras: Contract
) -> None:
    assert arm6.actions == arm6_cameras.actions
    assert {n: s for n, s in arm6_cameras.observations.items() if not s.is_image} == arm6.observations


def test_the_cameras_see_the_scene(env: Arm6Env) -> None:
    env.reset(seed=0, episode=3)
    for camera in ("front", "side"):
        red, green, blue = np.moveaxis(env.render(camera, 84, 84).astype(int), 2, 0)
        cube = (red > 120) & (green < 80) & (blue < 80)
        pad = (blue > 150) & (red < 80)
        joints = (red > 150) & (green > 100) & (green < 190) & (blue < 80)
        assert cube.sum() >= 5, camera
        assert pad.sum() >= 10, camera
        assert joints.sum() >= 20, camera
        assert np.argwhere(joints)[:, 0].mean() < np.argwhere(pad)[:, 0].mean(), "upright"


def test_a_state_of_the_other_task_and_unknown_names_are_refused(env: Arm6Env) -> None:
    other = Arm6Env("reach")
    other.reset(seed=0, episode=0)
    with pytest.raises(ConfigError, match="not one of arm6/pick-place"):
        env.restore_state(other.save_state())
    with pytest.raises(ConfigError, match="did you mean 'reach'"):
        make_env("arm6/rech")
    with pytest.raises(ConfigError, match="horizon 0"):
        Arm6Env("reach", horizon=0)
    with pytest.raises(ConfigError, match="split"):
        Arm6Env("reach", split="test")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 or more"):
        env.reset(seed=-1, episode=0)


def test_a_snapshot_is_drawn_as_the_scene_was_while_the_physics_goes_on(env: Arm6Env) -> None:
    env.reset(seed=0, episode=3)
    snapshot, frame = env.snapshot(), env.render("front", 84, 84)
    for _ in range(10):
        env.step(HOME + np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    view = env.view()
    assert view.render(snapshot, "front", 84, 84).tobytes() == frame.tobytes()
    assert view.render(env.snapshot(), "front", 84, 84).tobytes() == env.render("front", 84, 84).tobytes()
    assert view.choice == env.renderer
    view.close()
