"""Policies over [-1, 1] that the algorithms share: Gaussian, tanh-Gaussian and deterministic ones.

Each maps observations to the action at deployment (`forward`) and says of recorded actions how badly it
imitates them, entry by entry (`entry_losses`) or summed (`imitation_loss`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policy.networks import MLP
from policy.observations import Eyes, ObservationSpace, Seen

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Bounds of a Gaussian policy's log standard deviation, as in the IQL reference code."""

TANH_LOG_STD_MIN, TANH_LOG_STD_MAX = -5.0, 2.0
"""Bounds of a tanh-Gaussian policy's, as in the workflow's code."""

EDGE = 1.0 - 1e-6
"""Recorded actions are taken at most this far out, since tanh never reaches 1 and its inverse is infinite."""

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def normal_loss(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """−log N(x; mean, exp(log_std)²), entry by entry."""
    return 0.5 * ((x - mean) * (-log_std).exp()).square() + (log_std + _HALF_LOG_TWO_PI)


def squash_log_slope(u: Tensor) -> Tensor:
    """log(d tanh(u) / du) = log(1 − tanh²(u)), in the form 2 (log 2 − u − softplus(−2 u)), which stays
    finite."""
    return 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))


class DeterministicPolicy(nn.Module):
    """a = tanh(MLP(s)), imitated by squared error."""

    def __init__(
        self,
        observation: int | ObservationSpace,
        action_dim: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.eyes = Eyes(observation)
        self.mean = MLP(self.eyes.out_dim, hidden, action_dim, dropout=dropout, layer_norm=layer_norm)

    def forward(self, seen: Seen) -> Tensor:
        """The action (B, action_dim)."""
        return self.mean(self.eyes(seen)).tanh()

    def entry_losses(self, seen: Seen, actions: Tensor) -> Tensor:
        """The squared error of each entry, (B, action_dim)."""
        return (self(seen) - actions).square()

    def imitation_loss(self, seen: Seen, actions: Tensor) -> Tensor:
        """‖π(s) − a‖² of each row, shape (B,): the sum of its entries."""
        return self.entry_losses(seen, actions).sum(dim=-1)


class GaussianPolicy(DeterministicPolicy):
    """π(a|s) = N(tanh(MLP(s)), σ²) with one learned σ per action entry, the same in every state.

    The mean lies in [-1, 1], and is the action at deployment; the density is that of the plain Gaussian,
    without a change of variables.
    """

    def __init__(
        self,
        observation: int | ObservationSpace,
        action_dim: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(observation, action_dim, hidden, dropout=dropout, layer_norm=layer_norm)
        self.log_std = nn.Parameter(torch.zeros(action_dim))

    def entry_losses(self, seen: Seen, actions: Tensor) -> Tensor:
        """−log π of each entry, (B, action_dim); their sum over a row is −log π(a|s)."""
        return normal_loss(actions, self(seen), self.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))


class TanhGaussianPolicy(nn.Module):
    """a = tanh(u), u ~ N(μ(s), σ(s)²); its density is on (-1, 1), by the change of variables.

    log π(a|s) = log N(u; μ, σ²) − Σ log(1 − tanh²(u)), u = artanh(a).
    """

    def __init__(
        self,
        observation: int | ObservationSpace,
        action_dim: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.eyes = Eyes(observation)
        self.mean = MLP(self.eyes.out_dim, hidden, 2 * action_dim, dropout=dropout, layer_norm=layer_norm)

    def parameters_of(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """μ and log σ of u, (B, action_dim) each."""
        mean, log_std = self.mean(self.eyes(seen)).chunk(2, dim=-1)
        return mean, log_std.clamp(TANH_LOG_STD_MIN, TANH_LOG_STD_MAX)

    def forward(self, seen: Seen) -> Tensor:
        """tanh(μ), the action at deployment, (B, action_dim)."""
        return self.mean(self.eyes(seen)).chunk(2, dim=-1)[0].tanh()

    def draw(self, seen: Seen, count: int | None = None) -> tuple[Tensor, Tensor]:
        """u with gradients to μ and σ, and log π of tanh(u): (B, dim) and (B,), or `count` of each row,
        (count, B, dim) and (count, B)."""
        mean, log_std = self.parameters_of(seen)
        if count is not None:
            mean, log_std = (x.expand(count, *x.shape) for x in (mean, log_std))
        noise = torch.randn_like(mean)
        u = mean + log_std.exp() * noise
        # (u − μ)/σ is the noise itself, so the density needs no division by σ.
        log_density = -(0.5 * noise.square() + log_std + _HALF_LOG_TWO_PI)
        return u, (log_density - squash_log_slope(u)).sum(dim=-1)

    def sample(self, seen: Seen, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Actions tanh(u) and log π of each, as `draw` gives them."""
        u, log_prob = self.draw(seen, count)
        return u.tanh(), log_prob

    def drawn_losses(self, seen: Seen, u: Tensor) -> Tensor:
        """−log π(tanh(u)|s) of each entry, (B, action_dim), for a u that was drawn.

        Near ±1 it is exact, where an action has lost its u: in float32 tanh(u) is 1 from u = 9 on.
        """
        return normal_loss(u, *self.parameters_of(seen)) + squash_log_slope(u)

    def log_prob(self, seen: Seen, actions: Tensor) -> Tensor:
        """log π(a|s) of each row, (B,)."""
        return -self.imitation_loss(seen, actions)

    def entry_losses(self, seen: Seen, actions: Tensor) -> Tensor:
        """−log π of each entry, (B, action_dim)."""
        return self.drawn_losses(seen, actions.clamp(-EDGE, EDGE).atanh())

    def imitation_loss(self, seen: Seen, actions: Tensor) -> Tensor:
        """−log π(a|s) of each row, shape (B,)."""
        return self.entry_losses(seen, actions).sum(dim=-1)


ImitatingPolicy = GaussianPolicy | DeterministicPolicy | TanhGaussianPolicy
