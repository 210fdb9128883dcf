"""The networks of a reward model: from a picture or a vector to one number.

Every member is a body and a linear layer with one output. The body's output, the penultimate features, is
also the space in which k-centre spreads pairs. Sizes are those of Offline RL-VLM-F (Venkataraman et al. 2024,
`reward_model.py`) and B-Pref (Lee et al. 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import ConfigError

Head = Literal["linear", "tanh", "sigmoid", "relu"]
NetworkKind = Literal["cnn", "resnet", "state-action", "encoder"]


@dataclass(frozen=True)
class ResNetConfig:
    """ResNet-18 (He et al. 2016), as torchvision builds it."""

    weights: Path | None = None
    """Local file of torchvision's ResNet-18 weights (.safetensors, or .pth read without code) to begin with;
    pictures are then normalised as ImageNet's. Random weights when left out, as in Offline RL-VLM-F."""


@dataclass(frozen=True)
class StateActionConfig:
    """A perceptron on the vectors that a policy trains on (PEBBLE)."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths, LeakyReLU after each."""
    streams: tuple[str, ...] = ()
    """Observation streams without pictures; all when left out."""
    actions: bool = True
    """Put the action of the transition behind its observation."""


@dataclass(frozen=True)
class HeadConfig:
    """A head on the features of a frozen image encoder."""

    hidden: tuple[int, ...] = ()
    """Widths between features and reward, LeakyReLU after each; none is a linear probe."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of one member, and how many there are."""

    kind: NetworkKind = "cnn"
    """cnn: convolutions without padding, ReLU. resnet: ResNet-18. state-action: a perceptron on joint states
    and actions, which looks at no picture. encoder: a head on the features of a frozen image encoder, see
    --encoder."""
    kernels: tuple[int, ...] = (5, 3, 3, 3)
    """Of the cnn."""
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Of the cnn."""
    strides: tuple[int, ...] = (3, 2, 2, 2)
    """Of the cnn."""
    head: Head = "linear"
    """Linear leaves the size of a reward free; tanh is the paper's for cnn and state-action, and saturates.
    sigmoid and relu are B-Pref's other activations."""
    members: int = 3
    """Networks of the ensemble; the reward is their mean, their spread the uncertainty."""
    segment: int = 1
    """Frames whose rewards are summed before two sums are compared, the judged frame last (PEBBLE). What the
    judge saw should reach as far back: --show.frames of armchair label."""
    stride: int = 1
    """Ticks from one frame of a segment to the next; --show.stride of armchair label."""
    resnet: ResNetConfig = field(default_factory=ResNetConfig)
    """ResNet-18."""
    state_action: StateActionConfig = field(default_factory=StateActionConfig)
    """The perceptron on vectors."""
    probe: HeadConfig = field(default_factory=HeadConfig)
    """The head on an encoder."""

    def __post_init__(self) -> None:
        if not len(self.kernels) == len(self.channels) == len(self.strides) > 0:
            raise ConfigError(
                f"kernels {self.kernels}, channels {self.channels} and strides {self.strides} need one "
                "entry per layer each."
            )
        for name in ("members", "segment", "stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} is out of range: 1 or more.")

    @property
    def of_pictures(self) -> bool:
        """Whether members look at pictures; the others take vectors."""
        return self.kind in ("cnn", "resnet")

    @property
    def smallest_side(self) -> int:
        """Pixels that the last layer's 1×1 output sees: no picture may be smaller."""
        if self.kind == "resnet":
            return 32
        side = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            side = (side - 1) * stride + kernel
        return side

    def flat_size(self, height: int, width: int) -> int:
        """Features after the last convolution."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if height < 1 or width < 1:
            raise ConfigError(
                f"pictures must have {self.smallest_side} pixels a side or more for these strides."
            )
        return height * width * self.channels[-1]

    def steps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, segment) rows of the frames whose rewards are summed for each of `rows` (n,)."""
        return rows[:, None] - self.stride * np.arange(self.segment - 1, -1, -1, dtype=np.int64)


class RewardNetwork(nn.Module):
    """One member: (batch, 3, height, width) or (batch, d) float → (batch,) reward."""

    def __init__(self, features: nn.Module, width: int, head: Head) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(width, 1)
        self._activation = head

    def forward(self, inputs: Tensor) -> Tensor:
        """Reward of each input."""
        reward = self.head(self.features(inputs)).squeeze(-1).float()
        if self._activation == "linear":
            return reward
        return {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}[self._activation](reward)


class RewardCNN(RewardNetwork):
    """Convolutions without padding. Weights begin uniform within 1/√(fan in), biases at 0; those of the last
    layer within 1e-3. The original's BatchNorm objects are never applied there, so there are none here."""

    def __init__(self, config: NetworkConfig, height: int, width: int) -> None:
        layers: list[nn.Module] = []
        before = 3
        for kernel, channels, stride in zip(config.kernels, config.channels, config.strides, strict=True):
            convolution = nn.Conv2d(before, channels, kernel, stride)
            bound = 1 / math.sqrt(before * kernel * kernel)
            nn.init.uniform_(convolution.weight, -bound, bound)
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU()]
            before = channels
        super().__init__(nn.Sequential(*layers, nn.Flatten()), config.flat_size(height, width), config.head)
        nn.init.uniform_(self.head.weight, -1e-3, 1e-3)
        nn.init.uniform_(self.head.bias, -1e-3, 1e-3)


def new_member(config: NetworkConfig, size: tuple[int, ...]) -> RewardNetwork:
    """A member with random weights for pictures of `size` (height, width) or vectors of `size` (d,)."""
    if config.kind == "cnn":
        return RewardCNN(config, *size).to(memory_format=torch.channels_last)
    if config.kind == "resnet":
        # Half a second to import, which the other kinds need not wait for.
        from torchvision.models import resnet18

        body = resnet18(weights=None)
        width = body.fc.in_features
        body.fc = nn.Identity()
        return RewardNetwork(body, width, config.head).to(memory_format=torch.channels_last)
    hidden = config.state_action.hidden if config.kind == "state-action" else config.probe.hidden
    widths = (*size, *hidden)
    layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.LeakyReLU())]
    return RewardNetwork(nn.Sequential(*layers), widths[-1], config.head)
