"""Two independent action values with the regularisers that a critic can have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from episodes.errors import ConfigError
from policy.networks import MLP, EnsembleMLP
from policy.observations import Eyes, ObservationSpace, Seen
from policy.precision import hidden_layer
from policy.regularise import Regularisers, dr3_encoder_term, dr3_term, l1_term, vib_divergence

OFF = Regularisers()


class Values(NamedTuple):
    """What both Q say of actions at B observations; K is an axis of several actions per observation."""

    q: Tensor
    """(2, B) or (2, K, B)."""
    last: Tensor
    """Features before the last layer, (2, B, width) or (2, K·B, width)."""
    mean: Tensor | None
    """μ of the bottleneck; None without one."""
    log_std: Tensor | None


class TwinQ(nn.Module):
    """Q₁ and Q₂: observations (B), actions (B, action_dim) to (2, B).

    Both read one picture encoder, or one each (`encoder.per_q`).
    """

    def __init__(
        self,
        observation: int | ObservationSpace,
        action_dim: int,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        regularise: Regularisers = OFF,
    ) -> None:
        super().__init__()
        regularise.check(hidden)
        eyes = Eyes(observation)
        both = eyes.image_dim > 0 and isinstance(observation, ObservationSpace) and observation.encoder.per_q
        self.eyes = nn.ModuleList([eyes, Eyes(observation)] if both else [eyes])
        self.image_dim = eyes.image_dim
        if regularise.dr3 and regularise.dr3_form == "encoder" and not self.image_dim:
            raise ConfigError(
                "--algo.regularise.dr3-form encoder: this critic sees no camera, so it has no picture "
                "encoder whose features could be kept apart. Use last_layer."
            )
        self.regularise = regularise
        self.ensemble = EnsembleMLP(
            2,
            eyes.out_dim + action_dim,
            hidden,
            1,
            layer_norm=layer_norm,
            dropout=regularise.dropout,
            bottleneck=regularise.bottleneck,
            residual=regularise.residual,
        )
        self.ensemble.noise = not regularise.vib_deterministic

    def forward(self, seen: Seen, actions: Tensor) -> Tensor:
        return self.values(self.encode(seen), actions).q

    def encode(self, seen: Seen) -> Tensor:
        """Features of the observations, (1, B, n), or (2, B, n) with an encoder per Q."""
        return torch.stack([eyes(seen) for eyes in self.eyes])

    def values(self, encoded: Tensor, actions: Tensor) -> Values:
        """Q of `actions` (B, dim), or of K actions per observation, (K, B, dim), at what `encode`
        returned."""
        if actions.ndim == 3:
            return self._several(encoded, actions)
        x = torch.cat((encoded, actions.expand(len(encoded), *actions.shape)), dim=-1)
        found = self.ensemble.full(x.expand(2, -1, -1))
        return Values(found.out.squeeze(-1), found.last, found.mean, found.log_std)

    def _several(self, encoded: Tensor, actions: Tensor) -> Values:
        """The observations' share of the first layer is computed once for all K actions."""
        count, rows, dim = actions.shape
        first = self.ensemble.layers[0]
        split = first.weight.shape[1] - dim
        only_last = not len(self.ensemble.norms)
        with nullcontext() if only_last else hidden_layer(actions.device):
            ours = torch.baddbmm(first.bias, encoded.expand(2, -1, -1), first.weight[:, :split])
            theirs = torch.matmul(actions.reshape(1, count * rows, dim), first.weight[:, split:])
            h = theirs.view(2, count, rows, -1) + ours.unsqueeze(1)
        if only_last:
            return Values(h.squeeze(-1), actions.reshape(1, count * rows, dim), None, None)
        found = self.ensemble.rest(h.flatten(1, 2))
        return Values(found.out.view(2, count, rows), found.last, found.mean, found.log_std)

    def penalties(
        self, values: Values, encoded: Tensor, next_seen: Seen, next_actions: Tensor | None
    ) -> dict[str, Tensor]:
        """The weighted terms that the regularisers add to the critic's loss, by name; none where all are off.

        Args:
            values: of (s, a) of the data, with `encoded` that they came from.
            next_seen: s′.
            next_actions: a′ (B, dim) for DR3's published form.
        """
        options, terms = self.regularise, {}
        if options.vib and values.mean is not None and values.log_std is not None and self.ensemble.noise:
            terms["vib"] = options.vib * vib_divergence(values.mean, values.log_std).mean()
        if options.l1:
            terms["l1"] = options.l1 * l1_term(self.parameters())
        if options.dr3 and options.dr3_form == "encoder":
            ahead = self.encode(next_seen)[..., : self.image_dim]
            terms["dr3"] = options.dr3 * dr3_encoder_term(encoded[..., : self.image_dim], ahead)
        elif options.dr3 and next_actions is not None:
            ahead = self.values(self.encode(next_seen), next_actions).last
            terms["dr3"] = options.dr3 * dr3_term(values.last, ahead)
        return terms

    def parameter_group(self) -> dict[str, object]:
        """The critic's parameters and their weight decay, as an optimiser takes them."""
        return {"params": list(self.parameters()), "weight_decay": self.regularise.l2}


class ValueNet(nn.Module):
    """V(s): observations (B) to (B,)."""

    def __init__(
        self, observation: int | ObservationSpace, hidden: Sequence[int], *, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.eyes = Eyes(observation)
        self.network = MLP(self.eyes.out_dim, hidden, 1, layer_norm=layer_norm)

    def forward(self, seen: Seen) -> Tensor:
        return self.network(self.eyes(seen)).squeeze(-1)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients through `network` to its inputs, but not into its parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, share: float) -> None:
    """Polyak averaging: every parameter of `target` moves by `share` of the way to `online`'s."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), share)


def target_of(online: TwinQ, fresh: TwinQ) -> TwinQ:
    """`fresh` as the target network of `online`: the same weights, no gradients, no dropout and no noise."""
    fresh.load_state_dict(online.state_dict())
    fresh.requires_grad_(False)
    return fresh.eval()
