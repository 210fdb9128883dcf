"""The preference reward model: an ensemble of image networks under the Bradley-Terry likelihood.

Christiano et al. 2017, "Deep reinforcement learning from human preferences", eq. 1 and section 2.2.3
(constant rate of mistakes); network of Offline RL-VLM-F (Venkataraman et al. 2024).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import ConfigError
from reward.regions import Box


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of one member: convolutions without padding, ReLU, one linear output."""

    kernels: tuple[int, ...] = (5, 3, 3, 3)
    channels: tuple[int, ...] = (16, 32, 64, 128)
    strides: tuple[int, ...] = (3, 2, 2, 2)
    head: Literal["linear", "tanh"] = "linear"
    """Linear leaves the size of a reward free; tanh is the paper's, and saturates."""
    members: int = 3
    """Networks of the ensemble; the reward is their mean, their spread the uncertainty."""

    def __post_init__(self) -> None:
        if not len(self.kernels) == len(self.channels) == len(self.strides) > 0:
            raise ConfigError(
                f"kernels {self.kernels}, channels {self.channels} and strides {self.strides} need one "
                "entry per "
                "layer each."
            )
        if self.members < 1:
            raise ConfigError(f"members {self.members} is out of range: 1 or more.")

    @property
    def smallest_side(self) -> int:
        """Pixels that the last layer's 1×1 output sees: no picture may be smaller."""
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


class RewardCNN(nn.Module):
    """One member: (batch, 3, height, width) float → (batch,) reward."""

    def __init__(self, config: NetworkConfig, height: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for kernel, channels, stride in zip(config.kernels, config.channels, config.strides, strict=True):
            convolution = nn.Conv2d(before, channels, kernel, stride)
            bound = 1 / math.sqrt(before * kernel * kernel)
            nn.init.uniform_(convolution.weight, -bound, bound)
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU()]
            before = channels
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(config.flat_size(height, width), 1)
        nn.init.uniform_(self.head.weight, -1e-3, 1e-3)
        nn.init.uniform_(self.head.bias, -1e-3, 1e-3)
        self._squash = config.head == "tanh"

    def forward(self, pictures: Tensor) -> Tensor:
        """Reward of each picture."""
        reward = self.head(self.features(pictures)).squeeze(-1).float()
        return torch.tanh(reward) if self._squash else reward


class RewardEnsemble(nn.Module):
    """Members, and what turns uint8 frames into their input.

    Input of a member: the cropped frame / 255, minus `mean`, divided by `scale`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: NetworkConfig, box: Box) -> None:
        super().__init__()
        self.config = config
        self.box = box
        self.members = nn.ModuleList(
            RewardCNN(config, box.height, box.width).to(memory_format=torch.channels_last)
            for _ in range(config.members)
        )
        self.register_buffer("mean", torch.zeros(box.height, box.width, 3))
        self.register_buffer("scale", torch.ones(()))

    def centre(self, images: NDArray[np.uint8]) -> None:
        """Take mean picture and overall standard deviation from cropped `images` (n, height, width, 3).

        In a scene that mostly stands still the differences between frames are a few pixels on a bright
        constant background; without this, most of the first epochs goes into fitting that constant away.
        """
        pictures = images.astype(np.float32) / 255
        mean = pictures.mean(axis=0)
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.tensor(max(float(np.sqrt(((pictures - mean) ** 2).mean())), 1 / 255)))

    def prepare(self, images: Tensor) -> Tensor:
        """Cropped uint8 frames (batch, height, width, 3) → float input (batch, 3, height, width).

        The arithmetic is done on the stored layout, and the result is a channels-last view of it: no copy.
        """
        pictures = images.float().mul_(1 / 255).sub_(self.mean).div_(self.scale)
        return pictures.permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Rewards of every member: cropped uint8 (batch, height, width, 3) → (members, batch)."""
        pictures = self.prepare(images)
        return torch.stack([member(pictures) for member in self.members])


def preference_loss(difference: Tensor, label: Tensor, mistakes: float = 0.0) -> Tensor:
    """Bradley-Terry cross-entropy per pair, with a judge who errs.

    P(second preferred) = (1 − ε)·σ(d) + ε·σ(−d), d = r̂(second) − r̂(first): Christiano et al. 2017,
    section 2.2.3.
    With ε = 0 this is the plain Bradley-Terry loss. With ε > 0 a pair that the model is sure of and the judge
    contradicts costs at most −log ε, so mistakes do not cap the size of rewards at log((1 − ε)/ε) per pair.

    Args:
        difference: (n,) r̂(second) − r̂(first).
        label: (n,) in [0, 1]: 1 second preferred, 0.5 tie.
        mistakes: ε in [0, 0.5).
    """
    second, first = F.logsigmoid(difference), F.logsigmoid(-difference)
    if mistakes > 0:
        right, wrong = math.log1p(-mistakes), math.log(mistakes)
        second, first = (
            torch.logaddexp(second + right, first + wrong),
            torch.logaddexp(first + right, second + wrong),
        )
    return -(label * second + (1 - label) * first)


def soften(label: Tensor, margin: float) -> Tensor:
    """Label smoothing of B-Pref: label·(1 − 2·margin) + margin."""
    return label * (1 - 2 * margin) + margin


def autocast(
    device: torch.device, precision: Literal["bf16", "fp32"]
) -> contextlib.AbstractContextManager[Any]:
    """Convolutions in bfloat16, losses and weights in float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@torch.inference_mode()
def predict(
    ensemble: RewardEnsemble,
    images: NDArray[np.uint8],
    *,
    precision: Literal["bf16", "fp32"] = "fp32",
    batch: int = 512,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Rewards of cropped uint8 frames (n, height, width, 3), or of `rows` of them → (members, n)."""
    device = ensemble.mean.device
    chosen = np.arange(len(images)) if rows is None else np.asarray(rows)
    out = np.empty((ensemble.config.members, len(chosen)), np.float32)
    for start in range(0, len(chosen), batch):
        part = torch.from_numpy(np.ascontiguousarray(images[chosen[start : start + batch]])).to(device)
        with autocast(device, precision):
            out[:, start : start + batch] = ensemble(part).cpu().numpy()
        if progress is not None:
            progress(min(start + batch, len(chosen)), len(chosen))
    return out
