"""Pictures that are as hard to compress as a camera's: texture, and sensor noise of σ 4."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

NOISE_SIGMA = 4.0


def textured(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.uint8]:
    """`count` pictures (count, height, width, 3) of one scene that drifts, each with noise of its own."""
    coarse = rng.integers(0, 256, (height // 6 + 8, width // 6 + 8, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (width + 2 * count % 64 + 64, height + 64), interpolation=cv2.INTER_CUBIC)
    fields = min(count, 8)
    noise = NOISE_SIGMA * rng.standard_normal((fields, height, width, 3), dtype=np.float32)
    pictures = np.empty((count, height, width, 3), np.uint8)
    for k in range(count):
        row, column = k % 64, (2 * k) % 64
        frame = scene[row : row + height, column : column + width].astype(np.float32)
        # Few noise fields, shifted by another amount each time, stand for new noise and cost far less.
        own = np.roll(noise[k % fields], (int(rng.integers(height)), int(rng.integers(width))), axis=(0, 1))
        pictures[k] = np.clip(frame + own, 0, 255)
    return pictures
