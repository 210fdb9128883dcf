"""Offline reinforced imitation learning (Zolna et al. 2020, Offline Learning from Demonstrations and
Unlabeled Experience, arXiv 2011.13885): a reward from a few expert episodes, then IQL on all the data with
it.

A discriminator D tells expert transitions E from all others. The others, U, are unlabelled rather than
negative, since some of them are as good: a share η of U is taken to be expert-like (positive-unlabelled
learning).

    L_D(ψ) = η E_E[ −log D ] + E_U[ −log(1 − D) ] − η E_E[ −log(1 − D) ],     D = σ(f_ψ(s, a))
    r(s, a) = −log(1 − D(s, a)) = softplus(f_ψ(s, a))

The last two terms of L_D estimate the loss on the true negatives, which cannot be negative: they are cut at 0
(Kiryo et al. 2017, arXiv 1703.00593). What differs from the paper: docs/algorithms/oril.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from episodes.errors import DatasetError
from policy.algorithms.iql import IQL, IQLConfig
from policy.checkpoint import State
from policy.networks import MLP
from policy.observations import Eyes, ObservationSpace, Seen, map_seen
from policy.settings import require
from policy.training import Metrics
from policy.transitions import Experts, Transitions


@dataclass(frozen=True)
class ORILConfig:
    """Offline imitation of named expert episodes with the help of all others (`--data.expert`)."""

    name: ClassVar[str] = "oril"
    uses_rewards: ClassVar[bool] = False
    experts: ClassVar[Experts] = "beside"

    prior: float = 0.5
    """η, the share of the unlabelled transitions that are taken to be as good as the expert's."""
    non_negative: bool = True
    """Cut the estimated loss on the negatives at 0."""
    discriminator_steps: int = 2000
    """Gradient steps at the start that train D alone; then it is frozen, and so is the reward."""
    discriminator_lr: float = 1e-4
    """Adam's learning rate of D."""
    discriminator_hidden: tuple[int, ...] = (256, 256)
    """Widths of D's hidden layers."""
    discriminator_dropout: float = 0.5
    """Share of D's features dropped while it trains, so that it does not learn the expert by heart."""
    use_actions: bool = True
    """D sees the action beside the observation."""
    reward_cap: float = 5.0
    """f is cut at ±`reward_cap`, and the reward divided by its largest value then, which puts it into [0, 1]:
    what IQL's beta counts on."""
    iql: IQLConfig = field(default_factory=IQLConfig)
    """The policy's algorithm."""

    def build(self, observation: int | ObservationSpace, action_dim: int, device: torch.device) -> ORIL:
        """A learner with fresh weights drawn from torch's global generator."""
        return ORIL(self, observation, action_dim, device)

    @property
    def discount(self) -> float:
        """γ of the policy's algorithm."""
        return self.iql.discount

    def __post_init__(self) -> None:
        require(0 < self.prior < 1, "algo.prior", self.prior, "give a share between 0 and 1")
        for name in ("discriminator_steps", "discriminator_lr", "reward_cap"):
            value = getattr(self, name)
            require(value > 0, f"algo.{name.replace('_', '-')}", value, "give a number above 0")
        dropout = self.discriminator_dropout
        require(0 <= dropout < 1, "algo.discriminator-dropout", dropout, "give a share from 0 to 1")


class Discriminator(nn.Module):
    """f_ψ(s, a), the logit of D: (B,)."""

    def __init__(self, config: ORILConfig, observation: int | ObservationSpace, action_dim: int) -> None:
        super().__init__()
        self.eyes = Eyes(observation)
        self.use_actions = config.use_actions
        width = self.eyes.out_dim + (action_dim if config.use_actions else 0)
        self.network = MLP(width, config.discriminator_hidden, 1, dropout=config.discriminator_dropout)

    def forward(self, seen: Seen, actions: Tensor) -> Tensor:
        features = self.eyes(seen)
        if self.use_actions:
            features = torch.cat((features, actions), dim=-1)
        return self.network(features).squeeze(-1)


def positive_unlabelled_loss(
    logits: Tensor, expert: Tensor, unlabelled: Tensor, prior: float, *, non_negative: bool
) -> Tensor:
    """L_D. `logits` (B,); `expert` and `unlabelled` (B,) are the weights of rows in E_E and E_U.

    A batch without expert rows has the loss of its unlabelled ones alone.
    """
    as_expert = nn.functional.softplus(-logits)
    as_other = nn.functional.softplus(logits)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum() / weights.sum().clamp(min=1.0)

    negative = mean(as_other, unlabelled) - prior * mean(as_other, expert)
    if non_negative:
        negative = negative.clamp(min=0.0)
    return prior * mean(as_expert, expert) + negative


def imitation_reward(logits: Tensor, cap: float) -> Tensor:
    """r = −log(1 − D), with the logit cut at ±cap, divided by its largest value: (B,) in (0, 1]."""
    largest = nn.functional.softplus(torch.tensor(cap))
    return nn.functional.softplus(logits.clamp(-cap, cap)) / largest.to(logits)


class ORIL:
    """The discriminator, the policy's learner, and their update.

    A training batch holds rows of all the data, and behind them as many of the expert's alone. What is held
    out comes in one piece, with the expert's rows marked.
    """

    def __init__(
        self, config: ORILConfig, observation: int | ObservationSpace, action_dim: int, device: torch.device
    ) -> None:
        self.config = config
        self.learner = IQL(config.iql, observation, action_dim, device)
        self.discriminator = Discriminator(config, observation, action_dim).to(device).eval()
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=config.discriminator_lr, fused=True
        )
        self.steps = 0

    @property
    def policy(self) -> nn.Module:
        return self.learner.policy

    def rewarded(self, batch: Transitions) -> Transitions:
        """The batch with D's reward in the place of its own."""
        with torch.no_grad():
            logits = self.discriminator(batch.observations, batch.actions)
        return batch._replace(rewards=imitation_reward(logits, self.config.reward_cap))

    def discriminator_loss(self, batch: Transitions, expert: Tensor) -> tuple[Tensor, Metrics]:
        """L_D and what is logged; `expert` (B,) is 1 for the rows of E_E and 0 for those of E_U."""
        logits, config = self.discriminator(batch.observations, batch.actions), self.config
        others = 1.0 - expert
        loss = positive_unlabelled_loss(
            logits, expert, others, config.prior, non_negative=config.non_negative
        )
        found = logits.detach().sigmoid()
        metrics = {
            "loss_discriminator": loss.detach(),
            "d_expert": (found * expert).sum() / expert.sum().clamp(min=1.0),
            "d_others": (found * others).sum() / others.sum().clamp(min=1.0),
        }
        return loss, metrics

    def update(self, batch: Transitions) -> Metrics:
        """One gradient step: of D at first, then of IQL with D's reward on the rows of all the data."""
        self.steps += 1
        every = first_half(batch)
        if self.steps > self.config.discriminator_steps:
            every = self.rewarded(every)
            return {**self.learner.update(every), "reward": every.rewards}
        behind = torch.arange(len(batch.actions), device=batch.actions.device) >= len(every.actions)
        self.discriminator.train()
        loss, metrics = self.discriminator_loss(batch, behind.to(torch.float32))
        self.discriminator.eval()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return metrics

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """The losses and rewards on held-out transitions, of experts and others apart."""
        if batch.expert is None:
            raise DatasetError(
                "the batch does not say which rows are an expert's: load the data with experts."
            )
        metrics = self.discriminator_loss(batch, batch.expert)[1]
        if self.steps <= self.config.discriminator_steps:
            return metrics
        rewarded = self.rewarded(batch)
        return {**metrics, **self.learner.validate(rewarded), "reward": rewarded.rewards}

    def state_dict(self) -> State:
        return {
            "learner": self.learner.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]


def first_half(batch: Transitions) -> Transitions:
    """The rows of all the data, which stand before the expert's."""
    count = (len(batch.actions) + 1) // 2

    def cut(value: Seen | Tensor | None) -> Any:
        return None if value is None else map_seen(lambda x: x[:count], value)

    return Transitions(*(cut(value) for value in batch))
