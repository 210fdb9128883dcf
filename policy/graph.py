"""The policy as it is deployed: raw observations in, actions of the contract out, scaling inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policy.normalise import ActionRange, Normaliser


class PolicyGraph(nn.Module):
    """One float32 input (B, D) per observation stream; output (B, chunk, dim) in the contract's units.

    Streams are concatenated in the order of `streams`, which is the order that training used.
    """

    def __init__(
        self, policy: nn.Module, normaliser: Normaliser, action_range: ActionRange, streams: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.policy = policy
        self.normaliser = normaliser
        self.action_range = action_range
        self.streams = streams

    def forward(self, *observations: Tensor) -> Tensor:
        state = observations[0] if len(observations) == 1 else torch.cat(observations, dim=-1)
        return self.action_range(self.policy(self.normaliser(state))).unsqueeze(1)

    def act(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The first action (dim,) for one observation, as `policy.protocols.Act` wants it."""
        device = self.normaliser.mean.device
        rows = [
            torch.as_tensor(np.asarray(observation[name], dtype=np.float32), device=device).unsqueeze(0)
            for name in self.streams
        ]
        with torch.inference_mode():
            return self(*rows)[0, 0].cpu().numpy().astype(np.float64)
