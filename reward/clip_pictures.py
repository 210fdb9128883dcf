"""From frames to what an image encoder takes: resize, crop, normalise. One fixed rule each, whatever the
versions of the libraries.

`squash` is vlmrm's rule: float pictures, bicubic to the encoder's size without keeping the aspect, so nothing
of the scene is cut off. vlmrm leaves the antialias to torchvision, whose default for tensors turned from off
to on; here it is said, on unless told otherwise. It moves pictures that are enlarged as well: torch's bicubic
has a = −0.75 without antialias and a = −0.5 with it.

`model` is what the model was trained on, open_clip's own inference transform: Pillow's resize of 8-bit
pictures (which rounds, and always has the antialias), then a centre crop, which cuts the sides off a wide
picture.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from episodes.errors import ConfigError

Resize = Literal["squash", "model"]
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class PictureRule:
    """How frames become an encoder's input."""

    size: tuple[int, int]
    """(height, width) that the encoder takes."""
    mean: tuple[float, float, float]
    """Per channel, of pixels in [0, 1]."""
    std: tuple[float, float, float]
    """Per channel, of pixels in [0, 1]."""
    resize: Resize = "squash"
    """squash: to `size` without keeping the aspect. model: by the fields below."""
    antialias: bool = True
    """Of `squash`."""
    fit: Literal["shortest", "longest", "squash"] = "shortest"
    """Of `model`: which side meets `size` (cut off or padded then), or neither."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Of `model`; `squash` is bicubic."""
    fill: int = 0
    """Of `model` with fit longest: grey level beside the picture."""
    crop_share: float = 1.0
    """Of `model`: share of the resized side that the crop keeps, timm's crop_pct."""

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.fit not in ("shortest", "longest", "squash"):
            raise ConfigError(f"pictures of {self.size} fitted by {self.fit!r}: no image encoder takes that.")
        if self.interpolation not in _FILTERS:
            raise ConfigError(f"interpolation {self.interpolation!r}: bicubic or bilinear.")

    def identity(self) -> str:
        """Text that two rules share when they give the same tensors."""
        if self.resize == "squash":
            return f"squash{self.size} antialias={self.antialias} {self.mean} {self.std}"
        return f"{asdict(self)}"

    def tensors(self, images: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
        """Frames (n, height, width, 3) → float32 (n, 3, *size) on `device`."""
        if self.resize == "squash":
            whole = np.require(images, requirements=("C", "W"))
            pictures = torch.from_numpy(whole).to(device).permute(0, 3, 1, 2)
            floats = pictures.contiguous().float().div_(255)
            resized = functional.interpolate(floats, self.size, mode="bicubic", antialias=self.antialias)
        else:
            fitted = np.stack(_each(functools.partial(_as_model, rule=self), images))
            resized = torch.from_numpy(fitted).to(device).permute(0, 3, 1, 2).contiguous().float().div_(255)
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1)
        return resized.sub_(mean).div_(std)


def open_clip_rule(found: Mapping[str, Any], resize: Resize, antialias: bool) -> PictureRule:
    """The rule that a model's `preprocess_cfg` stands for."""
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    fit = found.get("resize_mode") or "shortest"
    # open_clip does not hand the interpolation on where a target that is not square meets its shortest side.
    bilinear = found.get("interpolation") == "bilinear" and not (fit == "shortest" and height != width)
    return PictureRule(
        size=(height, width),
        mean=_three(found["mean"]),
        std=_three(found["std"]),
        resize=resize,
        antialias=antialias,
        fit=fit,
        interpolation="bilinear" if bilinear else "bicubic",
        fill=int(found.get("fill_color") or 0),
    )


def _three(found: float | tuple[float, ...]) -> tuple[float, float, float]:
    values = (found,) * 3 if isinstance(found, int | float) else tuple(found)
    return float(values[0]), float(values[1]), float(values[2])


def _as_model(image: NDArray[np.uint8], rule: PictureRule) -> NDArray[np.uint8]:
    height, width = _resized(image.shape[:2], rule)
    picture = Image.fromarray(image)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), _FILTERS[rule.interpolation])
    return _centred(np.asarray(picture), rule)


def _resized(found: tuple[int, ...], rule: PictureRule) -> tuple[int, int]:
    """Size before the crop; the sides of a square target are truncated as torchvision does, others rounded
    as timm and open_clip do."""
    height, width = found[0], found[1]
    to_height, to_width = (int(side / rule.crop_share) for side in rule.size)
    if rule.fit == "squash":
        return to_height, to_width
    if rule.fit == "shortest" and to_height == to_width:
        shorter, longer = min(height, width), max(height, width)
        far = int(to_height * longer / shorter)
        return (to_height, far) if height <= width else (far, to_height)
    ratios = height / to_height, width / to_width
    ratio = max(ratios) if rule.fit == "longest" else min(ratios)
    return max(round(height / ratio), 1), max(round(width / ratio), 1)


def _centred(image: NDArray[np.uint8], rule: PictureRule) -> NDArray[np.uint8]:
    """The middle of `image`, padded to `rule.size` where it is smaller."""
    missing = [max(side - found, 0) for side, found in zip(rule.size, image.shape[:2], strict=True)]
    if any(missing):
        edges = [(gap // 2, (gap + 1) // 2) for gap in missing]
        image = np.pad(image, (*edges, (0, 0)), constant_values=rule.fill)
    top, left = (round((found - side) / 2) for side, found in zip(rule.size, image.shape[:2], strict=True))
    return image[top : top + rule.size[0], left : left + rule.size[1]]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Pillow resizes without the interpreter's lock."""
    return ThreadPoolExecutor(min(16, len(os.sched_getaffinity(0))), thread_name_prefix="resize")


def _each(function: functools.partial[NDArray[np.uint8]], images: NDArray[np.uint8]) -> list[Any]:
    return list(_pool().map(function, images))
