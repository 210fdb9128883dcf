"""Image towers as encoders: precision by device, one replica per device."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.errors import ConfigError
from reward.clip_model import ClipModel
from reward.clip_pictures import PictureRule, Resize, open_clip_rule
from reward.optimise import resolve_precision

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class EncodingConfig:
    """How pictures go through an encoder."""

    resize: Resize = "squash"
    """squash: to the encoder's size without keeping the aspect, as vlmrm does, so nothing is cut off. model:
    as the model was trained, which cuts the sides off a wide picture."""
    antialias: bool = True
    """Of squash; vlmrm's published figures stem from a torchvision that had none."""
    precision: Precision = "auto"
    """auto: fp16 on a GPU; on a CPU bf16 where it has instructions for it (AVX512-BF16 or AMX), else fp32."""
    devices: tuple[str, ...] = ("auto",)
    """auto: every GPU, or the CPU. Else torch's names, such as cuda:0 cuda:2; each gets a replica and takes
    batches as fast as it can."""
    batch: int = 64
    """Pictures that a device gets at once."""
    cache: bool = True
    """Keep features in DATASET/.cache/embeddings.sqlite."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch {self.batch}: at least 1 picture; 64 suits most devices.")
        if not self.devices:
            raise ConfigError("devices: name at least one, or auto.")


def pick_devices(names: tuple[str, ...]) -> tuple[torch.device, ...]:
    """Devices by name.

    Raises:
        ConfigError: no such device here.
    """
    if names == ("auto",):
        count = torch.cuda.device_count()
        return tuple(torch.device("cuda", k) for k in range(count)) or (torch.device("cpu"),)
    return tuple(_device(name) for name in names)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device {name!r}: torch does not know it; cpu, cuda:0, cuda:1 …, or auto."
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: cpu, cuda:0, cuda:1 …, or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs on this machine; use auto or cpu."
        )
    return device


def pick_precision(wanted: Precision, devices: tuple[torch.device, ...]) -> Literal["fp32", "bf16", "fp16"]:
    """One precision for all devices, so that features do not depend on which one a picture met.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    on_cpu = any(device.type == "cpu" for device in devices)
    if wanted == "fp16" and on_cpu:
        raise ConfigError("precision fp16 is for GPUs; on a CPU take bf16, fp32 or auto.")
    if wanted != "auto":
        return wanted
    return resolve_precision("auto", torch.device("cpu")) if on_cpu else "fp16"


def lower(module: torch.nn.Module, precision: Literal["fp32", "bf16", "fp16"]) -> torch.nn.Module:
    """Cast a module in place. Batch norms keep fp32: their running variances do not fit into 8 bits."""
    module.to(_DTYPES[precision])
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.float()
    return module


class TowerEncoder:
    """A torch image tower on one device."""

    def __init__(
        self,
        tower: torch.nn.Module,
        rule: PictureRule,
        *,
        name: str,
        dim: int,
        device: torch.device,
        precision: Literal["fp32", "bf16", "fp16"],
    ) -> None:
        """`tower` is taken over: moved to `device` and cast."""
        self.tower = lower(tower, precision).to(device).eval()
        self.rule = rule
        self.device = device
        self._dtype = _DTYPES[precision]
        self._dim = dim
        self._identity = f"{name} {rule.identity()} {precision}"

    @property
    def identity(self) -> str:
        """Model, sha256 of its weights, picture rule and precision."""
        return self._identity

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return self._dim

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, dim), not normalised, of RGB pictures (n, height, width, 3)."""
        with torch.inference_mode():
            found = self.tower(self.rule.tensors(images, self.device).to(self._dtype))
            if isinstance(found, tuple):
                # Towers that also give their tokens give the pooled feature first.
                found = found[0]
            out: NDArray[np.float32] = found.float().cpu().numpy()
        return out


def open_clip_encoders(model: ClipModel, config: EncodingConfig) -> tuple[TowerEncoder, ...]:
    """The image tower of a CLIP model, once per device.

    Raises:
        ConfigError: a device or a precision that is not there.
    """
    devices = pick_devices(config.devices)
    precision = pick_precision(config.precision, devices)
    rule = open_clip_rule(model.preprocess, config.resize, config.antialias)
    visual: torch.nn.Module = model.module.visual  # type: ignore[assignment]
    dim = model.encode_text(["a"]).shape[1]
    return tuple(
        TowerEncoder(
            copy.deepcopy(visual),
            rule,
            name=f"open_clip {model.digest}",
            dim=dim,
            device=device,
            precision=precision,
        )
        for device in devices
    )
