"""The workflow run by itself: diagnose, train what is advised, diagnose again, within a budget.

What is done next depends on nothing but the logs in the runs' folders, so an interrupted loop goes on with
the same command: finished runs return at once, a half-done one is taken up where it stood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policy.diagnosis.advice import Change
from policy.diagnosis.reading import Diagnosis, diagnose
from policy.diagnosis.rules import Rules
from policy.run import TrainConfig
from policy.settings import require, to_json

Train = Callable[[TrainConfig, str], object]
"""Trains a configuration to its end, or returns at once where that is done; told why."""


@dataclass(frozen=True)
class Budget:
    """How much may be tried."""

    runs: int = 4
    """Runs to train at most."""
    steps: int = 100_000
    """Gradient steps at most, of all of them together."""

    def __post_init__(self) -> None:
        require(self.runs >= 1, "budget-runs", self.runs, "give 1 or more")
        require(self.steps >= 1, "budget-steps", self.steps, "give 1 or more")


@dataclass(frozen=True)
class Outcome:
    """What the loop came to."""

    found: list[Diagnosis]
    """The first run and all that were trained, in order, compared with one another."""
    steps: int
    """Gradient steps of those that were trained."""
    ended: str
    """Why it stopped."""


def run_workflow(first: Path, rules: Rules, budget: Budget, train: Train) -> Outcome:
    """Train what is advised until a run is sound, nothing is left to try, or the budget is spent.

    Args:
        first: a run's folder; a run that is not finished is trained to its end, outside the budget.

    Raises:
        ArmchairError: a run cannot be read or trained.
    """
    runs, steps = [first], 0
    found = diagnose(runs, rules)
    if found[0].step < found[0].config.loop.steps:
        train(found[0].config, "the run to its end")
        found = diagnose(runs, rules)
    while True:
        if any(each.finding.verdict == "sound" for each in found):
            return Outcome(found, steps, "a run is sound")
        change = _next(found)
        if change is None:
            return Outcome(found, steps, "nothing is left to try")
        if len(runs) > budget.runs:
            return Outcome(found, steps, f"{budget.runs} runs were trained (--budget-runs)")
        if steps + change.config.loop.steps > budget.steps:
            return Outcome(found, steps, f"another run would exceed --budget-steps {budget.steps}")
        train(change.config, change.why)
        runs.append(change.config.run)
        steps += change.config.loop.steps
        found = diagnose(runs, rules)


def _next(found: list[Diagnosis]) -> Change | None:
    """The first advice for the last run whose settings were not tried before."""
    tried = [_settings(each.config) for each in found]
    return next((change for change in found[-1].next if _settings(change.config) not in tried), None)


def _settings(config: TrainConfig) -> object:
    """What decides a run's result: everything but its folder and what it keeps."""
    tree = to_json(config)
    tree.pop("run")
    for name in ("checkpoint_every", "keep_last", "tensorboard"):
        tree["loop"].pop(name)
    return tree
