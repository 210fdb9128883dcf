"""Behaviour cloning: the policy imitates every action of the data alike, and looks at no reward.

    L_π(φ) = −E[ log π_φ(a|s) ]

It is Eq. 7 of IQL with β = 0, and the baseline that a learned reward has to beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from policy.checkpoint import State
from policy.data import Transitions
from policy.networks import DeterministicPolicy, GaussianPolicy
from policy.settings import require
from policy.training import Metrics


@dataclass(frozen=True)
class BCConfig:
    """Behaviour cloning: imitates the recordings, whatever their quality."""

    name: ClassVar[str] = "bc"
    uses_rewards: ClassVar[bool] = False

    lr: float = 3e-4
    """Adam's learning rate."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    policy: Literal["gaussian", "deterministic"] = "gaussian"
    """gaussian: negative log-likelihood; deterministic: squared error."""

    def build(self, observation_dim: int, action_dim: int, device: torch.device) -> BC:
        """A learner with fresh weights drawn from torch's global generator."""
        return BC(self, observation_dim, action_dim, device)

    def __post_init__(self) -> None:
        require(self.lr > 0, "algo.lr", self.lr, "give a number above 0")
        require(min(self.hidden, default=1) > 0, "algo.hidden", self.hidden, "give widths above 0")


def imitation_loss(imitation: Tensor) -> Tensor:
    """L_π: the mean of −log π_φ(a|s) (B,), or of the squared error of a deterministic policy."""
    return imitation.mean()


class BC:
    """The policy of one run and its update."""

    def __init__(self, config: BCConfig, observation_dim: int, action_dim: int, device: torch.device) -> None:
        self.config = config
        policy_class = GaussianPolicy if config.policy == "gaussian" else DeterministicPolicy
        self.policy = policy_class(observation_dim, action_dim, config.hidden).to(device)
        self.optimiser = torch.optim.Adam(self.policy.parameters(), lr=config.lr, fused=True)

    def update(self, batch: Transitions) -> Metrics:
        """One gradient step."""
        loss = imitation_loss(self.policy.imitation_loss(batch.observations, batch.actions))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return {"loss_policy": loss.detach()}

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """The loss and the mean squared action error on held-out transitions."""
        error = self.policy(batch.observations) - batch.actions
        imitation = self.policy.imitation_loss(batch.observations, batch.actions)
        return {"loss_policy": imitation_loss(imitation), "action_error": error.square()}

    def state_dict(self) -> State:
        return {"policy": self.policy.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.optimiser.load_state_dict(state["optimiser"])
