"""Networks that the algorithms compose: plain and ensembled perceptrons, and policies over [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Bounds of a Gaussian policy's log standard deviation, as in the IQL reference code."""

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class MLP(nn.Sequential):
    """Linear layers with ReLU between them, in PyTorch's default initialisation: (..., in) to (..., out).

    `layer_norm` normalises the features before each ReLU; `dropout` is the share of features that is dropped
    after it in training mode.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        *,
        layer_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((in_dim, *hidden)):
            layers.append(nn.Linear(width_in, width_out))
            if layer_norm:
                layers.append(nn.LayerNorm(width_out))
            layers.append(nn.ReLU())
            if dropout > 0.0:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers, nn.Linear((in_dim, *hidden)[-1], out_dim))


class EnsembleLinear(nn.Module):
    """`members` independent linear layers in one batched product: (members, B, in) to (members, B, out).

    One product of all members costs less than one product per member where layers are small. Each member
    starts as an `nn.Linear` does, uniform within 1/√in.
    """

    def __init__(self, members: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(in_dim)
        self.weight = nn.Parameter(torch.empty(members, in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, out_dim).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleLayerNorm(nn.Module):
    """`members` independent layer normalisations: (members, B, width) to the same shape."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, nn.functional.layer_norm(x, x.shape[-1:]), self.weight)


class EnsembleMLP(nn.Module):
    """`members` independent perceptrons over the same input: (B, in) to (members, B, out)."""

    def __init__(
        self, members: int, in_dim: int, hidden: Sequence[int], out_dim: int, *, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.members = members
        widths = pairwise((in_dim, *hidden, out_dim))
        self.layers = nn.ModuleList(EnsembleLinear(members, i, o) for i, o in widths)
        self.norms = nn.ModuleList(
            EnsembleLayerNorm(members, width) if layer_norm else nn.Identity() for width in hidden
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(self.members, *x.shape)
        *body, head = self.layers
        for layer, norm in zip(body, self.norms, strict=True):
            x = norm(layer(x)).relu()
        return head(x)


class TwinQ(nn.Module):
    """Two independent action values, Q₁ and Q₂: (B, observation), (B, action) to (2, B)."""

    def __init__(
        self, observation_dim: int, action_dim: int, hidden: Sequence[int], *, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.ensemble = EnsembleMLP(2, observation_dim + action_dim, hidden, 1, layer_norm=layer_norm)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.ensemble(torch.cat((observations, actions), dim=-1)).squeeze(-1)


class GaussianPolicy(nn.Module):
    """π(a|s) = N(tanh(MLP(s)), σ²) with one learned σ per action entry, the same in every state.

    The mean lies in [-1, 1]; the density is that of the plain Gaussian, without a change of variables.
    """

    def __init__(
        self, observation_dim: int, action_dim: int, hidden: Sequence[int], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.mean = MLP(observation_dim, hidden, action_dim, dropout=dropout)
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def forward(self, observations: Tensor) -> Tensor:
        """The mean (B, action_dim), which is the action at deployment."""
        return self.mean(observations).tanh()

    def imitation_loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """−log π(a|s) of each row, shape (B,)."""
        log_std = self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        scaled = (actions - self(observations)) * (-log_std).exp()
        return (0.5 * scaled.square() + (log_std + _HALF_LOG_TWO_PI)).sum(dim=-1)


class DeterministicPolicy(nn.Module):
    """a = tanh(MLP(s)), imitated by squared error."""

    def __init__(
        self, observation_dim: int, action_dim: int, hidden: Sequence[int], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.mean = MLP(observation_dim, hidden, action_dim, dropout=dropout)

    def forward(self, observations: Tensor) -> Tensor:
        """The action (B, action_dim)."""
        return self.mean(observations).tanh()

    def imitation_loss(self, observations: Tensor, actions: Tensor) -> Tensor:
        """‖π(s) − a‖² of each row, shape (B,)."""
        return (self(observations) - actions).square().sum(dim=-1)
