"""Cloths and ropes to test with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.pbd.body import Body, Solid, flat_grid
from sim.softgym.rope import ROPE, SEGMENTS, SPACING_M

CLOTH = Solid(
    kind="cloth", spacing_m=0.0125, mass_kg=0.5 / 400, stretch=0.8, bend=0.05, shear=0.9,
    thickness_m=0.01125, damping_hz=0.0,
)  # fmt: skip


def make_rope(**changes: float) -> Body:
    """A straight rope of 41 particles on the floor along x."""
    body = Body(replace(ROPE, **changes), SEGMENTS + 1)
    body.p[0] = np.arange(SEGMENTS + 1) * SPACING_M
    body.p[1] = ROPE.lift_m
    return body


def make_cloth(rows: int = 20, columns: int = 16, **changes: float) -> Body:
    """A flat cloth on the floor about the origin."""
    body = Body(replace(CLOTH, **changes), rows, columns)
    body.p[:] = flat_grid(rows, columns, CLOTH.spacing_m, CLOTH.lift_m)
    return body
