"""Intervals by resampling whole episodes: frames of one episode are near copies of each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_DEFINED = 0.9
"""Share of the resamples in which a figure must be defined; below, an interval would hide that it hangs on a
few episodes."""


@dataclass(frozen=True)
class Figure:
    """A figure with its interval."""

    value: float | None
    """None where it cannot be known."""
    low: float | None = None
    """2.5 % quantile over resampled episodes; None where it is not defined in most of them."""
    high: float | None = None
    """97.5 % quantile."""
    count: int = 0
    """Of what the figure is made: frames, pairs or episodes."""


UNKNOWN = Figure(None)


@dataclass(frozen=True)
class Resampling:
    """The percentile bootstrap of Efron (1979) over episodes."""

    count: int = 300
    """Resamples; 0 for no intervals."""
    seed: int = 0
    """Seed of the resamples."""

    def figure(
        self, statistic: Callable[[NDArray[np.int64]], float | None], *episodes: NDArray[np.integer]
    ) -> Figure:
        """`statistic` of all items, with its 95 % interval.

        Args:
            statistic: of the items of these numbers (m,), repeated ones counted as often.
            episodes: (n,) number of the episode of each item. With two, an item belongs to both (a pair of
                frames), and comes as often as the product of both says (once each within one episode).
        """
        size = len(episodes[0])
        value = statistic(np.arange(size)) if size else None
        if value is None:
            return Figure(None, count=size)
        names, where = np.unique(np.concatenate(episodes), return_inverse=True)
        columns = where.reshape(len(episodes), size)
        generator = np.random.default_rng(self.seed)
        found = []
        for _ in range(self.count if len(names) > 1 else 0):
            drawn = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
            times = drawn[columns[0]]
            for column in columns[1:]:
                times = np.where(column == columns[0], times, times * drawn[column])
            again = statistic(np.repeat(np.arange(size), times)) if times.any() else None
            if again is not None:
                found.append(again)
        if not found or len(found) < LEAST_DEFINED * self.count:
            return Figure(value, count=size)
        low, high = np.quantile(found, [0.025, 0.975])
        return Figure(value, float(low), float(high), size)
