"""Quantiles, mean and deviation of a stream of numbers in one pass and little memory.

The sketch is the merging t-digest of Dunning and Ertl (2019), "Computing extremely accurate quantiles using
t-digests", with the scale function k₁: centroids are small near both ends, so that extreme quantiles are
nearly exact. As long as there are few different values (pixels, grippers, short streams) each is counted, and
all quantiles are exact. Mean and deviation are merged as by Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BUFFER = 16_384
_COUNTED = 512
"""So many different values are counted one by one."""


class Sketch:
    """What was seen of one quantity; values that are not finite are counted apart."""

    def __init__(self, compression: float = 200.0) -> None:
        """More `compression` is more exact; about as many centroids are kept."""
        self.compression = compression
        self.count = 0
        self.not_finite = 0
        self.mean = 0.0
        self._squares = 0.0
        self.least = math.inf
        self.most = -math.inf
        self._means: NDArray[np.float64] = np.empty(0)
        self._weights: NDArray[np.float64] = np.empty(0)
        self._waiting: list[NDArray[np.float64]] = []
        self._waits = 0
        self._exact = True

    def add(self, values: ArrayLike) -> None:
        """Take numbers of any shape."""
        array = np.asarray(values, dtype=np.float64).reshape(-1)
        finite = array[np.isfinite(array)]
        self.not_finite += len(array) - len(finite)
        if not len(finite):
            return
        mean = float(finite.mean())
        self._take_moments(len(finite), mean, float(((finite - mean) ** 2).sum()))
        self.least, self.most = min(self.least, float(finite.min())), max(self.most, float(finite.max()))
        self._waiting.append(finite)
        self._waits += len(finite)
        if self._waits >= _BUFFER:
            self._compress()

    def merge(self, other: Sketch) -> None:
        """Take everything that `other` has seen."""
        other._compress()
        self._compress()
        self.not_finite += other.not_finite
        if not other.count:
            return
        self._take_moments(other.count, other.mean, other._squares)
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self._exact = self._exact and other._exact
        self._join(other._means, other._weights)

    @property
    def deviation(self) -> float:
        """Standard deviation of what was seen (division by n)."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan

    def quantiles(self, at: ArrayLike) -> NDArray[np.float64]:
        """The quantiles at shares `at` (0 to 1), by linear interpolation as numpy's; NaN if empty."""
        self._compress()
        shares = np.asarray(at, dtype=np.float64)
        if not self.count:
            return np.full(shares.shape, np.nan)
        if self._exact:
            ends = np.cumsum(self._weights)
            place = shares * (self.count - 1)
            low, high = (
                self._means[np.searchsorted(ends, at, "right")] for at in (np.floor(place), np.ceil(place))
            )
            return np.asarray(low + (high - low) * (place - np.floor(place)))
        # A centroid of weight 1 is a value itself; the ends are known exactly.
        middle = np.cumsum(self._weights) - self._weights / 2.0
        positions = np.concatenate([[0.0], middle, [float(self.count)]])
        values = np.concatenate([[self.least], self._means, [self.most]])
        return np.asarray(np.interp(shares * self.count, positions, values))

    def _take_moments(self, count: int, mean: float, squares: float) -> None:
        total = self.count + count
        apart = mean - self.mean
        self._squares += squares + apart * apart * self.count * count / total
        self.mean += apart * count / total
        self.count = total

    def _compress(self) -> None:
        if self._waiting:
            fresh = np.concatenate(self._waiting)
            self._waiting, self._waits = [], 0
            self._join(fresh, np.ones(len(fresh)))

    def _join(self, means: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        """Take values with their weights."""
        means = np.concatenate([self._means, means])
        weights = np.concatenate([self._weights, weights])
        if self._exact:
            means, place = np.unique(means, return_inverse=True)
            weights = np.bincount(place.reshape(-1), weights).astype(np.float64)
            self._exact = len(means) <= _COUNTED
        self._means, self._weights = (means, weights) if self._exact else self._merged(means, weights)

    def _merged(
        self, means: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Join neighbours whose span on the scale k₁(q) = δ/2π · asin(2q − 1) is at most 1."""
        order = np.argsort(means, kind="stable")
        means, weights = means[order], weights[order]
        ends = np.cumsum(weights)
        total = float(ends[-1])
        scale = self.compression / (2.0 * math.pi)
        first, starts = 0, [0]
        while True:
            share = (float(ends[first - 1]) if first else 0.0) / total
            limit = (math.sin(min(math.asin(2.0 * share - 1.0) + 1.0 / scale, math.pi / 2.0)) + 1.0) / 2.0
            first = max(first + 1, int(np.searchsorted(ends, limit * total * (1.0 + 1e-12), "right")))
            if first >= len(means):
                break
            starts.append(first)
        joined = np.add.reduceat(weights, starts)
        return np.add.reduceat(means * weights, starts) / joined, joined
