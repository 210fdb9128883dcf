"""How far a judge agrees with itself, and a reward with a judge; judges with each other are compared in
reward/agreement.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
