"""Curves of a run's log, and what is left of them when noise is averaged out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Series(NamedTuple):
    """One figure of the log along the run."""

    steps: NDArray[np.int64]
    """(n,), rising."""
    values: NDArray[np.float64]
    """(n,), finite."""

    def __len__(self) -> int:  # a named tuple's own length would be 2
        return len(self.steps)

    def from_step(self, step: float) -> Series:
        """The part at `step` and behind it."""
        keep = self.steps >= step
        return Series(self.steps[keep], self.values[keep])


def series(rows: Sequence[Mapping[str, float]], name: str) -> Series:
    """The figure `name` of a log (`policy.metrics.read_metrics`); values that are not finite are left out."""
    found = [(int(row["step"]), float(row[name])) for row in rows if name in row]
    found = [(step, value) for step, value in found if np.isfinite(value)]
    steps, values = ([pair[k] for pair in found] for k in range(2))
    return Series(np.array(steps, np.int64), np.array(values, np.float64))


def smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Running mean (n,) over `window` points around each, and over fewer towards the ends.

    The window stays symmetric about its point: a lopsided mean would bend the ends of a slope, and the last
    point is the one that decides.
    """
    reach = np.minimum(window // 2, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    sums = np.concatenate(([0.0], np.cumsum(values)))
    here = np.arange(len(values))
    return (sums[here + reach + 1] - sums[here - reach]) / (2 * reach + 1)


def noise(values: NDArray[np.float64]) -> float:
    """Standard deviation of the noise of single points about a smooth curve.

    From the second differences, d = x₋₁ − 2x₀ + x₊₁ with variance 6σ², in which a straight line leaves
    nothing; by their median, which a few steps of the curve do not move.
    """
    if len(values) < 3:
        return 0.0
    return float(1.4826 * np.median(np.abs(np.diff(values, 2))) / np.sqrt(6.0))
