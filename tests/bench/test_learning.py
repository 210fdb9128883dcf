"""The learning table: tasks and seeds in, quality on held-out episodes and success per leg out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.held_out import SEED_OFFSET, true_accuracy
from bench.learning import QUALITY, TASKS, LearningBenchConfig, job, summarise
from bench.learning_table import table
from bench.legs import FURTHER, LEGS, complete
from episodes.contract import load_contract
from episodes.errors import ConfigError
from sim.goals import goal_seed

ROOT = Path(__file__).resolve().parents[2]


def report(seed: int, learned: int, quality: float | None = 0.95) -> dict[str, Any]:
    wins = {"iql-true": 10, "iql-learned": learned, "iql-random": 0, "bc": 1}
    assert {leg.name for leg in LEGS} == set(wins)
    return {
        "seed": seed,
        "success": [{"leg": name, "by_goal": [n < won for n in range(10)]} for name, won in wins.items()],
        "held_out_quality": {**dict.fromkeys(QUALITY, quality), "success_frames": 12},
        "stages": [{"seconds": 10.0}],
        "machine": {},
    }


def test_figures_are_named_by_task_and_only_the_main_task_is_bounded() -> None:
    summary = summarise({task: [report(0, 8), report(1, 6)] for task in ("drawer-open", "soccer")})
    assert summary["figures"]["soccer/iql-learned_success_by_seed"] == [0.8, 0.6]
    assert summary["figures"]["soccer/held_out_success_above_best_decile"] == [0.95, 0.95]
    low, high = summary["figures"]["drawer-open/learned_minus_bc_interval_95"]
    assert low <= summary["figures"]["drawer-open/learned_minus_bc"] == 0.6 <= high
    assert all(name.startswith("drawer-open/") for name in summary["bounds"])
    assert summary["holds"]
    assert not summarise({"drawer-open": [report(0, 5)]})["holds"]
    assert summarise({"soccer": [report(0, 0)]})["bounds"] == {}


def test_the_table_has_a_row_per_figure_and_policy_and_says_what_is_unknown() -> None:
    text = table(summarise({"drawer-open": [report(0, 8, None), report(1, 6)]}), LEGS)
    assert "| drawer-open | P(frame of success above the best decile of the others) | – | 0.95 |" in text
    assert "| drawer-open | IQL, learned reward | 0.80 | 0.60 | 0.70 | 0.48 to 0.85 |" in text
    for leg in LEGS:
        assert f"| drawer-open | {leg.title} |" in text


def test_further_algorithms_stand_beside_those_of_the_main_job() -> None:
    legs = (*LEGS, FURTHER["cql"], FURTHER["oril"])
    one = report(0, 8)
    one["success"] += [{"leg": name, "by_goal": [True] * 10} for name in ("cql-true", "oril")]
    summary = summarise({"soccer": [one]}, legs)
    text = table(summary, legs)
    assert "| soccer | CQL, true reward | 1.00 | 1.00 |" in text
    assert "| soccer | ORIL, the successful episodes as experts | 1.00 | 1.00 |" in text
    assert "| soccer | BRAC" not in text
    assert summary["hours"] == pytest.approx(10 / 3600)
    assert [leg["defaults"]["discount"] for leg in complete(legs[-2:-1])] == [0.99]


def test_a_stopped_bench_has_a_table_of_what_was_done() -> None:
    text = table(summarise({"drawer-open": [report(0, 8), report(1, 6)], "soccer": [report(0, 3)]}), LEGS)
    assert "| soccer | IQL, learned reward | 0.30 | – | 0.30 |" in text


def test_every_task_has_a_contract_of_its_own_environment_with_a_camera() -> None:
    for name, task in TASKS.items():
        simulation = load_contract(ROOT / task.contract).simulation
        assert simulation is not None
        assert simulation.environment == f"metaworld/{name}-v3"
        assert simulation.cameras


def test_a_task_appears_once_and_its_job_is_in_process_by_the_scripted_teacher() -> None:
    with pytest.raises(ConfigError, match="each at most once"):
        LearningBenchConfig(tasks=("soccer", "soccer"))
    made = job(LearningBenchConfig(out=Path("x")), "soccer", 2)
    assert (made.judge, made.ros, made.out) == ("scripted", False, Path("x/soccer/seed-2"))
    assert (made.contract, made.horizon) == (TASKS["soccer"].contract, TASKS["soccer"].horizon)
    assert job(LearningBenchConfig(horizon=7), "soccer", 2).horizon == 7


def test_held_out_goals_are_those_of_no_training_collection() -> None:
    seeds = range(3)
    training = {goal_seed("train", seed, episode) for seed in seeds for episode in range(120)}
    held_out = {goal_seed("train", SEED_OFFSET + seed, episode) for seed in seeds for episode in range(120)}
    evaluation = {goal_seed("evaluation", seed, goal) for seed in seeds for goal in range(120)}
    assert not training & held_out
    assert not evaluation & held_out


def test_accuracy_against_the_truth_counts_clear_pairs_alone_and_ties_one_half() -> None:
    truth = np.array([0.0, 0.1, 1.0, 1.1, 2.0])
    rng = np.random.default_rng
    assert true_accuracy(truth.copy(), truth, rng(0)) == 1.0
    assert true_accuracy(-truth, truth, rng(0)) == 0.0
    assert true_accuracy(np.zeros(5), truth, rng(0)) == 0.5
    assert true_accuracy(np.array([0.1, 0.0, 1.1, 1.0, 2.0]), truth, rng(0)) == 1.0
    assert true_accuracy(truth, np.zeros(5), rng(0)) is None
