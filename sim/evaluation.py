"""Results of evaluation episodes, and the light evaluation that training uses.

The light way takes any function from a batch of observations to a batch of actions and runs a few episodes
side by side; it skips alignment, safety and ONNX, which `sim.rollout` runs as on the robot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, ContractError
from sim.env import Env, Split
from sim.make import make_env
from sim.statistics import Interval, wilson

BatchPolicy = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.floating[Any]]]
"""Observations {stream: (B, ...)} to actions (B, dim), in the environment's order of entries."""


def each(act: Callable[[Mapping[str, NDArray[Any]]], NDArray[np.floating[Any]]]) -> BatchPolicy:
    """A batch policy from a function of one observation {stream: (...)} to one action (dim,)."""

    def batch(observations: Mapping[str, NDArray[Any]]) -> NDArray[np.floating[Any]]:
        size = len(next(iter(observations.values())))
        return np.stack([act({name: rows[i] for name, rows in observations.items()}) for i in range(size)])

    return batch


@dataclass(frozen=True)
class EpisodeResult:
    """What one evaluation episode came to."""

    seed: int
    """Seed of the goals."""
    episode: int
    """Index of the goal."""
    success: bool
    """Whether the task succeeded at any step within the horizon."""
    success_step: int | None
    """The first step after which it had (1 is the first step)."""
    return_: float
    """Sum of the true rewards."""
    steps: int
    """Steps taken."""
    clamps: Mapping[str, int]
    """How many entries each limit clamped, as 'channel/rule'; empty where no limits were run."""
    fault: str | None = None
    """Why control stopped the robot, if it did."""


@dataclass(frozen=True)
class Summary:
    """Evaluation episodes taken together."""

    episodes: int
    successes: int
    success: Interval
    """Success rate with its Wilson interval."""
    mean_return: float
    median_success_step: float | None
    """Over the successful ones."""
    faults: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "episodes": self.episodes,
            "successes": self.successes,
            "success_rate": self.success.estimate,
            "success_interval": [self.success.lower, self.success.upper],
            "confidence": self.success.confidence,
            "mean_return": self.mean_return,
            "median_success_step": self.median_success_step,
            "faults": self.faults,
        }


def summarise(results: Sequence[EpisodeResult]) -> Summary:
    """Success rate, return and time to success.

    Raises:
        ConfigError: there are no results.
    """
    if not results:
        raise ConfigError("there are no evaluation episodes to sum up: write --episodes 1 or more.")
    steps = [r.success_step for r in results if r.success_step is not None]
    successes = sum(r.success for r in results)
    return Summary(
        episodes=len(results),
        successes=successes,
        success=wilson(successes, len(results)),
        mean_return=math.fsum(r.return_ for r in results) / len(results),
        median_success_step=float(np.median(steps)) if steps else None,
        faults=sum(r.fault is not None for r in results),
    )


class Evaluator:
    """Evaluates plain functions on the same goals again and again, with environments that are kept.

    Several episodes run side by side, so that the policy is called once for all of them. Results do not
    depend on how many, as long as the policy treats the rows of a batch alike. Close it, or use it as a
    context manager.

    Args:
        name: environment, for example metaworld/drawer-open-v3.
        lanes: episodes side by side; each lane holds an environment, which takes 0.2 s to make.
        horizon: steps per episode; None for the environment's own.
        split: which goals.
    """

    def __init__(
        self, name: str, *, lanes: int = 4, horizon: int | None = None, split: Split = "evaluation"
    ) -> None:
        if lanes < 1:
            raise ConfigError(f"lanes {lanes} is out of range: write 1 or more.")
        self._name, self._lanes, self._horizon, self._split = name, lanes, horizon, split
        self._envs: list[Env] = []

    def evaluate(self, policy: BatchPolicy, seed: int, episodes: int | Sequence[int]) -> list[EpisodeResult]:
        """Run every episode to its end, in order of `episodes`.

        Raises:
            ContractError: the policy returns the wrong shape or a non-finite action.
        """
        waiting = list(reversed(range(episodes) if isinstance(episodes, int) else list(episodes)))
        order = waiting[::-1]
        while len(self._envs) < min(self._lanes, len(waiting)):
            self._envs.append(make_env(self._name, horizon=self._horizon, split=self._split))
        results: dict[int, EpisodeResult] = {}
        running = [_Lane(env, seed, waiting.pop()) for env in self._envs[: len(order)]]
        while running:
            streams = running[0].observation
            batch = {name: np.stack([lane.observation[name] for lane in running]) for name in streams}
            actions = np.asarray(policy(batch), dtype=np.float64)
            dim = len(running[0].env.spec.action_lower)
            if actions.shape != (len(running), dim):
                raise ContractError(
                    f"the policy returned actions of shape {actions.shape} for a batch of {len(running)}; "
                    f"{self._name} takes ({len(running)}, {dim})."
                )
            for lane, action in zip(list(running), actions, strict=True):
                if not lane.step(action):
                    continue
                results[lane.episode] = lane.result()
                running.remove(lane)
                if waiting:
                    running.append(_Lane(lane.env, seed, waiting.pop()))
        return [results[episode] for episode in order]

    def close(self) -> None:
        """Free the environments."""
        for env in self._envs:
            env.close()
        self._envs.clear()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Lane:
    """One episode under way."""

    def __init__(self, env: Env, seed: int, episode: int) -> None:
        self.env, self.seed, self.episode = env, seed, episode
        self.observation = env.reset(seed=seed, episode=episode).observation
        self._steps, self._return = 0, 0.0
        self._success_step: int | None = None

    def step(self, action: NDArray[np.float64]) -> bool:
        """Take a step; whether the episode is over."""
        step = self.env.step(action)
        self.observation = step.observation
        self._steps += 1
        self._return += step.reward
        if step.success and self._success_step is None:
            self._success_step = self._steps
        return step.terminated or step.truncated

    def result(self) -> EpisodeResult:
        return EpisodeResult(
            seed=self.seed,
            episode=self.episode,
            success=self._success_step is not None,
            success_step=self._success_step,
            return_=self._return,
            steps=self._steps,
            clamps={},
        )
