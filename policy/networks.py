"""Perceptrons that the algorithms compose, alone and as ensembles in one batched product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policy.precision import exact, hidden_layer


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

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self
        with hidden_layer(x.device):
            for layer in hidden:
                x = layer(x)
        return last(exact(x))


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
        normal = nn.functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias.to(normal.dtype), normal, self.weight.to(normal.dtype))


class Pass(NamedTuple):
    """What one pass through an `EnsembleMLP` of m members gives for B rows."""

    out: Tensor
    """(m, B, out)."""
    last: Tensor
    """φ, the features that the last linear layer reads, (m, B, width)."""
    mean: Tensor | None
    """μ of the bottleneck, (m, B, K); None without one."""
    log_std: Tensor | None
    """log σ of the bottleneck, (m, B, K)."""


class EnsembleMLP(nn.Module):
    """`members` independent perceptrons over one input, (B, in), or over one each, (members, B, in).

    `layer_norm` and `dropout` as in `MLP`. `bottleneck` K > 0 lets the first hidden layer end in a Gaussian
    of K numbers from which the rest has to go on: drawn while training (and `noise` is on), its mean
    otherwise. `residual` makes every hidden layer but the first a block h + W₂ ReLU(W₁ norm(h)); all widths
    are then the same.
    """

    def __init__(
        self,
        members: int,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        *,
        layer_norm: bool = False,
        dropout: float = 0.0,
        bottleneck: int = 0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.members = members
        self.dropout = dropout
        self.residual = residual
        widths = list(pairwise((in_dim, *hidden, out_dim)))
        if bottleneck:
            widths[1] = (bottleneck, widths[1][1])
        self.layers = nn.ModuleList(EnsembleLinear(members, i, o) for i, o in widths)
        self.norms = nn.ModuleList(
            EnsembleLayerNorm(members, width) if layer_norm else nn.Identity() for width in hidden
        )
        self.noise = True
        self.narrow = EnsembleLinear(members, hidden[0], 2 * bottleneck) if bottleneck else None
        self.second = nn.ModuleList(EnsembleLinear(members, w, w) for w in hidden[1:] if residual)

    def forward(self, x: Tensor) -> Tensor:
        return self.full(x).out

    def full(self, x: Tensor) -> Pass:
        """The output, and what regularisers look at."""
        if x.ndim == 2:
            x = x.expand(self.members, *x.shape)
        if not len(self.norms):
            return self.rest(x)
        with hidden_layer(x.device):
            x = self.layers[0](x)
        return self.rest(x)

    def rest(self, h: Tensor) -> Pass:
        """What follows the first layer's product, (members, B, width)."""
        mean = log_std = None
        if len(self.norms):
            with hidden_layer(h.device):
                h = self._residual(h) if self.residual else self._hidden(h, 0)
                if self.narrow is not None:
                    mean, log_std = exact(self.narrow(h)).chunk(2, dim=-1)
                    noise = self.noise and self.training
                    h = mean + log_std.exp() * torch.randn_like(mean) if noise else mean
                for number in range(1, 1 if self.residual else len(self.norms)):
                    h = self._hidden(self.layers[number](h), number)
            h = exact(h)
        return Pass(self.layers[-1](h), h, mean, log_std)

    def _hidden(self, h: Tensor, number: int) -> Tensor:
        h = self.norms[number](h).relu()
        return nn.functional.dropout(h, self.dropout, self.training) if self.dropout else h

    def _residual(self, h: Tensor) -> Tensor:
        # The first norm stands before the last ReLU: it is the only one that no block has.
        for number, second in enumerate(self.second, start=1):
            inner = self.layers[number](self.norms[number](h)).relu()
            if self.dropout:
                inner = nn.functional.dropout(inner, self.dropout, self.training)
            h = h + second(inner)
        return self.norms[0](h).relu()
