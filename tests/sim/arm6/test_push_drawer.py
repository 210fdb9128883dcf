"""The tasks push and drawer: where they begin, what is solved, and that their experts solve them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Contract, load_contract
from sim.arm6.env import STATE_NAMES, Arm6Env
from sim.arm6.expert import Expert
from sim.arm6.furniture import HANDLE_HEIGHT_M, PUCK_HALF_M, PUCK_RADIUS_M
from sim.arm6.model import HOME
from sim.arm6.tasks import OPENED_M, PUSHED_M, Scene, draw, drawer_outcome, push_outcome
from sim.conformance import EnvConformance
from sim.env import Env, Step
from sim.make import make_env
from sim.world import World

X, Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
CONTRACTS = Path(__file__).parents[3] / "launch" / "contracts"


class TestPush(EnvConformance):
    camera = "front"

    def make(self) -> Env:
        return make_env("arm6/push", horizon=15)


class TestDrawer(EnvConformance):
    camera = "side"

    def make(self) -> Env:
        return make_env("arm6/drawer", horizon=15)


def named(step: Step) -> dict[str, float]:
    return dict(zip(STATE_NAMES, step.observation["state"].tolist(), strict=True))


def point(seen: dict[str, float], what: str) -> np.ndarray:
    return np.array([seen[f"{what}_{axis}"] for axis in "xyz"])


@pytest.mark.parametrize("task", ["push", "drawer"])
def test_the_expert_brings_the_object_to_the_goal(task: str) -> None:
    for split in ("train", "evaluation"):
        env = Arm6Env(task, split=split)  # type: ignore[arg-type]
        for episode in range(2):
            step = env.reset(seed=3, episode=episode)
            assert not step.success
            expert = Expert(task)
            expert.reset(step.observation["state"])
            assert len(expert) < 140, "well within the horizon"
            rewards = []
            for k in range(len(expert) + 12):
                step = env.step(expert.act(k))
                rewards.append(step.reward)
            assert step.success
            assert step.reward == 1.0
            assert rewards[0] < 0.4
            seen = named(step)
            assert np.linalg.norm(point(seen, "object") - point(seen, "goal")) < 0.02
            assert seen["tool_z"] > point(seen, "object")[2] + 0.08, "it has let go and gone up"


@pytest.mark.parametrize("task", ["push", "drawer"])
def test_without_a_command_nothing_moves_by_itself(task: str) -> None:
    env = Arm6Env(task)
    before = point(named(env.reset(seed=0, episode=4)), "object")
    for _ in range(40):
        step = env.step(HOME)
    assert np.abs(point(named(step), "object") - before).max() < 5e-4
    assert not step.success


def test_puck_and_disc_are_as_far_apart_as_the_task_says_and_on_the_table() -> None:
    env = Arm6Env("push")
    for episode in range(20):
        seen = named(env.reset(seed=5, episode=episode))
        puck, goal = point(seen, "object"), point(seen, "goal")
        assert PUSHED_M[0] <= np.linalg.norm(puck - goal) <= PUSHED_M[1]
        assert puck[2] == goal[2] == PUCK_HALF_M


def test_the_drawer_begins_shut_and_its_mark_lies_where_it_opens_to() -> None:
    env = Arm6Env("drawer")
    for episode in range(20):
        layout = draw("drawer", "train", 5, episode)
        seen = named(env.reset(seed=5, episode=episode))
        handle, goal = point(seen, "object"), point(seen, "goal")
        way = goal - handle
        assert OPENED_M[0] - 1e-6 <= np.linalg.norm(way) <= OPENED_M[1] + 1e-6
        assert abs(way[2]) < 1e-6
        assert handle[2] == pytest.approx(HANDLE_HEIGHT_M)
        assert np.arctan2(way[1], way[0]) == pytest.approx(layout.cube_yaw_rad, abs=1e-6)
        yaw = 2.0 * np.arctan2(seen["object_qz"], seen["object_qw"])
        assert np.cos(yaw - layout.cube_yaw_rad) == pytest.approx(1.0, abs=1e-6)


def test_pushing_is_solved_where_the_puck_lies_still_on_the_disc() -> None:
    goal = np.array([0.4, 0.1, PUCK_HALF_M])

    def outcome(puck: np.ndarray, speed: float = 0.0) -> tuple[float, bool]:
        return push_outcome(Scene(puck - (PUCK_RADIUS_M + 0.01) * X, goal, 0.03, puck, speed))

    assert outcome(goal + 0.02 * X) == (1.0, True)
    assert not outcome(goal, speed=0.3)[1], "still sliding"
    assert not outcome(goal + 0.03 * X)[1]
    assert not outcome(goal + 0.05 * Z)[1], "held above the disc"
    rewards = [outcome(goal + d * X)[0] for d in (0.03, 0.1, 0.3)]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[0] < 0.9


def test_the_drawer_is_solved_where_its_handle_stands_at_the_mark() -> None:
    goal = np.array([0.4, 0.0, HANDLE_HEIGHT_M])

    def outcome(offset_m: float, speed: float = 0.0) -> tuple[float, bool]:
        handle = goal + offset_m * X
        return drawer_outcome(Scene(handle, goal, 0.01, handle, speed))

    assert outcome(0.014) == (1.0, True)
    assert not outcome(0.016)[1]
    assert not outcome(-0.02)[1], "pulled too far"
    assert not outcome(0.0, speed=0.2)[1]
    assert outcome(0.02)[0] > outcome(0.1)[0]


@pytest.mark.parametrize("task", ["push", "drawer"])
def test_each_task_has_a_contract_of_the_same_arm(task: str, arm6_cameras: Contract) -> None:
    contract = load_contract(CONTRACTS / f"arm6_sim_{task}.yaml")
    assert contract.interface_sha256 == arm6_cameras.interface_sha256
    assert contract.limits_sha256 == arm6_cameras.limits_sha256
    assert contract.simulation is not None
    env = make_env(contract.simulation.environment)
    world = World(contract, env)
    world.reset(seed=0, episode=0)
    samples = world.samples()
    assert all(samples[s.name].shape == s.shape for s in contract.observations.values())
    world.close()


def test_the_drawer_is_seen_to_open() -> None:
    """Red is the drawer's front, green the mark: the front of the open drawer is nearer to the mark."""
    env = Arm6Env("drawer")
    step = env.reset(seed=0, episode=0)
    expert = Expert("drawer")
    expert.reset(step.observation["state"])
    pictures = [env.render("front", 120, 120)]
    for k in range(len(expert) + 5):
        env.step(expert.act(k))
    pictures.append(env.render("front", 120, 120))
    middles = []
    for picture in pictures:
        red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
        front = (red > 110) & (green < 70) & (blue < 70)
        assert front.sum() > 30
        middles.append(np.argwhere(front).mean(axis=0))
    assert np.linalg.norm(middles[1] - middles[0]) > 4.0
    env.close()
