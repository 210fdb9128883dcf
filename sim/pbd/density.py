"""Water against itself: position-based fluids (Macklin and Müller 2013).

Density by the poly6 kernel, its gradient by the spiky one (equations 1 to 12 there), viscosity by XSPH
(equation 17). Cohesion is a share of the pull that too low a density would give (in the paper's clamped
constraint none), between particles alone: walls attract nobody.

Particles come in the order of their cells, so that neighbours lie near each other in memory, and each pair
is listed once. A pass has three loops over the pairs: differences, kernels, sums. The kernels cost most, and
theirs is the loop that runs in vector registers, since no two pairs write to one place. Pairs are in single
precision: 10 m away from the first particle that is 0.5 µm of a reach of 30 mm. Indices of inner loops are
unsigned: of a signed one numba asks whether it counts from the end, which costs more than what it leads to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.compiled import kernel

Single = NDArray[np.float32]
Indices = NDArray[np.int64]


@kernel
def list_neighbours(
    q: Single,
    reach: float,
    shape: Indices,
    start: Indices,
    near: NDArray[np.uint32],
    first: NDArray[np.uint64],
) -> bool:
    """List the pairs nearer than `reach`: those of s with later particles are near[first[s]:first[s + 1]].

    Args:
        q: (3, n) positions in the order of cells as large as the reach, m.
        reach: distance, m.
        shape, start: as `bin_particles` sets them.
        near: (room,) filled.
        first: (n + 1,) set.

    Returns:
        False where `near` is too short: it needs room for candidates too, those of 14 cells for one particle.
    """
    x, y, z = q[0], q[1], q[2]
    found, room, squared = 0, near.shape[0], np.float32(reach * reach)
    nx, ny, nz = shape[0], shape[1], shape[2]
    for cx in range(nx):
        for cy in range(ny):
            for cz in range(nz):
                c = (cx * ny + cy) * nz + cz
                for s in range(start[c], start[c + 1]):
                    first[s] = found
                    xs, ys, zs = x[s], y[s], z[s]
                    # Forward half of the 27 cells: this one and the next along z, then whole columns.
                    for block in range(5):
                        bx = cx if block < 2 else cx + 1
                        by = cy if block == 0 else (cy + 1 if block == 1 else cy + block - 3)
                        if bx >= nx or by < 0 or by >= ny:
                            continue
                        base = (bx * ny + by) * nz
                        low = s + 1 if block == 0 else start[base + max(cz - 1, 0)]
                        high = start[base + min(cz + 2, nz)]
                        if found + high - low > room:
                            return False
                        for t in range(np.uint64(low), np.uint64(high)):
                            dx, dy, dz = x[t] - xs, y[t] - ys, z[t] - zs
                            # Written in any case: one candidate in six is near, which no branch predicts.
                            near[np.uint64(found)] = t
                            found += dx * dx + dy * dy + dz * dz < squared
    first[start[nx * ny * nz]] = found
    return True


@kernel
def solve_density(
    q: Single,
    near: NDArray[np.uint32],
    first: NDArray[np.uint64],
    reach: float,
    rest: float,
    softness: float,
    cohesion: float,
    walls: Single,
    pairs: Single,
    sums: Single,
) -> None:
    """One pass of the density constraint over all particles at once.

    Args:
        q: (3, n) positions, m.
        near, first: as `list_neighbours` sets them.
        reach: radius of the kernel, m.
        rest: sum of poly6 (without its constant, in units of reach^6) in water at rest.
        softness: the constraint force mixing of equation 11, relative to the gradients of water at rest.
        cohesion: share of too low a density that is corrected, 0 to 1.
        walls: (4, n) as `weigh_walls` sets it.
        pairs: (5, room) working memory; row 3 is left at the pairs' poly6.
        sums: (6, n) working memory; rows 2 to 4 are set to where the constraint moves the particles, m.
    """
    _weigh_pairs(q, near, first, reach, rest, pairs)
    n = q.shape[1]
    one, zero, soft = np.float32(1.0), np.float32(0.0), np.float32(softness)
    gx, gy, gz, poly, square = pairs[0], pairs[1], pairs[2], pairs[3], pairs[4]
    rho, norm, sx, sy, sz, lam = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    for s in range(n):
        rho[s] = one + np.float32(rest) * walls[0, s]
        norm[s] = soft
        sx[s] = -walls[1, s]
        sy[s] = -walls[2, s]
        sz[s] = -walls[3, s]
    share, pull = np.float32(1.0 / rest), np.float32(cohesion)
    for s in range(n):
        density, whole, ax, ay, az = rho[s], norm[s], sx[s], sy[s], sz[s]
        for k in range(first[s], first[s + 1]):
            t = near[k]
            density += poly[k]
            whole += square[k]
            ax += gx[k]
            ay += gy[k]
            az += gz[k]
            rho[t] += poly[k]
            norm[t] += square[k]
            sx[t] -= gx[k]
            sy[t] -= gy[k]
            sz[t] -= gz[k]
        # Whoever is a neighbour of s and earlier has already added to it.
        over = density * share - one
        over = max(over, pull * over)
        lam[s] = over / (whole + ax * ax + ay * ay + az * az)
        push = max(lam[s], zero)
        sx[s] = push * walls[1, s]
        sy[s] = push * walls[2, s]
        sz[s] = push * walls[3, s]
    for s in range(n):
        own, ax, ay, az = lam[s], sx[s], sy[s], sz[s]
        for k in range(first[s], first[s + 1]):
            t = near[k]
            both = own + lam[t]
            dx, dy, dz = both * gx[k], both * gy[k], both * gz[k]
            ax -= dx
            ay -= dy
            az -= dz
            sx[t] += dx
            sy[t] += dy
            sz[t] += dz
        sx[s], sy[s], sz[s] = ax, ay, az


@kernel
def _weigh_pairs(
    q: Single,
    near: NDArray[np.uint32],
    first: NDArray[np.uint64],
    reach: float,
    rest: float,
    pairs: Single,
) -> None:
    """Set `pairs` to the gradient of the density of each pair (rows 0 to 2, 1/m), its poly6 and the square
    of that gradient.

    Units of the kernels: density in units of 315/(64 π h^3), gradients of the same density, so that spiky's
    45/(π h^6) becomes 45 * 64/315 / h and (1 - r/h)^2 is left.
    """
    x, y, z = q[0], q[1], q[2]
    one, zero, tiny = np.float32(1.0), np.float32(0.0), np.float32(1e-9)
    per_reach, per_square = np.float32(1.0 / reach), np.float32(1.0 / (reach * reach))
    slope = np.float32(45.0 * 64.0 / 315.0 / reach / rest)
    gx, gy, gz, poly, square = pairs[0], pairs[1], pairs[2], pairs[3], pairs[4]
    n = q.shape[1]
    for s in range(n):
        xs, ys, zs = x[s], y[s], z[s]
        for k in range(first[s], first[s + 1]):
            t = near[k]
            gx[k] = x[t] - xs
            gy[k] = y[t] - ys
            gz[k] = z[t] - zs
    for k in range(first[n]):
        dx, dy, dz = gx[k], gy[k], gz[k]
        r2 = dx * dx + dy * dy + dz * dz
        r = np.sqrt(r2) + tiny
        u = max(one - r2 * per_square, zero)
        m = max(one - r * per_reach, zero)
        m = slope * m * m
        g = m / r
        gx[k] = g * dx
        gy[k] = g * dy
        gz[k] = g * dz
        poly[k] = u * u * u
        square[k] = m * m


@kernel
def stir(
    u: Single, near: NDArray[np.uint32], first: NDArray[np.uint64], c: float, poly: Single, sums: Single
) -> None:
    """XSPH viscosity: set rows 0 to 2 of `sums` to the share `c` of the differences of velocity between
    neighbours, weighted with their poly6. `u` is (3, n) velocities, m/s; `poly` is that of the last pass."""
    share = np.float32(c)
    for axis in range(3):
        speed, change = u[axis], sums[axis]
        for s in range(u.shape[1]):
            change[s] = np.float32(0.0)
        for s in range(u.shape[1]):
            own, total = speed[s], change[s]
            for k in range(first[s], first[s + 1]):
                t = near[k]
                d = share * poly[k] * (speed[t] - own)
                total += d
                change[t] -= d
            change[s] = total
