"""Sub-steps of water between oriented boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.compiled import kernel
from sim.pbd.contact import bin_particles
from sim.pbd.density import list_neighbours, solve_density, stir
from sim.pbd.solids import conclude, predict

Vector = NDArray[np.float64]
Single = NDArray[np.float32]
Indices = NDArray[np.int64]


@kernel
def solve_boxes(p: Vector, n: int, boxes: Vector, gap: float) -> None:
    """Push particles out of boxes, each by its nearest face, to a distance of `gap` (m), and off the floor.

    Args:
        p: (3, n) positions, m, changed in place.
        n: number of particles.
        boxes: (m, 7) centre x, y, z, half edges x, y, z (m), and turn about -z (rad).
        gap: distance from every face, m.
    """
    for m in range(boxes.shape[0]):
        cx, cy, cz = boxes[m, 0], boxes[m, 1], boxes[m, 2]
        hx, hy, hz = boxes[m, 3] + gap, boxes[m, 4] + gap, boxes[m, 5] + gap
        co, si = np.cos(boxes[m, 6]), np.sin(boxes[m, 6])
        for i in range(n):
            dz = p[2, i] - cz
            dx, dy = p[0, i] - cx, p[1, i] - cy
            # A turn by θ about -z takes local (u, v) to (u cos θ + v sin θ, -u sin θ + v cos θ).
            u, v = co * dx - si * dy, si * dx + co * dy
            px, py, pz = hx - abs(u), hy - abs(v), hz - abs(dz)
            if px > 0.0 and py > 0.0 and pz > 0.0:
                if px <= py and px <= pz:
                    u = hx if u > 0.0 else -hx
                elif py <= pz:
                    v = hy if v > 0.0 else -hy
                else:
                    p[2, i] = cz + (hz if dz > 0.0 else -hz)
                p[0, i] = cx + co * u + si * v
                p[1, i] = cy - si * u + co * v
    for i in range(n):
        p[1, i] = max(p[1, i], gap)


@kernel
def weigh_walls(
    p: Vector, n: int, boxes: Vector, gap: float, reach: float, half: float, walls: Single
) -> None:
    """What walls and floor add to the density of particles near them, as if they were water at rest that
    begins `half` (m) behind where particles are stopped. Without it water would crowd at its walls, where
    half of the neighbours are missing.

    The integral of poly6 over what lies beyond a plane at distance q (in units of the reach) is
    1/2 - 315/256 (q - 4/3 q^3 + 6/5 q^5 - 4/7 q^7 + 1/9 q^9), its slope -315/256 (1 - q^2)^4.

    Args:
        p: (3, n) positions, m.
        n: number of particles.
        boxes: (m, 7) as in `solve_boxes`.
        gap: distance at which particles are stopped, m.
        reach: radius of the kernel, m.
        half: half the distance of neighbours, m.
        walls: (4, n) set to the density (in units of water at rest) and the way out times its slope (1/m).
    """
    for j in range(4):
        for i in range(n):
            walls[j, i] = 0.0
    for m in range(boxes.shape[0] + 1):
        floor = m == boxes.shape[0]
        cx = cy = cz = hx = hy = hz = si = 0.0
        co = 1.0
        if not floor:
            cx, cy, cz = boxes[m, 0], boxes[m, 1], boxes[m, 2]
            hx, hy, hz = boxes[m, 3] + gap, boxes[m, 4] + gap, boxes[m, 5] + gap
            co, si = np.cos(boxes[m, 6]), np.sin(boxes[m, 6])
        for i in range(n):
            if floor:
                u, v, d, nu, nv, nw = 0.0, 0.0, p[1, i] - gap, 0.0, 1.0, 0.0
            else:
                dx, dy, dz = p[0, i] - cx, p[1, i] - cy, p[2, i] - cz
                u, v = co * dx - si * dy, si * dx + co * dy
                ou, ov, ow = abs(u) - hx, abs(v) - hy, abs(dz) - hz
                if ou >= ov and ou >= ow:
                    d, nu, nv, nw = ou, (1.0 if u > 0.0 else -1.0), 0.0, 0.0
                elif ov >= ow:
                    d, nu, nv, nw = ov, 0.0, (1.0 if v > 0.0 else -1.0), 0.0
                else:
                    d, nu, nv, nw = ow, 0.0, 0.0, (1.0 if dz > 0.0 else -1.0)
            q = (d + half) / reach
            if q >= 1.0:
                continue
            q = max(q, 0.0)
            s = q * q
            walls[0, i] += 0.5 - 315.0 / 256.0 * q * (
                1.0 - s * (4.0 / 3.0 - s * (6.0 / 5.0 - s * (4.0 / 7.0 - s / 9.0)))
            )
            t = 1.0 - s
            slope = 315.0 / 256.0 * t * t * t * t / reach
            walls[1, i] += slope * (co * nu + si * nv)
            walls[2, i] += slope * (co * nv - si * nu)
            walls[3, i] += slope * nw


@kernel
def step_water(
    p: Vector,
    v: Vector,
    w: Vector,
    before: Vector,
    after: Vector,
    counts: Indices,
    numbers: Vector,
    scratch: Vector,
    singles: Single,
    origin: Vector,
    cells: Indices,
    start: Indices,
    order: Indices,
    near: NDArray[np.uint32],
    first: NDArray[np.uint64],
    pairs: Single,
) -> bool:
    """One step of water in boxes that move from `before` to `after`, (m, 7) each as in `solve_boxes`.

    Args:
        p: (3, n) positions, m, changed in place.
        v: (3, n) velocities, m/s, changed in place.
        w: (n,) inverse masses, all above 0.
        counts: (2,) sub-steps, passes.
        numbers: as `Liquid.numbers` packs them.
        scratch: (6, n) working memory.
        singles: (13, n) working memory.
        origin, cells, start, order: working memory of `bin_particles`.
        near, first, pairs: working memory of `solve_density`.

    Returns:
        False where `near` and `pairs` were too short: the state is then useless, try again with more room.
    """
    n = p.shape[1]
    substeps, passes = counts[0], counts[1]
    reach, rest, softness, gap = numbers[0], numbers[1], numbers[2], numbers[3]
    viscosity, damping, h, fastest = numbers[4], numbers[5], numbers[6], numbers[7]
    half, cohesion = numbers[8], numbers[9]
    # q is where particles are, in the order of their cells; f is the same in single precision from the
    # corner of the box that they fill.
    x, q = scratch[0:3], scratch[3:6]
    f, walls, sums = singles[0:3], singles[3:7], singles[7:13]
    boxes = np.empty_like(before)
    for substep in range(substeps):
        predict(p, x, v, w, n, h, damping)
        share = (substep + 1.0) / substeps
        for m in range(before.shape[0]):
            for j in range(7):
                boxes[m, j] = before[m, j] + share * (after[m, j] - before[m, j])
        bin_particles(p, n, reach, origin, cells, start, order)
        for axis in range(3):
            for s in range(n):
                q[axis, s] = p[axis, order[s]]
                f[axis, s] = q[axis, s] - origin[axis]
        if not list_neighbours(f, reach, cells, start, near, first):
            return False
        solve_boxes(q, n, boxes, gap)
        for i in range(passes):
            if i % 2 == 0:
                weigh_walls(q, n, boxes, gap, reach, half, walls)
            for axis in range(3):
                for s in range(n):
                    f[axis, s] = q[axis, s] - origin[axis]
            solve_density(f, near, first, reach, rest, softness, cohesion, walls, pairs, sums)
            for axis in range(3):
                for s in range(n):
                    q[axis, s] += sums[2 + axis, s]
            solve_boxes(q, n, boxes, gap)
        for axis in range(3):
            for s in range(n):
                p[axis, order[s]] = q[axis, s]
        conclude(p, x, v, w, n, h, fastest)
        for axis in range(3):
            for s in range(n):
                f[axis, s] = v[axis, order[s]]
        stir(f, near, first, viscosity / rest, pairs[3], sums)
        for axis in range(3):
            for s in range(n):
                v[axis, order[s]] += sums[axis, s]
    return True
