"""Behaviour cloning: the policy imitates every action of the data alike, and looks at no reward.

    L_π(φ) = −E[ log π_φ(a|s) ]

It is Eq. 7 of IQL with β = 0, and the baseline that a learned reward has to beat. With chunks the policy says
the next H actions at once (Zhao et al. 2023, arXiv 2304.13705, without its transformer and its latent):

    L_π(φ) = −E[ Σ_{h<H} m_h log π_φ(a_{t+h}|s_t) / Σ_h m_h ],   m_h = 1 where a_{t+h} was recorded
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from episodes.errors import DatasetError
from policy.checkpoint import State
from policy.observations import ObservationSpace
from policy.policies import DeterministicPolicy, GaussianPolicy, ImitatingPolicy, TanhGaussianPolicy
from policy.settings import require
from policy.training import Metrics
from policy.transitions import Experts, Transitions

POLICIES: dict[str, type[ImitatingPolicy]] = {
    "gaussian": GaussianPolicy,
    "deterministic": DeterministicPolicy,
    "tanh_gaussian": TanhGaussianPolicy,
}


@dataclass(frozen=True)
class BCConfig:
    """Behaviour cloning: imitates the recordings, whatever their quality."""

    name: ClassVar[str] = "bc"
    uses_rewards: ClassVar[bool] = False
    experts: ClassVar[Experts] = "ignored"

    lr: float = 3e-4
    """Adam's learning rate."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    policy: Literal["gaussian", "deterministic", "tanh_gaussian"] = "gaussian"
    """gaussian: negative log-likelihood; deterministic: squared error; tanh_gaussian: negative log-likelihood
    of a squashed Gaussian whose spread depends on the state."""
    chunk: int = 1
    """H, actions per inference; above 1 the bundle holds chunks, of which control executes a part."""
    execute: int = 0
    """Actions of a chunk that are meant to be executed before the next inference; 0 for half of them."""
    layer_norm: bool = False
    """Layer normalisation in the policy."""
    dropout: float = 0.0
    """Share of the policy's features dropped while it trains."""
    l2: float = 0.0
    """Adam's weight decay."""

    def build(self, observation: int | ObservationSpace, action_dim: int, device: torch.device) -> BC:
        """A learner with fresh weights drawn from torch's global generator."""
        return BC(self, observation, action_dim, device)

    def __post_init__(self) -> None:
        require(self.lr > 0, "algo.lr", self.lr, "give a number above 0")
        require(min(self.hidden, default=1) > 0, "algo.hidden", self.hidden, "give widths above 0")
        require(self.chunk >= 1, "algo.chunk", self.chunk, "give 1 or more actions")
        require(0 <= self.execute <= self.chunk, "algo.execute", self.execute, "give at most --algo.chunk")
        require(0 <= self.dropout < 1, "algo.dropout", self.dropout, "give a share from 0 to 1")
        require(self.l2 >= 0, "algo.l2", self.l2, "give 0 or more")

    @property
    def executed(self) -> int:
        """Actions of a chunk before the next inference."""
        return self.execute or -(-self.chunk // 2)


def imitation_loss(imitation: Tensor) -> Tensor:
    """L_π: the mean of −log π_φ(a|s) (B,), or of the squared error of a deterministic policy."""
    return imitation.mean()


def chunk_loss(entries: Tensor, valid: Tensor) -> Tensor:
    """L_π of chunks. `entries` (B, H, dim) are −log π of each action entry, `valid` (B, H) says which actions
    were recorded: per row the mean over those, then the mean over rows."""
    losses = entries.sum(dim=-1)
    return ((losses * valid).sum(dim=-1) / valid.sum(dim=-1)).mean()


class BC:
    """The policy of one run and its update."""

    def __init__(
        self, config: BCConfig, observation: int | ObservationSpace, action_dim: int, device: torch.device
    ) -> None:
        self.config = config
        self.policy = POLICIES[config.policy](
            observation,
            config.chunk * action_dim,
            config.hidden,
            dropout=config.dropout,
            layer_norm=config.layer_norm,
        ).to(device)
        self.policy.eval()
        self.optimiser = torch.optim.Adam(
            self.policy.parameters(), lr=config.lr, weight_decay=config.l2, fused=True
        )

    def loss(self, batch: Transitions) -> Tensor:
        """L_π of a batch.

        Raises:
            DatasetError: chunks were asked for and the batch has none of this length.
        """
        if self.config.chunk == 1:
            return imitation_loss(self.policy.imitation_loss(batch.observations, batch.actions))
        if batch.chunks is None or batch.chunk_valid is None or batch.chunks.shape[1] != self.config.chunk:
            raise DatasetError(
                f"the batch has no chunks of {self.config.chunk} actions: load the data for it."
            )
        entries = self.policy.entry_losses(batch.observations, batch.chunks.flatten(1))
        return chunk_loss(entries.view_as(batch.chunks), batch.chunk_valid)

    def update(self, batch: Transitions) -> Metrics:
        """One gradient step."""
        self.policy.train()
        loss = self.loss(batch)
        self.policy.eval()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return {"loss_policy": loss.detach()}

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """The loss and the mean squared error of the first action on held-out transitions."""
        error = self.policy(batch.observations)[:, : batch.actions.shape[1]] - batch.actions
        return {"loss_policy": self.loss(batch), "action_error": error.square()}

    def state_dict(self) -> State:
        return {"policy": self.policy.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.optimiser.load_state_dict(state["optimiser"])
