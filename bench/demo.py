"""Bench `demo`: success of every leg of the main job over several data seeds, on goals that none of them saw.

Each seed is the whole job in process: new recordings, new labels, new reward model, new policies. Stages that
were finished are kept, so an interrupted bench goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.legs import LEGS, Leg
from bench.pipeline import DemoConfig, run_demo
from episodes.errors import ConfigError
from sim.statistics import paired_bootstrap, wilson

LEARNED, TRUE = "iql-learned", "iql-true"
BASELINES = ("bc", "iql-random")
LEAST_SUCCESS, LEAST_SHARE, LEAST_LEAD = 0.6, 0.7, 0.3


@dataclass(frozen=True)
class DemoBenchConfig:
    """Measure the main job over several data seeds; prints one JSON object last."""

    seeds: int = 3
    """Data seeds, counted from `first_seed`."""
    first_seed: int = 0
    """The first of them."""
    goals: int = 50
    """Unseen goals per seed."""
    out: Path = Path("runs/bench-demo")
    """Folder; finished stages in it are kept."""
    job: DemoConfig = field(default_factory=DemoConfig)
    """The job; its seed, goals and folder are set by the bench, and it runs in process."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.goals < 1:
            raise ConfigError(f"--seeds {self.seeds} --goals {self.goals}: write 1 or more.")


def main(config: DemoBenchConfig) -> int:
    """Run the job for every seed and print the table and the figures."""
    console = Console(highlight=False, stderr=True)
    reports = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        console.print(f"[bold]seed {seed}[/]")
        job = dataclasses.replace(
            config.job, seed=seed, goals=config.goals, out=config.out / f"seed-{seed}", ros=False
        )
        reports.append(run_demo(job, console))
    summary = summarise(reports)
    console.print(_table(reports, summary))
    print(json.dumps(summary))
    return 0


def summarise(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures, bounds and verdict from one report per seed."""
    figures = success_figures(reports, LEGS)
    figures["success_above_best_decile"] = [
        report["reward_quality"]["success_above_best_decile"] for report in reports
    ]
    bounds = {
        "iql-learned_success_rate": {"at_least": LEAST_SUCCESS},
        "learned_share_of_true": {"at_least": LEAST_SHARE},
        **{f"learned_minus_{name}": {"at_least": LEAST_LEAD} for name in BASELINES},
    }
    return {
        "bench": "demo",
        "figures": figures,
        "bounds": bounds,
        "holds": holds(figures, bounds),
        "seeds": [report["seed"] for report in reports],
        "goals_per_seed": len(reports[0]["success"][0]["by_goal"]),
        "machine": reports[-1]["machine"],
    }


def holds(figures: Mapping[str, Any], bounds: Mapping[str, Mapping[str, float]]) -> bool:
    """Every bounded figure is known and at least its bound."""
    return all(
        figures[name] is not None and figures[name] >= bound["at_least"] for name, bound in bounds.items()
    )


def success_figures(reports: Sequence[dict[str, Any]], legs: Sequence[Leg]) -> dict[str, Any]:
    """Success of every leg, its lead over the others and what it took, from one report per data seed.

    Intervals of rates are Wilson's over the goals of all seeds; those of leads are paired bootstraps over
    goals. Neither holds the spread between seeds, which is given beside them.
    """
    success = {leg.name: _matrix(reports, leg.name) for leg in legs}
    means = {name: float(matrix.mean()) for name, matrix in success.items()}
    figures: dict[str, Any] = {}
    for name, matrix in success.items():
        pooled = wilson(int(matrix.sum()), matrix.size)
        figures[f"{name}_success_rate"] = round(means[name], 4)
        figures[f"{name}_success_interval_95"] = [round(pooled.lower, 4), round(pooled.upper, 4)]
        figures[f"{name}_success_by_seed"] = [round(float(rate), 4) for rate in matrix.mean(axis=1)]
    for name in (TRUE, *BASELINES):
        lead = paired_bootstrap(success[LEARNED], success[name])
        figures[f"learned_minus_{name}"] = round(lead.estimate, 4)
        figures[f"learned_minus_{name}_interval_95"] = [round(lead.lower, 4), round(lead.upper, 4)]
    share = means[LEARNED] / means[TRUE] if means[TRUE] else None
    figures["learned_share_of_true"] = None if share is None else round(share, 4)
    figures["compute_s_by_seed"] = [
        round(sum(stage["seconds"] for stage in report["stages"]), 1) for report in reports
    ]
    return figures


def _matrix(reports: Sequence[dict[str, Any]], leg: str) -> NDArray[np.float64]:
    """(seeds, goals) of zeros and ones."""
    rows = [next(each["by_goal"] for each in report["success"] if each["leg"] == leg) for report in reports]
    return np.asarray(rows, dtype=np.float64)


def _table(reports: list[dict[str, Any]], summary: dict[str, Any]) -> Table:
    table = Table("policy", *(f"seed {report['seed']}" for report in reports), "mean", "95 %")
    for leg in LEGS:
        low, high = summary["figures"][f"{leg.name}_success_interval_95"]
        table.add_row(
            leg.title,
            *(f"{rate:.2f}" for rate in summary["figures"][f"{leg.name}_success_by_seed"]),
            f"{summary['figures'][f'{leg.name}_success_rate']:.2f}",
            f"{low:.2f} to {high:.2f}",
        )
    return table
