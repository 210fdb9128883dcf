"""Goals of RopeConfiguration: letters that a rope can be laid into, S, O, M, C and U.

SoftGym keeps hand-drawn points; these are curves of the same letters, as long as the rope.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

LETTERS = ("S", "O", "M", "C", "U")


def letter(name: str, points: int, spacing_m: float, height_m: float) -> Vector:
    """(3, points) particles along a letter, centred over the origin; its top points to -z."""
    curve = _CURVES[name]
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.linspace(0.0, steps[-1], points)
    scale = spacing_m * (points - 1) / steps[-1]
    x = scale * np.interp(at, steps, curve[:, 0])
    z = -scale * np.interp(at, steps, curve[:, 1])
    return np.stack([x - x.mean(), np.full(points, height_m), z - z.mean()])


def _arc(x: float, y: float, radius: float, begin_deg: float, end_deg: float) -> Vector:
    turn = np.radians(np.linspace(begin_deg, end_deg, 60))
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


_CURVES: dict[str, Vector] = {
    "S": np.concatenate([_arc(0.0, 1.0, 1.0, 20.0, 270.0), _arc(0.0, -1.0, 1.0, 90.0, -160.0)]),
    "O": _arc(0.0, 0.0, 1.0, 90.0, 435.0),
    "M": np.array([[-1.0, -1.0], [-0.8, 1.0], [0.0, -0.5], [0.8, 1.0], [1.0, -1.0]]),
    "C": _arc(0.0, 0.0, 1.0, 50.0, 310.0),
    "U": np.concatenate([[[-1.0, 1.5]], _arc(0.0, 0.0, 1.0, 180.0, 360.0), [[1.0, 1.5]]]),
}
