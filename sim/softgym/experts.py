"""Scripted experts: what to do as a function of the key point observations of an episode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, did_you_mean
from sim.softgym.cloth_experts import ClothDropExpert, ClothFoldExpert, cloth_fold_diagonal, moves
from sim.softgym.configuration_expert import RopeConfigurationExpert
from sim.softgym.flatten_expert import ClothFlattenExpert
from sim.softgym.pickers import THRESHOLD_M
from sim.softgym.rope import LENGTH_M, RADIUS_M
from sim.softgym.water_experts import pass_water, pour_water

Vector = NDArray[np.float64]
Expert = Callable[[Vector], Vector]
"""From the key point observation to an action in [-1, 1]."""

_ABOVE = np.array([0.0, 0.02, 0.0])
_HELD_SHARE = 0.9
"""A picker nearer to its particle than this share of its reach is taken to be able to hold it."""


def rope_flatten(state: Vector, repeat: int = 8) -> Vector:
    """Bring each picker to the end of the rope that is nearer for the two together, then pull the ends apart
    along the line through them until they are a rope's length apart."""
    ends = state[:30].reshape(10, 3)[[0, 9]]
    pickers = state[30:36].reshape(2, 3)
    straight = np.linalg.norm(pickers - ends, axis=1).sum()
    crossed = np.linalg.norm(pickers - ends[::-1], axis=1).sum()
    # Once it holds, a picker stays with its end: that pairing is then the nearer one.
    order = np.array([0, 1]) if straight <= crossed else np.array([1, 0])
    mine = ends[order]
    reach = _HELD_SHARE * (THRESHOLD_M + 0.02 + 0.025)
    near = np.linalg.norm(pickers - mine, axis=1) < reach
    ways = _apart(mine) - mine if near.all() else mine + _ABOVE - pickers
    return moves(ways, near.all() * np.ones(2), repeat)


def rope_flatten_easy(state: Vector) -> Vector:
    """Pull the ends apart along the line through them."""
    ends = state[:30].reshape(10, 3)[[0, 9]]
    return moves(_apart(ends) - ends, np.ones(2), 6)


def _apart(ends: Vector) -> Vector:
    """Where two ends (2, 3) are a rope's length apart on the line through them, about a centre near the
    origin."""
    way = ends[1] - ends[0]
    way[1] = 0.0
    length = np.linalg.norm(way)
    way = np.array([1.0, 0.0, 0.0]) if length < 1e-6 else way / length
    centre = np.clip(ends.mean(axis=0), -0.04, 0.04)
    centre[1] = RADIUS_M
    return centre + np.array([[-0.5], [0.5]]) * LENGTH_M * way


def expert(task: str) -> Expert:
    """A new scripted expert for one episode of a task.

    Raises:
        ConfigError: there is none.
    """
    if task not in EXPERTS:
        raise ConfigError(f"there is no scripted expert for {task!r}: {did_you_mean(task, EXPERTS)}")
    return EXPERTS[task]()


EXPERTS: dict[str, Callable[[], Expert]] = {
    "RopeFlatten": lambda: rope_flatten,
    "RopeFlattenEasy": lambda: rope_flatten_easy,
    "RopeConfiguration": RopeConfigurationExpert,
    "ClothFold": ClothFoldExpert,
    "ClothFold-full": ClothFoldExpert,
    "ClothFlatten": ClothFlattenExpert,
    "ClothFlatten-full": ClothFlattenExpert,
    "ClothDrop": ClothDropExpert,
    "ClothDrop-full": ClothDropExpert,
    "ClothFoldDiagonal": lambda: cloth_fold_diagonal,
    "PassWater": lambda: pass_water,
    "PassWater-full": lambda: pass_water,
    "PourWater": lambda: pour_water,
    "PourWater-full": lambda: pour_water,
}
