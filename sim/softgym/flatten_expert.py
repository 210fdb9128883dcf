"""A scripted expert that spreads a crumpled cloth by dragging its edges over the floor."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from sim.softgym.cloth_experts import PICKER_M, moves

Vector = NDArray[np.float64]
Script = Generator[Vector, Vector, Vector]
"""Yields actions, is sent the observations that follow, and returns the last one."""

_REPEAT = 8
_FAST_M, _SLOW_M, _PULL_M = 0.08, 0.05, 0.06
"""Ways in an environment step: free, with the cloth in the air, and while an edge is pulled straight."""
_TAUT_M = 0.5 * _PULL_M
"""A corner that follows by this in a step is at the end of a taut edge."""
_ROOM_M = (0.64, 0.34)
"""How far from the middle pickers go along x and z."""
_LIFTED_M, _LAID_M = 0.45, 0.06
_BACK_M, _FORWARD_M = 0.5, 0.55
"""Where along x, from the middle, the cloth is set down and how far it is dragged."""
_HIGH = np.array([0.0, 0.15, 0.0])
"""Over what is waited for."""
_FREE, _HELD = np.zeros(2), np.ones(2)


class ClothFlattenExpert:
    """Takes one edge by its corners, pulls it straight, and drags the cloth behind it; then the opposite
    edge, the other way.

    How long an edge is shows while one corner is pulled from the other, which lies free: that one follows
    once the edge between them is taut.
    """

    def __init__(self) -> None:
        self._script: Script | None = None

    def __call__(self, state: Vector) -> Vector:
        """The next action of an episode; a new expert for each."""
        if self._script is None:
            self._script = _spread(state)
            return next(self._script)
        return self._script.send(state)


def _spread(state: Vector) -> Script:
    middle = _pickers(state).mean(axis=0)
    for edge, forward in (((0, 1), 1.0), ((2, 3), -1.0)):
        state = yield from _drag(state, edge, middle, forward)
    while True:
        state = yield moves(np.zeros((2, 3)), _FREE, _REPEAT)


def _drag(state: Vector, edge: tuple[int, int], middle: Vector, forward: float) -> Script:
    """Take the edge between two corners by both, and drag the cloth by it along x."""
    puller = int(np.argmin(np.linalg.norm(_pickers(state) - _corner(state, edge[0]), axis=1)))
    own = np.arange(2) == puller
    for _ in range(20):
        above = np.where(own[:, None], _corner(state, edge[0]), _corner(state, edge[1]) + _HIGH)
        if (ways := _to(state, above))[1] < 0.006:
            break
        state = yield moves(ways[0], _FREE, _REPEAT)
    state, length = yield from _pull(state, edge, own, middle)
    for _ in range(20):
        place = np.where(own[:, None], _pickers(state), _corner(state, edge[1]))
        if (ways := _to(state, place))[1] < 0.004:
            break
        state = yield moves(ways[0], own.astype(float), _REPEAT)
    state = yield moves(np.zeros((2, 3)), _HELD, _REPEAT)
    side = np.where(_pickers(state)[:, 2] >= _pickers(state)[::-1, 2], 0.5, -0.5)
    for _ in range(18):
        place = np.stack([
            np.full(2, middle[0] - forward * _BACK_M), np.full(2, _LIFTED_M), middle[2] + side * length,
        ], axis=1)  # fmt: skip
        if (ways := _to(state, place, _SLOW_M))[1] < 0.01:
            break
        state = yield moves(ways[0], _HELD, _REPEAT)
    for _ in range(30):
        ways_left = np.array([middle[0] + forward * _FORWARD_M, _LAID_M, 0.0]) - _pickers(state)
        ways_left[:, 2] = middle[2] + side * length - _pickers(state)[:, 2]
        farthest = np.abs(ways_left[:, 0]).max()
        if farthest < 0.01:
            break
        # Down on the first half of the way.
        ways_left[:, 1] *= min(2.0 * _FAST_M / farthest, 1.0)
        limits = np.array([_FAST_M, _FAST_M, 0.03])
        state = yield moves(np.clip(ways_left, -limits, limits), _HELD, _REPEAT)
    for _ in range(3):
        state = yield moves(np.array([[0.0, 0.04, 0.0]] * 2), _FREE, _REPEAT)
    return state


def _pull(
    state: Vector, edge: tuple[int, int], own: NDArray[np.bool_], middle: Vector
) -> Generator[Vector, Vector, tuple[Vector, float]]:
    """Pull the first corner from the second until that follows; the longest edge seen, m."""
    flags, length = own.astype(float), 0.0
    for step in range(19):
        between = (_corner(state, edge[0]) - _corner(state, edge[1])) * [1.0, 0.0, 1.0]
        distance = float(np.linalg.norm(between))
        length = max(length, distance)
        way = _PULL_M * between / max(distance, 1e-6) if step > 0 else np.array([0.0, 0.01, 0.0])
        waiting = _corner(state, edge[1]) + 0.5 * _HIGH - _pickers(state)
        before = _corner(state, edge[1])
        state = yield moves(np.where(own[:, None], way, waiting), flags, _REPEAT)
        followed = np.linalg.norm((_corner(state, edge[1]) - before)[[0, 2]])
        outside = np.abs(_pickers(state)[own][0] - middle)[[0, 2]] > _ROOM_M
        if (step > 1 and followed > _TAUT_M) or outside.any():
            break
    return state, length


def _to(state: Vector, places: Vector, fastest: float = _FAST_M) -> tuple[Vector, float]:
    """Ways of the pickers to where they can be next to `places` (2, 3), and the farthest way left, m."""
    reachable = places.copy()
    reachable[:, 1] = np.maximum(reachable[:, 1], PICKER_M)
    left = reachable - _pickers(state)
    return np.clip(left, -fastest, fastest), float(np.abs(left).max())


def _corner(state: Vector, number: int) -> Vector:
    return state[3 * number : 3 * number + 3]


def _pickers(state: Vector) -> Vector:
    return state[12:18].reshape(2, 3)
