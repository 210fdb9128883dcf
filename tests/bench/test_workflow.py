"""What simulation says of a diagnosed run, and how the bench counts it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tyro

from bench.workflow import CASES, CONTRACT, WorkflowBenchConfig, main, run_config
from bench.workflow_truth import SUCCESS, Curve, curve, rank_correlation, summarise, table, truth
from episodes.contract import load_contract
from episodes.errors import ConfigError
from policy.diagnosis.command import arguments
from policy.run import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


def along(*success: float) -> Curve:
    return Curve(100 * np.arange(1, len(success) + 1), np.array(success))


def test_truth_is_told_from_success_alone() -> None:
    flat = along(0.5, 0.5, 0.5)
    assert truth(along(0.2, 0.8, 0.3), flat, 0.2, larger=False) == "overfitting"
    assert truth(flat, along(0.5, 0.6, 0.9), 0.2, larger=True) == "underfitting"
    assert truth(flat, along(0.5, 0.6, 0.9), 0.2, larger=False) == "sound"
    assert truth(flat, along(0.6, 0.6, 0.6), 0.2, larger=True) == "sound"
    assert truth(along(0.0, 0.1, 0.0), along(0.1, 0.1, 0.1), 0.2, larger=True) == "unlearned"


def test_success_is_read_from_the_log_averaged_and_taken_at_or_before_a_step() -> None:
    rows = [{"step": 100 * (k + 1), SUCCESS: value} for k, value in enumerate((0.0, 0.6, 0.0, 0.3))]
    found = curve([{"step": 50, "train/q": 1.0}, *rows], 3)
    np.testing.assert_allclose(found.success, [0.0, 0.2, 0.3, 0.3])
    assert (found.best, found.last) == pytest.approx((0.3, 0.3))
    assert found.at(250) == pytest.approx(0.2)
    assert found.at(20) == 0.0


def group(case: str, actual: str, verdict: str, **rest) -> dict:
    return {
        "case": case, "seed": 0, "truth": actual, "verdict": verdict, "chosen_step": 100, "best": 0.8,
        "chosen": 0.7, "success_base": 0.2, "success_corrected": 0.6, "regret_chosen": 0.1,
        "regret_last": 0.6, "fqe_rank": None,
    } | rest  # fmt: skip


def test_matches_are_counted_over_what_was_decided_and_can_be_told() -> None:
    groups = [
        group("few-5", "overfitting", "overfitting", fqe_rank=0.5),
        group("few-5", "overfitting", "sound", regret_chosen=0.3),
        group("few-5", "sound", "undecided"),
        group("few-5", "unlearned", "sound"),
    ]
    figures = summarise(groups)
    assert (figures["few-5/matches"], figures["few-5/decided"], figures["few-5/told"]) == (1, 2, 3)
    assert figures["few-5/regret_chosen"] == pytest.approx((0.1 + 0.3 + 0.1 + 0.1) / 4)
    assert figures["few-5/fqe_rank"] == 0.5
    text = table(groups)
    assert len(text.splitlines()) == 6
    assert "| few-5 | 0 | overfitting | overfitting | 100 | 0.80 | 0.70 | 0.20 | 0.60 | 0.50 |" in text


def test_ranks_are_compared_and_not_where_nothing_varies() -> None:
    assert rank_correlation([1, 2, 3], [10, 30, 40]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 2, 3], [1, 1, 1]) is None
    assert rank_correlation([1, 2], [1, 2]) is None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("algorithm", ["cql", "brac", "iql"])
def test_the_corrected_run_differs_in_the_correction_alone_and_both_can_be_typed(case, algorithm) -> None:
    config = WorkflowBenchConfig(algorithm=algorithm)
    base, corrected = (
        run_config(config, case, name, 0, (Path("a.h5"),), Path("out")) for name in ("base", "corrected")
    )
    for run in (base, corrected):
        assert tyro.cli(TrainConfig, args=arguments(run)) == run
    assert base.loop == corrected.loop
    assert base.algo != corrected.algo
    changed = {name for name in vars(base.algo) if getattr(base.algo, name) != getattr(corrected.algo, name)}
    assert changed == set(CASES[case].correction)


def test_all_tasks_are_recorded_under_one_contract_without_a_camera() -> None:
    contract = load_contract(ROOT / CONTRACT)
    assert not any(stream.is_image for stream in contract.observations.values())


def test_settings_that_measure_nothing_are_refused() -> None:
    for wrong in ({"seeds": 0}, {"goals": 0}, {"cases": ()}, {"cases": ("few-5", "few-5")}):
        with pytest.raises(ConfigError):
            WorkflowBenchConfig(**wrong)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_bench_runs_in_simulation_and_a_second_call_does_nothing_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = WorkflowBenchConfig(
        cases=("few-5", "many-tasks"), seeds=1, steps=24, evaluations=12, goals=4, horizon=20, samples=1,
        fqe_steps=20, num_threads=1, out=tmp_path,
    )  # fmt: skip
    reports = []
    for _ in range(2):
        assert main(config) == 0
        reports.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    first, second = reports
    assert first["groups"] == second["groups"]
    assert first["compute_hours"] == second["compute_hours"]
    assert {each["case"] for each in first["groups"]} == {"few-5", "many-tasks"}
    assert (tmp_path / "workflow.md").read_text().count("\n") == 4
