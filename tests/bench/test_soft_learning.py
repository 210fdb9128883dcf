"""The soft-learning bench: which openings, what is summed up, and the job end to end on a real rope."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.soft_learning import SoftLearningConfig, figures_of, job, summarise
from bench.soft_table import table
from bench.soft_tasks import ACTORS, CLONED, LEARNED, LEGS, RANDOM, SCRIPT, TASKS, TRUE
from episodes.errors import ConfigError
from sim.softgym.env import TRAIN_SHARE
from sim.statistics import wilson

ROOT = Path(__file__).resolve().parents[2]
STAGES = [{"name": "collect", "wall_s": 10.0, "processor_s": 18.0}]


def trials(won: int, of: int = 10) -> list[dict[str, Any]]:
    return [
        {"success": n < won, "ever": n <= won, "normalized": 2.0 if n < won else 1.5, "fault": None}
        for n in range(of)
    ]


def report(seed: int, learned: int, cloned: int = 2, sees: str = "state") -> dict[str, Any]:
    won = {f"{sees}/{TRUE}": 9, f"{sees}/{LEARNED}": learned, f"{sees}/{CLONED}": cloned}
    assert {f"{sees}/{leg.name}" for leg in LEGS} == set(won)
    return {
        "seed": seed,
        "openings": {"seed": 0, "episodes": list(range(10))},
        "trials": {name: trials(n) for name, n in {RANDOM: 1, SCRIPT: 10, **won}.items()},
        "held_out_quality": {
            "true_preference_accuracy": 0.9, "rank_correlation": 0.8, "success_above_best_decile": None,
        },
        "stages": STAGES,
        "renderer": "egl",
    }  # fmt: skip


def test_rates_are_of_the_last_step_and_their_intervals_are_over_all_openings() -> None:
    figures = figures_of([report(0, 8), report(1, 6)])
    learned, pooled = f"state/{LEARNED}", wilson(14, 20)
    assert figures[f"{learned}_success_rate"] == 0.7
    assert figures[f"{learned}_success_by_seed"] == [0.8, 0.6]
    low, high = figures[f"{learned}_success_interval_95"]
    assert (low, high) == (round(pooled.lower, 4), round(pooled.upper, 4))
    assert figures[f"{learned}_ever_rate"] == 0.8
    low, high = figures[f"{learned}_normalized_interval_95"]
    assert low < figures[f"{learned}_normalized"] == 1.85 < high
    assert figures["stages_s"] == {"collect": [10.0, 10.0]}
    assert figures["processor_s_by_seed"] == [18.0, 18.0]


def test_the_rope_is_promised_to_beat_chance_and_cloning_with_the_whole_interval() -> None:
    assert summarise({"RopeFlattenEasy": [report(0, 9), report(1, 8)]})["holds"]
    assert not summarise({"RopeFlattenEasy": [report(0, 9, cloned=8), report(1, 8, cloned=8)]})["holds"]
    assert not summarise({"RopeFlattenEasy": [report(0, 1), report(1, 1)]})["holds"]
    assert summarise({"PassWater": [report(0, 0)]})["bounds"] == {}


def test_a_task_with_one_opening_has_its_seeds_drawn_and_no_interval_of_no_width() -> None:
    one = [report(seed, learned=1) for seed in range(3)]
    for seed, each in enumerate(one):
        each["trials"] = {name: found[:1] for name, found in each["trials"].items()}
        each["trials"][f"state/{LEARNED}"][0]["normalized"] = 0.7 + 0.1 * seed
    low, high = figures_of(one)[f"state/{LEARNED}_normalized_interval_95"]
    assert 0.7 <= low < 0.8 < high <= 0.9
    alone = summarise({"ClothFoldDiagonal": one[:1]})
    assert alone["figures"][f"ClothFoldDiagonal/state/learned_minus_{CLONED}_normalized_interval_95"] is None
    assert "| BC, sees state | 0.00 | – |" in table(alone)


def test_a_bench_without_state_policies_promises_nothing_of_them() -> None:
    assert summarise({"RopeFlattenEasy": [report(0, 9, sees="pictures")]})["bounds"] == {}


def test_the_table_has_a_row_for_every_policy_and_says_what_is_unknown() -> None:
    text = table(summarise({"RopeFlattenEasy": [report(0, 8), report(1, 6)], "PassWater": [report(0, 3)]}))
    for title in (*ACTORS.values(), *(f"{leg.title}, sees state" for leg in LEGS)):
        assert text.count(f"| {title} |") == 2
    assert "| IQL, learned reward, sees state | 0.80 | 0.60 | 0.70 | 0.48 to 0.85 |" in text
    assert "| P(frame of success above the best decile of the others) | – | – |" in text


def test_policies_are_tried_on_openings_that_no_episode_was_recorded_from(tmp_path: Path) -> None:
    assert TRAIN_SHARE == 0.8
    every = [
        job(SoftLearningConfig(out=tmp_path), "RopeFlattenEasy", seed, Console()).openings
        for seed in range(3)
    ]
    numbers = [number for openings in every for number in openings.episodes]
    assert {openings.split for openings in every} == {"evaluation"}
    assert len({openings.seed for openings in every}) == 1
    assert len(set(numbers)) == len(numbers) == 3 * 50
    recipe = job(SoftLearningConfig(out=tmp_path, split="train"), "RopeFlattenEasy", 100, Console())
    assert recipe.openings.seed == 100
    assert min(recipe.openings.episodes) == TASKS["RopeFlattenEasy"].episodes


@pytest.mark.parametrize(
    "wrong",
    [{"tasks": ()}, {"tasks": ("PassWater", "PassWater")}, {"sees": ()}, {"goals": 0}, {"held_out": -1}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--"):
        SoftLearningConfig(**wrong)


@pytest.mark.long
def test_the_job_runs_end_to_end_on_a_rope_and_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [
        *(sys.executable, str(ROOT / "armchair.py"), "bench", "soft-learning", "--out", str(tmp_path)),
        *("--tasks", "RopeFlattenEasy", "--seeds", "1", "--episodes", "6", "--held-out", "2"),
        *("--goals", "2", "--pairs", "60", "--steps", "5", "--sees", "state", "pictures"),
    ]

    def run() -> tuple[dict[str, Any], str]:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    first, _ = run()
    figures = first["figures"]
    assert figures["RopeFlattenEasy/script_success_rate"] == 1.0
    for sees in ("state", "pictures"):
        for leg in LEGS:
            assert 0.0 <= figures[f"RopeFlattenEasy/{sees}/{leg.name}_normalized"] <= 2.1
            assert figures[f"RopeFlattenEasy/{sees}/{leg.name}_faults"] == 0
    assert np.isfinite(figures["RopeFlattenEasy/held_out_true_preference_accuracy"]).all()
    written = json.loads((tmp_path / "soft-learning.json").read_text())
    assert len(written["runs"]["RopeFlattenEasy"][0]["trials"][f"pictures/{LEARNED}"]) == 2
    assert (tmp_path / "soft-learning.md").read_text().startswith("**RopeFlattenEasy**")
    second, said = run()
    assert said.count("done before") == len(written["runs"]["RopeFlattenEasy"][0]["stages"])
    assert second["figures"] == figures
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]
