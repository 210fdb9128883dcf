"""The part of bench `dataset` that needs no peer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.importing import CASES, import_figures
from bench.pictures import NOISE_SIGMA, textured


def test_pictures_carry_texture_and_new_noise_of_sigma_4() -> None:
    pictures = textured(np.random.default_rng(0), 65, 96, 128).astype(float)
    noise = (pictures[64] - pictures[0]) / np.sqrt(2)
    inside = (pictures[0] > 20) & (pictures[0] < 235)
    assert abs(noise[inside].std() - NOISE_SIGMA) < 0.5, "the scene is back where it was after 64 pictures"
    assert pictures.std() > 30
    assert np.unique(pictures[:8].mean(axis=(1, 2, 3))).size == 8


def test_every_case_is_imported_and_measured(tmp_path: Path) -> None:
    figures = import_figures(tmp_path, images=4, rounds=1)
    for name in CASES:
        assert figures[f"{name}_s_per_1000_images"] > 0
        assert figures[f"{name}_floor_s_per_1000_images"] > 0
        assert 0 < figures[f"{name}_python_share"] < 5
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
