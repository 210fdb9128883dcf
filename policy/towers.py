"""Frozen towers: pretrained picture encoders of open_clip or timm, from a checkpoint on this machine.

A tower is applied once to the data. Its features stand behind the vector streams and are normalised with
them, so that training is as fast as on vectors; in the bundle the tower stands before the policy. Nothing is
fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import ConfigError, DatasetError, MachineError, did_you_mean
from policy.pictures import Pictures
from policy.settings import require
from policy.transitions import Transitions

BATCH = 64


@dataclass(frozen=True)
class TowerConfig:
    """A pretrained picture encoder that is not trained."""

    kind: Literal["none", "open_clip", "timm"] = "none"
    """open_clip: the visual tower of a CLIP model; timm: a model without its head; none: cameras get the
    `encoder`, which is trained."""
    model: str = ""
    """The model's name there, such as ViT-B-32 or vit_small_patch14_dinov2."""
    checkpoint: Path | None = None
    """Its weights: a .safetensors file, or a .pt or .bin file that holds nothing but tensors."""

    def __post_init__(self) -> None:
        if self.kind != "none":
            require(bool(self.model), "tower.model", repr(self.model), f"name a model of {self.kind}")


class Tower(nn.Module):
    """uint8 pictures (B, H, W, C) to features (B, `out_dim`), float32.

    Pictures are resized to the size the model was trained on, as they are: a wide picture is squeezed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: TowerConfig) -> None:
        """The model with random weights: `load_checkpoint` brings the pretrained ones.

        Raises:
            ConfigError: there is no such model.
            MachineError: its package is not installed.
        """
        super().__init__()
        make = {"open_clip": _open_clip, "timm": _timm}[config.kind]
        self.model, self.size, mean, std = make(config.model)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.eval()
        with torch.no_grad():
            self.out_dim = int(self(torch.zeros(1, 8, 8, 3, dtype=torch.uint8)).shape[1])

    def train(self, mode: bool = True) -> Tower:
        """A frozen network has no training mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        x = nn.functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        return self.model((x - self.mean) / self.std)


def _open_clip(name: str) -> tuple[nn.Module, tuple[int, int], Any, Any]:
    try:
        import open_clip
    except ImportError as error:
        raise MachineError("--tower.kind open_clip: pip install open_clip_torch.") from error
    if name not in open_clip.list_models():
        raise ConfigError(f"--tower.model {name}: {did_you_mean(name, open_clip.list_models())}")
    visual = open_clip.create_model(name, pretrained=None).visual
    size = visual.image_size
    return (
        visual,
        tuple(size) if isinstance(size, tuple | list) else (size, size),
        visual.image_mean,
        visual.image_std,
    )


def _timm(name: str) -> tuple[nn.Module, tuple[int, int], Any, Any]:
    try:
        import timm
    except ImportError as error:
        raise MachineError("--tower.kind timm: pip install timm.") from error
    if not timm.is_model(name.partition(".")[0]):
        raise ConfigError(f"--tower.model {name}: {did_you_mean(name, timm.list_models())}")
    model = timm.create_model(name, pretrained=False, num_classes=0)
    data = timm.data.resolve_data_config({}, model=model)
    return model, tuple(data["input_size"][1:]), data["mean"], data["std"]


def load_checkpoint(tower: Tower, config: TowerConfig) -> None:
    """Bring the pretrained weights in.

    Raises:
        ConfigError: none were named.
        DatasetError: the file is missing or no file of weights, or its weights are not this model's.
    """
    path = config.checkpoint
    if path is None:
        raise ConfigError(
            f"--tower.checkpoint: name the file with the weights of {config.model}; nothing is fetched."
        )
    state = _read_weights(path)
    if config.kind == "open_clip":
        prefix = "visual."
        found = {key.removeprefix("module."): value for key, value in state.items()}
        state = {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)} or found
    wanted = tower.model.state_dict()
    missing = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} of {len(wanted)} tensors of {config.model} are not in it or have "
            f"another shape, first {missing[0]}. Give the weights of this model, or name the model that "
            "they are of."
        )
    tower.model.load_state_dict({key: state[key] for key in wanted})


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(path.read_bytes())
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: there is no such file of weights.") from error
    except Exception as error:
        raise DatasetError(
            f"{path}: this cannot be read as weights ({' '.join(str(error).split())[:200]}). Give a "
            ".safetensors file, or one of torch that holds tensors alone."
        ) from error
    if not isinstance(loaded, dict):
        raise DatasetError(
            f"{path}: it holds a {type(loaded).__name__} in the place of named tensors. Give the weights as "
            "torch.save(model.state_dict(), …) writes them, or a .safetensors file."
        )
    for key in ("state_dict", "model"):
        if isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def tower_sha256(tower: Tower) -> str:
    """Hash of the weights, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def features(
    tower: Tower,
    pictures: Pictures,
    rows: Transitions,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Features of all cameras at s and at s′, (N, cameras · out_dim) each. Equal pictures are looked at
    once."""
    assert rows.frames is not None
    frames = rows.frames.numpy()
    ahead = frames if rows.next_frames is None else rows.next_frames.numpy()
    known: dict[bytes, NDArray[np.float32]] = {}
    tower = tower.to(device)

    def look(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        keys = [hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).digest() for x in images]
        fresh = {key: n for n, key in enumerate(keys) if key not in known}
        if fresh:
            found = tower(torch.from_numpy(images[list(fresh.values())]).to(device)).cpu().numpy()
            known.update(zip(fresh, found, strict=True))
        return np.stack([known[key] for key in keys])

    sides: list[list[NDArray[np.float32]]] = [[], []]
    for start in range(0, len(frames), BATCH):
        part = slice(start, start + BATCH)
        for side, images in zip(
            sides, (pictures.before(frames[part]), pictures.after(ahead[part])), strict=True
        ):
            side.append(np.concatenate([look(camera) for camera in images], axis=1))
        if progress is not None:
            progress(min(start + BATCH, len(frames)), len(frames))
    here, there = (torch.from_numpy(np.concatenate(side)) for side in sides)
    return here, there
