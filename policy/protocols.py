"""What learning asks of the world outside `policy`. The front door and the benches fill these protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from policy.observations import ObservationSpace
from policy.training import Learner, Metrics
from policy.transitions import Experts, Transitions

Observation = Mapping[str, NDArray[Any]]
"""One array per stream of the contract, in the contract's units, without a batch axis."""


class Step(Protocol):
    """What an environment returns. `terminated` ends the task, `truncated` only the episode."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class Env(Protocol):
    """A live environment: `sim.env.Env` without its pictures and its spec."""

    def reset(self, *, seed: int, episode: int) -> Step:
        """Start an episode; `seed` and `episode` alone fix it."""
        ...

    def step(self, action: NDArray[np.float64]) -> Step:
        """Advance one tick with an action vector of the contract, shape (dim,)."""
        ...


class MakeEnv(Protocol):
    """Makes the simulation that a contract names."""

    def __call__(self, name: str, *, horizon: int) -> Env:
        """The environment `name` with its training goals; an episode is truncated after `horizon` steps."""
        ...


class RewardFn(Protocol):
    """A reward that is computed while learning, as a fitted reward model does."""

    def __call__(self, observations: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Rewards (N,) of the frames that were reached; each stream is stacked along a first axis of N."""
        ...


class Act(Protocol):
    """A policy as an evaluation sees it: deterministic, in the contract's units, inside its bounds."""

    def __call__(self, observation: Observation) -> NDArray[np.float64]:
        """The action (dim,) for one observation."""
        ...


class Evaluate(Protocol):
    """Judges the policy while it trains, for example with rollouts in simulation."""

    def __call__(self, step: int, act: Act) -> Mapping[str, float]:
        """Figures to log after `step` gradient steps. It must not depend on how training was resumed."""
        ...


class Judge(Evaluate, Protocol):
    """Judges with something that has to be let go of."""

    def close(self) -> None:
        """Let go of it."""
        ...


class MakeJudge(Protocol):
    """Makes what tries a policy in simulation; `sim.judge.Judge` is one."""

    def __call__(
        self,
        env: str,
        *,
        contract: Path,
        streams: Sequence[str],
        episodes: int,
        seed: int,
        horizon: int | None,
        films: Path | None,
        camera: str,
    ) -> Judge:
        """A judge on `episodes` evaluation goals of `horizon` steps (None: the environment's own); `contract`
        is a file, `streams` what the policy reads, `films` a folder."""
        ...


class PolicyLearner(Learner[Transitions], Protocol):
    """A learner that has a policy to export."""

    @property
    def policy(self) -> nn.Module:
        """Observations of B rows to actions (B, chunk · action_dim) in [-1, 1]."""
        ...

    def validate(self, batch: Transitions) -> Metrics:
        """The losses on held-out transitions, without a gradient step."""
        ...


class AlgorithmConfig(Protocol):
    """The configuration of one algorithm: a frozen dataclass that builds its learner."""

    @property
    def name(self) -> str:
        """Short name, as on the command line and in the manifest."""
        ...

    @property
    def uses_rewards(self) -> bool:
        """False for an algorithm that learns from recordings without any reward."""
        ...

    @property
    def experts(self) -> Experts:
        """What it wants of the episodes that are named an expert's."""
        ...

    def build(
        self, observation: int | ObservationSpace, action_dim: int, device: torch.device
    ) -> PolicyLearner:
        """A learner with fresh weights drawn from torch's global generator."""
        ...


__all__ = [
    "Act",
    "AlgorithmConfig",
    "Env",
    "Evaluate",
    "Judge",
    "MakeEnv",
    "MakeJudge",
    "Observation",
    "PolicyLearner",
    "RewardFn",
    "Step",
]
