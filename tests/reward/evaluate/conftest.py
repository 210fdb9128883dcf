"""A dataset for all tests of `reward eval`: recorded once, copied where labels come in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from episodes.contract import Contract
from episodes.dataset import Dataset
from reward.frames import Frames, load_frames
from tests.reward.conftest import record

NUMBERS = (1, 3, 5, 7, 9, 13)
"""Episodes; the square gets to the goal in the last three, and stays there for 1, 4 and 3 frames."""


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> dict[bool, Path]:
    """Dataset folders, with and without what the simulation knows."""
    folders = {}
    for truth in (True, False):
        dataset = Dataset.create(tmp_path_factory.mktemp("recorded") / "slides", contract)
        for number in NUMBERS:
            record(dataset, number, truth=truth)
        folders[truth] = dataset.path
    return folders


@pytest.fixture
def make_copy(recorded: dict[bool, Path], tmp_path: Path) -> Callable[[bool], Dataset]:
    def make(truth: bool) -> Dataset:
        return Dataset.open(shutil.copytree(recorded[truth], tmp_path / f"slides-{truth}"))

    return make


@pytest.fixture
def dataset(make_copy: Callable[[bool], Dataset]) -> Dataset:
    return make_copy(True)


@pytest.fixture
def real(make_copy: Callable[[bool], Dataset]) -> Dataset:
    """A dataset as a real robot records it: nobody knows reward or success."""
    return make_copy(False)


@pytest.fixture(scope="session")
def rows(recorded: dict[bool, Path]) -> Frames:
    return load_frames(Dataset.open(recorded[True]), "front")
