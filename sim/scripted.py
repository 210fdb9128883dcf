"""Who acts in a task whose expert is a function of what it observes: the expert, the same with noise, chance.

Everything is a function of (seed, episode), as in `sim.experts`. The noise is in units of the action, which
lies in [-1, 1] in all of these tasks; it falls on the flags by which a picker holds too, so that a noisy
expert lets go now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.experts import Kind, in_words

Vector = NDArray[np.float64]
Script = Callable[[Vector], Vector]
"""From the observation 'state' to an action in the environment's bounds; it may keep count of an episode."""


@dataclass
class ScriptedBehaviour:
    """Who acts in one episode; `sim.behaviours.Acts` says how it is used."""

    kind: Kind
    """expert, noisy or random."""
    environment: str
    """As given to `make_env`."""
    seed: int
    """Seed of the collection."""
    episode: int
    """Index of the episode in it."""
    script: Callable[[], Script] | None = field(repr=False, compare=False)
    """Makes a new expert for an episode; None where there is none, and only chance can act."""
    sigma: float = 0.0
    """Standard deviation of the noise (noisy only)."""
    switch_step: int | None = None
    """Step from which chance acts (some of the noisy ones)."""
    _expert: Script | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConfigError where an expert is wanted and there is none."""
        if self.kind != "random" and self.script is None:
            raise ConfigError(
                f"environment {self.environment!r} has no scripted expert: collect by chance alone "
                "(--mix.expert 0 --mix.noisy 0 --mix.random 1), or roll out a policy."
            )

    @property
    def label(self) -> str:
        """For people and file attributes, for example `noisy sigma=1.32 random-from=80`."""
        return in_words(self.kind, self.sigma, self.switch_step)

    def rng(self) -> np.random.Generator:
        """The generator to hand to `act`, new for each run of the episode."""
        return np.random.default_rng([self.seed, self.episode, 1])

    def act(self, state: Vector, rng: np.random.Generator, step: int, lower: Vector, upper: Vector) -> Vector:
        """The action (dim,) of step `step`, counted from 0 and called for every step, inside the bounds."""
        if step == 0 and self.script is not None:
            self._expert = self.script()
        by_chance = self.switch_step is not None and step >= self.switch_step
        if self.kind == "random" or by_chance or self._expert is None:
            return rng.uniform(lower, upper)
        action = np.asarray(self._expert(state), dtype=np.float64)
        if self.kind == "noisy":
            action = action + self.sigma * rng.standard_normal(len(action))
        return np.clip(action, lower, upper)
