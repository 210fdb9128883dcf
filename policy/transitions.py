"""Transitions, and what is made of their order: n-step returns and action chunks."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.normalise import ActionRange, Normaliser
from policy.observations import Seen

Experts = Literal["ignored", "beside", "only"]
"""What an algorithm wants of the named expert episodes: nothing; in every batch as many of their rows behind
the others; or batches of their rows alone."""


class Transitions(NamedTuple):
    """N transitions (s, a, r, s′), or a batch of them. float32, first axis N.

    Bootstrapping stops at `terminated` only: where an episode was merely cut off, s′ still has a value.
    """

    observations: Seen
    """s: the vector streams side by side (N, D); in a batch with pictures, `Observations`."""
    actions: Tensor
    """a, (N, dim)."""
    rewards: Tensor
    """r, (N,), of the frame that was reached; with n-step returns Σ γᵏ r of the `steps` frames."""
    next_observations: Seen
    """s′, after `steps` steps."""
    terminated: Tensor
    """(N,), 1 where the task ended with this transition."""
    truncated: Tensor
    """(N,), 1 where only the recording ended with it."""
    steps: Tensor | None = None
    """(N,), how many steps lie between s and s′; None where it is one everywhere."""
    chunks: Tensor | None = None
    """(N, H, dim), a and the H − 1 actions after it; None where nothing asks for them."""
    chunk_valid: Tensor | None = None
    """(N, H), 1 where an action of the chunk was recorded; behind an episode's end its last one is
    repeated."""
    expert: Tensor | None = None
    """(N,), 1 for transitions of the named expert episodes."""
    frames: Tensor | None = None
    """(N,) int64, the row of its pictures (`policy.pictures`); None without cameras."""
    next_frames: Tensor | None = None
    """(N,) int64, the row whose s′ is this s′; None where it is the same row."""

    def to(self, device: torch.device) -> Transitions:
        """The same transitions on another device."""
        return Transitions(*(None if tensor is None else tensor.to(device) for tensor in self))

    def discounts(self, gamma: float) -> Tensor | float:
        """What s′ is discounted by: γ, or γ^steps (N,)."""
        return gamma if self.steps is None else gamma**self.steps

    def scaled(self, normaliser: Normaliser, action_range: ActionRange) -> Transitions:
        """As the networks see them: vectors normalised, actions in [-1, 1]. For rows without pictures."""
        return self._replace(
            observations=normaliser(self.observations),
            actions=action_range.to_unit(self.actions),
            next_observations=normaliser(self.next_observations),
            chunks=None if self.chunks is None else action_range.to_unit(self.chunks),
        )


def segment_ends(
    ticks: NDArray[np.int64], terminated: NDArray[np.bool_], truncated: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For every row (T,) of an episode the last row that follows it without a gap: episodes end where they
    are terminated or truncated, and where a row was left out."""
    last = terminated | truncated
    last = last | np.append(np.diff(ticks) != 1, True)
    ends = np.flatnonzero(last)
    return ends[np.searchsorted(ends, np.arange(len(ticks)))]


def n_step(
    rewards: NDArray[np.float64], ends: NDArray[np.int64], n: int, gamma: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """n-step returns Σ_{k<m} γᵏ r_{t+k} (T,), and the row t + m − 1 (T,) whose s′ they end at.

    m is n, or less where the segment ends before: nothing is added across an end, and what follows is then
    bootstrapped, or not, as that last row says.
    """
    rows = np.arange(len(rewards))
    last = np.minimum(rows + n - 1, ends)
    returns = np.zeros(len(rewards))
    for k in range(n):
        inside = rows + k <= last
        returns[inside] += gamma**k * rewards[rows[inside] + k]
    return returns, last


def action_chunks(
    actions: NDArray[np.float64], ends: NDArray[np.int64], horizon: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """a_t … a_{t+H−1} of every row, (T, H, dim), and which of them were recorded, (T, H).

    Behind the end of a segment its last action is repeated, and marked as not recorded.
    """
    wanted = np.arange(len(actions))[:, None] + np.arange(horizon)
    return actions[np.minimum(wanted, ends[:, None])], wanted <= ends[:, None]


def gather(rows: Transitions, index: Tensor) -> Transitions:
    """The rows (B,) of `index`."""
    return Transitions(*(None if tensor is None else tensor.index_select(0, index) for tensor in rows))
