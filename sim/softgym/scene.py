"""What there is to draw in a soft task, whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A camera with a vertical field of view of 45 degrees, as SoftGym describes one."""

    position: tuple[float, float, float]
    """m; y is up."""
    yaw_rad: float = 0.0
    """Turn about y."""
    pitch_rad: float = 0.0
    """Below 0 looks down."""


@dataclass(frozen=True)
class Look:
    """What to draw at one moment; y is up."""

    cameras: dict[str, Camera]
    """By name, the first one is SoftGym's own."""
    rope: Vector | None = None
    """(3, n) particles of a rope."""
    rope_radius_m: float = 0.0125
    cloth: Vector | None = None
    """(3, rows * columns) particles of a cloth."""
    cloth_shape: tuple[int, int] = (0, 0)
    """Rows and columns of the cloth."""
    water: Vector | None = None
    """(3, n) particles of water."""
    water_radius_m: float = 0.012
    boxes: Vector = field(default_factory=lambda: np.zeros((0, 7)))
    """(m, 7) glass, as in `sim.pbd.fluid.solve_boxes`."""
    balls: Vector = field(default_factory=lambda: np.zeros((0, 3)))
    """(k, 3) pickers."""
    ball_radius_m: float = 0.02
    goal: Vector | None = None
    """(3, n) particles of a goal, drawn faintly."""
    mark: Vector | None = None
    """(3,) a place marked on the floor."""
