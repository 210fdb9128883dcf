"""Frames become what the encoder was trained on, to 1e-4, whatever their size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reward.clip_pictures import PictureRule, open_clip_rule

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CPU = torch.device("cpu")


def own_transform(image: NDArray[np.uint8], **settings: object) -> torch.Tensor:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    found: torch.Tensor = image_transform_v2(PreprocessCfg(**settings), is_train=False)(
        Image.fromarray(image)
    )
    return found


def rule(resize: str, **settings: object) -> PictureRule:
    from dataclasses import asdict

    from open_clip.transform import PreprocessCfg

    return open_clip_rule(asdict(PreprocessCfg(**settings)), resize, antialias=True)


@pytest.mark.parametrize("size", [224, 336, 64, (224, 160)])
@pytest.mark.parametrize("fit", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_models_own_transform_is_met_to_1e_4_on_a_photograph(
    size: int | tuple[int, int], fit: str, interpolation: str, photograph: NDArray[np.uint8]
) -> None:
    settings = {"size": size, "resize_mode": fit, "interpolation": interpolation}
    for image in (photograph, photograph[:, 100:301], photograph[:84, :84], photograph[::4, ::5]):
        found = rule("model", **settings).tensors(image[None], CPU)
        wanted = own_transform(image, **settings)
        assert found.shape == (1, *wanted.shape)
        assert (found[0] - wanted).abs().max() < 1e-4


@given(height=st.integers(8, 90), width=st.integers(8, 90), side=st.integers(16, 64), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_models_own_transform_is_met_at_any_size(height: int, width: int, side: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    for fit in ("shortest", "longest"):
        found = rule("model", size=side, resize_mode=fit, fill_color=9).tensors(image[None], CPU)[0]
        wanted = own_transform(image, size=side, resize_mode=fit, fill_color=9)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("antialias", [True, False])
def test_squash_is_vlmrms_rule_with_the_antialias_said(
    antialias: bool, photograph: NDArray[np.uint8]
) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize

    for image in (photograph, photograph[:84, :84]):
        floats = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        squashed = resize(floats, [224, 224], InterpolationMode.BICUBIC, antialias=antialias)
        wanted = normalize(center_crop(squashed, [224, 224]), CLIP_MEAN, CLIP_STD)
        found = PictureRule((224, 224), CLIP_MEAN, CLIP_STD, "squash", antialias).tensors(image[None], CPU)
        assert (found[0] - wanted).abs().max() < 1e-5


def test_the_antialias_moves_pictures_that_are_enlarged_too(photograph: NDArray[np.uint8]) -> None:
    small = photograph[100:184, 200:284][None]
    on, off = (
        PictureRule((224, 224), CLIP_MEAN, CLIP_STD, "squash", a).tensors(small, CPU) for a in (True, False)
    )
    assert (on - off).abs().max() > 0.01


def test_resized_pixels_stay_what_they_are_whatever_the_versions(photograph: NDArray[np.uint8]) -> None:
    unscaled = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}
    fitted = rule("model", size=96, **unscaled).tensors(photograph[None], CPU)
    pixels = fitted.round().to(torch.uint8).numpy()
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == "8f058cb61d44c720"
    squashed = rule("squash", size=96, **unscaled).tensors(photograph[None], CPU)
    assert [round(float(squashed[0, c, 40, 50]), 2) for c in range(3)] == [132.21, 50.59, 33.16]


def test_many_pictures_give_what_each_gives_alone(photograph: NDArray[np.uint8]) -> None:
    images = np.stack([photograph[k : k + 60, k : k + 80] for k in range(0, 70, 7)])
    for resize in ("squash", "model"):
        together = rule(resize, size=32).tensors(images, CPU)
        alone = torch.cat([rule(resize, size=32).tensors(image[None], CPU) for image in images])
        assert torch.equal(together, alone)
