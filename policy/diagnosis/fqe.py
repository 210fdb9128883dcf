"""Fitted Q evaluation: what a policy is worth, from recordings alone, with an interval over episodes.

    Q_{k+1} = argmin_Q E[ (r + γ (1 − d) Q_k(s′, π(s′)) − Q(s, a))² ],     V̂ = mean over episodes Q(s₀, π(s₀))

(Le, Voloshin, Yue 2019, Batch Policy Learning under Constraints, arXiv 1903.08738, algorithm 3), here by
gradient steps against a slow copy of Q. The bootstrap draws whole episodes with replacement and fits again on
each draw (Hao et al. 2021, Bootstrapping Fitted Q-Evaluation, arXiv 2102.03607): steps of one episode are no
independent samples. All draws are fitted side by side, as the members of one ensemble.

The estimate is as good as the recordings cover what the policy does. Where the policy goes elsewhere, Q is
asked about actions that nobody tried, and no interval from resampling shows that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from policy.networks import EnsembleMLP
from policy.settings import require


@dataclass(frozen=True)
class FqeConfig:
    """How policies are valued by fitted Q evaluation."""

    members: int = 12
    """Bootstrap draws of the episodes, each with a fit of its own; the first fit has all episodes as they
    are."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of each fit."""
    steps: int = 3000
    """Gradient steps."""
    batch_size: int = 256
    """Transitions per gradient step."""
    lr: float = 1e-3
    """Adam's learning rate."""
    tau: float = 0.01
    """Share of the network that moves into its slow copy at every step."""
    confidence: float = 0.9
    """Of the interval."""
    seed: int = 0
    """Of weights, batches and draws."""

    def __post_init__(self) -> None:
        require(self.members >= 2, "fqe-with.members", self.members, "give 2 or more")
        require(self.steps >= 1, "fqe-with.steps", self.steps, "give 1 or more")
        require(self.batch_size >= 1, "fqe-with.batch-size", self.batch_size, "give 1 or more")
        require(self.lr > 0, "fqe-with.lr", self.lr, "give a number above 0")
        require(0 < self.tau <= 1, "fqe-with.tau", self.tau, "give a number above 0, up to 1")
        require(0 < self.confidence < 1, "fqe-with.confidence", self.confidence, "give a share")


class Recorded(NamedTuple):
    """N transitions of E episodes as an evaluation needs them; float32 but for `episode`."""

    states: Tensor
    """(N, D), what Q reads of s."""
    actions: Tensor
    """(N, dim) in [-1, 1]."""
    rewards: Tensor
    """(N,)."""
    next_states: Tensor
    """(N, D)."""
    terminated: Tensor
    """(N,), 1 where the task ended; a recording that was cut off goes on being worth something."""
    episode: Tensor
    """(N,) int64, 0 to E − 1."""
    starts: Tensor
    """(E,) int64, the row that each episode begins with."""


@dataclass(frozen=True)
class Estimate:
    """What a policy is worth: the mean discounted return from the episodes' first states."""

    value: float
    low: float
    high: float
    """Ends of the bootstrap interval."""
    draws: tuple[float, ...]
    """The value of each bootstrap draw."""
    episodes: int
    """What the interval rests on."""


def fitted_q_evaluation(
    data: Recorded,
    next_actions: Tensor,
    start_actions: Tensor,
    discount: float,
    config: FqeConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Value the policy π whose actions are given.

    Values stay within what rewards of the data's range can add up to, r/(1 − γ): the projection costs
    nothing where the fit is right and holds it where it would run away.

    Args:
        next_actions: π(s′), (N, dim).
        start_actions: π(s₀) of every episode, (E, dim).
        discount: γ, below 1.
        progress: called with (steps done, steps in all).

    Raises:
        ConfigError: γ is 1.
    """
    require(discount < 1, "algo.discount", discount, "fitted Q evaluation needs one below 1")
    generator = torch.Generator().manual_seed(config.seed)
    weights = bootstrap_weights(len(data.starts), config.members, generator).to(data.states.device)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        shape = (1 + config.members, data.states.shape[1] + data.actions.shape[1], config.hidden, 1)
        online, slow = (EnsembleMLP(*shape, layer_norm=True).to(data.states.device) for _ in range(2))
    slow.load_state_dict(online.state_dict())
    slow.requires_grad_(False)
    optimiser = torch.optim.Adam(online.parameters(), lr=config.lr, fused=True)
    lowest, highest = (float(x) / (1.0 - discount) for x in data.rewards.aminmax())
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    pairs = torch.cat((data.states, data.actions), dim=-1)
    next_pairs = torch.cat((data.next_states, next_actions), dim=-1)
    for step in range(config.steps):
        index = torch.randint(len(pairs), (config.batch_size,), generator=generator).to(pairs.device)
        with torch.no_grad():
            ahead = slow(next_pairs[index]).squeeze(-1)
            target = data.rewards[index] + discount * (1.0 - data.terminated[index]) * ahead
            target = target.clamp(lowest, highest)
        errors = (online(pairs[index]).squeeze(-1) - target).square()
        loss = (weights[:, data.episode[index]] * errors).mean(dim=-1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for behind, ahead_of in zip(slow.parameters(), online.parameters(), strict=True):
                behind.lerp_(ahead_of, config.tau)
        if progress is not None and ((step + 1) % 50 == 0 or step + 1 == config.steps):
            progress(step + 1, config.steps)
    with torch.no_grad():
        q = slow(torch.cat((data.states[data.starts], start_actions), dim=-1)).squeeze(-1)
        values = (weights * q).sum(dim=-1) / weights.sum(dim=-1)
    return _estimate(values.double(), config.confidence, len(data.starts))


def bootstrap_weights(episodes: int, members: int, generator: torch.Generator) -> Tensor:
    """How often each episode is drawn, (1 + members, episodes): once each in the first row, and in each other
    row as in `episodes` draws with replacement."""
    drawn = torch.randint(episodes, (members, episodes), generator=generator)
    counts = torch.zeros(members, episodes).scatter_add_(1, drawn, torch.ones(members, episodes))
    return torch.cat((torch.ones(1, episodes), counts))


def _estimate(values: Tensor, confidence: float, episodes: int) -> Estimate:
    draws = values[1:]
    tail = (1.0 - confidence) / 2.0
    low, high = torch.quantile(draws, torch.tensor([tail, 1.0 - tail], dtype=torch.float64)).tolist()
    value = float(values[0])
    return Estimate(value, min(low, value), max(high, value), tuple(draws.tolist()), episodes)
