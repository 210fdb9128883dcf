"""The verb `diagnose`: what runs say about themselves, which checkpoint to take and what to run next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.table import Table
from rich.text import Text

from episodes.errors import ConfigError
from episodes.screen import print_table, progress_bar, screen
from policy.diagnosis.auto import Budget, Outcome, Train, run_workflow
from policy.diagnosis.page import write_page
from policy.diagnosis.reading import Diagnosis, as_json, diagnose, preferred
from policy.diagnosis.rules import Rules
from policy.diagnosis.valuing import ValueConfig, Valued, section, share_best, value_runs
from policy.diagnosis.valuing import as_json as values_as_json
from policy.protocols import MakeEnv, MakeJudge
from policy.run import TrainConfig
from policy.settings import require

COLOURS = {"sound": "green", "overfitting": "red", "underfitting": "yellow", "undecided": "dim"}


@dataclass(frozen=True)
class DiagnoseConfig:
    """Overfitting, underfitting or sound? Which checkpoint, and what to train next; no robot is asked."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs that `armchair train` wrote (IQL, CQL, BRAC, ORIL). Of runs on the same data with the
    same algorithm the largest critic is what underfitting is confirmed with."""
    rules: Rules = field(default_factory=Rules)
    """The numbers behind the verdict."""
    auto: bool = False
    """Train what is advised and diagnose again, until a run is sound or the budget is spent. The same command
    goes on where it was stopped."""
    budget_runs: int = 4
    """--auto: runs to train at most."""
    budget_steps: int = 100_000
    """--auto: gradient steps at most, of all of them together."""
    fqe: bool = False
    """Value checkpoints by fitted Q evaluation and rank them; half a minute and more for each."""
    fqe_with: ValueConfig = field(default_factory=ValueConfig)
    """--fqe: how."""
    out: Path | None = None
    """Folder of the page; FIRST RUN/diagnosis when left out."""
    json: bool = False
    """Print the figures as one JSON object and no table."""

    def __post_init__(self) -> None:
        require(bool(self.runs), "runs", "", "give the folder of a run")
        Budget(self.budget_runs, self.budget_steps)


def main(
    config: DiagnoseConfig, *, make_env: MakeEnv | None = None, make_judge: MakeJudge | None = None
) -> int:
    """Diagnose, write the page, print a table and one JSON object on the last line.

    `make_judge` makes the rollouts that runs trained by `--auto` ask for; nothing with a critic that learns
    from recordings needs `make_env`.
    """
    outcome = None
    if config.auto:
        if len(config.runs) != 1:
            raise ConfigError(f"--auto starts from one run; {len(config.runs)} were given.")
        budget = Budget(config.budget_runs, config.budget_steps)
        outcome = run_workflow(config.runs[0], config.rules, budget, _trainer(make_judge))
        found = outcome.found
    else:
        found = diagnose(config.runs, config.rules)
    valued: list[Valued] = []
    if config.fqe:
        with progress_bar("fitted Q evaluation") as report:
            valued = value_runs(found, config.fqe_with, progress=report)
    out = config.out or config.runs[0] / "diagnosis"
    page = write_page(out, found, config.rules, section(valued))
    if not config.json:
        _say(found, outcome)
        _rank(valued)
        print(f"page: {page}")
    print(json.dumps(_summary(found, outcome, page) | {"fqe": values_as_json(valued)}))
    return 0


def _trainer(make_judge: MakeJudge | None) -> Train:
    from policy.train import rollouts_of, train

    def run(config: TrainConfig, why: str) -> None:
        told = screen(stderr=True)
        told.print(f"train {config.run}: {why}")
        with progress_bar(f"train {config.run.name}") as report, rollouts_of(config, make_judge) as evaluate:
            train(config, evaluate=evaluate, progress=report, warn=told.print)

    return run


def _say(found: Sequence[Diagnosis], outcome: Outcome | None) -> None:
    console = screen()
    table = Table("run", "algorithm", "steps", "verdict", "take", "at step", "on disk")
    for each in found:
        colour = COLOURS[each.finding.verdict]
        table.add_row(
            str(each.run),
            each.config.algo.name,
            f"{each.step} of {each.config.loop.steps}",
            Text(each.finding.verdict, colour),
            each.choice.name or "",
            str(each.choice.step),
            "yes" if each.choice.name else "no",
        )
    print_table(console, table)
    for each in found:
        console.print(f"{each.run}: {each.finding.because}.")
        console.print(f"  checkpoint: {each.choice.note}.")
        if (recover := each.recover()) is not None:
            console.print(f"  to have it: {recover}")
        for change in each.next[:1]:
            console.print(f"  next, {change.why}:")
        if (advised := each.next_command()) is not None:
            console.print(f"    {advised}")
    if len(found) > 1:
        best = preferred(found)
        console.print(f"take {best.run}, step {best.choice.step} ({best.finding.verdict}).")
    if outcome is not None:
        console.print(
            f"{len(found) - 1} runs were trained, {outcome.steps} steps; it ended because {outcome.ended}."
        )


def _rank(valued: Sequence[Valued]) -> None:
    if not valued:
        return
    table = Table("run", "checkpoint", "discounted return", "interval", "best in draws", "on")
    for each, share in zip(valued, share_best(valued), strict=True):
        found = each.estimate
        interval = f"{found.low:.3f} to {found.high:.3f}"
        table.add_row(
            each.run, each.checkpoint, f"{found.value:.3f}", interval, f"{100 * share:.0f} %", each.basis
        )
    print_table(screen(), table)


def _summary(found: Sequence[Diagnosis], outcome: Outcome | None, page: Path) -> dict[str, object]:
    best = preferred(found)
    auto = None if outcome is None else {"steps": outcome.steps, "ended": outcome.ended}
    return {
        "runs": [as_json(each) for each in found],
        "take": {"run": str(best.run), "step": best.choice.step, "checkpoint": best.choice.name},
        "auto": auto,
        "page": str(page),
    }
