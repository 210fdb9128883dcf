"""Sub-steps of water: position-based fluids (Macklin and Müller 2013) between oriented boxes.

Density by the poly6 kernel, its gradient by the spiky one (equations 1 to 12 there), viscosity by XSPH
(equation 17). Only too high a density is corrected: cohesion is left to the drops' own ways.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.compiled import kernel
from sim.pbd.contact import bin_particles
from sim.pbd.solids import conclude, predict

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]


@kernel
def find_neighbours(
    p: Vector,
    q: Vector,
    n: int,
    reach: float,
    origin: Vector,
    shape: Indices,
    start: Indices,
    order: Indices,
    pairs: Indices,
) -> int:
    """Pairs nearer than `reach` in the order of their cells; else as `find_pairs`. `q` is (3, n) working
    memory."""
    bin_particles(p, n, reach, origin, shape, start, order)
    for axis in range(3):
        for s in range(n):
            q[axis, s] = p[axis, order[s]]
    x, y, z = q[0], q[1], q[2]
    found, room, squared = 0, pairs.shape[1], reach * reach
    nx, ny, nz = shape[0], shape[1], shape[2]
    for cx in range(nx):
        for cy in range(ny):
            for cz in range(nz):
                c = (cx * ny + cy) * nz + cz
                for s in range(start[c], start[c + 1]):
                    xs, ys, zs = x[s], y[s], z[s]
                    # Forward half of the 27 cells: this one and the next along z, then whole columns.
                    for block in range(5):
                        bx = cx if block < 2 else cx + 1
                        by = cy if block == 0 else (cy + 1 if block == 1 else cy + block - 3)
                        if bx >= nx or by < 0 or by >= ny:
                            continue
                        base = (bx * ny + by) * nz
                        low = s + 1 if block == 0 else start[base + max(cz - 1, 0)]
                        for t in range(low, start[base + min(cz + 2, nz)]):
                            dx, dy, dz = x[t] - xs, y[t] - ys, z[t] - zs
                            if dx * dx + dy * dy + dz * dz < squared:
                                if found < room:
                                    pairs[0, found] = order[s]
                                    pairs[1, found] = order[t]
                                found += 1
    return found if found <= room else -1 - found


@kernel
def solve_density(
    p: Vector,
    n: int,
    pairs: Indices,
    count: int,
    reach: float,
    rest: float,
    softness: float,
    gradients: Vector,
    walls: Vector,
    scratch: Vector,
) -> None:
    """One pass of the density constraint over all particles at once.

    Args:
        p: (3, n) positions, m, changed in place.
        n: number of particles.
        pairs: (2, room) neighbours.
        count: how many there are.
        reach: radius of the kernel, m.
        rest: sum of poly6 (without its constant, in units of reach^6) in water at rest.
        softness: the constraint force mixing of equation 11, relative to the gradients of water at rest.
        gradients: (3, room) working memory.
        walls: (4, n) as `weigh_walls` sets it.
        scratch: (6, n) working memory.
    """
    rho, norm, lam = scratch[0], scratch[1], scratch[2]
    gx, gy, gz = scratch[3], scratch[4], scratch[5]
    squared = reach * reach
    # Units of the kernels: density in units of 315/(64 π h^3), gradients of the same density, so that
    # spiky's 45/(π h^6) becomes 45 * 64/315 / h and (1 - r/h)^2 is left.
    slope = 45.0 * 64.0 / 315.0 / reach / rest
    for i in range(n):
        rho[i] = 1.0 + rest * walls[0, i]
        norm[i] = 0.0
        gx[i] = -walls[1, i]
        gy[i] = -walls[2, i]
        gz[i] = -walls[3, i]
    for s in range(count):
        a, b = pairs[0, s], pairs[1, s]
        dx, dy, dz = p[0, b] - p[0, a], p[1, b] - p[1, a], p[2, b] - p[2, a]
        r2 = dx * dx + dy * dy + dz * dz
        g, u = 0.0, 1.0 - r2 / squared
        if u > 0.0:
            r = np.sqrt(r2) + 1e-9
            u3 = u * u * u
            rho[a] += u3
            rho[b] += u3
            m = max(1.0 - r / reach, 0.0)
            g = slope * m * m / r
        dx, dy, dz = g * dx, g * dy, g * dz
        gradients[0, s] = dx
        gradients[1, s] = dy
        gradients[2, s] = dz
        square = dx * dx + dy * dy + dz * dz
        norm[a] += square
        norm[b] += square
        gx[a] += dx
        gy[a] += dy
        gz[a] += dz
        gx[b] -= dx
        gy[b] -= dy
        gz[b] -= dz
    for i in range(n):
        over = rho[i] / rest - 1.0
        whole = norm[i] + gx[i] * gx[i] + gy[i] * gy[i] + gz[i] * gz[i]
        lam[i] = over / (whole + softness) if over > 0.0 else 0.0
        gx[i] = lam[i] * walls[1, i]
        gy[i] = lam[i] * walls[2, i]
        gz[i] = lam[i] * walls[3, i]
    for s in range(count):
        a, b = pairs[0, s], pairs[1, s]
        k = lam[a] + lam[b]
        dx, dy, dz = k * gradients[0, s], k * gradients[1, s], k * gradients[2, s]
        gx[a] -= dx
        gy[a] -= dy
        gz[a] -= dz
        gx[b] += dx
        gy[b] += dy
        gz[b] += dz
    for i in range(n):
        p[0, i] += gx[i]
        p[1, i] += gy[i]
        p[2, i] += gz[i]


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
    p: Vector, n: int, boxes: Vector, gap: float, reach: float, half: float, walls: Vector
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
def stir(
    p: Vector, v: Vector, n: int, pairs: Indices, count: int, reach: float, c: float, scratch: Vector
) -> None:
    """XSPH viscosity: share `c` of the kernel-weighted differences of velocity between neighbours."""
    squared = reach * reach
    for axis in range(3):
        for i in range(n):
            scratch[axis, i] = 0.0
    for s in range(count):
        a, b = pairs[0, s], pairs[1, s]
        dx, dy, dz = p[0, b] - p[0, a], p[1, b] - p[1, a], p[2, b] - p[2, a]
        u = 1.0 - (dx * dx + dy * dy + dz * dz) / squared
        if u > 0.0:
            k = c * u * u * u
            for axis in range(3):
                change = k * (v[axis, b] - v[axis, a])
                scratch[axis, a] += change
                scratch[axis, b] -= change
    for axis in range(3):
        for i in range(n):
            v[axis, i] += scratch[axis, i]


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
    origin: Vector,
    cells: Indices,
    start: Indices,
    order: Indices,
    pairs: Indices,
    gradients: Vector,
) -> int:
    """One step of water in boxes that move from `before` to `after`, (m, 7) each as in `solve_boxes`.

    Args:
        p: (3, n) positions, m, changed in place.
        v: (3, n) velocities, m/s, changed in place.
        w: (n,) inverse masses, all above 0.
        counts: (2,) sub-steps, passes.
        numbers: as `Liquid.numbers` packs them.
        scratch: (16, n) working memory.
        gradients: (3, room) working memory, as long as `pairs`.

    Returns:
        As `step_body`.
    """
    n = p.shape[1]
    substeps, passes = counts[0], counts[1]
    reach, rest, softness, gap = numbers[0], numbers[1], numbers[2], numbers[3]
    viscosity, damping, h, fastest = numbers[4], numbers[5], numbers[6], numbers[7]
    half = numbers[8]
    x, q = scratch[0:3], scratch[3:6]
    walls, work = scratch[6:10], scratch[10:16]
    boxes = np.empty_like(before)
    for substep in range(substeps):
        predict(p, x, v, w, n, h, damping)
        share = (substep + 1.0) / substeps
        for m in range(before.shape[0]):
            for j in range(7):
                boxes[m, j] = before[m, j] + share * (after[m, j] - before[m, j])
        count = find_neighbours(p, q, n, reach, origin, cells, start, order, pairs)
        if count < 0:
            return -1 - count
        solve_boxes(p, n, boxes, gap)
        for i in range(passes):
            if i % 2 == 0:
                weigh_walls(p, n, boxes, gap, reach, half, walls)
            solve_density(p, n, pairs, count, reach, rest, softness, gradients, walls, work)
            solve_boxes(p, n, boxes, gap)
        conclude(p, x, v, w, n, h, fastest)
        stir(p, v, n, pairs, count, reach, viscosity / rest, work)
    return 0
