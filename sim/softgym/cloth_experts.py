"""Scripted experts of the cloth tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.softgym.cloth import ROOM
from sim.softgym.moves import PLACE_M
from sim.softgym.pickers import DELTA_M

Vector = NDArray[np.float64]

PICKER_M = 0.05
"""Radius of the pickers, and so the least height of their centres."""
_BEHIND_M = 0.036
"""How far behind its corner a picker grasps it: the corner then gets so much farther than the picker."""
_THERE_M = 0.004
_DROP_FROM_M = (0.45, 0.55)
"""Where the upper edge is let come to rest, x and y: as far forward and as low as the pickers go."""
_DROP_SLOW_M, _DROP_SNATCH_M = 0.08, 0.13
"""Ways in an environment step."""
_DROP_REST = 4
"""Environment steps."""
_CLEAR = np.array([[0.0, 0.02, 0.0]] * 2)


def moves(ways: Vector, flags: Vector, repeat: int) -> Vector:
    """Ways (n, 3) in m as an action; each picker keeps to its line."""
    steps = ways / repeat
    steps /= np.maximum(np.abs(steps).max(axis=1, keepdims=True) / DELTA_M, 1.0)
    return np.concatenate([steps / DELTA_M, 2.0 * flags[:, None] - 1.0], axis=1).ravel()


@dataclass(frozen=True)
class Arc:
    """How corners are brought over."""

    steps: int
    """Environment steps of the way."""
    rise: float
    """Height over that of a half circle: on a whole one the cloth stays taut and drags its crease along."""
    reach: float
    """Length over that of the half circle."""


_ARCS = ((0.15, Arc(40, 0.8, 1.0)), (0.33, Arc(20, 0.75, 1.05)), (np.inf, Arc(14, 0.72, 1.15)))
"""By how far (m) the way ends beyond the pickers' room, at most: what they cannot reach is thrown there."""


class ClothFoldExpert:
    """Brings the pickers to the first column's corners and these along arcs onto the last column's."""

    def __init__(self, repeat: int = 8) -> None:
        self._repeat = repeat
        self._order: Vector | None = None
        self._begin = self._end = np.zeros((2, 3))
        self._way: list[Vector] | None = None
        self._offset = np.zeros((2, 3))

    def __call__(self, state: Vector) -> Vector:
        """The next action of an episode; a new expert for each."""
        corners, pickers = state[:12].reshape(4, 3), state[12:18].reshape(2, 3)
        if self._order is None:
            self._order = _nearer(corners[:2], pickers)
            self._begin, self._end = corners[:2][self._order], corners[2:][self._order]
        own = corners[:2][self._order]
        if self._way is None:
            behind = own - _BEHIND_M * _level(self._end - own)
            behind[:, 1] = PICKER_M
            if np.abs(behind - pickers).max() > _THERE_M:
                return moves(behind - pickers, np.zeros(2), self._repeat)
            self._way, self._offset = self._plan(), pickers - own
            return moves(np.zeros((2, 3)), np.ones(2), self._repeat)
        if not self._way:
            return moves(_CLEAR, np.zeros(2), self._repeat)
        return moves(self._way.pop(0) + self._offset - pickers, np.ones(2), self._repeat)

    def _plan(self) -> list[Vector]:
        """Where the corners are after each step, the speed growing over the first third of the way."""
        begin, end = self._begin, self._end
        half = (np.array(ROOM[1]) - np.array(ROOM[0]))[[0, 2]] / 2.0 - PICKER_M
        beyond = (np.abs(end - begin.mean(axis=0))[:, [0, 2]] - half).max()
        arc = next(arc for most, arc in _ARCS if beyond <= most)
        t = np.arange(1, arc.steps + 1) / arc.steps
        turns = np.pi * np.where(t < 0.3, t**2 / 0.6, t - 0.15) / 0.85
        middle, way = (begin + end) / 2.0, (end - begin) / 2.0
        up = np.array([0.0, 1.0, 0.0]) * arc.rise * np.linalg.norm(way, axis=1, keepdims=True)
        over = (arc.reach - 1.0) * way
        return [middle + over - arc.reach * way * np.cos(a) + up * np.sin(a) for a in turns]


class ClothDropExpert:
    """Carries the hanging cloth forward to the end of its room and lets it come to rest there; then snatches
    its upper edge back, so that the lower one lags, and lets go: it comes down flat."""

    def __init__(self, repeat: int = 16) -> None:
        self._repeat = repeat
        self._waited = 0

    def __call__(self, state: Vector) -> Vector:
        """The next action of an episode; a new expert for each."""
        pickers = state[12:18].reshape(2, 3)
        if self._waited > _DROP_REST:
            return moves(np.zeros((2, 3)), np.zeros(2), self._repeat)
        ways = np.zeros((2, 3))
        ways[:, :2] = np.array(_DROP_FROM_M) - pickers[:, :2]
        if self._waited > 0 or np.abs(ways).max() < _THERE_M:
            self._waited += 1
            ways[:] = 0.0
        if self._waited > _DROP_REST:
            ways[:, 0] = -_DROP_SNATCH_M
        return moves(np.clip(ways, -_DROP_SNATCH_M, _DROP_SLOW_M), np.ones(2), self._repeat)


def cloth_fold_diagonal(state: Vector) -> Vector:
    """Put the held corner on the opposite one."""
    return np.asarray(state[:108].reshape(36, 3)[-1, [0, 2]] / PLACE_M)


def _nearer(points: Vector, pickers: Vector) -> Vector:
    """Which of two points (2, 3) each picker takes so that both together have the shorter way."""
    straight = np.linalg.norm(pickers - points, axis=1).sum()
    crossed = np.linalg.norm(pickers - points[::-1], axis=1).sum()
    return np.array([0, 1]) if straight <= crossed else np.array([1, 0])


def _level(ways: Vector) -> Vector:
    """Directions (n, 3) along the floor."""
    flat = ways * np.array([1.0, 0.0, 1.0])
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))
