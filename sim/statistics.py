"""Intervals for success rates and for differences between policies tried on the same goals."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from episodes.errors import ConfigError


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    lower: float
    upper: float
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.estimate:.2f} [{self.lower:.2f}, {self.upper:.2f}]"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Score interval of one proportion (Wilson 1927), without continuity correction.

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0 and at all successes.

    Raises:
        ConfigError: no trials, more successes than trials, or a confidence outside (0, 1).
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ConfigError(f"{successes} successes in {trials} trials make no proportion.")
    _check_confidence(confidence)
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2.0)
    p = successes / trials
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    # At the two ends the bound is exactly 0 or 1, and rounding must not push the estimate out of its
    # interval.
    lower = 0.0 if successes == 0 else centre - half
    upper = 1.0 if successes == trials else centre + half
    return Interval(p, lower, upper, confidence)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of mean(a) - mean(b), resampling goals (Efron and Tibshirani 1993, chapter 13).

    A goal is hard or easy for both policies alike; drawing goals, with the results of both at once, takes
    that shared part out of the difference.

    Args:
        a: (n,) results of one policy, or (seeds, n): then each seed counts with its mean over the drawn
            goals.
        b: results of the other, on the same goals in the same order.
        confidence: of the interval.
        resamples: how many bootstrap samples.
        seed: of the resampling.

    Raises:
        ConfigError: shapes that differ, no goals, or a confidence outside (0, 1).
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim not in (1, 2) or first.size == 0:
        raise ConfigError(
            f"paired results must have the same shape, (goals,) or (seeds, goals); got {first.shape} and "
            f"{second.shape}. Try both policies on the same goals."
        )
    _check_confidence(confidence)
    difference = np.atleast_2d(first - second)
    seeds, goals = difference.shape
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    # The goals of two seeds are different goals: each seed's are drawn by themselves.
    for row in difference:
        total += row[rng.integers(goals, size=(resamples, goals))].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    lower, upper = np.quantile(total / seeds, (tail, 1.0 - tail))
    return Interval(float(difference.mean()), float(lower), float(upper), confidence)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence {confidence:g} is out of range: write a number between 0 and 1.")
