"""A cloth or a rope: its state, and how it is stepped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.pbd.solids import step_body

Vector = NDArray[np.float64]

STEP_S = 0.01
"""One step of SoftGym's simulator, s."""
_CELLS = 1 << 15
_MOST_CELLS = 1 << 20


@dataclass(frozen=True)
class Solid:
    """What a cloth or a rope is made of; stiffnesses are shares of the error that one pass takes away."""

    kind: Literal["cloth", "rope"]
    spacing_m: float
    """Rest length between neighbours."""
    mass_kg: float
    """Mass of one particle."""
    stretch: float
    """Stiffness against stretch."""
    bend: float
    """Stiffness of the springs over two neighbours; in a rope they straighten it."""
    shear: float = 0.0
    """Stiffness of the diagonals (cloth)."""
    sharpest_bend_rad: float = 0.0
    """Rope: how far a particle lets it turn; nothing drives it back from less."""
    thickness_m: float = 0.0
    """Distance that particles of two layers keep; 0 lets them pass through each other."""
    lift_m: float = 0.005
    """Height of a particle that lies on the floor."""
    friction: float = 0.75
    """Of the floor."""
    self_friction: float = 1.0
    """Of the body with itself."""
    damping_hz: float = 1.0
    """Drag: share of the velocity that is lost in a second."""
    sleep_m_s: float = 0.0
    """Particles that touch the floor and would slide slower than this stay."""
    substeps: int = 8
    """Sub-steps of a step."""
    passes: int = 2
    """Passes over the constraints in a sub-step."""

    def numbers(self) -> Vector:
        """The figures as the kernel wants them, (12,)."""
        nearest = 2.0 * self.spacing_m * float(np.cos(0.5 * self.sharpest_bend_rad))
        return np.array([
            self.spacing_m, self.stretch, self.bend, self.shear, nearest, self.thickness_m, self.lift_m,
            self.friction, self.self_friction, self.damping_hz, STEP_S / self.substeps, self.sleep_m_s,
        ])  # fmt: skip


class Body:
    """Particles of a cloth or a rope on a floor at y = 0; y is up, metres, seconds, kilograms.

    Args:
        solid: what it is made of.
        rows: rows of the grid; of a rope the number of particles.
        columns: columns of the grid; 1 for a rope.

    Raises:
        ConfigError: sizes that no cloth or rope has.
    """

    def __init__(self, solid: Solid, rows: int, columns: int = 1) -> None:
        least = 3 if solid.kind == "cloth" else 1
        if rows < 3 or columns < least or (solid.kind == "rope" and columns != 1):
            raise ConfigError(
                f"a {solid.kind} of {rows} x {columns} particles cannot be made: a cloth has 3 rows and "
                "columns or more, a rope 3 particles or more in one column."
            )
        self.solid, self.rows, self.columns = solid, rows, columns
        n = rows * columns
        self.p = np.zeros((3, n))
        """(3, n) positions, m."""
        self.v = np.zeros((3, n))
        """(3, n) velocities, m/s."""
        self.w = np.full(n, 1.0 / solid.mass_kg)
        """(n,) inverse masses, 1/kg; 0 while something holds the particle."""
        self._grid = np.array([rows, columns, solid.substeps, solid.passes])
        self._numbers = solid.numbers()
        self._scratch = np.zeros((10, n))
        self._origin, self._cells = np.zeros(3), np.zeros(3, dtype=np.int64)
        self._start = np.zeros(_CELLS + 1, dtype=np.int64)
        self._order = np.zeros(n, dtype=np.int64)
        self._pairs = np.zeros((2, 16 * n), dtype=np.int64)

    @property
    def count(self) -> int:
        """Number of particles."""
        return self.rows * self.columns

    def hold(self, particle: int) -> None:
        """Let a particle be driven: it moves with its velocity `v`, whatever pulls at it."""
        self.w[particle] = 0.0
        self.v[:, particle] = 0.0

    def release(self, particle: int) -> None:
        """Give a particle its mass back."""
        self.w[particle] = 1.0 / self.solid.mass_kg

    def step(self, steps: int = 1) -> None:
        """Advance by `steps` times 10 ms. Driven particles stand still after each unless driven anew."""
        for _ in range(steps):
            self._step()
            self.v[:, self.w == 0.0] = 0.0

    def speed_m_s(self) -> float:
        """Largest speed of a particle along an axis, m/s."""
        return float(np.abs(self.v).max())

    def _step(self) -> None:
        before = self.p.copy(), self.v.copy()
        while True:
            needed = step_body(
                self.p, self.v, self.w, self._grid, self._numbers, self._scratch,
                self._origin, self._cells, self._start, self._order, self._pairs,
            )  # fmt: skip
            if needed == 0:
                return
            self.p[:], self.v[:] = before
            self._pairs = np.zeros((2, needed + needed // 2), dtype=np.int64)


def flat_grid(rows: int, columns: int, spacing_m: float, height_m: float) -> Vector:
    """(3, rows * columns) a flat cloth about the origin: columns along x, rows along z."""
    x = (np.arange(columns) - (columns - 1) / 2.0) * spacing_m
    z = (np.arange(rows) - (rows - 1) / 2.0) * spacing_m
    xx, zz = np.meshgrid(x, z)
    return np.stack([xx.ravel(), np.full(rows * columns, height_m), zz.ravel()])
