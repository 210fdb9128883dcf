"""One episode from reset to horizon, in process, through the same writer that the recorder node uses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from episodes.contract import Source
from episodes.errors import EpisodeError
from episodes.writer import HORIZON, TERMINATED, EpisodeWriter, ExtraStream
from sim.behaviours import Acts
from sim.env import Split
from sim.randomise import true_observation
from sim.world import TRUTH_NAMES, TRUTH_STREAM, World

TRUTH = ExtraStream(TRUTH_STREAM, (len(TRUTH_NAMES),), "float64", TRUTH_NAMES)
"""The stream of true reward and success; sample k belongs to the frame at t_{k+1}."""


def episode_id(seed: int, episode: int) -> str:
    """Name of a collected episode, the same whether it was recorded in process or through ROS."""
    return f"s{seed}-e{episode:04d}"


def record_episode(
    world: World,
    behaviour: Acts,
    writer: EpisodeWriter,
    split: Split = "train",
    randomise: Mapping[str, float] | None = None,
) -> tuple[Path, bool]:
    """Run and record a whole episode: T commands, T+1 samples of every stream of the contract, T of the
    truth, and what it takes to make the episode again: environment, split, seed and number.

    In simulation all is received when it is stamped. An episode that does not come to its end is discarded.

    Returns:
        The file, and whether the task succeeded at any step.
    """
    rng = behaviour.rng()
    lower, upper = world.env_bounds
    with ExitStack() as undo:
        undo.callback(_discard, writer)
        world.reset(behaviour.seed, behaviour.episode)
        writer.event(
            "collect",
            {
                "environment": world.env.spec.name,
                "source": world.env.spec.source,
                "behaviour": behaviour.label,
                "seed": behaviour.seed,
                "episode": behaviour.episode,
                "split": split,
                "randomise": dict(randomise or {}),
            },
            world.stamp_ns,
        )
        while True:
            now_ns = world.stamp_ns
            if world.tick > 0:
                writer.append(TRUTH_STREAM, world.truth, now_ns, now_ns)
            for name, value in world.samples().items():
                writer.append(name, value, now_ns, now_ns)
            if world.over:
                break
            state = true_observation(world.env, world.step)["state"]
            action = world.in_contract_order(behaviour.act(state, rng, world.tick, lower, upper))
            writer.append_command(action, now_ns, now_ns, now_ns, Source.SCRIPT)
            world.apply(action)
        success = world.success_tick is not None
        path = writer.finish(
            outcome="success" if success else "failure",
            outcome_source="sim",
            termination_reason=TERMINATED if world.step.terminated else HORIZON,
        )
        undo.pop_all()
    return path, success


def _discard(writer: EpisodeWriter) -> None:
    try:
        writer.discard()
    except EpisodeError:
        # The writer has closed the file itself (a full disk); it says so in the error that is on its way.
        return
