"""Glasses as five boxes each, and who is in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Glass:
    """An open box of five walls: floor, left, right, back, front."""

    length_m: float
    """Between left and right wall (x)."""
    width_m: float
    """Between back and front wall (z)."""
    height_m: float
    """Of the walls; they stand from the middle of the floor's thickness."""
    border_m: float
    """Thickness of the walls."""

    def boxes(self, x: float, y: float = 0.0, turn_rad: float = 0.0) -> Vector:
        """(5, 7) as `sim.pbd.fluid.solve_boxes` takes them, with the floor's centre at (x, y, 0) and turned
        about it by `turn_rad` about -z."""
        border, height = self.border_m, self.height_m
        dx, dz = (self.length_m + border) / 2.0, (self.width_m + border) / 2.0
        outer_x, outer_z = self.length_m / 2.0 + border, self.width_m / 2.0 + border
        centres = np.array([
            [0.0, 0.0, 0.0], [-dx, height / 2.0, 0.0], [dx, height / 2.0, 0.0],
            [0.0, height / 2.0, -dz], [0.0, height / 2.0, dz],
        ])  # fmt: skip
        halves = np.array([
            [outer_x, border / 2.0, outer_z],
            [border / 2.0, height / 2.0, outer_z], [border / 2.0, height / 2.0, outer_z],
            [self.length_m / 2.0, height / 2.0, border / 2.0],
            [self.length_m / 2.0, height / 2.0, border / 2.0],
        ])  # fmt: skip
        co, si = np.cos(turn_rad), np.sin(turn_rad)
        places = np.stack(
            [x + co * centres[:, 0] + si * centres[:, 1], y - si * centres[:, 0] + co * centres[:, 1]], axis=1
        )
        return np.concatenate([places, centres[:, 2:], halves, np.full((5, 1), turn_rad)], axis=1)


def in_glass(p: Vector, boxes: Vector, glass: Glass) -> NDArray[np.bool_]:
    """(n,) which particles (3, n) SoftGym counts as inside: between the middles of opposite walls and half a
    wall more. A glass that is turned counts by the same rule, from where its walls' centres are."""
    half = glass.border_m / 2.0
    left, right, back, front, floor = boxes[1, 0], boxes[2, 0], boxes[3, 2], boxes[4, 2], boxes[0, 1]
    x, y, z = p
    inside: NDArray[np.bool_] = (
        (x >= left - half) & (x <= right + half) & (z >= back - half) & (z <= front + half)
        & (y >= floor - half) & (y <= floor + glass.height_m + half)
    )  # fmt: skip
    return inside
