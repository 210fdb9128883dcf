"""Whether a camera still sees: frozen frames, which have new stamps and old pictures.

A stamp that stands still is caught by its age. Identical pixels alone prove nothing, since a still arm in
front of a still camera repeats its frames rightly, in simulation bit for bit; identical pixels while the
measured joints moved do.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FreezeConfig:
    """When repeated pictures count as a frozen camera."""

    frames: int = 5
    """Identical frames in a row, at least."""
    moved: float = 0.02
    """Largest change of one joint during them, at least (rad or m)."""


class FrozenCamera:
    """Watches one image stream. Time does not enter: frames and motion do."""

    def __init__(self, config: FreezeConfig | None = None) -> None:
        self.config = config or FreezeConfig()
        self._stamp_ns: int | None = None
        self._checksum: int | None = None
        self._repeats = 0
        self._lowest: NDArray[np.float64] | None = None
        self._highest: NDArray[np.float64] | None = None

    def see(self, stamp_ns: int, pixels: NDArray[Any], joints: NDArray[np.float64]) -> bool:
        """Take a frame and the joints measured at that time; whether the camera is frozen.

        A frame with the stamp of the last one is the same frame and changes nothing but the joints' range.
        """
        joints = np.asarray(joints, dtype=np.float64)
        if stamp_ns != self._stamp_ns:
            self._stamp_ns = stamp_ns
            checksum = zlib.crc32(np.ascontiguousarray(pixels).data)
            if checksum != self._checksum:
                self._checksum, self._repeats = checksum, 0
                self._lowest = self._highest = None
            self._repeats += 1
        if self._lowest is None or self._highest is None:
            self._lowest = self._highest = joints
        self._lowest = np.minimum(self._lowest, joints)
        self._highest = np.maximum(self._highest, joints)
        return self.frozen

    @property
    def frozen(self) -> bool:
        """Whether the last frames were identical while the joints moved."""
        if self._repeats < self.config.frames or self._lowest is None or self._highest is None:
            return False
        return bool((self._highest - self._lowest >= self.config.moved).any())
