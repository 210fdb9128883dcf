"""timm's image models as encoders: the pooled features before the classifier, weights from a local file."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from episodes.errors import ConfigError, did_you_mean
from reward.clip_model import SUFFIXES, quiet, weights_digest
from reward.clip_pictures import PictureRule, Resize
from reward.embeddings_open_clip import EncodingConfig, TowerEncoder, pick_devices, pick_precision


@dataclass(frozen=True)
class TimmConfig:
    """An image model of timm."""

    model: str = "vit_small_patch14_dinov2.lvd142m"
    """timm's name, with or without the tag that says how the weights were trained (mean, std, size)."""
    checkpoint: Path | None = None
    """File with the weights, .safetensors or a torch file of tensors."""
    size: int = 0
    """Pixels a side of the encoder's input; the model's own when 0. Models with fixed positions resample
    them."""


def timm_encoders(config: TimmConfig, how: EncodingConfig) -> tuple[TowerEncoder, ...]:
    """The model once per device.

    Raises:
        ConfigError: no such model, no checkpoint, or weights of another model.
    """
    import timm

    arch = config.model.partition(".")[0]
    if not timm.is_model(arch):
        hint = did_you_mean(arch, timm.list_models())
        raise ConfigError(f"timm.model {config.model!r}: timm has no such model; {hint:.300}")
    if config.checkpoint is None:
        raise ConfigError(f"timm.checkpoint: give the file with the weights of {config.model}.")
    state = read_tensors(config.checkpoint, "timm.checkpoint")
    devices = pick_devices(how.devices)
    precision = pick_precision(how.precision, devices)
    towers = [_build(config, state) for _ in devices]
    rule = timm_rule(towers[0], how.resize, how.antialias)
    name = f"timm {weights_digest(towers[0])}"
    dim = int(towers[0].num_features)
    return tuple(
        TowerEncoder(tower, rule, name=name, dim=dim, device=device, precision=precision)
        for tower, device in zip(towers, devices, strict=True)
    )


def read_tensors(path: Path, key: str) -> dict[str, torch.Tensor]:
    """Tensors by name from a file, read without running code.

    Raises:
        ConfigError: no such file, another format, or something else than tensors in it.
    """
    import timm

    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"{key} {path}: a file of weights ends in {', '.join(SUFFIXES)}; others may hold code."
        )
    if not path.is_file():
        raise ConfigError(f"{key} {path}: there is no such file.")
    try:
        with quiet():
            found = timm.models.load_state_dict(str(path), use_ema=False, weights_only=True)
    except (
        RuntimeError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
        safetensors.SafetensorError,
    ) as error:
        raise ConfigError(
            f"{key} {path}: cannot be read ({error!s:.300}). It must hold tensors only."
        ) from error
    if not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ConfigError(f"{key} {path}: holds something else than tensors by name.")
    return dict(found)


def _build(config: TimmConfig, state: dict[str, torch.Tensor]) -> Any:
    """The model without its classifier; every other weight must be in the file, and nothing else."""
    import timm

    options = {"img_size": config.size} if config.size and _takes_size(config.model) else {}
    try:
        model: Any = timm.create_model(config.model, pretrained=False, num_classes=0, **options)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(f"timm.model {config.model!r}: {error}") from error
    if config.size:
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, config.size, config.size)}
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    filtered = _filtered(config.model, state, model)
    kept = {k: v for k, v in filtered.items() if not any(k.startswith(f"{head}.") for head in heads)}
    try:
        found = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"timm.checkpoint {config.checkpoint}: {error!s:.400}") from error
    if found.missing_keys or found.unexpected_keys:
        raise ConfigError(
            f"timm.checkpoint {config.checkpoint}: is of another model than {config.model}: missing "
            f"{found.missing_keys[:3]}, unknown {found.unexpected_keys[:3]}."
        )
    return model.eval().requires_grad_(False)


def _takes_size(name: str) -> bool:
    return any(word in name for word in ("vit", "deit", "swin", "eva", "beit", "dino"))


def _filtered(name: str, state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """With the model's own translation from foreign checkpoints, where its module has one."""
    import importlib

    module = importlib.import_module(type(model).__module__)
    translate = getattr(module, "checkpoint_filter_fn", None)
    return dict(translate(state, model)) if translate is not None else state


def timm_rule(model: Any, resize: Resize, antialias: bool) -> PictureRule:
    """The model's own picture rule, or `squash` to its size."""
    import timm

    found = timm.data.resolve_model_data_config(model)
    height, width = found["input_size"][-2:]
    return PictureRule(
        size=(int(height), int(width)),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        resize=resize,
        antialias=antialias,
        fit="squash" if found.get("crop_mode") == "squash" else "shortest",
        interpolation="bilinear" if found["interpolation"] == "bilinear" else "bicubic",
        crop_share=float(found.get("crop_pct") or 1.0),
    )
