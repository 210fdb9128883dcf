"""Contact: a floor, and particles with each other through a grid of cells (Teschner et al. 2003).

Friction is Coulomb's on what the contact pushed in the whole sub-step (Macklin et al. 2014, equation 24): a
share taken away in every pass would let a cloth slide under its own weight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.compiled import kernel

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]


@kernel
def bin_particles(
    p: Vector, n: int, cell: float, origin: Vector, shape: Indices, start: Indices, order: Indices
) -> None:
    """Sort particles into cells of a box: those of cell c are order[start[c]:start[c + 1]], in ascending
    number.

    The box is fitted to the particles; where it would have more cells than `start` has room for, the outer
    particles share cells at the border, which costs time and loses nothing.

    Args:
        p: (3, n) positions, m.
        n: how many particles count.
        cell: side of a cell, m.
        origin: (3,) set to the corner of the box, m.
        shape: (3,) set to the number of cells along each axis.
        start: (cells + 1,) set to where each cell begins.
        order: (n,) set to the sorted numbers.
    """
    limit = start.shape[0] - 1
    for axis in range(3):
        low, high = p[axis, 0], p[axis, 0]
        for i in range(1, n):
            low, high = min(low, p[axis, i]), max(high, p[axis, i])
        origin[axis] = low
        shape[axis] = min(int((high - low) / cell) + 1, 4096)
    while shape[0] * shape[1] * shape[2] > limit:
        widest = 0
        for axis in range(1, 3):
            if shape[axis] > shape[widest]:
                widest = axis
        shape[widest] = (shape[widest] + 1) // 2
    cells = shape[0] * shape[1] * shape[2]
    for c in range(cells + 1):
        start[c] = 0
    for i in range(n):
        start[cell_of(p, i, cell, origin, shape) + 1] += 1
    for c in range(cells):
        start[c + 1] += start[c]
    for i in range(n):
        c = cell_of(p, i, cell, origin, shape)
        order[start[c]] = i
        start[c] += 1
    for c in range(cells, 0, -1):
        start[c] = start[c - 1]
    start[0] = 0


@kernel
def cell_of(p: Vector, i: int, cell: float, origin: Vector, shape: Indices) -> int:
    """Number of the cell of particle i; particles beyond the box count as in its outermost cells."""
    cx = min(int((p[0, i] - origin[0]) / cell), shape[0] - 1)
    cy = min(int((p[1, i] - origin[1]) / cell), shape[1] - 1)
    cz = min(int((p[2, i] - origin[2]) / cell), shape[2] - 1)
    return (cx * shape[1] + cy) * shape[2] + cz


@kernel
def find_pairs(
    p: Vector,
    n: int,
    reach: float,
    columns: int,
    apart: int,
    origin: Vector,
    shape: Indices,
    start: Indices,
    order: Indices,
    pairs: Indices,
) -> int:
    """Pairs of particles nearer than `reach`, in a fixed order; returns how many, or -1 - needed where
    `pairs` is too short.

    Particles whose places in the body differ by `apart` or less (rows and columns of a cloth; with one
    column, places along a rope) never count: springs hold them.

    Args:
        p: (3, n) positions, m.
        n: how many particles count.
        reach: distance, m.
        columns: columns of the body's grid; 0 where it has none and all pairs count.
        apart: see above.
        origin, shape, start, order: working memory of `bin_particles`.
        pairs: (2, room) filled with particle numbers, the smaller first.
    """
    bin_particles(p, n, reach, origin, shape, start, order)
    found, room, squared = 0, pairs.shape[1], reach * reach
    nx, ny, nz = shape[0], shape[1], shape[2]
    for i in range(n):
        x, y, z = p[0, i], p[1, i], p[2, i]
        cx = min(int((x - origin[0]) / reach), nx - 1)
        cy = min(int((y - origin[1]) / reach), ny - 1)
        cz = min(int((z - origin[2]) / reach), nz - 1)
        for ix in range(max(cx - 1, 0), min(cx + 2, nx)):
            for iy in range(max(cy - 1, 0), min(cy + 2, ny)):
                base = (ix * ny + iy) * nz
                # The cells of a column along z follow each other: one range holds all three.
                low = start[base + max(cz - 1, 0)]
                for s in range(low, start[base + min(cz + 2, nz)]):
                    j = order[s]
                    if j <= i:
                        continue
                    dx, dy, dz = p[0, j] - x, p[1, j] - y, p[2, j] - z
                    if dx * dx + dy * dy + dz * dz >= squared:
                        continue
                    if columns > 0:
                        rows_apart = j // columns - i // columns
                        columns_apart = abs(j % columns - i % columns)
                        if rows_apart <= apart and columns_apart <= apart:
                            continue
                    if found < room:
                        pairs[0, found] = i
                        pairs[1, found] = j
                    found += 1
    return found if found <= room else -1 - found


@kernel
def solve_pairs(p: Vector, x: Vector, w: Vector, pairs: Indices, count: int, apart: float, mu: float) -> None:
    """Push the particles of each pair to the distance `apart` (m), with friction `mu` against what they slid
    along each other since `x`, where the sub-step began."""
    squared = apart * apart
    for s in range(count):
        a, b = pairs[0, s], pairs[1, s]
        dx, dy, dz = p[0, b] - p[0, a], p[1, b] - p[1, a], p[2, b] - p[2, a]
        length = dx * dx + dy * dy + dz * dz
        total = w[a] + w[b]
        if length >= squared or total == 0.0 or length < 1e-16:
            continue
        length = np.sqrt(length)
        nx, ny, nz = dx / length, dy / length, dz / length
        depth = apart - length
        tx = p[0, b] - x[0, b] - p[0, a] + x[0, a]
        ty = p[1, b] - x[1, b] - p[1, a] + x[1, a]
        tz = p[2, b] - x[2, b] - p[2, a] + x[2, a]
        along = tx * nx + ty * ny + tz * nz
        tx, ty, tz = tx - along * nx, ty - along * ny, tz - along * nz
        slid = np.sqrt(tx * tx + ty * ty + tz * tz)
        f = 0.0 if slid < 1e-12 else min(mu * depth / slid, 1.0)
        sa, sb = w[a] / total, w[b] / total
        p[0, a] += sa * (f * tx - depth * nx)
        p[1, a] += sa * (f * ty - depth * ny)
        p[2, a] += sa * (f * tz - depth * nz)
        p[0, b] -= sb * (f * tx - depth * nx)
        p[1, b] -= sb * (f * ty - depth * ny)
        p[2, b] -= sb * (f * tz - depth * nz)


@kernel
def solve_floor(p: Vector, w: Vector, pushed: Vector, n: int, height: float) -> None:
    """Lift particles to `height` (m, along y), and add to `pushed` (n,) by how much."""
    y = p[1]
    for i in range(n):
        depth = height - y[i] if w[i] > 0.0 else 0.0
        if depth > 0.0:
            y[i] += depth
            pushed[i] += depth


@kernel
def rub_floor(p: Vector, x: Vector, w: Vector, pushed: Vector, n: int, mu: float, stick_m: float) -> None:
    """Friction of the floor: take back up to `mu` times what it pushed of the way along it since `x`, and all
    of a way shorter than `stick_m` (particles that hardly move sleep where they touch)."""
    for i in range(n):
        if pushed[i] > 0.0 and w[i] > 0.0:
            dx, dz = p[0, i] - x[0, i], p[2, i] - x[2, i]
            slid = np.sqrt(dx * dx + dz * dz)
            if slid > 0.0:
                f = 1.0 if slid < stick_m else min(mu * pushed[i] / slid, 1.0)
                p[0, i] -= f * dx
                p[2, i] -= f * dz
