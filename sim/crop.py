"""A part of a camera's picture as a camera of its own, at any resolution.

The part is drawn through a frustum off the camera's axis, so that a cropped picture of 84×84 costs no more
than a whole one and loses no detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Crop:
    """Rows and columns of a square picture of a camera, as shares of its side."""

    camera: str
    top: float
    bottom: float
    left: float
    right: float


@dataclass(frozen=True)
class Frustum:
    """What a camera sees, at one metre before it: metres right of and above its axis."""

    left: float
    right: float
    bottom: float
    top: float


def frustum(model: Any, camera: int, height: int, width: int) -> Frustum:
    """What camera number `camera` sees in a picture of this size: by its sensor where the model names one,
    else by its field of view."""
    if model.cam_sensorsize[camera, 1] > 0:
        reach = model.cam_sensorsize[camera] / 2.0
        focal, centre = model.cam_intrinsic[camera, :2], model.cam_intrinsic[camera, 2:]
        low, high = (centre - reach) / focal, (centre + reach) / focal
        return Frustum(float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    top = float(np.tan(np.radians(model.cam_fovy[camera]) / 2.0))
    side = top * width / height
    return Frustum(-side, side, -top, top)


@contextmanager
def cropped(model: Any, camera: int, crop: Crop | None, height: int, width: int) -> Iterator[None]:
    """Have camera number `camera` see what `crop` shows of its square picture, until the block ends.

    A picture that is wider than high shows more at both sides, as that of a whole camera does.
    """
    if crop is None:
        yield
        return
    whole = frustum(model, camera, 1, 1)
    top = whole.top - crop.top * (whole.top - whole.bottom)
    bottom = whole.top - crop.bottom * (whole.top - whole.bottom)
    middle = whole.left + (crop.left + crop.right) / 2.0 * (whole.right - whole.left)
    side = (crop.right - crop.left) / 2.0 * (whole.right - whole.left) * width / height
    before = model.cam_sensorsize[camera].copy(), model.cam_intrinsic[camera].copy()
    model.cam_sensorsize[camera] = (2.0 * side, top - bottom)
    model.cam_intrinsic[camera] = (1.0, 1.0, middle, (top + bottom) / 2.0)
    try:
        yield
    finally:
        model.cam_sensorsize[camera], model.cam_intrinsic[camera] = before
