"""How far two judges agree, and how far one agrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Weights = Literal["none", "quadratic"]


def cohens_kappa(
    left: NDArray[np.integer], right: NDArray[np.integer], categories: int, weights: Weights = "none"
) -> float | None:
    """κ = 1 − Σ w·observed / Σ w·expected by chance (Cohen 1960; with weights Cohen 1968).

    0 is the agreement of two judges with these rates who do not look, 1 full agreement. None when both
    always give the same one answer, since chance explains everything then.

    Args:
        left: (n,) categories 0 to `categories` − 1 that one judge chose.
        right: (n,) those of the other.
        categories: how many there are.
        weights: none: any disagreement counts alike. quadratic: by the squared distance, for ordered ones.
    """
    if len(left) == 0:
        return None
    table = np.zeros((categories, categories))
    np.add.at(table, (left, right), 1.0)
    table /= table.sum()
    place = np.arange(categories, dtype=np.float64)
    apart = place[:, None] - place[None, :]
    cost = apart**2 if weights == "quadratic" else (apart != 0).astype(np.float64)
    expected = float((cost * np.outer(table.sum(axis=1), table.sum(axis=0))).sum())
    return None if expected <= 0 else 1.0 - float((cost * table).sum()) / expected


def same_share(votes: Sequence[object]) -> float | None:
    """P(two of the votes on one question, drawn without replacement, are the same) (Fleiss 1971, P_i); None
    for less than two."""
    count = len(votes)
    if count < 2:
        return None
    equal = sum(votes.count(vote) - 1 for vote in votes)
    return equal / (count * (count - 1))


def preference_accuracy(
    first: NDArray[np.floating], second: NDArray[np.floating], label: NDArray[np.floating]
) -> float | None:
    """Share of pairs whose preferred frame has the higher reward, equal rewards one half; ties of the judge
    (label 0.5) do not count.

    Args:
        first: (n,) reward of the first frame of each pair.
        second: (n,) of the second.
        label: (n,) P(second preferred).
    """
    decided = label != 0.5
    if not decided.any():
        return None
    says = np.sign(second[decided].astype(np.float64) - first[decided])
    return float((0.5 + 0.5 * says * np.sign(label[decided] - 0.5)).mean())
