"""What a policy sees, as the networks get it: one vector, and pictures beside it where there are cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from policy.encoders import EncoderConfig, Encoders


class Observations(NamedTuple):
    """B observations with pictures."""

    vector: Tensor
    """Vector streams side by side, normalised, float32 (B, D); D may be 0."""
    images: tuple[Tensor, ...]
    """One tensor per camera, uint8 (B, H, W, C)."""


Seen = Tensor | Observations
"""Normalised vectors (B, D) where there is no camera, else `Observations`."""


@dataclass(frozen=True)
class ObservationSpace:
    """The sizes that networks are built from."""

    vector_dim: int
    cameras: tuple[tuple[int, int, int], ...] = ()
    """(H, W, C) of each camera's pictures."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """What turns pictures into features."""


def as_space(observation: int | ObservationSpace) -> ObservationSpace:
    """A plain number is the width of a vector."""
    return ObservationSpace(observation) if isinstance(observation, int) else observation


class Eyes(torch.nn.Module):
    """s as one row of features (B, `out_dim`): the vector itself, behind the features of every camera.

    Without cameras it has no weights and returns what it was given.
    """

    def __init__(self, observation: int | ObservationSpace) -> None:
        super().__init__()
        space = as_space(observation)
        self.encoders = Encoders(space.encoder, space.cameras) if space.cameras else None
        self.image_dim = 0 if self.encoders is None else self.encoders.out_dim
        self.out_dim = self.image_dim + space.vector_dim

    def forward(self, seen: Seen) -> Tensor:
        if isinstance(seen, Tensor):
            return seen
        if self.encoders is None:
            return seen.vector
        if self.image_dim == self.out_dim:
            return self.encoders(seen.images)
        return torch.cat((self.encoders(seen.images), seen.vector), dim=-1)


def rows_of(seen: Seen) -> int:
    """How many observations there are."""
    return len(seen if isinstance(seen, Tensor) else seen.vector)


def map_seen(change: Callable[[Tensor], Tensor], seen: Seen) -> Seen:
    """`change` applied to the vector and to every camera's pictures."""
    if isinstance(seen, Tensor):
        return change(seen)
    return Observations(change(seen.vector), tuple(map(change, seen.images)))
