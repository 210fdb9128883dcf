"""Kinds of reward beside the fitted one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError
from episodes.labels import read_labels, write_labels
from reward.labellers import AverageConfig, ConstantConfig
from reward.relabel import RelabelConfig, relabel
from tests.reward.conftest import EPISODES, STEPS, positions


def everything(dataset: Dataset, labeller: str) -> np.ndarray:
    """Rewards of all episodes in order."""
    return np.concatenate([read_labels(dataset, labeller, f"e{n}").reward for n in range(EPISODES)])


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_constant_and_average_rewards_are_the_same_everywhere(dataset: Dataset) -> None:
    relabel(RelabelConfig(dataset.path, kind="constant", constant=ConstantConfig(0.25)))
    assert (everything(dataset, "constant-reward") == 0.25).all()
    relabel(RelabelConfig(dataset.path, kind="average"))
    truth = np.concatenate([positions(n)[1:] for n in range(EPISODES)]) / 3
    np.testing.assert_allclose(everything(dataset, "average-reward"), truth.mean(), rtol=1e-6)


def test_the_average_of_a_labeller_counts_its_valid_rewards(dataset: Dataset) -> None:
    for number in range(EPISODES):
        reward = np.arange(STEPS, dtype=np.float32)
        write_labels(dataset, "mine", f"e{number}", reward, reward < 5)
    relabel(RelabelConfig(dataset.path, kind="average", average=AverageConfig("mine"), name="mean"))
    np.testing.assert_allclose(everything(dataset, "mean"), 2.0)
    with pytest.raises(DatasetError, match="did you mean 'mine'"):
        relabel(RelabelConfig(dataset.path, kind="average", average=AverageConfig("mines")))


def test_a_constant_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"constant\.value"):
        ConstantConfig(float("nan"))


def test_relabelling_never_changes_an_episode(dataset: Dataset) -> None:
    before = contents(dataset.path / "episodes")
    for kind in ("truth", "random", "constant", "average"):
        assert armchair(["relabel", str(dataset.path), "--kind", kind]) == 0
    assert contents(dataset.path / "episodes") == before


def test_references_need_no_truth_where_they_use_none(make_dataset: Callable[..., Dataset]) -> None:
    real = make_dataset("real", truth=False, episodes=2)
    assert relabel(RelabelConfig(real.path, kind="constant")).written == 2
    with pytest.raises(DatasetError, match="real robot have none"):
        relabel(RelabelConfig(real.path, kind="average"))
