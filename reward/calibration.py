"""Are the preferences that a reward predicts as frequent as it says? Reliability, error, temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks": the expected calibration error and temperature
scaling, here on the probability of the answer that the reward expects of the judge.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, xlogy

from episodes.errors import LabelError

BINS = 10
"""Bins of equal width over confidences from 0.5 to 1."""
FEWEST = 20
"""Held-out pairs below which a temperature is not fitted."""
HOTTEST = 20.0
"""Temperatures are sought from 1/HOTTEST to HOTTEST."""


@dataclass(frozen=True)
class Bin:
    """Pairs whose expected answer had a probability from `low` to `high`."""

    low: float
    high: float
    pairs: int
    predicted: float
    """Mean probability of the expected answer."""
    observed: float
    """Share of the pairs in which the judge gave it, ties one half."""


@dataclass(frozen=True)
class Calibration:
    """How far the predicted preferences of held-out pairs can be taken at their word."""

    pairs: int
    accuracy: float
    """Share of the pairs whose answer was the expected one, ties one half."""
    loss: float
    """Cross-entropy, nats per pair."""
    expected_error: float
    """Σ over bins of (pairs in it / pairs) · |observed − predicted|."""
    bins: tuple[Bin, ...]
    """The reliability curve: bins that hold pairs, by confidence."""

    def as_json(self) -> dict[str, Any]:
        """Everything, for reward.json."""
        return asdict(self)


def answer_chances(difference: NDArray[np.floating], mistakes: float) -> NDArray[np.float64]:
    """(n,) P(the judge names the second): (1 − ε)·σ(d) + ε·σ(−d), as in the loss."""
    d = difference.astype(np.float64)
    return np.asarray((1 - mistakes) * expit(d) + mistakes * expit(-d))


def cross_entropy(chance: NDArray[np.floating], label: NDArray[np.floating]) -> float:
    """Mean −y·log p − (1 − y)·log(1 − p), nats; p is kept 1e-12 away from 0 and 1."""
    p = np.clip(chance, 1e-12, 1 - 1e-12)
    return float(-(xlogy(label, p) + xlogy(1 - label, 1 - p)).mean())


def calibration(chance: NDArray[np.floating], label: NDArray[np.floating], bins: int = BINS) -> Calibration:
    """Reliability of predicted preferences.

    A pair predicted at 0.2 is one whose expected answer, the first, has a probability of 0.8: naming the
    frames the other way round changes nothing.

    Args:
        chance: (n,) predicted P(second named).
        label: (n,) what the judge said: 0, 1, 0.5 for a tie, or a share of votes.
        bins: of equal width over [0.5, 1].

    Raises:
        LabelError: there is no pair.
    """
    if len(label) == 0:
        raise LabelError("no held-out pair: calibration cannot be judged.")
    confidence = np.maximum(chance, 1 - chance).astype(np.float64)
    right = np.where(chance > 0.5, label, np.where(chance < 0.5, 1 - label, 0.5)).astype(np.float64)
    number = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
    found = []
    for k in np.unique(number).tolist():
        inside = number == k
        found.append(
            Bin(
                low=0.5 + k / (2 * bins),
                high=0.5 + (k + 1) / (2 * bins),
                pairs=int(inside.sum()),
                predicted=float(confidence[inside].mean()),
                observed=float(right[inside].mean()),
            )
        )
    error = sum(each.pairs * abs(each.observed - each.predicted) for each in found) / len(label)
    return Calibration(len(label), float(right.mean()), cross_entropy(chance, label), error, tuple(found))


def best_temperature(
    difference: NDArray[np.floating], label: NDArray[np.floating], mistakes: float = 0.0
) -> float:
    """T > 0 that minimises the cross-entropy of the answers with differences d/T.

    Raises:
        LabelError: fewer than FEWEST pairs.
    """
    if len(label) < FEWEST:
        raise LabelError(
            f"{len(label)} held-out pairs are too few for a temperature: {FEWEST} or more. Label more pairs, "
            "hold out more (--held-out), or leave --calibrate out."
        )
    found = minimize_scalar(
        lambda t: cross_entropy(answer_chances(difference / math.exp(t), mistakes), label),
        bounds=(-math.log(HOTTEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x))


def cross_fitted(
    difference: NDArray[np.floating], label: NDArray[np.floating], mistakes: float = 0.0
) -> NDArray[np.float64]:
    """(n,) P(second named) after temperature scaling, each half of the pairs with the temperature of the
    other: what scaling gains is then not flattered by its own fit.

    Raises:
        LabelError: fewer than 2·FEWEST pairs.
    """
    chance = np.empty(len(label), np.float64)
    odd = np.arange(len(label)) % 2 == 1
    for half in (odd, ~odd):
        temperature = best_temperature(difference[~half], label[~half], mistakes)
        chance[half] = answer_chances(difference[half] / temperature, mistakes)
    return chance
