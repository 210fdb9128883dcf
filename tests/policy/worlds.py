"""A small world to imitate in: a point that is to go home, s′ = s + 0.4 a."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from policy.live import Live
from policy.normalise import ActionRange, Normaliser
from policy.transitions import Transitions

GAIN = 0.8
"""The expert acts a = −0.8 s."""


@dataclass(frozen=True)
class Point:
    """A step of the point's world."""

    position: NDArray[np.float64]
    terminated: bool = False
    truncated: bool = False
    reward: float = 0.0
    success: bool = False

    @property
    def observation(self) -> dict[str, NDArray[np.float64]]:
        return {"state": self.position}


@dataclass
class PointWorld:
    """The reward is −|s|², which no imitation looks at."""

    horizon: int = 12
    dim: int = 2
    steps: int = 0
    starts: list[tuple[int, int]] = field(default_factory=list)
    position: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    closed: bool = False

    def reset(self, *, seed: int, episode: int) -> Point:
        self.steps = 0
        self.starts.append((seed, episode))
        self.position = np.random.default_rng((seed, episode)).uniform(-1, 1, self.dim)
        return Point(self.position)

    def step(self, action: NDArray[np.float64]) -> Point:
        assert np.abs(action).max() <= 1
        self.steps += 1
        self.position = self.position + 0.4 * action
        cost = float(np.square(self.position).sum())
        return Point(self.position, truncated=self.steps >= self.horizon, reward=-cost, success=cost < 0.01)

    def close(self) -> None:
        self.closed = True


class TinyWorld(PointWorld):
    """The simulation that the tiny robot's contract names: three numbers to see, two to say."""

    def __init__(self, name: str, *, horizon: int) -> None:
        assert name == "tiny/home"
        super().__init__(horizon=horizon, dim=3)

    def step(self, action: NDArray[np.float64]) -> Point:
        return super().step(np.append(action, 0.0))


def live(world: PointWorld) -> Live:
    """The world as a learner sees it, without any scaling."""
    size = world.dim
    normaliser = Normaliser(np.zeros(size), np.ones(size))
    return Live(world, normaliser, ActionRange(-np.ones(2), np.ones(2)), ("state",))


def expert_rows(episodes: int, world: PointWorld) -> Transitions:
    """Episodes of the expert."""
    before, after, actions = [], [], []
    for episode in range(episodes):
        step = world.reset(seed=100, episode=episode)
        while not step.truncated:
            actions.append(-GAIN * step.position)
            before.append(step.position)
            step = world.step(actions[-1])
            after.append(step.position)
    s, a, s_next = (torch.tensor(np.array(x), dtype=torch.float32) for x in (before, actions, after))
    zeros = torch.zeros(len(a))
    return Transitions(s, a, zeros, s_next, zeros, zeros)
