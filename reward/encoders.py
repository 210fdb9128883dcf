"""What turns pictures into features: any frozen image encoder behind one small protocol.

Goal-image similarity compares such features, the frozen-encoder head is fitted on them, and k-centre may
spread pairs in their space.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageEncoder(Protocol):
    """A frozen network from pictures to features; equal pictures give equal features."""

    @property
    def identity(self) -> str:
        """What the features depend on: architecture, sha256 of the weights, preprocessing, precision.

        Two encoders with one identity give one feature for one picture, so a cache is keyed by it.
        """
        ...

    @property
    def dim(self) -> int:
        """Length of a feature."""
        ...

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, dim), finite, of RGB pictures (n, height, width, 3) of any one size."""
        ...
