"""Implicit Q-learning (Kostrikov, Nair, Levine 2021, Offline RL with Implicit Q-Learning, arXiv 2110.06169).

The value V estimates what the better actions of the data achieve, without ever asking Q about an action that
is not in the data. The policy then imitates the data's actions, weighted by how much better than V they are.

    L_V(ψ) = E[ L₂^τ(Q_θ̂(s, a) − V_ψ(s)) ],   L₂^τ(u) = |τ − 1(u < 0)| u²        Eq. 5
    L_Q(θ) = E[ (r + γ V_ψ(s′) − Q_θ(s, a))² ]                                     Eq. 6
    L_π(φ) = −E[ exp(β (Q_θ̂(s, a) − V_ψ(s))) log π_φ(a|s) ]                       Eq. 7

θ̂ follows θ by Polyak averaging. How this differs from the paper's repository: docs/algorithms/iql.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from policy.accelerate import Acceleration, capturable
from policy.checkpoint import State
from policy.critic import TwinQ, ValueNet, follow, target_of
from policy.observations import ObservationSpace
from policy.policies import DeterministicPolicy, GaussianPolicy
from policy.regularise import Regularisers
from policy.settings import require
from policy.training import Metrics
from policy.transitions import Experts, Transitions


@dataclass(frozen=True)
class IQLConfig:
    """Implicit Q-learning: learns from recordings of mixed quality and their rewards."""

    name: ClassVar[str] = "iql"
    uses_rewards: ClassVar[bool] = True
    experts: ClassVar[Experts] = "ignored"

    expectile: float = 0.8
    """τ of Eq. 5, in [0.5, 1): 0.5 averages over the data's actions, towards 1 it takes the best of them."""
    beta: float = 30.0
    """β of Eq. 7: 0 is behaviour cloning, large follows only the best actions; for rewards in [0, 1]."""
    discount: float = 0.99
    """γ of Eq. 6."""
    tau: float = 0.005
    """Share of θ that moves into the target θ̂ at every step (α in the paper)."""
    max_weight: float = 100.0
    """Upper bound of exp(β A) in Eq. 7, so that one sample cannot rule a batch."""
    lr: float = 3e-4
    """Adam's learning rate, the same for Q, V and policy."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network."""
    policy: Literal["gaussian", "deterministic"] = "gaussian"
    """gaussian: Eq. 7; deterministic: squared error in the place of −log π."""
    layer_norm: bool = True
    """Layer normalisation in Q and V. Without it values run away where the data is thin, and with few
    episodes the advantages of Eq. 7 become noise."""
    policy_dropout: float = 0.1
    """Share of the policy's features dropped while it trains; 0 for the paper's locomotion settings."""

    regularise: Regularisers = field(default_factory=Regularisers)
    """Regularisers of Q."""

    def build(self, observation: int | ObservationSpace, action_dim: int, device: torch.device) -> IQL:
        """A learner with fresh weights drawn from torch's global generator."""
        return IQL(self, observation, action_dim, device)

    def __post_init__(self) -> None:
        require(0 < self.expectile < 1, "algo.expectile", self.expectile, "give a number between 0 and 1")
        require(self.beta >= 0, "algo.beta", self.beta, "give 0 or more")
        require(0 <= self.discount <= 1, "algo.discount", self.discount, "give a number from 0 to 1")
        require(0 < self.tau <= 1, "algo.tau", self.tau, "give a number above 0, up to 1")
        require(self.max_weight > 0, "algo.max-weight", self.max_weight, "give a number above 0")
        require(self.lr > 0, "algo.lr", self.lr, "give a number above 0")
        require(
            0 <= self.policy_dropout < 1,
            "algo.policy-dropout",
            self.policy_dropout,
            "give a share from 0 to 1",
        )
        require(min(self.hidden, default=1) > 0, "algo.hidden", self.hidden, "give widths above 0")
        self.regularise.check(self.hidden)


def expectile_loss(u: Tensor, expectile: float) -> Tensor:
    """L₂^τ(u) = |τ − 1(u < 0)| u², element by element."""
    return torch.where(u < 0, 1.0 - expectile, expectile) * u.square()


def value_loss(advantage: Tensor, expectile: float) -> Tensor:
    """L_V, Eq. 5. `advantage` is Q_θ̂(s, a) − V_ψ(s), shape (B,), with gradients through V only."""
    return expectile_loss(advantage, expectile).mean()


def q_loss(
    q: Tensor, rewards: Tensor, terminated: Tensor, next_v: Tensor, discount: Tensor | float
) -> Tensor:
    """L_Q, Eq. 6, the mean over both Q (2, B). `next_v` is V_ψ(s′) (B,) without gradient.

    V_ψ(s′) counts unless the task ended there. An episode that was only cut off goes on without us.
    `discount` is γ, or γⁿ (B,) where r is the return of n steps.
    """
    target = rewards + discount * (1.0 - terminated) * next_v
    return (target - q).square().mean()


def advantage_weights(advantage: Tensor, beta: float, max_weight: float) -> Tensor:
    """min(exp(β A), max_weight) of Eq. 7, shape (B,), without gradient."""
    return (beta * advantage.detach()).exp().clamp(max=max_weight)


def policy_loss(weights: Tensor, imitation: Tensor) -> Tensor:
    """L_π, Eq. 7. `imitation` is −log π_φ(a|s) (B,), or the squared error of a deterministic policy."""
    return (weights * imitation).mean()


class IQL:
    """The networks of one run and their update."""

    def __init__(
        self,
        config: IQLConfig,
        observation: int | ObservationSpace,
        action_dim: int,
        device: torch.device,
    ) -> None:
        self.config = config
        policy_class = GaussianPolicy if config.policy == "gaussian" else DeterministicPolicy
        norm, dropout = config.layer_norm, config.policy_dropout
        self.policy = policy_class(observation, action_dim, config.hidden, dropout=dropout).to(device)

        def critic() -> TwinQ:
            q = TwinQ(observation, action_dim, config.hidden, layer_norm=norm, regularise=config.regularise)
            return q.to(device)

        self.q = critic()
        self.v = ValueNet(observation, config.hidden, layer_norm=norm).to(device)
        self.q_target = target_of(self.q, critic())
        self.train(False)
        rest = {"params": [*self.v.parameters(), *self.policy.parameters()]}
        self.optimiser = torch.optim.Adam([self.q.parameter_group(), rest], lr=config.lr, fused=True)
        self._losses, self._step = self.losses, self.step

    def train(self, on: bool) -> None:
        """Dropout and noise belong to `update`: whoever asks for an action or a value gets the whole
        network."""
        for network in (self.policy, self.q, self.v):
            network.train(on)

    def losses(self, batch: Transitions) -> tuple[Tensor, Metrics]:
        """L_V + L_Q + L_π and the regularisers, and what is logged.

        Each loss has gradients in its own network only, so their sum trains all three in one backward pass
        and one optimiser step, all of them from the weights of before the step.
        """
        config, s, a = self.config, batch.observations, batch.actions
        with torch.no_grad():
            next_v = self.v(batch.next_observations)
            target_q = self.q_target(s, a).amin(dim=0)
            next_a = self.policy(batch.next_observations) if config.regularise.dr3 else None
        v = self.v(s)
        encoded = self.q.encode(s)
        values = self.q.values(encoded, a)
        advantage = target_q - v
        weights = advantage_weights(advantage, config.beta, config.max_weight)
        loss_v = value_loss(advantage, config.expectile)
        loss_q = q_loss(values.q, batch.rewards, batch.terminated, next_v, batch.discounts(config.discount))
        loss_policy = policy_loss(weights, self.policy.imitation_loss(s, a))
        terms = self.q.penalties(values, encoded, batch.next_observations, next_a)
        metrics = {
            "loss_v": loss_v.detach(),
            "loss_q": loss_q.detach(),
            "loss_policy": loss_policy.detach(),
            "v": v.detach(),
            "q": values.q.detach(),
            "weight": weights,
        }
        metrics |= {f"penalty_{name}": term.detach() for name, term in terms.items()}
        return sum(terms.values(), loss_v + loss_q + loss_policy), metrics

    def update(self, batch: Transitions) -> Metrics:
        """One gradient step on all three losses, then one of the target network."""
        return self._step(batch)

    def accelerate(self, how: Acceleration) -> None:
        """The losses through torch.compile, the whole step as a CUDA graph."""
        self._losses = how.compiled(self.losses)
        self._step = how.captured(self.step, self.state_dict)
        capturable(self.optimiser, how)

    def step(self, batch: Transitions) -> Metrics:
        """What `update` does to tensors."""
        self.train(True)
        loss, metrics = self._losses(batch)
        self.train(False)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        follow(self.q_target, self.q, self.config.tau)
        return metrics

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """The losses and values on held-out transitions."""
        return self.losses(batch)[1]

    def state_dict(self) -> State:
        return {
            "policy": self.policy.state_dict(),
            "q": self.q.state_dict(),
            "q_target": self.q_target.state_dict(),
            "v": self.v.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.q.load_state_dict(state["q"])
        self.q_target.load_state_dict(state["q_target"])
        self.v.load_state_dict(state["v"])
        self.optimiser.load_state_dict(state["optimiser"])
