"""Small CLIP models of random weights; the architecture's code is open_clip's own, only the sizes are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
TINY_RESNET = {
    **TINY,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder as open_clip's `local-dir:` wants it."""

    def make(seed: int = 0, config: dict[str, object] = TINY, **preprocess: object) -> Path:
        import open_clip

        folder = tmp_path_factory.mktemp("clip")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = open_clip.CLIP(**json.loads(json.dumps(config)))
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()},
            folder / "open_clip_model.safetensors",
        )
        text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
        (folder / "open_clip_config.json").write_text(text)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_clip(clip_folder: Callable[..., Path]) -> Path:
    return clip_folder()


@pytest.fixture(scope="session")
def photograph() -> NDArray[np.uint8]:
    """Grace Hopper, 1984; matplotlib brings the picture, 600×512."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        return np.asarray(Image.open(file).convert("RGB"))
