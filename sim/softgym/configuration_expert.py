"""A scripted expert that lays a rope into a shape, from its middle outwards."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from sim.softgym.cloth_experts import moves

Vector = NDArray[np.float64]

_REPEAT = 8
_POINTS = 10
_DRAG_M = 0.04
"""Way in an environment step with the rope, along the floor: what is lifted falls elsewhere."""
_AT_M, _NEAR_M = 0.006, 0.01
"""Where a move has arrived, and what needs none."""


class RopeConfigurationExpert:
    """Takes the two middle key points to their places, then the next ones on both sides, out to the ends;
    what has been laid stays by friction. Then again, for what the later moves drew along."""

    def __init__(self) -> None:
        self._script: Generator[Vector, Vector, None] | None = None

    def __call__(self, state: Vector) -> Vector:
        """The next action of an episode; a new expert for each."""
        if self._script is None:
            self._script = _lay(state)
            return next(self._script)
        return self._script.send(state)


def _lay(state: Vector) -> Generator[Vector, Vector, None]:
    goal = state[3 * _POINTS : 6 * _POINTS].reshape(_POINTS, 3)
    points = state[: 3 * _POINTS].reshape(_POINTS, 3)
    if np.linalg.norm(points - goal[::-1], axis=1).sum() < np.linalg.norm(points - goal, axis=1).sum():
        goal = goal[::-1]
    while True:
        for out in range(_POINTS // 2):
            pair = np.array([_POINTS // 2 - 1 - out, _POINTS // 2 + out])
            left = goal[pair] - _points(state)[pair]
            if np.linalg.norm(left, axis=1).max() < _NEAR_M:
                continue
            crossed = np.linalg.norm(_points(state)[pair][::-1] - _pickers(state), axis=1).sum()
            if crossed < np.linalg.norm(_points(state)[pair] - _pickers(state), axis=1).sum():
                pair = pair[::-1]
            for _ in range(8):
                ways = _points(state)[pair] - _pickers(state)
                ways[:, 1] = np.maximum(_points(state)[pair][:, 1], 0.02) - _pickers(state)[:, 1]
                if np.abs(ways).max() < _AT_M:
                    break
                state = yield moves(ways, np.zeros(2), _REPEAT)
            for _ in range(16):
                ways = goal[pair] - _points(state)[pair]
                if np.abs(ways[:, [0, 2]]).max() < _AT_M:
                    break
                state = yield moves(np.clip(ways, -_DRAG_M, _DRAG_M), np.ones(2), _REPEAT)
            state = yield moves(np.array([[0.0, 0.06, 0.0]] * 2), np.zeros(2), _REPEAT)
        if np.linalg.norm(goal - _points(state), axis=1).max() < _NEAR_M:
            state = yield moves(np.zeros((2, 3)), np.zeros(2), _REPEAT)


def _points(state: Vector) -> Vector:
    return state[: 3 * _POINTS].reshape(_POINTS, 3)


def _pickers(state: Vector) -> Vector:
    return state[6 * _POINTS : 6 * _POINTS + 6].reshape(2, 3)
