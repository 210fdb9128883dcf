"""Bench `learning`: how good is a reward learned from pictures, and what does a policy make of it?

Each of three tasks and data seeds is the main job in process: a mix of scripted, noisy and random episodes, a
scripted teacher who errs in 10 % of the pairs, rounds of labels and fits, IQL and BC. The reward is measured
on episodes that it was not fitted to, the policies on goals that none of them saw. Finished stages are kept,
so an interrupted bench goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from bench.demo import holds, success_figures
from bench.learning_table import table
from bench.legs import FURTHER, LEGS, Leg
from bench.pipeline import DemoConfig, run_demo
from episodes.errors import ConfigError
from sim.experts import Mix

TaskName = Literal["drawer-open", "sweep-into", "soccer"]
QUALITY = (
    "success_above_best_decile",
    "successful_episode_rank",
    "true_preference_accuracy",
    "rank_correlation",
)
"""Figures on held-out episodes, the ones that a policy needs first."""
BOUNDS = {
    "drawer-open/iql-learned_success_rate": {"at_least": 0.6},
    "drawer-open/learned_share_of_true": {"at_least": 0.7},
    "drawer-open/learned_minus_bc": {"at_least": 0.3},
    "drawer-open/learned_minus_iql-random": {"at_least": 0.3},
}
"""What is promised, of the main job's task alone; the others are reported as they come."""


@dataclass(frozen=True)
class Task:
    """What the job does differently for a task."""

    contract: Path
    """Robot contract; its simulation section names task and camera."""
    mix: Mix = field(default_factory=Mix)
    """Who acts in the recordings."""
    horizon: int = 150
    """Steps per episode, in recordings and trials."""
    steps: int = 10_000
    """Gradient steps of each policy."""


TASKS: dict[TaskName, Task] = {
    "drawer-open": Task(Path("launch/contracts/sawyer_sim.yaml")),
    # The script needs 56 steps and brings noise up to 2.5 along: with time enough even cloning succeeds.
    "sweep-into": Task(
        Path("launch/contracts/sawyer_sim_sweep_into.yaml"),
        Mix(expert=0.12, noisy=0.08, random=0.8, sigma_lower=0.5, sigma_upper=1.5, turning=0.0),
        horizon=80,
        steps=5_000,
    ),
    "soccer": Task(Path("launch/contracts/sawyer_sim_soccer.yaml"), steps=5_000),
}


@dataclass(frozen=True)
class LearningBenchConfig:
    """Measure learned rewards and what is learned from them; prints one JSON object last."""

    tasks: tuple[TaskName, ...] = ("drawer-open", "sweep-into", "soccer")
    """Tasks to run, in this order."""
    seeds: int = 3
    """Data seeds, counted from `first_seed`; the first seed of every task is done before the second."""
    first_seed: int = 0
    """The first of them."""
    goals: int = 50
    """Unseen goals per seed."""
    episodes: int = 100
    """Episodes per seed to fit and learn from."""
    held_out: int = 50
    """Further episodes per seed to measure the reward on."""
    horizon: int | None = None
    """Steps per episode; the task's own when left out."""
    pairs: tuple[int, ...] = (1500, 1500, 1500)
    """Pairs that the teacher compares, per round."""
    steps: int | None = None
    """Gradient steps of each policy; the task's own when left out."""
    also: tuple[Literal["cql", "brac", "oril"], ...] = ()
    """Further algorithms on the same data, with the true reward or, ORIL, with successful episodes as its
    experts. A bench that was run without them goes on with them."""
    out: Path = Path("runs/bench-learning")
    """Folder; finished stages in it are kept. The table is OUT/learning.md."""
    workers: int = field(default_factory=lambda: max(1, min(4, len(os.sched_getaffinity(0)))))
    """Processes at a time."""

    def __post_init__(self) -> None:
        for name in ("seeds", "goals", "held_out"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: write 1 or more.")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(f"--tasks {' '.join(self.tasks)}: write each at most once, and one at least.")


def main(config: LearningBenchConfig) -> int:
    """Run every task and seed, write the table, print the figures."""
    console = Console(highlight=False, stderr=True)
    legs = (*LEGS, *(FURTHER[name] for name in config.also))
    reports: dict[str, list[dict[str, Any]]] = {task: [] for task in config.tasks}
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        for task in config.tasks:
            console.print(f"[bold]{task}, seed {seed}[/]")
            reports[task].append(run_demo(job(config, task, seed), console, legs))
            summary = summarise({task: done for task, done in reports.items() if done}, legs)
            text = table(summary, legs)
            (config.out / "learning.md").write_text(text)  # after every run: a bench of hours may be stopped
    console.print(text, markup=False, soft_wrap=True)
    print(json.dumps(summary))
    return 0


def job(config: LearningBenchConfig, task: TaskName, seed: int) -> DemoConfig:
    """The job of one task and seed."""
    return DemoConfig(
        out=config.out / task / f"seed-{seed}",
        seed=seed,
        contract=TASKS[task].contract,
        judge="scripted",
        episodes=config.episodes,
        mix=TASKS[task].mix,
        held_out=config.held_out,
        horizon=config.horizon or TASKS[task].horizon,
        pairs=config.pairs,
        steps=config.steps or TASKS[task].steps,
        goals=config.goals,
        ros=False,
        workers=config.workers,
    )


def summarise(reports: Mapping[str, Sequence[dict[str, Any]]], legs: Sequence[Leg] = LEGS) -> dict[str, Any]:
    """Figures named TASK/FIGURE, bounds of those that were run, and the verdict.

    Args:
        reports: of each task, one report or more, one per data seed.
        legs: the policies in them.
    """
    figures: dict[str, Any] = {}
    for task, of_task in reports.items():
        quality = [report["held_out_quality"] for report in of_task]
        found = {
            **{f"held_out_{name}": [each[name] for each in quality] for name in QUALITY},
            "held_out_success_frames": [each["success_frames"] for each in quality],
            **success_figures(of_task, legs),
        }
        figures |= {f"{task}/{name}": value for name, value in found.items()}
    bounds = {name: bound for name, bound in BOUNDS.items() if name in figures}
    first = next(iter(reports.values()))
    return {
        "bench": "learning",
        "figures": figures,
        "bounds": bounds,
        "holds": holds(figures, bounds),
        "seeds": {task: [report["seed"] for report in of_task] for task, of_task in reports.items()},
        "goals_per_seed": len(first[0]["success"][0]["by_goal"]),
        "hours": sum(stage["seconds"] for each in reports.values() for r in each for stage in r["stages"])
        / 3600,
        "machine": first[-1]["machine"],
    }
