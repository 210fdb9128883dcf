"""Weights for ResNet-18 from a local file: nothing is fetched, and nothing in the file is run."""

from __future__ import annotations

import pickle
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from episodes.errors import ConfigError
from reward.preference import RewardEnsemble

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""What torchvision's weights were trained with, of RGB in [0, 1]."""


def load_backbone(ensemble: RewardEnsemble, path: Path) -> None:
    """Begin every member with torchvision's ResNet-18 weights of `path`; heads stay random, so members differ
    by them and by the order in which they see labels. Pictures are normalised as ImageNet's.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    tensors = _read(path)
    body = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
    for member in ensemble.members:
        try:
            missing = member.features.load_state_dict(body, strict=False)
        except RuntimeError as error:
            raise ConfigError(_wrong(path, str(error).splitlines()[-1].strip())) from error
        # Files of older torchvision have no counters of batches, which nothing here reads.
        absent = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
        if absent or missing.unexpected_keys:
            raise ConfigError(_wrong(path, f"entry {[*absent, *missing.unexpected_keys][0]!r} does not fit"))
    ensemble.mean.copy_(torch.tensor(IMAGENET_MEAN).expand_as(ensemble.mean))
    ensemble.scale.copy_(torch.tensor(IMAGENET_DEVIATION))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path.read_bytes())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(
            _wrong(path, str(error).splitlines()[0] if str(error) else "it is empty")
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(_wrong(path, "it holds no table of tensors"))
    return found


def _wrong(path: Path, why: str) -> str:
    return (
        f"--network.resnet.weights {path}: no ResNet-18 weights of torchvision ({why}). Save them where "
        "there is a net: torch.save(torchvision.models.resnet18(weights='DEFAULT').state_dict(), "
        "'resnet18.pth')."
    )
