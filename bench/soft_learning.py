"""Bench `soft-learning`: rewards learned from pictures of ropes, cloths and water, and what policies make of
them.

Each task and data seed is one job in process: a mix of scripted, noisy and random episodes; a scripted
teacher who compares pictures and errs; a preference ensemble; IQL with the learned and the true reward, and
BC; bundles, tried on openings that are in no recording, beside chance and the script. Finished stages are
kept, so an interrupted bench goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench.machine import machine
from bench.soft_job import Job
from bench.soft_table import table
from bench.soft_tasks import CLONED, LEARNED, RANDOM, TASKS, TRUE, Sees, TaskName
from bench.stages import Stages, alone
from episodes.errors import ConfigError
from sim.env import Split
from sim.statistics import paired_bootstrap, wilson

BOUNDS = {
    f"RopeFlattenEasy/state/learned_minus_{other}_interval_95": {"above": 0.0} for other in (RANDOM, CLONED)
}
"""What is promised: the whole interval of the difference lies above 0. The other tasks are reported as they
come."""


@dataclass(frozen=True)
class SoftLearningConfig:
    """Learn rewards and policies of the soft tasks; prints one JSON object last."""

    tasks: tuple[TaskName, ...] = ("RopeFlattenEasy", "ClothFoldDiagonal", "PassWater")
    """Tasks to run, in this order."""
    seeds: int = 3
    """Data seeds, counted from `first_seed`; the first seed of every task is done before the second."""
    first_seed: int = 0
    """The first of them."""
    sees: tuple[Sees, ...] = ("state",)
    """What the policies see; pictures takes longer. The reward always looks at pictures."""
    mistakes: float = 0.1
    """How often the teacher's answer is the wrong way round."""
    episodes: int | None = None
    """Episodes per seed to fit and learn from; the task's own when left out."""
    held_out: int | None = None
    """Further episodes per seed to measure the reward on; the task's own when left out."""
    goals: int | None = None
    """Openings per seed to try policies on; the task's own when left out."""
    pairs: tuple[int, ...] = ()
    """Pairs that the teacher compares, per round; the task's own when left out."""
    steps: int | None = None
    """Gradient steps of each policy; the task's own when left out."""
    split: Split = "evaluation"
    """Openings to try policies on: train for choosing a recipe, on training openings that were not
    recorded."""
    out: Path = Path("runs/bench-soft-learning")
    """Folder; finished stages in it are kept. The table is OUT/soft-learning.md."""
    workers: int = field(default_factory=lambda: max(1, min(4, len(os.sched_getaffinity(0)))))
    """Processes at a time."""

    def __post_init__(self) -> None:
        for name in ("seeds", "episodes", "goals", "steps", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: write 1 or more.")
        if self.held_out is not None and self.held_out < 0:
            raise ConfigError(f"--held-out {self.held_out}: write 0 (none) or more.")
        if self.first_seed < 0:
            raise ConfigError(f"--first-seed {self.first_seed}: write 0 or more.")
        for name in ("tasks", "sees"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ConfigError(f"--{name} {' '.join(given)}: write each at most once, and one at least.")


def main(config: SoftLearningConfig) -> int:
    """Run every task and seed, write table and figures, print both.

    Raises:
        MachineError: another run works in this folder.
    """
    with alone(config.out):
        return _bench(config)


def _bench(config: SoftLearningConfig) -> int:
    console = Console(highlight=False, stderr=True)
    reports: dict[str, list[dict[str, Any]]] = {task: [] for task in config.tasks}
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        for task in config.tasks:
            console.print(f"[bold]{task}, seed {seed}[/]")
            reports[task].append(job(config, task, seed, console).run())
            done = {name: found for name, found in reports.items() if found}
            summary = summarise(done)
            text = table(summary)
            # After every run: a bench of hours may be stopped.
            (config.out / "soft-learning.md").write_text(text)
            (config.out / "soft-learning.json").write_text(json.dumps({**summary, "runs": done}, indent=1))
    console.print(text, markup=False, soft_wrap=True)
    print(json.dumps(summary))
    return 0


def job(config: SoftLearningConfig, name: TaskName, seed: int, console: Console) -> Job:
    """The job of one task and seed; its folder is made."""
    given = {key: getattr(config, key) for key in ("episodes", "held_out", "goals")}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if config.pairs:
        changes["pairs"] = config.pairs
    if config.steps is not None:
        changes["steps"] = dict.fromkeys(config.sees, config.steps)
    folder = config.out / name / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return Job(
        name=name, task=replace(TASKS[name], **changes), seed=seed, mistakes=config.mistakes,
        sees=config.sees, split=config.split, folder=folder, stages=Stages(folder, console),
        workers=config.workers,
    )  # fmt: skip


def summarise(reports: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Figures named TASK/FIGURE or TASK/SEES/FIGURE, the bounds of those that were run, and the verdict.

    Args:
        reports: of each task, one report or more, one per data seed.
    """
    figures: dict[str, Any] = {}
    for task, of_task in reports.items():
        figures |= {f"{task}/{name}": value for name, value in figures_of(of_task).items()}
    bounds = {name: bound for name, bound in BOUNDS.items() if figures.get(name) is not None}
    seconds = [stage for done in reports.values() for one in done for stage in one["stages"]]
    first = next(iter(reports.values()))
    return {
        "bench": "soft-learning",
        "simulator": "softgym-equivalent",
        "figures": figures,
        "bounds": bounds,
        "holds": all(figures[name][0] > bound["above"] for name, bound in bounds.items()),
        "seeds": {task: [one["seed"] for one in done] for task, done in reports.items()},
        "openings": {task: [one["openings"] for one in done] for task, done in reports.items()},
        "compute_h": round(sum(stage["wall_s"] for stage in seconds) / 3600.0, 3),
        "processor_h": round(sum(stage["processor_s"] for stage in seconds) / 3600.0, 3),
        "machine": machine(first[-1]["renderer"]),
    }


def figures_of(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one task from one report per data seed.

    Of rates the intervals are Wilson's over the openings of all seeds, of normalised performance and of
    differences bootstraps over openings, paired; none holds the spread between seeds, which stands beside
    them. A task with a single opening has its seeds drawn in their place, and no such interval for one seed.
    """
    figures: dict[str, Any] = {}
    for name in reports[0]["trials"]:
        ends, ever, performance = (_matrix(reports, name, key) for key in ("success", "ever", "normalized"))
        pooled = wilson(int(ends.sum()), ends.size)
        shown, interval = _mean_difference(performance, np.zeros_like(performance))
        figures |= {
            f"{name}_success_rate": round(pooled.estimate, 4),
            f"{name}_success_interval_95": [round(pooled.lower, 4), round(pooled.upper, 4)],
            f"{name}_success_by_seed": _by_seed(ends),
            f"{name}_ever_rate": round(float(ever.mean()), 4),
            f"{name}_normalized": shown,
            f"{name}_normalized_interval_95": interval,
            f"{name}_normalized_by_seed": _by_seed(performance),
            f"{name}_faults": sum(trial["fault"] is not None for r in reports for trial in r["trials"][name]),
        }
    for sees in sorted({name.split("/")[0] for name in reports[0]["trials"] if "/" in name}):
        for other in (TRUE, CLONED, RANDOM):
            beside = other if other == RANDOM else f"{sees}/{other}"
            for key, suffix in (("success", ""), ("normalized", "_normalized")):
                mine = _matrix(reports, f"{sees}/{LEARNED}", key)
                lead, interval = _mean_difference(mine, _matrix(reports, beside, key))
                at = f"{sees}/learned_minus_{other}{suffix}"
                figures[at], figures[f"{at}_interval_95"] = lead, interval
    quality = [one["held_out_quality"] or {} for one in reports]
    for name in ("true_preference_accuracy", "rank_correlation", "success_above_best_decile"):
        figures[f"held_out_{name}"] = [each.get(name) for each in quality]
    figures["stages_s"] = {
        stage["name"]: [_stage(one, stage["name"], "wall_s") for one in reports]
        for stage in reports[0]["stages"]
    }
    figures["stages_processor_s"] = {
        stage["name"]: [_stage(one, stage["name"], "processor_s") for one in reports]
        for stage in reports[0]["stages"]
    }
    figures["compute_s_by_seed"] = [
        round(sum(stage["wall_s"] for stage in one["stages"]), 1) for one in reports
    ]
    figures["processor_s_by_seed"] = [
        round(sum(stage["processor_s"] for stage in one["stages"]), 1) for one in reports
    ]
    return figures


def _stage(report: Mapping[str, Any], name: str, key: str) -> float | None:
    return next((stage[key] for stage in report["stages"] if stage["name"] == name), None)


def _matrix(reports: Sequence[dict[str, Any]], name: str, key: str) -> NDArray[np.float64]:
    """(seeds, openings) of one figure of one policy."""
    return np.array([[trial[key] for trial in one["trials"][name]] for one in reports], dtype=np.float64)


def _mean_difference(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[float, list[float] | None]:
    """Mean of `first` - `second`, (seeds, openings) each, and its interval; None where there is one trial."""
    if first.shape[1] == 1:
        # Drawn within each seed, a single opening would always be itself: an interval of no width.
        first, second = first.T, second.T
    found = paired_bootstrap(first, second)
    interval = [round(found.lower, 4), round(found.upper, 4)]
    return round(found.estimate, 4), interval if first.shape[1] > 1 else None


def _by_seed(matrix: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in matrix.mean(axis=1)]
