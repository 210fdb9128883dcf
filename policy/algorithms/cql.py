"""Conservative Q-learning, the variant CQL(H) (Kumar, Zhou, Tucker, Levine 2020, arXiv 2006.04779).

An actor-critic whose Q is pushed down where the policy might go and up on the actions of the data, so that it
does not promise anything that nobody tried.

    Z(s)   = T log Σ_i exp((Q_θ(s, a_i) − log μ_i) / T)        a_i: N uniform, N from π(s′), N from π(s)
    L_CQL  = w E[ Z(s) − Q_θ(s, a) ]                             Eq. 4, sampled as in appendix F
    L_TD   = E[ (r + γ (min Q_θ̂(s′, a′) [− α log π(a′|s′)]) − Q_θ(s, a))² ],   a′ ~ π(s′)
    L_π    = E[ α log π(a|s) − min Q_θ(s, a) ],                  a ~ π(s)
    L_α    = −E[ log α (log π(a|s) + H̄) ],                       H̄ = −dim(a)
    L_α′   = −E[ α′ (L_CQL − τ) ]                                Lagrange form, Eq. 30: α′ takes the place of
    1

All for each of two Q; α is the entropy temperature. What differs from the authors' code:
docs/algorithms/cql.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from policy.accelerate import Acceleration, capturable
from policy.checkpoint import State
from policy.critic import TwinQ, follow, frozen, target_of
from policy.observations import ObservationSpace, Seen
from policy.policies import TanhGaussianPolicy
from policy.regularise import Regularisers
from policy.settings import require
from policy.training import Metrics
from policy.transitions import Experts, Transitions

MULTIPLIER_MAX = 1e6
"""Upper bound of α′, as in the authors' code."""


@dataclass(frozen=True)
class CQLConfig:
    """Conservative Q-learning, CQL(H): an actor-critic that distrusts actions the data does not hold."""

    name: ClassVar[str] = "cql"
    uses_rewards: ClassVar[bool] = True
    experts: ClassVar[Experts] = "ignored"

    weight: float = 1.0
    """w of L_CQL. The workflow takes 1; the paper 5 or 10 on other benchmarks."""
    samples: int = 10
    """N, actions of each of the three kinds. The workflow's scripts take 1."""
    importance: bool = True
    """Subtract each action's log density, log μ_i; without it this is version 2 of the authors' code."""
    temperature: float = 1.0
    """T of the log-sum-exp."""
    lagrange: bool = False
    """Learn the multiplier α′ of L_CQL so that L_CQL stays near `threshold`."""
    threshold: float = 5.0
    """τ of the Lagrange form."""
    max_q_backup: bool = False
    """Back up from the best of `samples` actions of π(s′), for each Q, in the place of one."""
    backup: Literal["deterministic", "entropy"] = "deterministic"
    """entropy: subtract α log π(a′|s′) in the target of L_TD."""
    bc_steps: int = 1000
    """Gradient steps at the start in which the policy imitates, α log π(a|s) − log π(a_data|s)."""
    discount: float = 0.99
    """γ."""
    tau: float = 0.005
    """Share of θ that moves into the target θ̂ at every step."""
    lr: float = 3e-4
    """Adam's learning rate of Q and α′."""
    policy_lr: float = 1e-4
    """Adam's learning rate of the policy and α."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network."""
    layer_norm: bool = False
    """Layer normalisation in Q."""
    regularise: Regularisers = field(default_factory=Regularisers)
    """Regularisers of Q."""

    def build(self, observation: int | ObservationSpace, action_dim: int, device: torch.device) -> CQL:
        """A learner with fresh weights drawn from torch's global generator."""
        return CQL(self, observation, action_dim, device)

    def __post_init__(self) -> None:
        require(self.weight >= 0, "algo.weight", self.weight, "give 0 or more")
        require(self.samples >= 1, "algo.samples", self.samples, "give 1 or more")
        require(self.temperature > 0, "algo.temperature", self.temperature, "give a number above 0")
        require(self.bc_steps >= 0, "algo.bc-steps", self.bc_steps, "give 0 or more")
        require(0 <= self.discount <= 1, "algo.discount", self.discount, "give a number from 0 to 1")
        require(0 < self.tau <= 1, "algo.tau", self.tau, "give a number above 0, up to 1")
        require(self.lr > 0, "algo.lr", self.lr, "give a number above 0")
        require(self.policy_lr > 0, "algo.policy-lr", self.policy_lr, "give a number above 0")
        require(min(self.hidden, default=1) > 0, "algo.hidden", self.hidden, "give widths above 0")
        self.regularise.check(self.hidden)


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """L_α; `log_prob` is log π(a|s) (B,), taken without gradient."""
    return -(log_alpha * (log_prob.detach() + target_entropy)).mean()


def policy_loss(log_prob: Tensor, value: Tensor, alpha: Tensor) -> Tensor:
    """L_π: the mean of α log π(a|s) − value; `value` is min Q(s, a) (B,), or log π(a_data|s) at the start."""
    return (alpha * log_prob - value).mean()


def td_target(rewards: Tensor, terminated: Tensor, next_value: Tensor, discount: Tensor | float) -> Tensor:
    """r + γ (1 − d) · value of s′, (B,). d is 1 only where the task ended."""
    return rewards + discount * (1.0 - terminated) * next_value


def td_loss(q: Tensor, target: Tensor) -> Tensor:
    """L_TD of each Q, (2,): the mean over the batch of (target − Q)²; `q` is (2, B)."""
    return (target - q).square().mean(dim=-1)


def conservative_gap(q: Tensor, log_mu: Tensor, q_data: Tensor, temperature: float) -> Tensor:
    """E[Z(s) − Q(s, a)] of each Q, (2,).

    Args:
        q: Q(s, a_i), (2, K, B).
        log_mu: log μ_i of each action's own density, (K, B); 0 for version 2.
        q_data: Q(s, a) of the data, (2, B).
    """
    z = temperature * torch.logsumexp((q - log_mu) / temperature, dim=1)
    return (z - q_data).mean(dim=-1)


def multiplier_loss(log_multiplier: Tensor, gap: Tensor, threshold: float) -> Tensor:
    """L_α′; `gap` is w·E[Z − Q] of each Q, (2,), taken without gradient."""
    return -(multiplier(log_multiplier) * (gap.detach() - threshold)).mean()


def multiplier(log_multiplier: Tensor) -> Tensor:
    """α′ = exp(log α′), within [0, 1e6]."""
    return log_multiplier.exp().clamp(max=MULTIPLIER_MAX)


class CQL:
    """The networks of one run and their update."""

    def __init__(
        self, config: CQLConfig, observation: int | ObservationSpace, action_dim: int, device: torch.device
    ) -> None:
        self.config = config
        self.action_dim = action_dim
        self.policy = TanhGaussianPolicy(observation, action_dim, config.hidden).to(device).eval()

        def critic() -> TwinQ:
            norm, options = config.layer_norm, config.regularise
            return TwinQ(observation, action_dim, config.hidden, layer_norm=norm, regularise=options).to(
                device
            )

        self.q = critic()
        self.q_target = target_of(self.q, critic())
        self.q.eval()
        self.log_alpha = torch.zeros((), device=device, requires_grad=True)
        self.log_multiplier = torch.zeros((), device=device, requires_grad=True)
        self.q_optimiser = torch.optim.Adam([self.q.parameter_group()], lr=config.lr, fused=True)
        self.policy_optimiser = torch.optim.Adam(self.policy.parameters(), lr=config.policy_lr, fused=True)
        self.scalar_optimiser = torch.optim.Adam(
            [
                {"params": [self.log_alpha], "lr": config.policy_lr},
                {"params": [self.log_multiplier], "lr": config.lr},
            ],
            fused=True,
        )
        self.steps = 0
        self._critic_loss, self._actor_loss, self._step = self.critic_loss, self.actor_loss, self.step

    def next_value(self, next_seen: Seen, alpha: Tensor) -> Tensor:
        """The value of s′ (B,) that L_TD backs up from, without gradient."""
        config = self.config
        with torch.no_grad():
            encoded = self.q_target.encode(next_seen)
            if config.max_q_backup:
                actions, _ = self.policy.sample(next_seen, config.samples)
                return self.q_target.values(encoded, actions).q.amax(dim=1).amin(dim=0)
            actions, log_prob = self.policy.sample(next_seen)
            value = self.q_target.values(encoded, actions).q.amin(dim=0)
            return value - alpha * log_prob if config.backup == "entropy" else value

    def proposals(self, batch: Transitions) -> tuple[Tensor, Tensor]:
        """The 3N actions (3N, B, dim) of Z(s), and log μ of each (3N, B), without gradient."""
        count = self.config.samples
        with torch.no_grad():
            ahead, ahead_log = self.policy.sample(batch.next_observations, count)
            here, here_log = self.policy.sample(batch.observations, count)
            uniform = torch.rand_like(here) * 2.0 - 1.0
            uniform_log = torch.full_like(here_log, self.action_dim * math.log(0.5))
        actions = torch.cat((uniform, ahead, here))
        log_mu = torch.cat((uniform_log, ahead_log, here_log))
        return actions, log_mu if self.config.importance else torch.zeros_like(log_mu)

    def critic_loss(self, batch: Transitions, alpha: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """The loss of both Q, their weighted gaps (2,), and what is logged."""
        config = self.config
        target = td_target(
            batch.rewards,
            batch.terminated,
            self.next_value(batch.next_observations, alpha),
            batch.discounts(config.discount),
        )
        encoded = self.q.encode(batch.observations)
        values = self.q.values(encoded, batch.actions)
        actions, log_mu = self.proposals(batch)
        proposed = self.q.values(encoded, actions).q
        gap = config.weight * conservative_gap(proposed, log_mu, values.q, config.temperature)
        td = td_loss(values.q, target)
        conservative = gap
        if config.lagrange:
            conservative = multiplier(self.log_multiplier.detach()) * (gap - config.threshold)
        next_actions = self.policy(batch.next_observations).detach() if config.regularise.dr3 else None
        terms = self.q.penalties(values, encoded, batch.next_observations, next_actions)
        metrics = {
            "loss_td": td.detach(),
            "loss_cql": gap.detach(),
            "q": values.q.detach(),
            "q_random": proposed[:, : config.samples].detach(),
            "q_policy": proposed[:, -config.samples :].detach(),
            **{f"penalty_{name}": term.detach() for name, term in terms.items()},
        }
        return sum(terms.values(), (td + conservative).sum()), gap, metrics

    def actor_loss(
        self, batch: Transitions, alpha: Tensor, log_alpha: Tensor, imitating: bool
    ) -> tuple[Tensor, Tensor, Metrics]:
        """L_π, for a policy that imitates or one that follows Q, L_α, and what is logged. Q is frozen by the
        caller: torch.compile does not trace that."""
        seen = batch.observations
        actions, log_prob = self.policy.sample(seen)
        imitation = self.policy.log_prob
        value = imitation(seen, batch.actions) if imitating else self.q(seen, actions).amin(dim=0)
        loss = policy_loss(log_prob, value, alpha)
        loss_alpha = temperature_loss(log_alpha, log_prob, -float(self.action_dim))
        metrics = {
            "loss_policy": loss.detach(),
            "alpha": alpha.detach(),
            "log_prob": log_prob.detach(),
        }
        return loss, loss_alpha, metrics

    @property
    def imitating(self) -> bool:
        """True while the policy starts by imitating."""
        return self.steps < self.config.bc_steps

    def update(self, batch: Transitions) -> Metrics:
        """One gradient step on each loss, all from the weights of before the step, then the target's.

        Dropout and noise act in the network that a loss trains; targets and proposals come from whole ones.
        """
        metrics = self._step(batch, self.imitating)
        self.steps += 1
        return metrics

    def accelerate(self, how: Acceleration) -> None:
        """Both losses gain from torch.compile, and the whole step from being a CUDA graph."""
        self._critic_loss = how.compiled(self.critic_loss)
        self._actor_loss = how.compiled(self.actor_loss)
        self._step = how.captured(self.step, self.state_dict)
        for optimiser in (self.q_optimiser, self.policy_optimiser, self.scalar_optimiser):
            capturable(optimiser, how)

    def step(self, batch: Transitions, imitating: bool) -> Metrics:
        """What `update` does to tensors."""
        alpha = self.log_alpha.detach().exp()
        self.q.train()
        loss_q, gap, metrics = self._critic_loss(batch, alpha)
        self.q.eval()
        self.policy.train()
        with frozen(self.q):
            loss_policy, loss_scalars, logged = self._actor_loss(batch, alpha, self.log_alpha, imitating)
        self.policy.eval()
        if self.config.lagrange:
            loss_scalars = loss_scalars + multiplier_loss(self.log_multiplier, gap, self.config.threshold)
            logged = {**logged, "multiplier": multiplier(self.log_multiplier.detach())}
        for optimiser in (self.q_optimiser, self.policy_optimiser, self.scalar_optimiser):
            optimiser.zero_grad(set_to_none=True)
        # Each has gradients in its own parameters only. One pass for all: a compiled function, which gives
        # two of them, can be gone back through once.
        (loss_q + loss_policy + loss_scalars).backward()
        for optimiser in (self.q_optimiser, self.policy_optimiser, self.scalar_optimiser):
            optimiser.step()
        follow(self.q_target, self.q, self.config.tau)
        return {**metrics, **logged}

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """The losses and values on held-out transitions."""
        alpha = self.log_alpha.exp()
        critic = self.critic_loss(batch, alpha)[2]
        return {**critic, **self.actor_loss(batch, alpha, self.log_alpha, self.imitating)[2]}

    def state_dict(self) -> State:
        return {
            "policy": self.policy.state_dict(),
            "q": self.q.state_dict(),
            "q_target": self.q_target.state_dict(),
            "log_alpha": self.log_alpha.detach(),
            "log_multiplier": self.log_multiplier.detach(),
            "q_optimiser": self.q_optimiser.state_dict(),
            "policy_optimiser": self.policy_optimiser.state_dict(),
            "scalar_optimiser": self.scalar_optimiser.state_dict(),
            "steps": self.steps,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.q.load_state_dict(state["q"])
        self.q_target.load_state_dict(state["q_target"])
        self.log_alpha.copy_(state["log_alpha"])
        self.log_multiplier.copy_(state["log_multiplier"])
        self.q_optimiser.load_state_dict(state["q_optimiser"])
        self.policy_optimiser.load_state_dict(state["policy_optimiser"])
        self.scalar_optimiser.load_state_dict(state["scalar_optimiser"])
        self.steps = state["steps"]
