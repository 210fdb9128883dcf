"""The preference reward model: an ensemble of networks under the Bradley-Terry likelihood.

Christiano et al. 2017, "Deep reinforcement learning from human preferences", eq. 1 and section 2.2.3
(constant rate of mistakes); network of Offline RL-VLM-F (Venkataraman et al. 2024).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import ConfigError, LabelError
from reward.networks import NetworkConfig, new_member
from reward.regions import Box


class RewardEnsemble(nn.Module):
    """Members, and what turns stored inputs into theirs.

    Pictures: the cropped frame / 255, minus `mean`, divided by `scale`. Vectors: minus `mean`, divided by
    `scale`, entry by entry.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: NetworkConfig, box: Box | None, dim: int | None = None) -> None:
        """For pictures in `box`, for vectors of length `dim`, or for features (dim,) of pictures in `box`.

        Raises:
            ConfigError: pictures too small for the network, or a size that the kind of network has not.
        """
        super().__init__()
        self.config = config
        self.dim = dim
        if (box is None) is not (config.kind == "state-action") or (dim is None) is not config.of_pictures:
            raise ConfigError(f"network kind {config.kind!r} does not fit box {box} and dim {dim}.")
        self.box = box if box is not None else Box(0, 0, 0, 0)
        size = (dim,) if dim is not None else (self.box.height, self.box.width)
        self.members = nn.ModuleList(new_member(config, size) for _ in range(config.members))
        self.register_buffer("mean", torch.zeros(size if dim is not None else (*size, 3)))
        entries = (3,) if config.kind == "resnet" and config.resnet.weights is not None else ()
        self.register_buffer("scale", torch.ones(size if dim is not None else entries))

    def centre(self, inputs: NDArray[np.generic]) -> None:
        """Take mean and standard deviation from cropped pictures (n, height, width, 3) or vectors (n, d).

        Of pictures it is the mean picture and the overall deviation: in a scene that mostly stands still the
        differences between frames are a few pixels on a bright constant background; without this, most of
        the first epochs goes into fitting that constant away. Of vectors it is that of each entry; constant
        entries are only shifted.
        """
        values = inputs.astype(np.float32)
        if self.dim is None:
            values /= 255
        mean = values.mean(axis=0)
        self.mean.copy_(torch.from_numpy(mean))
        if self.dim is None:
            self.scale.fill_(max(float(np.sqrt(((values - mean) ** 2).mean())), 1 / 255))
        else:
            spread = values.std(axis=0, dtype=np.float64)
            self.scale.copy_(torch.from_numpy(np.where(spread > 1e-6, spread, 1.0).astype(np.float32)))

    def prepare(self, inputs: Tensor) -> Tensor:
        """Cropped uint8 frames (batch, height, width, 3) → float input (batch, 3, height, width); vectors
        (batch, d) → (batch, d).

        The arithmetic is done on the stored layout, and the result is a channels-last view of it: no copy.
        """
        if self.dim is not None:
            return inputs.float().sub(self.mean).div_(self.scale)
        pictures = inputs.float().mul_(1 / 255).sub_(self.mean).div_(self.scale)
        return pictures.permute(0, 3, 1, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rewards of every member: stored inputs (batch, …) → (members, batch)."""
        prepared = self.prepare(inputs)
        return torch.stack([member(prepared) for member in self.members])

    def penultimate(self, inputs: Tensor) -> Tensor:
        """Features before the last layer, members side by side: (batch, members · width)."""
        prepared = self.prepare(inputs)
        return torch.cat([member.features(prepared).float() for member in self.members], dim=1)


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


Precision = Literal["bf16", "fp32"]


def predict(
    ensemble: RewardEnsemble,
    inputs: NDArray[np.generic],
    *,
    precision: Precision = "fp32",
    batch: int = 512,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Rewards of cropped uint8 frames (n, height, width, 3) or vectors (n, d), or of `rows` of them
    → (members, n).

    Raises:
        LabelError: a reward is not finite.
    """
    parts = list(_batches(ensemble, ensemble, inputs, precision, batch, rows, progress))
    rewards = np.concatenate(parts, axis=1) if parts else np.empty((ensemble.config.members, 0), np.float32)
    if not np.isfinite(rewards).all():
        bad = int((~np.isfinite(rewards)).any(axis=0).sum())
        raise LabelError(
            f"{bad} of {rewards.shape[1]} frames get a reward that is no number: the weights are damaged or "
            "the fit diverged. Fit again with a lower --optimise.learning-rate."
        )
    return rewards


def penultimate(
    ensemble: RewardEnsemble,
    inputs: NDArray[np.generic],
    *,
    precision: Precision = "fp32",
    batch: int = 512,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Penultimate features of inputs, those of each member scaled to a root mean square length of 1, so that
    none decides distances alone → (n, members · width)."""
    found = np.concatenate(
        list(_batches(ensemble, ensemble.penultimate, inputs, precision, batch, rows, None))
    )
    apart = found.reshape(len(found), ensemble.config.members, -1)
    length = np.sqrt((apart.astype(np.float64) ** 2).sum(axis=2).mean(axis=0))
    scaled = apart / np.where(length > 0, length, 1.0)[:, None].astype(np.float32)
    return np.asarray(scaled, np.float32).reshape(found.shape)


@torch.inference_mode()
def _batches(
    ensemble: RewardEnsemble,
    function: Callable[[Tensor], Tensor],
    inputs: NDArray[np.generic],
    precision: Precision,
    batch: int,
    rows: Sequence[int] | NDArray[np.int64] | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[NDArray[np.float32]]:
    device = ensemble.mean.device
    ensemble.eval()
    chosen = np.arange(len(inputs)) if rows is None else np.asarray(rows)
    for start in range(0, len(chosen), batch):
        part = torch.from_numpy(np.ascontiguousarray(inputs[chosen[start : start + batch]])).to(device)
        with autocast(device, precision):
            yield function(part).float().cpu().numpy()
        if progress is not None:
            progress(min(start + batch, len(chosen)), len(chosen))
