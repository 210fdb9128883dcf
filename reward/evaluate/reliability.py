"""Does a reward that prefers a frame by much prefer it rightly more often? Calibration of preferences.

Bradley-Terry reads rewards as P(second preferred) = σ(k·(r₂ − r₁)). Label files are scaled, so the slope k
is fitted (Platt scaling without intercept, since the order of a pair is arbitrary) on pairs that the diagram
does not show, and only the shape is judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

STEEPEST = 1e4
"""Slopes of rewards in [0, 1] end here: a reward without a single mistake has no finite slope of its own."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Reliability diagram of P(the preferred frame of the reward is the judge's), from 0.5 to 1."""

    slope: float
    """k, per unit of reward."""
    confidence: NDArray[np.float64]
    """(bins,) mean predicted probability in each bin that holds a pair."""
    accuracy: NDArray[np.float64]
    """(bins,) share of pairs in which the judge agrees."""
    pairs: NDArray[np.int64]
    """(bins,) pairs in each bin."""
    expected_error: float
    """Σ pairs/all · |accuracy − confidence| (ECE, Guo et al. 2017, equation 3)."""
    brier: float
    """Mean squared difference of P(second preferred) and the label (Brier 1950)."""
    log_loss: float
    """−mean(y·ln p + (1−y)·ln(1−p)), nats; ln 2 = 0.693 for a reward that says nothing."""


def fitted_slope(difference: NDArray[np.floating], label: NDArray[np.floating]) -> float | None:
    """The slope k ≥ 0 of greatest likelihood of labels (n,) given r₂ − r₁ (n,); None when nothing differs."""
    d, y = difference.astype(np.float64), label.astype(np.float64)
    largest = float(np.abs(d).max(initial=0.0))
    if largest == 0.0:
        return None

    def loss(logarithm: float) -> float:
        z = math.exp(logarithm) * d
        return float(-(y * log_expit(z) + (1 - y) * log_expit(-z)).mean())

    bounds = (math.log(1e-6 / largest), math.log(STEEPEST / largest))
    return math.exp(float(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def reliability(
    difference: NDArray[np.floating], label: NDArray[np.floating], slope: float, bins: int = 10
) -> Reliability | None:
    """The diagram of pairs (n,) with r₂ − r₁ = `difference` and P(second preferred) = `label`, in `bins` of
    equal width over [0.5, 1]; None without a pair.

    The direction of a pair does not matter: what is predicted is that the judge prefers the frame with the
    higher reward. Equal rewards predict one half.
    """
    if len(difference) == 0:
        return None
    z = slope * difference.astype(np.float64)
    y = label.astype(np.float64)
    p = expit(z)
    confidence = np.maximum(p, 1 - p)
    right = np.where(z > 0, y, np.where(z < 0, 1 - y, 0.5))
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    held = counts > 0
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins)[held] / counts[held]
    accuracy = np.bincount(place, weights=right, minlength=bins)[held] / counts[held]
    return Reliability(
        slope=slope,
        confidence=mean_confidence,
        accuracy=accuracy,
        pairs=counts[held],
        expected_error=float((counts[held] * np.abs(accuracy - mean_confidence)).sum() / len(p)),
        brier=float(((p - y) ** 2).mean()),
        log_loss=float(-(y * log_expit(z) + (1 - y) * log_expit(-z)).mean()),
    )
