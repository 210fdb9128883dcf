"""The scripted expert solves both tasks, with commands that control passes unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.aligned import align_episode
from episodes.contract import Contract, Source
from episodes.dataset import Dataset
from episodes.errors import ConfigError
from policy.runtime.control import Chunk, Controller, Inputs, Measured
from sim.arm6.behaviour import ArmBehaviour
from sim.arm6.env import Arm6Env
from sim.arm6.expert import GAIN, SPEED, Expert
from sim.env import Split
from sim.experts import Kind
from sim.record import TRUTH, episode_id, record_episode
from sim.world import EPISODE_START_NS, World

EPISODES = 50


def controlled(world: World, seed: int, episode: int, task: str) -> tuple[bool, Controller]:
    """An episode of the expert through control; every command must come out as it went in."""
    contract = world.contract
    controller, expert = Controller(contract), Expert(task)
    world.reset(seed, episode)
    expert.reset(world.step.observation["state"])
    for _ in range(len(expert) + 12):
        now_ns, action = world.stamp_ns, expert.act(world.tick)
        measured = {"joints": Measured(world.samples(frozenset({"joints"}))["joints"], now_ns)}
        chunk = Chunk(now_ns, now_ns, contract.period_ns, action[None], Source.SCRIPT)
        inputs = Inputs(chunk=chunk, measured=measured, observation_ns=now_ns)
        if world.tick == 0:
            assert controller.enable(now_ns, inputs).accepted
        command = controller.tick(now_ns, inputs)
        assert command.action is not None
        assert command.action.tobytes() == action.tobytes()
        world.apply(command.action)
    return world.step.success, controller


@pytest.mark.parametrize(
    "task",
    [
        "reach",
        "pick-place",
        pytest.param("push", marks=pytest.mark.long),
        pytest.param("drawer", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.long), "evaluation"])
def test_the_expert_succeeds_and_control_has_nothing_to_clamp(
    arm6: Contract, task: str, split: Split
) -> None:
    world = World(arm6, Arm6Env(task, split=split))
    successes = 0
    for episode in range(EPISODES // 2):
        success, controller = controlled(world, 11, episode, task)
        successes += success
        assert dict(controller.counts) == {}
        assert controller.fault is None
        assert world.tick <= 150
    assert successes >= 0.95 * EPISODES / 2
    world.close()


def test_an_episode_of_the_expert_is_recorded_and_read_back(arm6: Contract, tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "data", arm6)
    world = World(arm6, Arm6Env("reach", horizon=40))
    behaviour = ArmBehaviour("expert", "arm6/reach", seed=0, episode=3)
    writer = dataset.new_writer(
        contract=arm6, clock="sim", started_ns=EPISODE_START_NS, task="arm6/reach",
        operator=behaviour.label, episode_id=episode_id(0, 3), extra_streams=(TRUTH,),
    )  # fmt: skip
    _, success = record_episode(world, behaviour, writer)
    assert success
    aligned = align_episode(dataset.read(episode_id(0, 3)))
    assert aligned.actions.shape == (40, 7)
    assert aligned.observations["joints"].shape == (41, 7)
    assert behaviour.label == "expert"


@pytest.mark.parametrize("kind", ["expert", "noisy", "random"])
def test_a_recorded_demonstration_replays_to_the_same_observations(
    arm6: Contract, tmp_path: Path, kind: Kind
) -> None:
    dataset = Dataset.create(tmp_path / "data", arm6)
    world = World(arm6, Arm6Env("pick-place", horizon=60))
    writer = dataset.new_writer(
        contract=arm6, clock="sim", started_ns=EPISODE_START_NS, task="arm6/pick-place",
        operator=kind, episode_id=episode_id(7, 2), extra_streams=(TRUTH,),
    )  # fmt: skip
    record_episode(world, ArmBehaviour(kind, "arm6/pick-place", 7, 2, sigma=1.0, switch_step=40), writer)
    aligned = align_episode(dataset.read(episode_id(7, 2)))
    replayed = World(arm6, Arm6Env("pick-place", horizon=60))
    replayed.reset(7, 2)
    for k, action in enumerate(aligned.actions):
        assert replayed.samples()["state"].tobytes() == aligned.observations["state"][k].tobytes()
        replayed.apply(action)
    assert replayed.samples()["state"].tobytes() == aligned.observations["state"][60].tobytes()


def test_noise_is_a_function_of_seed_and_episode_and_turning_random_makes_episodes_fail(
    arm6: Contract,
) -> None:
    def play(episode: int, sigma: float, switch_step: int | None = None) -> tuple[bytes, bool]:
        world = World(arm6, Arm6Env("pick-place"))
        behaviour = ArmBehaviour("noisy", "arm6/pick-place", 1, episode, sigma, switch_step)
        rng = behaviour.rng()
        world.reset(1, episode)
        while not world.over:
            state = world.step.observation["state"]
            world.apply(behaviour.act(state, rng, world.tick, *world.env_bounds))
        return world.step.observation["state"].tobytes(), world.success_tick is not None

    runs = [play(episode, 1.0) for episode in range(3)]
    assert runs[0] == play(0, 1.0)
    assert runs[0] != play(0, 1.5)
    assert any(success for _, success in runs)
    assert not play(0, 1.0, switch_step=30)[1]


def test_there_is_no_expert_for_another_task() -> None:
    with pytest.raises(ConfigError, match="no expert for 'stack'"):
        ArmBehaviour("expert", "arm6/stack", seed=0, episode=0)


def test_a_plan_begins_where_the_arm_is_and_is_held_at_its_end() -> None:
    env, expert = Arm6Env("reach"), Expert("reach")
    expert.reset(env.reset(seed=0, episode=0).observation["state"])
    start = env.reset(seed=0, episode=0).observation["joints"]
    assert np.abs(expert.act(0) - start).max() < 0.02
    assert expert.act(10_000).tobytes() == expert.act(len(expert) - 1).tobytes()


@pytest.mark.parametrize("kind", ["noisy", "random"])
def test_what_is_not_the_experts_own_keeps_to_its_limits_too(arm6: Contract, kind: Kind) -> None:
    world = World(arm6, Arm6Env("pick-place", horizon=100))
    behaviour = ArmBehaviour(kind, "arm6/pick-place", seed=2, episode=5, sigma=2.0, switch_step=60)
    rng = behaviour.rng()
    world.reset(2, 5)
    commands = [np.asarray(world.step.observation["joints"])] * 2
    while not world.over:
        state = world.step.observation["state"]
        commands.append(behaviour.act(state, rng, world.tick, *world.env_bounds))
        world.apply(commands[-1])
    stream = np.stack(commands)
    assert (np.abs(np.diff(stream, axis=0)) <= SPEED * 0.05 * (1 + 1e-9)).all()
    assert (np.abs(np.diff(stream, 2, axis=0)) <= GAIN * 0.05**2 * (1 + 1e-9)).all()
    assert (np.ptp(np.delete(stream, 3, axis=1), axis=0) > 0.01).all(), "joint 4 is not needed to point down"
