"""Does a reward rise along an episode as the task goes on?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from reward.quality import spearman


@dataclass(frozen=True, eq=False)
class Order:
    """Per episode, NaN where it is not defined (a constant side, fewer than two frames)."""

    episode: NDArray[np.int64]
    """(episodes,) numbers of the episodes."""
    voc: NDArray[np.float64]
    """(episodes,) value-order correlation."""
    tau_time: NDArray[np.float64]
    """(episodes,) Kendall's τ-b with time."""
    tau_truth: NDArray[np.float64]
    """(episodes,) Kendall's τ-b with the true reward; NaN without one."""


def kendall_tau(left: NDArray[np.floating], right: NDArray[np.floating]) -> float | None:
    """Kendall's τ-b = (C − D)/√((C + D + T_l)(C + D + T_r)) with C concordant and D discordant pairs, T_l and
    T_r pairs tied on one side alone (Kendall 1945); None when a side is constant."""
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    found = float(kendalltau(left, right).statistic)
    return None if math.isnan(found) else found


def value_order_correlation(reward: NDArray[np.floating]) -> float | None:
    """VOC of the rewards (T,) of an episode's frames in the order of time: Spearman's ρ of reward and time
    (Ma et al. 2024, "Vision Language Models are In-Context Value Learners"). 1 for a reward that rises all
    along; only a demonstration that makes headway all along deserves that. None for a constant reward."""
    return spearman(reward, np.arange(len(reward), dtype=np.float64))


def along_episodes(
    reward: NDArray[np.floating], episode: NDArray[np.integer], truth: NDArray[np.floating] | None
) -> Order:
    """Order within every episode.

    Args:
        reward: (n,) of frames, those of an episode in the order of time.
        episode: (n,) number of each frame's episode.
        truth: (n,) true reward.
    """
    numbers = np.unique(episode)
    rows = []
    for number in numbers.tolist():
        inside = episode == number
        along, time = reward[inside], np.arange(int(inside.sum()), dtype=np.float64)
        tau_truth = None if truth is None else kendall_tau(along, truth[inside])
        rows.append((value_order_correlation(along), kendall_tau(along, time), tau_truth))
    table = np.array(rows, np.float64).reshape(len(rows), 3)
    return Order(numbers.astype(np.int64), table[:, 0], table[:, 1], table[:, 2])
