"""Who acts in an episode, whatever the simulator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.arm6.behaviour import ArmBehaviour
from sim.arm6.env import PREFIX as ARM6
from sim.arm6.env import STATE_NAMES as ARM6_STATE
from sim.arm6.model import ACTION_NAMES as ARM6_ACTION
from sim.experts import Behaviour, Kind, Mix, assignment
from sim.metaworld_env import ACTION_NAMES as METAWORLD_ACTION
from sim.metaworld_env import PREFIX as METAWORLD
from sim.metaworld_env import STATE_NAMES as METAWORLD_STATE
from sim.scripted import Script, ScriptedBehaviour
from sim.softgym.task import PREFIX as SOFTGYM

Vector = NDArray[np.float64]


class Acts(Protocol):
    """Acts in one episode, as a function of (seed, episode) and what is observed."""

    @property
    def kind(self) -> Kind:
        """expert, noisy or random."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the goals and of the noise."""
        ...

    @property
    def episode(self) -> int:
        """Number of the episode."""
        ...

    @property
    def label(self) -> str:
        """For people and file attributes."""
        ...

    def rng(self) -> np.random.Generator:
        """The generator to hand to `act`, new for each run of the episode."""
        ...

    def act(
        self, state: Vector, rng: np.random.Generator, step: int, lower: Vector, upper: Vector, /
    ) -> Vector:
        """The action (dim,) of step `step`, in the environment's order and inside the bounds. `state` is its
        own observation 'state'; call it for every step of an episode in turn."""
        ...


@dataclass(frozen=True)
class Family:
    """What the script of an environment reads and writes."""

    prefix: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]


GYM = ("gymnasium/", "vlmrm/", "rl-vlm-f/")
"""Gymnasium's; of these, the classic control tasks have scripted experts."""
MENAGERIE = "menagerie/"
"""The user's own models; the expert of all of them asks for the goal."""
REAL_SOFTGYM = "softgym/"
"""Real SoftGym's, whose observations and actions are those of the equivalents, and so are the experts."""
MANISKILL = "maniskill/"
"""The user's ManiSkill; it brings no scripted expert."""
PREFIXES = (METAWORLD, ARM6, SOFTGYM, *GYM, MENAGERIE, REAL_SOFTGYM, MANISKILL)
"""What the names of all environments begin with that can be collected from."""


def family_of(environment: str) -> Family:
    """What the scripted expert of an environment reads and writes.

    Raises:
        ConfigError: there is none.
    """
    if environment.startswith(METAWORLD):
        return Family(METAWORLD, METAWORLD_STATE, METAWORLD_ACTION)
    if environment.startswith(ARM6):
        return Family(ARM6, ARM6_STATE, ARM6_ACTION)
    if environment.startswith((SOFTGYM, REAL_SOFTGYM)):
        # numba and scipy take seconds to load: only for whom they concern.
        from sim.softgym.experts import expert as softgym_expert
        from sim.softgym.registry import make_task

        family, _, task = environment.partition("/")
        softgym_expert(task)
        made = make_task(task).task
        return Family(f"{family}/", made.state_names, made.actions.names)
    known = " or ".join(f"{prefix}TASK" for prefix in PREFIXES)
    raise ConfigError(f"environment {environment!r} has no scripted expert: it must be {known}.")


def expert(environment: str, seed: int, episode: int) -> Acts:
    """The scripted expert of `environment`. Raises ConfigError where there is none."""
    return acts(environment, "expert", seed, episode)


def acts(
    environment: str,
    kind: Kind,
    seed: int,
    episode: int,
    *,
    sigma: float = 0.0,
    switch_step: int | None = None,
) -> Acts:
    """Who acts in one episode of `environment`.

    Raises:
        ConfigError: an expert is wanted and there is none, or there is no such environment.
    """
    if environment.startswith(METAWORLD):
        task = environment.removeprefix(METAWORLD)
        return Behaviour(kind, task, seed, episode, sigma, switch_step)
    if environment.startswith(ARM6):
        return ArmBehaviour(kind, environment, seed, episode, sigma, switch_step)
    script = _script(environment)
    return ScriptedBehaviour(kind, environment, seed, episode, script, sigma, switch_step)


def assigned(environment: str, seed: int, episodes: int, mix: Mix, horizon: int) -> list[Acts]:
    """Who acts in each of `episodes` episodes; see `sim.experts.assignment`.

    Raises:
        ConfigError: the mix holds experts and the environment has none, or there is no such environment.
    """
    return [
        acts(environment, b.kind, seed, b.episode, sigma=b.sigma, switch_step=b.switch_step)
        for b in assignment(seed, episodes, mix, horizon=horizon)
    ]


def _script(environment: str) -> Callable[[], Script] | None:
    """Makes the experts of an environment; None where it has none."""
    if environment.startswith((SOFTGYM, REAL_SOFTGYM)):
        from sim.softgym.experts import EXPERTS

        return EXPERTS.get(environment.partition("/")[2])
    if environment.startswith(MANISKILL):
        return None
    if environment.startswith(GYM):
        from sim.gym.experts import EXPERTS as GYM_EXPERTS

        return GYM_EXPERTS.get(environment)
    if environment.startswith(MENAGERIE):
        from sim.menagerie.env import goal_expert

        return functools.partial(goal_expert, environment)
    known = " or ".join(f"{prefix}TASK" for prefix in PREFIXES)
    raise ConfigError(f"environment {environment!r} is unknown: it must be {known}.")
