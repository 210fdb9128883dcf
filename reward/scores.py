"""Single frames with a score: what regression is fitted to, beside pairs.

Offline RL-VLM-F's `learn_from_score`: a target of 2·score − 1 in [−1, 1] and a squared error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from episodes.errors import LabelError
from reward.clients.protocol import Kind

RANGES: Mapping[Kind, tuple[float, float]] = {
    Kind.SCORE: (0.0, 1.0),
    Kind.PROGRESS: (1.0, 5.0),
    Kind.SUCCESS: (0.0, 1.0),
}
"""Least and greatest answer to each question; they become −1 and 1."""


@dataclass(frozen=True, eq=False)
class LabelledScores:
    """Frames with targets."""

    frame: NDArray[np.int64]
    """(n,) rows of the frames."""
    target: NDArray[np.float32]
    """(n,) in [−1, 1]."""
    held_out: NDArray[np.bool_]
    """(n,) never trained on."""

    def __len__(self) -> int:
        return len(self.target)

    def part(self, held_out: bool) -> LabelledScores:
        """Only the held-out frames, or only the others."""
        rows = self.held_out == held_out
        return LabelledScores(self.frame[rows], self.target[rows], self.held_out[rows])

    @property
    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """Everything, for keys."""
        return (self.frame, self.target, self.held_out)


def targets(values: NDArray[np.float64], kind: Kind) -> NDArray[np.float32]:
    """2·score − 1 with the score scaled to [0, 1]: answers (n,) of a question → (n,) in [−1, 1].

    Raises:
        LabelError: the question compares pictures, or an answer is out of its range.
    """
    if kind not in RANGES:
        raise LabelError(f"the question {kind.value!r} has no scores: it compares pictures.")
    low, high = RANGES[kind]
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        raise LabelError(
            f"{int(wrong.sum())} answers to {kind.value!r} lie outside {low:g} to {high:g}, the first is "
            f"{values[wrong][0]}: export the label set and look at it (armchair label export)."
        )
    return (2 * (values - low) / (high - low) - 1).astype(np.float32)


@dataclass(frozen=True)
class ScoreFigures:
    """How well held-out scores are met, in units of the target, which spans [−1, 1]."""

    frames: int
    squared_error: float
    """Mean (r̂ − (2·score − 1))²."""
    constant_error: float
    """The same of the mean score of the frames that were trained on: what knowing nothing costs."""
    rank_agreement: float | None
    """Kendall's τ-b of rewards and scores; None when either is the same for all frames."""


def score_figures(reward: NDArray[np.floating], train: LabelledScores, check: LabelledScores) -> ScoreFigures:
    """Figures of `reward` (rows,) on the held-out scores `check`.

    Raises:
        LabelError: nothing is held out.
    """
    if len(check) == 0 or len(train) == 0:
        raise LabelError("no held-out score: the fit cannot be judged.")
    target = check.target.astype(np.float64)
    found = reward[check.frame].astype(np.float64)
    several = len(np.unique(target)) > 1 and len(np.unique(found)) > 1
    return ScoreFigures(
        frames=len(check),
        squared_error=float(((found - target) ** 2).mean()),
        constant_error=float(((float(train.target.mean(dtype=np.float64)) - target) ** 2).mean()),
        rank_agreement=float(kendalltau(found, target).statistic) if several else None,
    )
