"""Distance constraints, solved one after the other (Gauss-Seidel; Müller et al. 2007, equations 10 and 11).

Positions are (3, n): one row per axis, so that a sweep over a row of cloth runs in vector registers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.compiled import kernel

Vector = NDArray[np.float64]


@kernel
def sweep_grid(
    p: Vector, w: Vector, first: int, rows: int, columns: int, down: int, right: int, rest: float, k: float
) -> None:
    """One pass over the springs from (r, c) to (r + down, c + right) of a grid that begins at particle
    `first`, rows one after the other.

    Within a pair of rows no two springs share a particle, so their order does not matter.

    Args:
        p: (3, n) positions, m, changed in place.
        w: (n,) inverse masses, 1/kg; 0 moves for nobody.
        first: number of the grid's first particle.
        rows: rows of the grid.
        columns: columns of the grid.
        down: rows between the ends, 1 or more.
        right: columns between the ends.
        rest: rest length, m.
        k: share of the error that one pass takes away, 0 to 1.
    """
    x, y, z = p[0], p[1], p[2]
    width = columns - abs(right)
    for r in range(rows - down):
        a0 = first + r * columns + max(0, -right)
        b0 = first + (r + down) * columns + max(0, right)
        for c in range(width):
            a, b = a0 + c, b0 + c
            dx, dy, dz = x[b] - x[a], y[b] - y[a], z[b] - z[a]
            squared = dx * dx + dy * dy + dz * dz + 1e-18
            wa, wb = w[a], w[b]
            s = k * (1.0 - rest / np.sqrt(squared)) / (wa + wb + 1e-18)
            sa, sb = s * wa, s * wb
            x[a] += sa * dx
            y[a] += sa * dy
            z[a] += sa * dz
            x[b] -= sb * dx
            y[b] -= sb * dy
            z[b] -= sb * dz


@kernel
def transpose(source: Vector, target: Vector, first: int, rows: int, columns: int) -> None:
    """Copy a (rows, columns) grid inside each row of `source` to a (columns, rows) one in `target`."""
    for axis in range(source.shape[0]):
        for r in range(rows):
            for c in range(columns):
                target[axis, first + c * rows + r] = source[axis, first + r * columns + c]


@kernel
def solve_distance(p: Vector, w: Vector, a: int, b: int, rest: float, k_push: float, k_pull: float) -> None:
    """One distance constraint between particles a and b; `k_push` acts where they are nearer than `rest`,
    `k_pull` where they are farther apart."""
    dx, dy, dz = p[0, b] - p[0, a], p[1, b] - p[1, a], p[2, b] - p[2, a]
    squared = dx * dx + dy * dy + dz * dz
    # Most particles of a rope are not at their sharpest bend: this spares the next one the wait for a root.
    if k_pull == 0.0 and squared >= rest * rest:
        return
    length = np.sqrt(squared)
    total = w[a] + w[b]
    if length < 1e-9 or total == 0.0:
        return
    s = (k_pull if length > rest else k_push) * (1.0 - rest / length) / total
    sa, sb = s * w[a], s * w[b]
    p[0, a] += sa * dx
    p[1, a] += sa * dy
    p[2, a] += sa * dz
    p[0, b] -= sb * dx
    p[1, b] -= sb * dy
    p[2, b] -= sb * dz


@kernel
def sweep_chain(
    p: Vector, w: Vector, n: int, backwards: bool, rest: float, k: float, nearest: float, k_bend: float
) -> None:
    """One pass along a chain of n particles: of every second particle at `nearest` or farther, which is the
    sharpest bend, and pulled to 2 `rest` with share `k_bend`; then neighbours at distance `rest`, last, since
    a rope may rather bend than stretch."""
    for i in range(n - 2):
        a = n - 3 - i if backwards else i
        solve_distance(p, w, a, a + 2, nearest, k, 0.0)
        if k_bend > 0.0:
            solve_distance(p, w, a, a + 2, 2.0 * rest, k_bend, k_bend)
    for i in range(n - 1):
        a = n - 2 - i if backwards else i
        solve_distance(p, w, a, a + 1, rest, k, k)
