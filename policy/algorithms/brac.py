"""Behaviour-regularised actor-critic (Wu, Tucker, Nachum 2019, arXiv 1911.11361) with the sampled KL.

An actor-critic that may leave the behaviour policy π_β of the data only where Q pays for it.

    L_β   = −E[ log π_β(a|s) ]                                        behaviour cloning, tanh-Gaussian
    D̂(s)  = α log π(a|s) − β log π_β(a|s),   a ~ π(s)                  for α = β it is β KL(π ‖ π_β), sampled
    L_Q   = E[ (r + γ (min Q_θ̂(s′, a′) − D̂(s′)) − Q_θ(s, a))² ]        value penalty, Eq. 4
    L_π   = E[ D̂(s) − min Q_θ(s, a) ]                                  policy penalty, Eq. 5

Both densities are on (−1, 1), by the change of variables: an unsquashed π_β would have another support than
π, and the KL would be infinite or wrong. What differs from the code of the workflow: docs/algorithms/brac.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from policy.algorithms.bc import imitation_loss
from policy.algorithms.cql import policy_loss, td_loss, td_target, temperature_loss
from policy.checkpoint import State
from policy.critic import TwinQ, follow, frozen, target_of
from policy.observations import ObservationSpace, Seen
from policy.policies import TanhGaussianPolicy
from policy.regularise import Regularisers
from policy.settings import require
from policy.training import Metrics
from policy.transitions import Experts, Transitions


@dataclass(frozen=True)
class BRACConfig:
    """Behaviour-regularised actor-critic: an actor-critic held near the policy that the data shows."""

    name: ClassVar[str] = "brac"
    uses_rewards: ClassVar[bool] = True
    experts: ClassVar[Experts] = "ignored"

    beta: float = 1.0
    """β, what a nat of divergence from the behaviour costs, in units of Q."""
    entropy: Literal["beta", "learned"] = "beta"
    """α. beta: α = β, which makes D̂ the KL divergence. learned: α is adapted to the entropy −dim(a), as in
    the workflow's code, and the weight of the KL is then not exactly β."""
    value_penalty: bool = True
    """Subtract D̂(s′) in the target of L_Q."""
    policy_penalty: bool = True
    """Add D̂(s) to L_π."""
    behaviour_steps: int = 2000
    """Gradient steps at the start that train π_β alone; then it is frozen, and the policy starts as its
    copy."""
    behaviour_lr: float = 1e-3
    """Adam's learning rate of π_β."""
    discount: float = 0.99
    """γ."""
    tau: float = 0.005
    """Share of θ that moves into the target θ̂ at every step."""
    lr: float = 3e-4
    """Adam's learning rate of Q."""
    policy_lr: float = 1e-4
    """Adam's learning rate of the policy and α."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network."""
    layer_norm: bool = False
    """Layer normalisation in Q."""
    regularise: Regularisers = field(default_factory=Regularisers)
    """Regularisers of Q."""

    def build(self, observation: int | ObservationSpace, action_dim: int, device: torch.device) -> BRAC:
        """A learner with fresh weights drawn from torch's global generator."""
        return BRAC(self, observation, action_dim, device)

    def __post_init__(self) -> None:
        require(self.beta >= 0, "algo.beta", self.beta, "give 0 or more")
        require(self.behaviour_steps >= 1, "algo.behaviour-steps", self.behaviour_steps, "give 1 or more")
        require(0 <= self.discount <= 1, "algo.discount", self.discount, "give a number from 0 to 1")
        require(0 < self.tau <= 1, "algo.tau", self.tau, "give a number above 0, up to 1")
        for name in ("behaviour_lr", "lr", "policy_lr"):
            require(getattr(self, name) > 0, f"algo.{name.replace('_', '-')}", getattr(self, name), "above 0")
        require(min(self.hidden, default=1) > 0, "algo.hidden", self.hidden, "give widths above 0")
        self.regularise.check(self.hidden)


def divergence(log_prob: Tensor, log_behaviour: Tensor, alpha: Tensor | float, beta: float) -> Tensor:
    """D̂ = α log π(a|s) − β log π_β(a|s) of actions of π, (B,)."""
    return alpha * log_prob - beta * log_behaviour


class BRAC:
    """The networks of one run and their update."""

    def __init__(
        self, config: BRACConfig, observation: int | ObservationSpace, action_dim: int, device: torch.device
    ) -> None:
        self.config = config
        self.action_dim = action_dim
        self.policy = TanhGaussianPolicy(observation, action_dim, config.hidden).to(device).eval()
        self.behaviour = TanhGaussianPolicy(observation, action_dim, config.hidden).to(device).eval()

        def critic() -> TwinQ:
            norm, options = config.layer_norm, config.regularise
            return TwinQ(observation, action_dim, config.hidden, layer_norm=norm, regularise=options).to(
                device
            )

        self.q = critic()
        self.q_target = target_of(self.q, critic())
        self.q.eval()
        self.log_alpha = torch.zeros((), device=device, requires_grad=True)
        self.optimisers = {
            "behaviour": torch.optim.Adam(self.behaviour.parameters(), lr=config.behaviour_lr, fused=True),
            "q": torch.optim.Adam([self.q.parameter_group()], lr=config.lr, fused=True),
            "policy": torch.optim.Adam(self.policy.parameters(), lr=config.policy_lr, fused=True),
            "alpha": torch.optim.Adam([self.log_alpha], lr=config.policy_lr, fused=True),
        }
        self.steps = 0

    @property
    def alpha(self) -> Tensor | float:
        """α, without gradient."""
        return self.config.beta if self.config.entropy == "beta" else self.log_alpha.detach().exp()

    def penalised(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Actions of π with gradients, their log π and their D̂.

        Both densities are taken at one u = artanh(a), before the squashing: its slope then cancels in D̂, also
        where tanh(u) rounds to ±1.
        """
        u, log_prob = self.policy.draw(seen)
        with frozen(self.behaviour):
            log_behaviour = -self.behaviour.drawn_losses(seen, u).sum(dim=-1)
        return u.tanh(), log_prob, divergence(log_prob, log_behaviour, self.alpha, self.config.beta)

    def critic_loss(self, batch: Transitions) -> tuple[Tensor, Metrics]:
        """L_Q of both Q with the regularisers, and what is logged."""
        config = self.config
        with torch.no_grad():
            actions, _, penalty = self.penalised(batch.next_observations)
            next_value = self.q_target(batch.next_observations, actions).amin(dim=0)
            if config.value_penalty:
                next_value = next_value - penalty
            target = td_target(batch.rewards, batch.terminated, next_value, batch.discounts(config.discount))
        encoded = self.q.encode(batch.observations)
        values = self.q.values(encoded, batch.actions)
        td = td_loss(values.q, target)
        terms = self.q.penalties(values, encoded, batch.next_observations, actions)
        metrics = {"loss_td": td.detach(), "q": values.q.detach()}
        metrics |= {f"penalty_{name}": term.detach() for name, term in terms.items()}
        return sum(terms.values(), td.sum()), metrics

    def actor_loss(self, batch: Transitions) -> tuple[Tensor, Tensor, Metrics]:
        """L_π with gradients to the policy alone, L_α, and what is logged."""
        actions, log_prob, penalty = self.penalised(batch.observations)
        with frozen(self.q):
            value = self.q(batch.observations, actions).amin(dim=0)
        if self.config.policy_penalty:
            loss = (penalty - value).mean()
        else:
            alpha = torch.as_tensor(0.0 if self.config.entropy == "beta" else self.alpha)
            loss = policy_loss(log_prob, value, alpha)
        loss_alpha = temperature_loss(self.log_alpha, log_prob, -float(self.action_dim))
        metrics = {
            "loss_policy": loss.detach(),
            "divergence": penalty.detach(),
            "log_prob": log_prob.detach(),
            "q_policy": value.detach(),
        }
        return loss, loss_alpha, metrics

    def update(self, batch: Transitions) -> Metrics:
        """One gradient step: of π_β at first, then of Q, the policy, α and the target network.

        Dropout and noise act in the network that a loss trains; targets and penalties come from whole ones.
        """
        self.steps += 1
        if self.steps <= self.config.behaviour_steps:
            self.behaviour.train()
            loss = imitation_loss(self.behaviour.imitation_loss(batch.observations, batch.actions))
            self.behaviour.eval()
            self._step({"behaviour": loss})
            if self.steps == self.config.behaviour_steps:
                self.policy.load_state_dict(self.behaviour.state_dict())
            return {"loss_behaviour": loss.detach()}
        self.q.train()
        loss_q, metrics = self.critic_loss(batch)
        self.q.eval()
        self.policy.train()
        loss_policy, loss_alpha, logged = self.actor_loss(batch)
        self.policy.eval()
        losses = {"q": loss_q, "policy": loss_policy}
        self._step(losses | ({"alpha": loss_alpha} if self.config.entropy == "learned" else {}))
        follow(self.q_target, self.q, self.config.tau)
        return {**metrics, **logged}

    def _step(self, losses: Mapping[str, Tensor]) -> None:
        # All gradients first: a step changes weights in place that other losses' graphs still hold.
        for name, loss in losses.items():
            self.optimisers[name].zero_grad(set_to_none=True)
            loss.backward()
        for name in losses:
            self.optimisers[name].step()

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """The losses and values on held-out transitions."""
        imitation = self.behaviour.imitation_loss(batch.observations, batch.actions)
        figures = {"loss_behaviour": imitation_loss(imitation)}
        if self.steps <= self.config.behaviour_steps:
            return figures
        return {**figures, **self.critic_loss(batch)[1], **self.actor_loss(batch)[2]}

    def state_dict(self) -> State:
        networks = {n: getattr(self, n).state_dict() for n in ("policy", "behaviour", "q", "q_target")}
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {
            **networks,
            "optimisers": optimisers,
            "log_alpha": self.log_alpha.detach(),
            "steps": self.steps,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("policy", "behaviour", "q", "q_target"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.log_alpha.copy_(state["log_alpha"])
        self.steps = state["steps"]
