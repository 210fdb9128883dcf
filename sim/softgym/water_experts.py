"""Scripted experts of the water tasks: how a full glass is carried, and how it is poured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.softgym.pass_water import BORDER_M, FARTHEST_M, TARGET_M
from sim.softgym.task import STEP_S

Vector = NDArray[np.float64]

_FASTEST_M_S, _GAIN_M_S2 = 0.4, 0.3
"""Of a glass of water that is not to spill."""
_REPEAT = 8
_CLEAR_M = 0.05
"""Of the glass that pours from the other one's rim."""
_EMPTY_RAD = 2.6
"""Turn at which the last water runs out."""
_TURN_RAD = 0.07
"""Turn in an environment step while water runs."""
_POUR_M, _POUR_RAD = 0.01, 0.015
"""Farthest move and turn in one simulator step."""


def pass_water(state: Vector) -> Vector:
    """Bring the glass to its place with a speed that grows and shrinks gently; it begins at x = 0."""
    way = _carried(0.0, float(state[0]), TARGET_M)
    return np.array([way / FARTHEST_M])


def _carried(begin: float, at: float, end: float) -> float:
    """Way along a line in the next simulator step, m: the speed is the least of what accelerating from the
    beginning, the top speed and braking before the end leave."""
    gone, left = abs(at - begin), end - at
    speed = min(
        _FASTEST_M_S, np.sqrt(2.0 * _GAIN_M_S2 * (gone + 0.002)), np.sqrt(2.0 * _GAIN_M_S2 * abs(left))
    )
    return float(np.sign(left) * min(speed * STEP_S, abs(left) / _REPEAT))


def pour_water(state: Vector) -> Vector:
    """Lift the glass over the other one's rim, bring its lip there, and turn it about that lip.

    The glass stays above the rim however far it is turned, so that the two never touch.
    """
    x, y, turn, target_x, rim = state[0], state[1], state[2], state[6], state[7]
    length, height, opening = state[3], state[5], state[8]

    def place(angle: float) -> tuple[float, float]:
        """Where the glass's floor is while the lip is over the other glass."""
        co, si = np.cos(angle), np.sin(angle)
        lip = target_x - 0.5 * opening
        lowest = -si * (length / 2.0 + BORDER_M) + min(-co * BORDER_M / 2.0, co * height)
        return lip - co * length / 2.0 - si * height, rim + _CLEAR_M - lowest

    over_x, over_y = place(turn)
    if turn < 1e-3 and y < over_y - 0.005:
        return _pouring(0.0, _carried(0.0, y, over_y), 0.0)
    if turn < 1e-3 and abs(x - over_x) > 0.005:
        return _pouring(_carried(0.0, x, over_x), 0.0, 0.0)
    angle = min(turn + _TURN_RAD, _EMPTY_RAD)
    next_x, next_y = place(angle)
    return _pouring((next_x - x) / _REPEAT, (next_y - y) / _REPEAT, (angle - turn) / _REPEAT)


def _pouring(dx: float, dy: float, turn: float) -> Vector:
    return np.clip([dx / _POUR_M, dy / _POUR_M, turn / _POUR_RAD], -1.0, 1.0)
