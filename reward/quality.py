"""Is a reward good for control? Figures that tell a useful reward from a useless one.

Rank correlation over all frames is high (0.84 to 0.91 measured) for rewards from which no policy learns: most
frames are early ones, easy to order. Control needs the top to be right: frames of success above those that
nearly succeed, and episodes that succeed above those that do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENOUGH = 0.9
"""Below this a headline figure is reported with a warning."""


@dataclass(frozen=True)
class Quality:
    """Quality of a reward over frames 1..T of all episodes; None where it cannot be known."""

    success_above_best_decile: float | None
    """P(a frame of success is scored above a frame of the best-scored decile of the others), ties one
    half."""
    successful_episode_rank: float | None
    """P(an episode with success has a higher return than one without), ties one half."""
    held_out_accuracy: float | None
    """Held-out labels that the model agrees with; the judge's mistakes are in it, so 1 − ε at best."""
    held_out_loss: float | None
    """Held-out Bradley-Terry loss, nats per pair."""
    rank_correlation: float | None
    """Spearman's ρ with the true reward over all frames: never the headline, see above."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not good enough, in words."""
        found = []
        for value, what in (
            (
                self.success_above_best_decile,
                "frames of success are scored above the best decile of the others",
            ),
            (self.successful_episode_rank, "episodes with success have a higher return than those without"),
        ):
            if value is not None and value < ENOUGH:
                found.append(
                    f"only in {value:.2f} of cases {what} (below {ENOUGH}): a policy may learn to nearly "
                    "succeed. "
                    "Label more pairs from the top (reward/rounds.py), or look at the best frames."
                )
        return tuple(found)

    def as_json(self) -> dict[str, float | list[str] | None]:
        """Figures and warnings, for reports."""
        return {**asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Quality:
        """What `as_json` gave."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})


def reward_quality(
    reward: NDArray[np.floating],
    episode: NDArray[np.integer],
    *,
    success: NDArray[np.bool_] | None = None,
    truth: NDArray[np.floating] | None = None,
    held_out: tuple[float, float] | None = None,
) -> Quality:
    """Quality of `reward` (n,) of frames that belong to `episode` (n,).

    Args:
        reward: one number per frame.
        episode: which episode a frame is of.
        success: (n,) the task is done in this frame.
        truth: (n,) true reward.
        held_out: loss and accuracy on held-out pairs.
    """
    frames = episodes = correlation = None
    if success is not None:
        frames = above_best_decile(reward[success], reward[~success])
        kept, inverse = np.unique(episode, return_inverse=True)
        returns = np.bincount(inverse, weights=reward.astype(np.float64))
        succeeded = np.bincount(inverse, weights=success, minlength=len(kept)) > 0
        episodes = probability_above(returns[succeeded], returns[~succeeded])
    if truth is not None:
        correlation = spearman(reward, truth)
    known = held_out is not None and not math.isnan(held_out[0])
    return Quality(
        success_above_best_decile=frames,
        successful_episode_rank=episodes,
        held_out_accuracy=held_out[1] if known and held_out else None,
        held_out_loss=held_out[0] if known and held_out else None,
        rank_correlation=correlation,
    )


def above_best_decile(good: NDArray[np.floating], others: NDArray[np.floating]) -> float | None:
    """P(one of `good` is above one of the best tenth of `others`), ties one half; None when a side is
    empty."""
    if len(others) == 0:
        return None
    count = max(1, math.ceil(len(others) / 10))
    return probability_above(good, np.partition(others, len(others) - count)[-count:])


def probability_above(left: NDArray[np.floating], right: NDArray[np.floating]) -> float | None:
    """P(l > r) + P(l = r)/2 of independent draws (Mann-Whitney's U / nm); None when a side is empty."""
    if len(left) == 0 or len(right) == 0:
        return None
    ordered = np.sort(right)
    below = np.searchsorted(ordered, left, side="left").astype(np.float64)
    through = np.searchsorted(ordered, left, side="right").astype(np.float64)
    return float((below + through).mean() / 2 / len(right))


def spearman(left: NDArray[np.floating], right: NDArray[np.floating]) -> float | None:
    """Rank correlation with tied ranks averaged; None when a side is constant or too short."""
    if len(left) < 2:
        return None
    a, b = average_ranks(left), average_ranks(right)
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else None


def average_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return (last - (counts - 1) / 2)[inverse]
