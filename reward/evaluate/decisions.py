"""A reward, or a judge's word, as a detector of success."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of success among what is called success."""
        called = self.true_positives + self.false_positives
        return self.true_positives / called if called else None

    @property
    def recall(self) -> float | None:
        """Share of success that is called so."""
        there = self.true_positives + self.false_negatives
        return self.true_positives / there if there else None

    @property
    def f1(self) -> float | None:
        """2·TP / (2·TP + FP + FN)."""
        whole = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / whole if whole else None


def confusion(called: NDArray[np.bool_], success: NDArray[np.bool_]) -> Confusion:
    """Counts of (n,) decisions against (n,) what is true."""
    return Confusion(
        int((called & success).sum()),
        int((called & ~success).sum()),
        int((~called & success).sum()),
        int((~called & ~success).sum()),
    )


def best_threshold(reward: NDArray[np.floating], success: NDArray[np.bool_]) -> float | None:
    """The threshold t for which "success where reward ≥ t" has the highest F1, halfway to the next lower
    reward; the highest of equals. F1, since success is rare: a threshold by accuracy never calls it. None
    without success."""
    if not success.any():
        return None
    values, place = np.unique(reward.astype(np.float64), return_inverse=True)
    positives = np.bincount(place, weights=success, minlength=len(values))
    called = np.bincount(place, minlength=len(values))
    hits = np.cumsum(positives[::-1])[::-1]
    f1 = 2 * hits / (np.cumsum(called[::-1])[::-1] + positives.sum())
    best = len(values) - 1 - int(np.argmax(f1[::-1]))
    return float(values[best] if best == 0 else (values[best - 1] + values[best]) / 2)


@dataclass(frozen=True)
class Detection:
    """Success by threshold: each half of the episodes is judged by the threshold of the other half."""

    thresholds: tuple[float, float]
    frames: Confusion
    episodes: Confusion
    """An episode is called successful when any of its frames is."""


def detect(
    reward: NDArray[np.floating], episode: NDArray[np.integer], success: NDArray[np.bool_]
) -> Detection | None:
    """Cross-fitted thresholds and what they decide; None when either half shows no success.

    Episodes with success, and those without, are dealt to the halves in turn, in the order of their numbers.

    Args:
        reward: (n,) of frames.
        episode: (n,) number of each frame's episode.
        success: (n,)
    """
    names, place = np.unique(episode, return_inverse=True)
    succeeded = np.bincount(place, weights=success, minlength=len(names)) > 0
    half = np.zeros(len(names), np.int64)
    for group in (succeeded, ~succeeded):
        half[group] = np.arange(int(group.sum())) % 2
    frame_half = half[place]
    thresholds = [best_threshold(reward[frame_half == h], success[frame_half == h]) for h in (0, 1)]
    if thresholds[0] is None or thresholds[1] is None:
        return None
    called = reward >= np.where(frame_half == 0, thresholds[1], thresholds[0])
    called_episodes = np.bincount(place, weights=called, minlength=len(names)) > 0
    return Detection(
        (thresholds[0], thresholds[1]), confusion(called, success), confusion(called_episodes, succeeded)
    )
