"""Options of the critic's networks against over- and underfitting, and the terms that they add to its loss.

VIB, dropout, L1 and L2 stand against overfitting, DR3 and residual layers against underfitting (Kumar et al.
2021, A Workflow for Offline Model-Free Robotic RL, arXiv 2109.10813; DR3: Kumar et al. 2021, arXiv
2112.04716). Layer normalisation and the widths and number of layers are settings of the algorithms
themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from policy.settings import require


@dataclass(frozen=True)
class Regularisers:
    """Regularisers of the critic, all off unless asked for."""

    vib: float = 0.0
    """Weight of the information bottleneck's KL divergence; above 0 the first hidden layer of each Q ends in
    a Gaussian of `vib_dim` numbers. The workflow's code has 0.5, its examples 0.001."""
    vib_dim: int = 16
    """K, the numbers that pass the bottleneck."""
    vib_deterministic: bool = False
    """Keep the narrow layer but pass its mean, without noise and without the KL term."""
    dropout: float = 0.0
    """Share of each Q's features that is dropped while training."""
    l1: float = 0.0
    """Weight of the L1 term: the sum over the critic's tensors of their mean absolute entry."""
    l2: float = 0.0
    """Adam's weight decay in the critic. The workflow's default of 1 is far too large; try 0.001."""
    dr3: float = 0.0
    """Weight of DR3, which keeps features of neighbouring state-action pairs from aligning. The workflow's
    code has 0.001, a later study of the same group 0.03."""
    dr3_form: Literal["last_layer", "encoder"] = "last_layer"
    """last_layer: as published, on what each Q's last layer reads. encoder: as in the workflow's code, on
    what its picture encoder returns, before the action comes in; it needs a camera."""
    residual: bool = False
    """Residual blocks in the place of each Q's hidden layers after the first; all widths must be the same."""

    def __post_init__(self) -> None:
        for name in ("vib", "l1", "l2", "dr3"):
            value = getattr(self, name)
            require(value >= 0, f"algo.regularise.{name}", value, "give 0 or more")
        require(0 <= self.dropout < 1, "algo.regularise.dropout", self.dropout, "give a share from 0 to 1")
        require(self.vib_dim >= 1, "algo.regularise.vib-dim", self.vib_dim, "give 1 or more")

    @property
    def bottleneck(self) -> int:
        """Width of the narrow layer; 0 for none."""
        return self.vib_dim if self.vib > 0 or self.vib_deterministic else 0

    def check(self, hidden: Sequence[int]) -> None:
        """Refuse hidden layers that these options cannot be applied to.

        Raises:
            ConfigError: a bottleneck without a hidden layer, residual blocks of several widths, or both.
        """
        if self.bottleneck or self.residual:
            require(bool(hidden), "algo.hidden", (), "the bottleneck and residual blocks need a hidden layer")
        if self.residual:
            require(len(set(hidden)) == 1, "algo.hidden", hidden, "residual blocks need one width for all")
            require(
                not self.bottleneck,
                "algo.regularise.residual",
                True,
                "it answers underfitting, VIB overfitting: choose one of them",
            )


def vib_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (μ² + σ² − 1 − log(σ² + 1e-9)) over the last axis."""
    variance = (2.0 * log_std).exp()
    return 0.5 * (mean.square() + variance - 1.0 - (variance + 1e-9).log()).sum(dim=-1)


def l1_term(parameters: Iterable[Tensor]) -> Tensor:
    """Σ over tensors of mean |p|."""
    return torch.stack([parameter.abs().mean() for parameter in parameters]).sum()


def dr3_term(features: Tensor, next_features: Tensor) -> Tensor:
    """Mean of φ(s, a)ᵀ φ(s′, a′) over all axes but the last: published form, with gradients through both."""
    return (features * next_features).sum(dim=-1).mean()


def dr3_encoder_term(features: Tensor, next_features: Tensor) -> Tensor:
    """The form of the workflow's code: φ of the pictures alone, without gradient through φ(s′)."""
    return dr3_term(features, next_features.detach())
