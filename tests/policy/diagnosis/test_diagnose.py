"""The verb: runs read from their folders, told, and worked on within a budget."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from episodes.errors import ConfigError, DatasetError
from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.diagnosis.auto import Budget, run_workflow
from policy.diagnosis.main import DiagnoseConfig, main
from policy.diagnosis.reading import diagnose, lowest_value, preferred
from policy.diagnosis.rules import Rules
from policy.metrics import read_metrics
from policy.run import RolloutsConfig, TrainConfig
from policy.train import train
from tests.policy.diagnosis.curves import hump, log_of, settling

RULES = Rules()
SMALL = CQLConfig(hidden=(8, 8), samples=1)


def write_log(run: Path, rows: list[Mapping[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def make_run(make_config) -> Callable[..., TrainConfig]:
    """A run that was trained for a few steps, with the log of another that was trained for long."""

    def make(name: str, rows: list[Any], algo: Any = SMALL, **loop: Any) -> TrainConfig:
        config = make_config(name, algo=algo, loop={"keep_last": 0, "steps": 20, **loop})
        train(config)
        write_log(config.run, rows)
        return config

    return make


def test_an_overfitting_run_is_told_with_checkpoint_and_a_command_that_can_be_typed(
    make_run, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_run("over", log_of(hump, every=1))
    assert main(DiagnoseConfig((config.run,))) == 0
    out = capsys.readouterr().out
    said = json.loads(out.splitlines()[-1])
    of_run = said["runs"][0]
    assert of_run["verdict"] == "overfitting"
    assert 14 <= of_run["peak_step"] <= 19
    assert of_run["checkpoint"]["on_disk"] == "step-00000010"
    words = shlex.split(of_run["next_command"])
    assert words[:2] == ["armchair", "train"]
    typed = tyro.cli(TrainConfig, args=words[2:])
    assert typed.algo.regularise.vib > 0
    assert typed.data == config.data
    assert "overfitting" in out
    assert of_run["next_command"] in out


def test_the_page_stands_alone_and_says_what_the_table_says(make_run) -> None:
    config = make_run("over", log_of(hump, every=1, separation=0.4, held_out=0.2))
    found = diagnose((config.run,), RULES)
    main(DiagnoseConfig((config.run,)))
    page = (config.run / "diagnosis" / "index.html").read_text()
    assert "overfitting" in page
    assert found[0].next_command().split("--data")[0] in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)


def test_a_sound_run_is_exported_next(make_run) -> None:
    config = make_run("fine", log_of(settling, every=1))
    each = diagnose((config.run,), RULES)[0]
    assert each.finding.verdict == "sound"
    assert each.next_command() == f"armchair export {config.run} --checkpoint final"


def test_the_log_of_a_real_run_is_enough_to_be_read(make_config) -> None:
    config = make_config(algo=SMALL, loop={"steps": 24, "evaluate_every": 2, "log_every": 2})
    train(config)
    each = diagnose((config.run,), RULES)[0]
    assert each.step == 24
    assert each.parameters == 2 * (5 * 8 + 8 + 8 * 8 + 8 + 8 + 1)
    assert {"q_peak", "td_unexplained", "separation", "effective_rank"} <= each.finding.figures.keys()


def test_a_larger_critic_on_the_same_data_confirms_or_refutes_underfitting(make_run) -> None:
    small = make_run("small", log_of(settling, every=1, unexplained=0.5))
    larger = replace(SMALL, hidden=(16, 16))
    better = make_run("better", log_of(settling, every=1, unexplained=0.1), larger)
    same = make_run("same", log_of(settling, every=1, unexplained=0.5), larger)
    alone, with_better, with_same = (
        diagnose((small.run, *others), RULES)[0].finding for others in ((), (better.run,), (same.run,))
    )
    assert (alone.verdict, alone.confirmed) == ("underfitting", None)
    assert (with_better.verdict, with_better.confirmed) == ("underfitting", True)
    assert (with_same.verdict, with_same.confirmed) == ("sound", False)
    assert preferred(diagnose((small.run, better.run), RULES)).run == better.run


def test_the_lowest_value_follows_from_the_rewards_as_the_run_sees_them(make_config) -> None:
    negative = {"reward_range": [-2.0, 1.0]}

    def of(algo: Any, **data: Any) -> float | None:
        return lowest_value(make_config(algo=algo, data=data), negative)

    assert of(SMALL) == 0.0
    assert of(SMALL, scale_reward=False) == pytest.approx(-200.0)
    assert of(SMALL, scale_reward=False, reward="random") == 0.0
    assert of(BRACConfig(), scale_reward=False) is None


def test_cloning_and_folders_that_are_no_run_are_refused_with_what_to_do(make_config, tmp_path: Path) -> None:
    config = make_config(algo=BCConfig(hidden=(8,)))
    train(config)
    with pytest.raises(ConfigError, match="loss_policy"):
        diagnose((config.run,), RULES)
    with pytest.raises(DatasetError, match="no training run"):
        diagnose((tmp_path / "none",), RULES)
    with pytest.raises(ConfigError, match="each once"):
        diagnose((config.run, config.run), RULES)


class Trainer:
    """Trains for real, and gives each run the log that belongs to its settings."""

    def __init__(self, logs: Mapping[str, list[Any]]) -> None:
        self.logs = logs
        self.trained: list[str] = []

    def __call__(self, config: TrainConfig, why: str) -> None:
        train(config)
        name = config.run.name
        write_log(config.run, self.logs[name])
        self.trained.append(name)


OVER, FINE = log_of(hump, every=1), log_of(settling, every=1)


def test_auto_goes_on_until_a_run_is_sound(make_run) -> None:
    config = make_run("a", OVER)
    trainer = Trainer({"a-vib": OVER, "a-vib-dropout": FINE})
    done = run_workflow(config.run, RULES, Budget(runs=5), trainer)
    assert trainer.trained == ["a-vib", "a-vib-dropout"]
    assert done.ended == "a run is sound"
    assert done.steps == 40
    assert preferred(done.found).run.name == "a-vib-dropout"


def test_auto_keeps_to_its_budget_of_runs_and_of_steps(make_run) -> None:
    config = make_run("a", OVER)
    logs = {f"a-{name}": OVER for name in ("vib", "vib-dropout", "vib-dropout-l2")}
    done = run_workflow(config.run, RULES, Budget(runs=2), Trainer(logs))
    assert [each.run.name for each in done.found] == ["a", "a-vib", "a-vib-dropout"]
    assert "--budget-runs" in done.ended
    done = run_workflow(config.run, RULES, Budget(steps=39), Trainer(logs))
    assert (len(done.found), done.steps) == (2, 20)
    assert "--budget-steps" in done.ended


def test_auto_that_was_stopped_goes_on_to_the_same_end(make_run) -> None:
    config = make_run("a", OVER)
    logs = {"a-vib": OVER, "a-vib-dropout": FINE}

    class Stopped(Trainer):
        def __call__(self, config: TrainConfig, why: str) -> None:
            if config.run.name == "a-vib-dropout":
                raise KeyboardInterrupt
            super().__call__(config, why)

    with pytest.raises(KeyboardInterrupt):
        run_workflow(config.run, RULES, Budget(), Stopped(logs))
    again = run_workflow(config.run, RULES, Budget(), Trainer(logs))
    assert [each.run.name for each in again.found] == ["a", "a-vib", "a-vib-dropout"]


def test_auto_tries_capacity_and_ends_where_it_helps(make_run) -> None:
    config = make_run("a", log_of(settling, every=1, unexplained=0.5))
    done = run_workflow(config.run, RULES, Budget(), Trainer({"a-width-16": FINE}))
    assert [each.finding.verdict for each in done.found] == ["underfitting", "sound"]
    assert done.found[0].finding.confirmed is True
    assert done.found[1].config.algo.hidden == (16, 16)


def test_auto_trains_for_real_from_the_command(make_config, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(algo=SMALL, loop={"steps": 24, "evaluate_every": 2, "log_every": 2})
    train(config)
    assert main(DiagnoseConfig((config.run,), auto=True, budget_runs=1, json=True)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["auto"]["ended"]
    for of_run in said["runs"]:
        assert (Path(of_run["run"]) / "checkpoints" / "final.safetensors").is_file()


def test_auto_wants_one_run() -> None:
    with pytest.raises(ConfigError, match="one run"):
        main(DiagnoseConfig((Path("a"), Path("b")), auto=True))
    with pytest.raises(ConfigError, match="budget-runs"):
        DiagnoseConfig((Path("a"),), budget_runs=0)


def test_auto_trains_with_the_rollouts_that_a_run_asks_for(
    make_config, capsys: pytest.CaptureFixture[str]
) -> None:
    rollouts = RolloutsConfig(env="somewhere", episodes=1)
    config = make_config(algo=SMALL, rollouts=rollouts, loop={"steps": 24, "evaluate_every": 12})

    class Judge:
        def __call__(self, step: int, act: Any) -> dict[str, float]:
            return {"success": 0.25}

        def close(self) -> None:
            asked.append("closed")

    asked: list[Any] = []

    def make_judge(env: str, **rest: Any) -> Judge:
        asked.append(env)
        return Judge()

    train(config, evaluate=Judge())
    wanted = DiagnoseConfig((config.run,), auto=True, budget_runs=1, json=True)
    main(wanted, make_judge=make_judge)
    said = json.loads(capsys.readouterr().out)
    assert asked == ["somewhere", "closed"]
    rows = read_metrics(Path(said["runs"][1]["run"]) / "metrics.jsonl")
    assert {row["evaluate/success"] for row in rows if "evaluate/success" in row} == {0.25}
