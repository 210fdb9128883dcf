"""All labellers of a dataset side by side."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.labels import write_labels
from tests.reward.conftest import EPISODES, STEPS
from tests.reward.test_labellers import contents


def listed(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    capsys.readouterr()
    assert armchair(["reward", "list", str(dataset.path), "--json"]) == 0
    return {each["labeller"]: each for each in json.loads(capsys.readouterr().out)}


def test_every_labeller_is_listed_with_range_quality_basis_time_and_coverage(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(dataset.path / "episodes")
    assert armchair(["relabel", str(dataset.path), "--kind", "truth"]) == 0
    assert armchair(["relabel", str(dataset.path), "--kind", "constant", "--constant.value", "0.5"]) == 0
    reward = np.linspace(-1, 3, STEPS).astype(np.float32)
    write_labels(dataset, "mine", "e0", reward, reward > 0)
    found = listed(dataset, capsys)
    assert sorted(found) == ["constant-reward", "mine", "true-scaled"]
    truth, constant, mine = found["true-scaled"], found["constant-reward"], found["mine"]
    assert (truth["least"], truth["most"], truth["episodes"]) == (0.0, 1.0, EPISODES)
    assert truth["quality"]["success_above_best_decile"] == 1.0
    assert constant["quality"]["success_above_best_decile"] == 0.5
    assert (constant["least"], constant["mean"], constant["most"]) == (0.5, 0.5, 0.5)
    assert truth["basis"] == "truth, exponent 1"
    assert truth["written_utc"].startswith("20")
    assert (mine["episodes"], mine["of_episodes"], mine["basis"]) == (1, EPISODES, "unknown")
    assert mine["written_utc"] is None
    assert mine["valid_share"] == pytest.approx((reward > 0).mean())
    assert mine["least"] == pytest.approx(reward[reward > 0].min())
    assert contents(dataset.path / "episodes") == before


def test_relabel_shows_the_same_table_and_writes_nothing(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    assert armchair(["relabel", str(dataset.path), "--list"]) == 2
    assert "armchair relabel" in capsys.readouterr().err
    assert armchair(["relabel", str(dataset.path), "--kind", "random"]) == 0
    before = contents(dataset.path)
    capsys.readouterr()
    assert armchair(["relabel", str(dataset.path), "--list"]) == 0
    shown = capsys.readouterr().out
    assert armchair(["reward", str(dataset.path)]) == 0
    assert capsys.readouterr().out == shown
    assert "random-uniform" in shown
    assert "seed 0" in shown
    assert contents(dataset.path) == before


def test_a_labeller_with_two_kinds_of_settings_is_told(
    make_dataset: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset("mixed", episodes=2, truth=False)
    for number in range(2):
        write_labels(dataset, "mine", f"e{number}", np.ones(STEPS), attrs={"basis": f'{{"seed": {number}}}'})
    found = listed(dataset, capsys)["mine"]
    assert found["basis"] == "differs between episodes: relabel all"
    assert found["quality"]["success_above_best_decile"] is None
