"""Several seeds in one command."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import scipy.stats
import tyro

from episodes.errors import ConfigError
from policy.algorithms.bc import BCConfig
from policy.run import TrainConfig, read_config
from policy.seeds import runs_of, summarise
from policy.train import main, train
from policy.training import TrainingInterrupted
from tests.policy.states import assert_same_bits, final


@pytest.fixture
def several(make_config) -> TrainConfig:
    return make_config(algo=BCConfig(hidden=(8,)), seeds=(0, 3))


def test_each_seed_is_a_run_of_its_own_and_the_last_line_sums_them_up(several, make_config, capsys) -> None:
    assert main(several) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((several.run / "seeds.json").read_text())
    assert summary["seeds"] == [0, 3]
    alone = make_config("alone", algo=several.algo, seed=3)
    result = train(alone)
    assert_same_bits(final(alone.run), final(several.run / "seed-3"))
    figure = summary["figures"]["valid/loss_policy"]
    assert figure["values"][1] == result.metrics["valid/loss_policy"]
    assert figure["mean"] == pytest.approx(sum(figure["values"]) / 2)
    assert all(name.startswith("valid/") for name in summary["figures"])
    assert read_config(several.run / "seed-3") == dataclasses.replace(alone, run=several.run / "seed-3")


def test_the_same_command_goes_on_where_it_was_stopped(several, make_config, monkeypatch, capsys) -> None:
    trained: list[tuple[int, int | None]] = []
    from policy import train as module

    whole = module.train

    def stopping(config: TrainConfig, **rest: Any) -> Any:
        if config.seed == 3 and len(trained) == 1:
            trained.append((3, None))
            raise TrainingInterrupted(0, config.run)
        result = whole(config, **rest)
        trained.append((config.seed, result.resumed_from))
        return result

    monkeypatch.setattr(module, "train", stopping)
    with pytest.raises(TrainingInterrupted):
        main(several)
    assert not (several.run / "seeds.json").exists()
    assert main(several) == 0
    assert trained == [(0, None), (3, None), (0, 30), (3, None)]


def test_means_have_students_interval_and_a_single_seed_has_none() -> None:
    figures = summarise({n: {"evaluate/success": x, "train/q": 1.0} for n, x in enumerate((0.2, 0.5, 0.9))})
    ((name, figure),) = figures["figures"].items()
    assert name == "evaluate/success"
    expected = scipy.stats.ttest_1samp([0.2, 0.5, 0.9], 0.0).confidence_interval(0.95)
    assert figure["interval"] == pytest.approx(list(expected))
    assert summarise({0: {"valid/x": 1.0}})["figures"]["valid/x"]["interval"] is None


def test_a_figure_that_a_seed_lacks_is_left_out() -> None:
    assert summarise({0: {"valid/x": 1.0, "valid/y": 2.0}, 1: {"valid/x": 1.0}})["figures"].keys() == {
        "valid/x"
    }


def test_seeds_are_read_from_the_command_line_and_checked(tmp_path) -> None:
    words = [str(tmp_path / "run"), "--data.files", "a.h5", "--seeds"]
    config = tyro.cli(TrainConfig, args=[*words, "0", "1", "2"])
    assert [(one.run.name, one.seed) for one in runs_of(config)] == [(f"seed-{n}", n) for n in range(3)]
    with pytest.raises(ConfigError, match="--seeds 1 1: give each seed once"):
        runs_of(tyro.cli(TrainConfig, args=[*words, "1", "1"]))
    with pytest.raises(ConfigError, match="this trains one run"):
        train(config)
