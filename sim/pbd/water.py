"""Water: its state, and how it is stepped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.pbd.body import STEP_S
from sim.pbd.fluid import step_water

Vector = NDArray[np.float64]
_CELLS = 1 << 16


@dataclass(frozen=True)
class Liquid:
    """What water is made of."""

    radius_m: float
    """Reach of the kernel: particles farther apart do not feel each other."""
    spacing_m: float
    """Distance of neighbours at rest."""
    gap_m: float = 0.0033
    """Distance that particles keep from walls and floor."""
    viscosity: float = 0.1
    """Share of the velocities' differences that is lost in a sub-step (XSPH)."""
    cohesion: float = 0.0
    """Share of too low a density that a pass takes away: what holds a stream together, 0 to 1."""
    softness: float = 0.01
    """Relative softness of the density constraint."""
    damping_hz: float = 0.0
    """Drag: share of the velocity that is lost in a second."""
    substeps: int = 2
    """Sub-steps of a step."""
    passes: int = 4
    """Passes over the density constraint in a sub-step."""

    def numbers(self) -> Vector:
        """The figures as the kernel wants them, (10,)."""
        rest, square = _at_rest(self.radius_m, self.spacing_m)
        h = STEP_S / self.substeps
        fastest = 0.5 * self.radius_m / h
        softness = self.softness * square
        return np.array([
            self.radius_m, rest, softness, self.gap_m, self.viscosity, self.damping_hz, h, fastest,
            0.5 * self.spacing_m, self.cohesion,
        ])  # fmt: skip


def _at_rest(radius_m: float, spacing_m: float) -> tuple[float, float]:
    """Density of the closest packing at `spacing_m`, itself included, and the squared gradients of its
    constraint, in the units of `solve_density`."""
    span = np.arange(-6, 7)
    i, j, k = np.meshgrid(span, span, span, indexing="ij")
    even = (i + j + k) % 2 == 0
    r = np.sqrt((i**2 + j**2 + k**2)[even]) * spacing_m / np.sqrt(2.0)
    r = r[(r > 0.0) & (r < radius_m)]
    rest = 1.0 + float(np.sum((1.0 - (r / radius_m) ** 2) ** 3))
    slope = 45.0 * 64.0 / 315.0 / radius_m / rest
    return rest, float(np.sum((slope * (1.0 - r / radius_m) ** 2) ** 2))


class Water:
    """Particles of water on a floor at y = 0, and boxes that keep them; y is up, metres, seconds.

    Args:
        liquid: what it is made of.
        points: (3, n) where the particles begin.

    Raises:
        ConfigError: no particles.
    """

    def __init__(self, liquid: Liquid, points: Vector) -> None:
        if points.ndim != 2 or points.shape[0] != 3 or points.shape[1] < 1:
            raise ConfigError(
                f"water of shape {points.shape} cannot be made: give (3, n) positions, one or more."
            )
        n = points.shape[1]
        self.liquid = liquid
        self.p = np.ascontiguousarray(points, dtype=np.float64).copy()
        """(3, n) positions, m."""
        self.v = np.zeros((3, n))
        """(3, n) velocities, m/s."""
        self._w = np.ones(n)
        self._counts = np.array([liquid.substeps, liquid.passes])
        self._numbers = liquid.numbers()
        self._scratch = np.zeros((6, n))
        self._singles = np.zeros((13, n), dtype=np.float32)
        self._origin, self._cells = np.zeros(3), np.zeros(3, dtype=np.int64)
        self._start = np.zeros(_CELLS + 1, dtype=np.int64)
        self._order = np.zeros(n, dtype=np.int64)
        self._first = np.zeros(n + 1, dtype=np.uint64)
        self._room(64 * n)

    @property
    def count(self) -> int:
        """Number of particles."""
        return int(self.p.shape[1])

    def step(self, before: Vector, after: Vector) -> None:
        """Advance by 10 ms while the boxes move from `before` to `after`, (m, 7) each: centre x, y, z and
        half edges x, y, z in m, turn about -z in rad."""
        state = self.p.copy(), self.v.copy()
        while not step_water(
            self.p, self.v, self._w, before, after, self._counts, self._numbers, self._scratch,
            self._singles, self._origin, self._cells, self._start, self._order,
            self._near, self._first, self._pairs,
        ):  # fmt: skip
            self.p[:], self.v[:] = state
            self._room(2 * len(self._near))

    def speed_m_s(self) -> float:
        """Largest speed of a particle along an axis, m/s."""
        return float(np.abs(self.v).max())

    def _room(self, pairs: int) -> None:
        self._near = np.zeros(pairs, dtype=np.uint32)
        self._pairs = np.zeros((5, pairs), dtype=np.float32)
