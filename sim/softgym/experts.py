"""Scripted experts: what to do as a function of the key point observations of an episode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, did_you_mean
from sim.softgym.cloth import FINE_M
from sim.softgym.moves import PLACE_M
from sim.softgym.pass_water import FARTHEST_M, TARGET_M
from sim.softgym.pickers import DELTA_M, THRESHOLD_M
from sim.softgym.rope import LENGTH_M, RADIUS_M
from sim.softgym.task import STEP_S

Vector = NDArray[np.float64]
Expert = Callable[[Vector], Vector]
"""From the key point observation to an action in [-1, 1]."""

_OVER_CORNER = np.array([0.0, 0.045, 0.0])
FOLDED_M = 0.012
"""Height of the upper layer over the lower one."""
_ABOVE = np.array([0.0, 0.02, 0.0])
_FASTEST_M_S, _GAIN_M_S2 = 0.4, 0.3
"""Of a glass of water that is not to spill."""
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
    return _moves(ways, near.all() * np.ones(2), repeat)


def rope_flatten_easy(state: Vector) -> Vector:
    """Pull the ends apart along the line through them."""
    ends = state[:30].reshape(10, 3)[[0, 9]]
    return _moves(_apart(ends) - ends, np.ones(2), 6)


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


def _moves(ways: Vector, flags: Vector, repeat: int) -> Vector:
    """Ways (n, 3) in m as an action; each picker keeps to its line."""
    steps = ways / repeat
    steps /= np.maximum(np.abs(steps).max(axis=1, keepdims=True) / DELTA_M, 1.0)
    return np.concatenate([steps / DELTA_M, 2.0 * flags[:, None] - 1.0], axis=1).ravel()


class ClothFoldExpert:
    """Brings the pickers to the first column's corners and these along flat arcs onto the last column's.

    On a half circle the cloth would stay taut and its crease be dragged beyond the middle: the fold then ends
    at a normalised performance of 0.76, along an arc of 0.7 of that height at 0.93.

    Args:
        repeat: simulator steps of a step.
        steps: environment steps of the way over.
        rise: height of the arc over that of a half circle.
    """

    def __init__(self, repeat: int = 8, steps: int = 60, rise: float = 0.7) -> None:
        self._repeat, self._steps, self._rise = repeat, steps, rise
        self._way: list[Vector] = []
        self._order = np.array([0, 1])

    def __call__(self, state: Vector) -> Vector:
        """The next action of an episode; a new expert for each."""
        corners, pickers = state[:12].reshape(4, 3), state[12:18].reshape(2, 3)
        if not self._way:
            order = self._nearer(corners[:2], pickers)
            own = corners[order]
            near = np.linalg.norm(pickers - own, axis=1) < _HELD_SHARE * (THRESHOLD_M + 0.05 + FINE_M)
            if not near.all():
                return _moves(own + _OVER_CORNER - pickers, np.zeros(2), self._repeat)
            self._order = order
            self._way = self._plan(corners[:2][order], corners[2:][order])
        at = corners[:2][self._order]
        if len(self._way) == 1:
            return _moves(np.array([[0.0, 0.02, 0.0]] * 2), np.zeros(2), self._repeat)
        return _moves(self._way.pop(0) - at, np.ones(2), self._repeat)

    @staticmethod
    def _nearer(corners: Vector, pickers: Vector) -> Vector:
        straight = np.linalg.norm(pickers - corners, axis=1).sum()
        crossed = np.linalg.norm(pickers - corners[::-1], axis=1).sum()
        return np.array([0, 1]) if straight <= crossed else np.array([1, 0])

    def _plan(self, begin: Vector, end: Vector) -> list[Vector]:
        middle, half = (begin + end) / 2.0, (end - begin) / 2.0
        radius = self._rise * np.linalg.norm(half, axis=1, keepdims=True)
        up = np.array([[0.0, 1.0, 0.0]])
        share = np.linspace(0.0, 1.0, self._steps + 1)[1:]
        turns = np.pi * (10.0 * share**3 - 15.0 * share**4 + 6.0 * share**5)
        over = up * FOLDED_M * share[:, None, None]
        points = middle - half * np.cos(turns)[:, None, None] + radius * up * np.sin(turns)[:, None, None]
        return [*(points + over), points[-1]]


def cloth_fold_diagonal(state: Vector) -> Vector:
    """Put the held corner on the opposite one."""
    return np.asarray(state[:108].reshape(36, 3)[-1, [0, 2]] / PLACE_M)


def pass_water(state: Vector) -> Vector:
    """Bring the glass to its place with a speed that grows and shrinks gently.

    The speed is the least of what accelerating from the start, the top speed and braking before the target
    leave; the start is where SoftGym's glass begins, at x = 0.
    """
    gone, left = abs(float(state[0])), TARGET_M - float(state[0])
    speed = min(
        _FASTEST_M_S, np.sqrt(2.0 * _GAIN_M_S2 * (gone + 0.002)), np.sqrt(2.0 * _GAIN_M_S2 * abs(left))
    )
    way = np.sign(left) * min(speed * STEP_S, abs(left) / 8.0)
    return np.array([way / FARTHEST_M])


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
    "ClothFold": ClothFoldExpert,
    "ClothFoldDiagonal": lambda: cloth_fold_diagonal,
    "PassWater": lambda: pass_water,
}
