"""Where something happens in the frames of a camera that stands still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import DatasetError


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of (..., height, width, 3)."""
        return images[..., self.top : self.top + self.height, self.left : self.left + self.width, :]


def whole(height: int, width: int) -> Box:
    """The picture itself."""
    return Box(0, 0, height, width)


def active_box(images: NDArray[np.uint8], smallest: int, *, threshold: float = 3.0, margin: int = 2) -> Box:
    """The smallest box that holds every pixel that changes among `images` (n, height, width, 3).

    A pixel changes when the standard deviation of a channel exceeds `threshold` grey levels; sensor noise
    stays below that, and where it does not the box is the whole picture. The box is widened by `margin`
    and to at least `smallest` pixels a side.

    Raises:
        DatasetError: the pictures are smaller than `smallest`.
    """
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise DatasetError(
            f"frames are {height}×{width}, the reward network needs {smallest} pixels a side or more: "
            "record larger "
            "frames or give smaller --network.strides."
        )
    changing = images.astype(np.float32).std(axis=0).max(axis=-1) > threshold
    if not changing.any():
        return whole(height, width)
    top, bottom = _span(changing.any(axis=1), height, smallest, margin)
    left, right = _span(changing.any(axis=0), width, smallest, margin)
    return Box(top, left, bottom - top, right - left)


def _span(active: NDArray[np.bool_], size: int, smallest: int, margin: int) -> tuple[int, int]:
    where = np.flatnonzero(active)
    low, high = max(int(where[0]) - margin, 0), min(int(where[-1]) + 1 + margin, size)
    missing = max(smallest - (high - low), 0)
    low = max(low - (missing + 1) // 2, 0)
    high = min(max(high, low + smallest), size)
    return min(low, high - smallest) if high - low < smallest else low, high
