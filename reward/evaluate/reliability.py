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

from reward.calibration import Calibration, calibration

STEEPEST = 1e4
"""Slopes of rewards in [0, 1] end here: a reward without a single mistake has no finite slope of its own."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """How far the size of a difference in reward can be taken at its word."""

    slope: float
    """k, per unit of reward."""
    curve: Calibration
    """The reliability diagram of P(the judge prefers the frame with the higher reward), and its error."""
    brier: float
    """Mean squared difference of P(second preferred) and the label (Brier 1950)."""


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
    difference: NDArray[np.floating], label: NDArray[np.floating], slope: float
) -> Reliability | None:
    """The diagram of pairs (n,) with r₂ − r₁ = `difference` and P(second preferred) = `label`; None without a
    pair. Equal rewards predict one half."""
    if len(difference) == 0:
        return None
    chance = expit(slope * difference.astype(np.float64))
    return Reliability(slope, calibration(chance, label), float(((chance - label) ** 2).mean()))
