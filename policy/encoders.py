"""Networks that turn pictures into features, trained together with the policy.

`workflow…` are the networks of Kumar et al. 2021 (A Workflow for Offline Model-Free Robotic RL, arXiv
2109.10813); `small` is the encoder of DrQ (Kostrikov et al. 2020, arXiv 2004.13649). A frozen tower is none
of these: it is applied once to the data (`policy.towers`), and the networks see its features as a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from episodes.errors import ConfigError
from policy.precision import exact, hidden_layer
from policy.settings import require

Kind = Literal["small", "workflow", "workflow-small", "workflow-deep", "workflow-resnet"]


@dataclass(frozen=True)
class EncoderConfig:
    """What turns pictures into features, where the policy sees cameras."""

    kind: Kind = "small"
    """small: four convolutions and a projection to `features` numbers, after DrQ. workflow: three
    convolutions of 16 channels, flattened. workflow-small: one of 32. workflow-deep: five of 32.
    workflow-resnet: two strided convolutions, one plain and three residual blocks of 128 channels."""
    features: int = 64
    """Numbers per camera that `small` ends in."""
    dropout: float = 0.0
    """Share of the channels that is dropped after each pooling while training (workflow kinds)."""
    per_q: bool = False
    """An encoder for each of the two Q, as in the workflow's code, in the place of one for both."""
    shift: int = 4
    """Augmentation: training pictures are moved at random by up to this many pixels, black beyond the edge;
    0 for none. All networks see the same shift of a picture."""
    crop: float = 1.0
    """Augmentation: training pictures are cropped at random to this share of their sides and enlarged to
    their size again; 1 for none. Deployment sees whole pictures."""

    def __post_init__(self) -> None:
        require(self.features >= 1, "encoder.features", self.features, "give 1 or more")
        require(0 <= self.dropout < 1, "encoder.dropout", self.dropout, "give a share from 0 to 1")
        require(self.shift >= 0, "encoder.shift", self.shift, "give 0 or more pixels")
        require(0.2 <= self.crop <= 1, "encoder.crop", self.crop, "give a share from 0.2 to 1")


class Encoders(nn.Module):
    """One encoder per camera, features side by side: uint8 (B, H, W, C) each to float32 (B, out_dim)."""

    def __init__(self, config: EncoderConfig, cameras: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.cameras = nn.ModuleList(build_encoder(config, shape) for shape in cameras)
        with torch.random.fork_rng(devices=()), torch.no_grad():
            sizes = [e(torch.zeros(1, c, h, w)) for e, (h, w, c) in zip(self.cameras, cameras, strict=True)]
        self.out_dim = sum(size.shape[1] for size in sizes)

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        with hidden_layer(images[0].device):
            features = [e(unit(x)) for e, x in zip(self.cameras, images, strict=True)]
        return torch.cat([exact(x) for x in features], dim=-1)


def unit(images: Tensor) -> Tensor:
    """uint8 (B, H, W, C) as float32 (B, C, H, W) in [0, 1]; floats pass, whose channels come first
    already."""
    if images.dtype != torch.uint8:
        return images
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def build_encoder(config: EncoderConfig, shape: tuple[int, int, int]) -> nn.Sequential:
    """The encoder of one camera with pictures of `shape` (H, W, C): (B, C, H, W) in [0, 1] to (B, n).

    Raises:
        ConfigError: the pictures are too small for it.
    """
    height, width, channels = shape
    smallest = {"small": 16, "workflow-resnet": 8}.get(config.kind, 4)
    if min(height, width) < smallest:
        raise ConfigError(
            f"--encoder.kind {config.kind}: pictures of {height}x{width} are too small for it, "
            f"{smallest}x{smallest} is the least. Choose another kind or a larger camera stream."
        )
    if config.kind == "small":
        return _small(channels, height, width, config.features)
    if config.kind == "workflow-resnet":
        return _resnet(channels)
    widths = {"workflow": (16, 16, 16), "workflow-small": (32,), "workflow-deep": (32,) * 5}[config.kind]
    return _workflow(channels, widths, config.dropout)


def _small(channels: int, height: int, width: int, features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number, stride in enumerate((2, 1, 1, 1)):
        layers += [nn.Conv2d(channels if number == 0 else 32, 32, 3, stride=stride), nn.ReLU()]
    flat = 32 * ((height - 3) // 2 + 1 - 6) * ((width - 3) // 2 + 1 - 6)
    tail = [nn.Flatten(), nn.Linear(flat, features), nn.LayerNorm(features), nn.Tanh()]
    network = nn.Sequential(*layers, *tail)
    for module in network:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight, 2**0.5 if isinstance(module, nn.Conv2d) else 1.0)
            nn.init.zeros_(module.bias)
    return network


def _workflow(channels: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Convolutions 3×3 with padding; the first two are pooled, before the ReLU."""
    layers: list[nn.Module] = []
    for number, width in enumerate(widths):
        conv = nn.Conv2d(channels if number == 0 else widths[number - 1], width, 3, padding=1)
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
        layers.append(conv)
        if number < 2:
            layers.append(nn.MaxPool2d(2))
            if dropout:
                layers.append(nn.Dropout2d(dropout))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten())


class ResidualBlock(nn.Module):
    """x + conv1×1(ReLU(conv3×3(ReLU(x)))), without biases, through 64 channels."""

    def __init__(self, channels: int, inner: int = 64) -> None:
        super().__init__()
        self.widen = nn.Conv2d(inner, channels, 1, bias=False)
        self.narrow = nn.Conv2d(channels, inner, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.widen(self.narrow(x.relu()).relu())


def _resnet(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        *(ResidualBlock(128) for _ in range(3)),
        nn.ReLU(),
        nn.Flatten(),
    )
