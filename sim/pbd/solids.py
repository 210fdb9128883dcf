"""Sub-steps of a cloth and of a rope (Macklin et al. 2019: many sub-steps of few passes)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.compiled import kernel
from sim.pbd.contact import find_pairs, rub_floor, solve_floor, solve_pairs
from sim.pbd.distance import sweep_chain, sweep_grid, transpose

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]


@kernel
def predict(p: Vector, x: Vector, v: Vector, w: Vector, n: int, h: float, damping: float) -> None:
    """Begin a sub-step: x is where it begins, p where velocity and gravity (9.8 m/s² along -y) lead."""
    keep = 1.0 - min(damping * h, 1.0)
    for axis in range(3):
        fall = -9.8 * h if axis == 1 else 0.0
        for i in range(n):
            x[axis, i] = p[axis, i]
            if w[i] > 0.0:
                v[axis, i] = (v[axis, i] + fall) * keep
            p[axis, i] += v[axis, i] * h


@kernel
def conclude(p: Vector, x: Vector, v: Vector, w: Vector, n: int, h: float, fastest: float) -> None:
    """End a sub-step: the velocity is what was travelled, `fastest` m/s at most along each axis. Driven
    particles (w = 0) keep theirs."""
    for axis in range(3):
        for i in range(n):
            if w[i] > 0.0:
                v[axis, i] = min(max((p[axis, i] - x[axis, i]) / h, -fastest), fastest)


@kernel
def moved_beyond(p: Vector, since: Vector, n: int, way: float) -> bool:
    """Whether some particle is more than `way` (m) from where it was."""
    squared = way * way
    for i in range(n):
        dx, dy, dz = p[0, i] - since[0, i], p[1, i] - since[1, i], p[2, i] - since[2, i]
        if dx * dx + dy * dy + dz * dz > squared:
            return True
    return False


@kernel
def step_body(
    p: Vector,
    v: Vector,
    w: Vector,
    grid: Indices,
    numbers: Vector,
    scratch: Vector,
    origin: Vector,
    cells: Indices,
    start: Indices,
    order: Indices,
    pairs: Indices,
) -> int:
    """One step of a cloth (grid of two or more rows and columns) or of a rope (one column).

    Particles with w = 0 move with their velocity v, whatever pulls at them.

    Args:
        p: (3, n) positions, m, changed in place.
        v: (3, n) velocities, m/s, changed in place.
        w: (n,) inverse masses, 1/kg.
        grid: (4,) rows, columns, sub-steps, passes of a sub-step.
        numbers: as `Solid.numbers` packs them.
        scratch: (10, n) working memory.
        origin, cells, start, order: working memory of `bin_particles`.
        pairs: (2, room) working memory.

    Returns:
        0, or how many pairs there were when `pairs` was too short: the state is then useless, try again with
        more room.
    """
    rows, columns, substeps, passes = grid[0], grid[1], grid[2], grid[3]
    n = rows * columns
    rest, stretch, bend, shear = numbers[0], numbers[1], numbers[2], numbers[3]
    nearest, apart, height, mu, rub = numbers[4], numbers[5], numbers[6], numbers[7], numbers[8]
    damping, h, stick = numbers[9], numbers[10], numbers[11]
    x, t, since = scratch[0:3], scratch[3:6], scratch[6:9]
    pushed = scratch[9]
    wt = np.empty(n)
    if columns > 1:
        for r in range(rows):
            for c in range(columns):
                wt[c * rows + r] = w[r * columns + c]
    margin, count, fresh = 0.4 * apart, 0, False
    fastest = 0.5 * apart / h
    for substep in range(substeps):
        predict(p, x, v, w, n, h, damping)
        if apart > 0.0 and (not fresh or moved_beyond(p, since, n, 0.5 * margin)):
            count = find_pairs(
                p, n, apart + margin, columns, 2 if columns > 1 else 3, origin, cells, start, order, pairs
            )
            if count < 0:
                return -1 - count
            since[:, :n] = p[:, :n]
            fresh = True
        for i in range(n):
            pushed[i] = 0.0
        for i in range(passes):
            if columns > 1:
                sweep_grid(p, w, 0, rows, columns, 1, 0, rest, stretch)
                sweep_grid(p, w, 0, rows, columns, 1, 1, rest * np.sqrt(2.0), shear)
                sweep_grid(p, w, 0, rows, columns, 1, -1, rest * np.sqrt(2.0), shear)
                sweep_grid(p, w, 0, rows, columns, 2, 0, 2.0 * rest, bend)
                transpose(p, t, 0, rows, columns)
                sweep_grid(t, wt, 0, columns, rows, 1, 0, rest, stretch)
                sweep_grid(t, wt, 0, columns, rows, 2, 0, 2.0 * rest, bend)
                transpose(t, p, 0, columns, rows)
            else:
                sweep_chain(p, w, n, (substep + i) % 2 == 1, rest, stretch, nearest, bend)
            if count > 0:
                solve_pairs(p, x, w, pairs, count, apart, rub)
            solve_floor(p, w, pushed, n, height)
        rub_floor(p, x, w, pushed, n, mu, stick * h)
        conclude(p, x, v, w, n, h, fastest)
    return 0
