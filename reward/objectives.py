"""What a fit minimises: the Bradley-Terry loss of labelled pairs, or the squared error of labelled scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reward.pairs import LabelledPairs
from reward.preference import Precision, RewardEnsemble, autocast, preference_loss, soften
from reward.scores import LabelledScores

Labels = LabelledPairs | LabelledScores
"""What a reward model is fitted to."""
Augment = Callable[[Tensor], Tensor]
"""Prepared inputs (batch, …) → the same, disturbed."""


def rewards_of(
    ensemble: RewardEnsemble,
    network: nn.Module,
    inputs: NDArray[np.generic],
    labels: Labels,
    chosen: NDArray[np.int64],
    precision: Precision,
    augment: Augment | None = None,
) -> Tensor:
    """Rewards that labels `chosen` (n,) are about: of pairs (2n,), the first ones before the second ones; of
    scores (n,). A segment's reward is the sum over its frames."""
    device = ensemble.mean.device
    judged = (
        np.concatenate([labels.first[chosen], labels.second[chosen]])
        if isinstance(labels, LabelledPairs)
        else labels.frame[chosen]
    )
    steps = ensemble.config.steps(judged)
    prepared = ensemble.prepare(torch.from_numpy(inputs[steps.ravel()]).to(device))
    if augment is not None:
        prepared = augment(prepared)
    with autocast(device, precision):
        reward = network(prepared)
    return reward.view(steps.shape).sum(dim=1) if steps.shape[1] > 1 else reward


def losses_of(
    rewards: Tensor, labels: Labels, chosen: NDArray[np.int64], *, mistakes: float, margin: float = 0.0
) -> tuple[Tensor, float]:
    """Loss of each of the labels `chosen`, (n,), and how many of them the rewards agree with.

    Of a pair the label agrees when it is ranked so, a tie counts one half. Of a score, when the frame and
    the next one in `chosen` are ranked as their scores are, ties count one half; batches are shuffled, so
    that is the share of concordant pairs of frames.
    """
    device = rewards.device
    if isinstance(labels, LabelledPairs):
        first, second = rewards.chunk(2)
        difference, label = second - first, torch.from_numpy(labels.label[chosen]).to(device)
        right = torch.where(label == 0.5, 0.5, ((difference > 0) == (label > 0.5)).float())
        return preference_loss(difference, soften(label, margin), mistakes), float(right.detach().sum())
    target = torch.from_numpy(labels.target[chosen]).to(device)
    order = (rewards.detach() - rewards.detach().roll(1)).sign() * (target - target.roll(1)).sign()
    return (rewards - target).square(), float((0.5 + 0.5 * order).sum())


@torch.inference_mode()
def evaluate_member(
    ensemble: RewardEnsemble,
    network: nn.Module,
    inputs: NDArray[np.generic],
    labels: Labels,
    mistakes: float,
    precision: Precision,
    batch: int = 256,
) -> tuple[float, float]:
    """Mean loss and share of agreement of one member on all `labels`; NaN without labels."""
    if len(labels) == 0:
        return float("nan"), float("nan")
    network.eval()
    loss = right = 0.0
    for start in range(0, len(labels), batch):
        chosen = np.arange(start, min(start + batch, len(labels)))
        rewards = rewards_of(ensemble, network, inputs, labels, chosen, precision)
        losses, agreed = losses_of(rewards, labels, chosen, mistakes=mistakes)
        loss += float(losses.sum())
        right += agreed
    return loss / len(labels), right / len(labels)


def evaluate(
    ensemble: RewardEnsemble,
    inputs: NDArray[np.generic],
    labels: Labels,
    mistakes: float,
    precision: Precision,
) -> tuple[float, float]:
    """Loss and agreement on `labels`, means over members; NaN without labels."""
    figures = [
        evaluate_member(ensemble, network, inputs, labels, mistakes, precision)
        for network in ensemble.members
    ]
    loss, agreement = np.mean(figures, axis=0).tolist()
    return loss, agreement


def moved(pictures: Tensor, down: int, right: int) -> Tensor:
    """(batch, 3, height, width) moved by whole pixels; what comes in repeats the border."""
    if down == right == 0:
        return pictures
    height, width = pictures.shape[2:]
    rows = (torch.arange(height, device=pictures.device) - down).clamp_(0, height - 1)
    columns = (torch.arange(width, device=pictures.device) - right).clamp_(0, width - 1)
    stored = pictures.permute(0, 2, 3, 1)
    return stored.index_select(1, rows).index_select(2, columns).permute(0, 3, 1, 2)
