"""Who acts while data is collected: MetaWorld's scripted policy, the same with noise, or chance.

Everything is a function of (seed, episode): an episode can be recorded anywhere (through ROS or in process)
and in any order, and comes out the same.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, did_you_mean

Kind = Literal["expert", "noisy", "random"]

_ACTION_DIM = 4
_PARAMETERS, _ACTIONS, _ORDER = 0, 1, 2
"""Last word of the seed of each random stream, so that they are independent."""


@dataclass(frozen=True)
class Mix:
    """Shares of behaviours in a collection; they sum to 1."""

    expert: float = 0.04
    """The scripted policy as it is."""
    noisy: float = 0.48
    """The scripted policy with normal noise of a sigma drawn per episode."""
    random: float = 0.48
    """Uniform actions."""
    sigma_lower: float = 1.0
    """Smallest noise, in units of the action."""
    sigma_upper: float = 2.5
    """Largest noise, in units of the action."""
    turning: float = 0.5
    """Share of the noisy ones that turn random at some step."""

    def __post_init__(self) -> None:
        """Raises ConfigError for shares that are none or do not sum to 1, or an empty range of sigma."""
        shares = (self.expert, self.noisy, self.random)
        if min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-6:
            raise ConfigError(
                f"mix: expert {self.expert:g}, noisy {self.noisy:g} and random {self.random:g} must be 0 "
                "or more and sum to 1."
            )
        if not 0.0 <= self.sigma_lower <= self.sigma_upper:
            raise ConfigError(
                f"mix: sigma_lower {self.sigma_lower:g} and sigma_upper {self.sigma_upper:g}: write 0 <= "
                "lower <= upper."
            )
        if not 0.0 <= self.turning <= 1.0:
            raise ConfigError(f"mix: turning {self.turning:g}: write a share, 0 to 1.")

    def counts(self, episodes: int) -> tuple[int, int, int]:
        """How many expert, noisy and random ones; largest remainders are rounded up, experts first."""
        exact = [share * episodes for share in (self.expert, self.noisy, self.random)]
        counts = [math.floor(value + 1e-9) for value in exact]
        by_remainder = sorted(range(3), key=lambda i: (-round(exact[i] - counts[i], 9), i))
        for i in by_remainder[: episodes - sum(counts)]:
            counts[i] += 1
        return counts[0], counts[1], counts[2]


def in_words(kind: Kind, sigma: float, switch_step: int | None) -> str:
    """Who acts, for people and file attributes: `noisy sigma=1.3200 random-from=80`."""
    words: list[str] = [kind]
    if kind == "noisy":
        words.append(f"sigma={sigma:.4f}")
    if switch_step is not None:
        words.append(f"random-from={switch_step}")
    return " ".join(words)


@dataclass(frozen=True)
class Behaviour:
    """Who acts in one episode."""

    kind: Kind
    """expert, noisy or random."""
    task: str
    """MetaWorld's task name, for example drawer-open-v3."""
    seed: int
    """Seed of the collection."""
    episode: int
    """Index of the episode in it."""
    sigma: float = 0.0
    """Standard deviation of the noise (noisy only)."""
    switch_step: int | None = None
    """Step from which actions are random (some of the noisy ones)."""

    @property
    def label(self) -> str:
        """For people and file attributes, for example `noisy sigma=1.32 random-from=80`."""
        return in_words(self.kind, self.sigma, self.switch_step)

    def rng(self) -> np.random.Generator:
        """The generator to hand to `act`, new for each run of the episode."""
        return np.random.default_rng([self.seed, self.episode, _ACTIONS])

    def act(
        self,
        observation_state: NDArray[np.float64],
        rng: np.random.Generator,
        step: int,
        lower: NDArray[np.float64] | float = -1.0,
        upper: NDArray[np.float64] | float = 1.0,
    ) -> NDArray[np.float64]:
        """The action of step `step`.

        Noise is added to the expert's own action before clipping: where the script pulls hard (three times
        the box) it stays visible through the noise, which is what makes a few of the noisy episodes succeed.

        Args:
            observation_state: (39,) MetaWorld's observation.
            rng: from `rng()`, used for every step of the episode in turn.
            step: counts from 0.
            lower: lower bounds of the contract, in the order dx, dy, dz, effort.
            upper: upper bounds.

        Returns:
            (4,) float64 inside the bounds.
        """
        if self.kind == "random" or (self.switch_step is not None and step >= self.switch_step):
            return rng.uniform(lower, upper, size=_ACTION_DIM)
        action = scripted_action(self.task, observation_state)
        if self.kind == "noisy":
            action = action + self.sigma * rng.standard_normal(_ACTION_DIM)
        return np.clip(action, lower, upper)


def scripted_action(task: str, observation_state: NDArray[np.float64]) -> NDArray[np.float64]:
    """What MetaWorld's script for `task` does, (4,), not clipped: up to several times the box."""
    with warnings.catch_warnings():
        # The scripts warn about actions beyond the box; clipping is our part.
        warnings.filterwarnings("ignore", message="Constant")
        return np.asarray(_script(task).get_action(np.asarray(observation_state)), dtype=np.float64)


@functools.lru_cache(maxsize=64)
def _script(task: str) -> Any:
    from sim.gl import load_mujoco

    load_mujoco()
    from metaworld.policies import ENV_POLICY_MAP

    if task not in ENV_POLICY_MAP:
        raise ConfigError(
            f"MetaWorld has no scripted policy for {task!r}: {did_you_mean(task, ENV_POLICY_MAP)}"
        )
    script: type[Any] = ENV_POLICY_MAP[task]
    return script()


def assignment(
    seed: int, episodes: int, mix: Mix | None = None, *, task: str = "drawer-open-v3", horizon: int = 150
) -> list[Behaviour]:
    """Who acts in each of `episodes` episodes: the experts first (0, 1, ...), the others in shuffled order.

    Exactly the share `mix.turning` of the noisy ones, rounded down, turns random, at a step drawn uniformly.

    Raises:
        ConfigError: a negative number of episodes, or a horizon below 1.
    """
    if episodes < 0 or horizon < 1:
        raise ConfigError(f"episodes {episodes} and horizon {horizon}: write 0 or more, and 1 or more.")
    mix = mix or Mix()
    experts, noisy, _ = mix.counts(episodes)
    order = np.random.default_rng([seed, episodes, _ORDER]).permutation(np.arange(experts, episodes))
    turning = math.floor(noisy * mix.turning + 1e-9)
    is_noisy, turns = set(order[:noisy].tolist()), set(order[:turning].tolist())
    behaviours = []
    for episode in range(episodes):
        rng = np.random.default_rng([seed, episode, _PARAMETERS])
        sigma, switch_step = float(rng.uniform(mix.sigma_lower, mix.sigma_upper)), int(rng.integers(horizon))
        if episode < experts:
            behaviours.append(Behaviour("expert", task, seed, episode))
        elif episode in is_noisy:
            switch = switch_step if episode in turns else None
            behaviours.append(Behaviour("noisy", task, seed, episode, sigma, switch))
        else:
            behaviours.append(Behaviour("random", task, seed, episode))
    return behaviours
