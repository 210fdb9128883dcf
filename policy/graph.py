"""The policy as it is deployed: raw observations in, actions of the contract out, scaling inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policy.normalise import ActionRange, Normaliser
from policy.observations import Observations, Seen


class PolicyGraph(nn.Module):
    """One input per observation stream: float32 (B, D) vectors, then uint8 (B, H, W, C) pictures. Output
    (B, chunk, dim) in the contract's units.

    Vectors are concatenated in the order of `streams`, which is the order that training used; behind them
    stand the features of a frozen tower, where there is one.
    """

    def __init__(
        self,
        policy: nn.Module,
        normaliser: Normaliser,
        action_range: ActionRange,
        streams: tuple[str, ...],
        cameras: tuple[str, ...] = (),
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.normaliser = normaliser
        self.action_range = action_range
        self.streams = streams
        self.cameras = cameras
        self.tower = tower

    def forward(self, *observations: Tensor) -> Tensor:
        vectors, images = observations[: len(self.streams)], observations[len(self.streams) :]
        if self.tower is not None:
            vectors, images = (*vectors, *(self.tower(image) for image in images)), ()
        if not vectors:
            # A policy that sees nothing but pictures reads no vector.
            seen: Seen = Observations(torch.zeros(0), images)
        else:
            state = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)
            seen = Observations(self.normaliser(state), images) if images else self.normaliser(state)
        actions = self.policy(seen)
        return self.action_range(actions.unflatten(-1, (-1, len(self.action_range.lower))))

    def act(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The first action (dim,) for one observation, as `policy.protocols.Act` wants it."""
        device = self.normaliser.mean.device
        rows = [
            torch.as_tensor(np.asarray(observation[name], dtype=kind), device=device).unsqueeze(0)
            for names, kind in ((self.streams, np.float32), (self.cameras, np.uint8))
            for name in names
        ]
        with torch.inference_mode():
            return self(*rows)[0, 0].cpu().numpy().astype(np.float64)
