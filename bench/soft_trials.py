"""Policies, chance and the script on the same openings of a soft task, several at a time.

What counts is the last step, as in SoftGym: a rope that was straight and is not any more has not been
straightened. Success at any step stands beside it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.soft_tasks import RANDOM
from sim.env import Split

SEED = 0
"""Of the openings; who has been recorded or tried where is told apart by the numbers of episodes."""


@dataclass(frozen=True)
class Trial:
    """One episode."""

    success: bool
    """The task is done at the last step."""
    ever: bool
    """It was at some step."""
    normalized: float
    """Normalised performance at the last step, as SoftGym defines it for the task."""
    fault: str | None = None
    """Why control stopped the robot, if it did; then the episode ends there."""


@dataclass(frozen=True)
class Openings:
    """Which openings to try."""

    task: str
    """As in SoftGym's registry."""
    seed: int
    """See `Env.reset`."""
    episodes: tuple[int, ...]
    """Numbers of the openings."""
    split: Split
    """Which share of the openings they are of."""


def try_all(
    bundles: Mapping[str, Path],
    actors: Sequence[str],
    contract: Path,
    openings: Openings,
    *,
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, list[dict[str, Any]]]:
    """Try each bundle, and each of `actors`, on all openings.

    Returns:
        name -> one `Trial` per opening, as a dict, in order.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    context = multiprocessing.get_context("spawn")
    total = len(bundles) + len(actors)
    progress(0, total)
    with ProcessPoolExecutor(min(workers, total), mp_context=context) as pool:
        waiting = {
            pool.submit(try_bundle, bundle, contract, openings): name for name, bundle in bundles.items()
        }
        waiting |= {pool.submit(try_actor, name, openings): name for name in actors}
        for done, future in enumerate(as_completed(waiting), start=1):
            results[waiting[future]] = [asdict(trial) for trial in future.result()]
            progress(done, total)
    return results


def try_bundle(bundle: Path, contract: Path, openings: Openings) -> list[Trial]:
    """A bundle, through alignment, limits and control as on the robot; one trial per opening."""
    from episodes.contract import load_contract
    from policy.runtime.bundle import Bundle
    from policy.runtime.infer import Policy
    from sim.closed_loop import evaluate
    from sim.softgym.env import SoftGymEnv

    robot = load_contract(contract)
    policy = Policy(Bundle.load(bundle, robot_contract=robot))
    env = SoftGymEnv(openings.task, split=openings.split)
    trials = []
    try:
        for number in openings.episodes:
            (result,) = evaluate(env, policy, robot, openings.seed, [number])
            score = env.score
            trials.append(Trial(bool(score.success), result.success, float(score.normalized), result.fault))
    finally:
        env.close()
    return trials


def try_actor(kind: str, openings: Openings) -> list[Trial]:
    """Chance (`RANDOM`), else the script; one trial per opening."""
    from sim.behaviours import acts
    from sim.softgym.env import SoftGymEnv

    env = SoftGymEnv(openings.task, split=openings.split)
    lower, upper = env.spec.action_lower, env.spec.action_upper
    trials = []
    try:
        for number in openings.episodes:
            actor = acts(env.spec.name, "random" if kind == RANDOM else "expert", openings.seed, number)
            rng = actor.rng()
            step = env.reset(seed=openings.seed, episode=number)
            ever, taken = False, 0
            while not (step.terminated or step.truncated):
                step = env.step(actor.act(step.observation["state"], rng, taken, lower, upper))
                ever, taken = ever or step.success, taken + 1
            trials.append(Trial(step.success, ever, float(env.score.normalized)))
    finally:
        env.close()
    return trials
