"""Runs as a diagnosis sees them: read from their folders, judged, compared with one another."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import safetensors

from episodes.errors import ConfigError, DatasetError
from policy.checkpoint import Checkpoints
from policy.data import BLIND
from policy.diagnosis.advice import Change, Choice, changes, choose, critic_settings, stop_at
from policy.diagnosis.command import command
from policy.diagnosis.rules import Finding, Rules, Verdict, compared, judge
from policy.metrics import METRICS_FILE, read_metrics
from policy.run import DATA_FILE, TrainConfig, read_config

IMPLICIT = ("iql", "oril")
"""Algorithms without a conservative term in their critic's loss."""
WITHOUT_CRITIC = {
    "bc": "Look at valid/loss_policy in its log: where it rises, fewer --steps or --algo.dropout 0.1",
    "gail": "It tries its policy in simulation: --rollouts.env logs evaluate/success",
}
"""Algorithms without a Q, and where to look instead."""
_CRITIC = re.compile(r"/learner(/learner)?/q/")
_ORDER: Mapping[Verdict, int] = {"sound": 0, "underfitting": 1, "overfitting": 2, "undecided": 3}


@dataclass(frozen=True)
class Diagnosis:
    """Everything that is said of one run."""

    config: TrainConfig
    rows: Sequence[Mapping[str, float]]
    """Its log."""
    data_sha256: str
    episodes: Mapping[str, int]
    """Episodes trained on (train) and held out (valid)."""
    step: int
    """How far it has come."""
    parameters: int
    """Numbers in both Q; 0 where there is no checkpoint yet."""
    finding: Finding
    choice: Choice
    next: tuple[Change, ...]
    """What to train next, the first is advised."""

    @property
    def run(self) -> Path:
        return self.config.run

    def recover(self) -> str | None:
        """The command that brings back a checkpoint that is wanted and not on disk."""
        wanted = self.finding.peak_step is not None and self.choice.name is None
        return command(stop_at(self.config, self.choice.step)) if wanted else None

    def next_command(self) -> str | None:
        """The exact command to run next; None where nothing is left to try."""
        if self.next:
            return command(self.next[0].config)
        if self.finding.verdict == "sound" and self.choice.name is not None:
            return f"armchair export {self.run} --checkpoint {self.choice.name}"
        return None


def diagnose(runs: Sequence[Path], rules: Rules) -> list[Diagnosis]:
    """Read and judge runs; one that underfits is compared with the largest other of the same data.

    Raises:
        DatasetError: a folder holds no run.
        ConfigError: a run has no critic, or one is given twice.
    """
    if len(set(runs)) < len(runs):
        raise ConfigError(f"runs {' '.join(map(str, runs))}: give each once.")
    found = [read_run(run, rules) for run in runs]
    return [_compared(each, found, rules) for each in found]


def read_run(run: Path, rules: Rules) -> Diagnosis:
    """Read and judge one run.

    Raises:
        DatasetError: the folder holds no run.
        ConfigError: it has no critic.
    """
    config = replace(read_config(run), run=run)
    if config.algo.name in WITHOUT_CRITIC:
        raise ConfigError(
            f"{run}: {config.algo.name} has no Q, and the diagnosis reads Q. "
            f"{WITHOUT_CRITIC[config.algo.name]}."
        )
    data = read_facts(run)
    rows = read_metrics(run / METRICS_FILE)
    checkpoints = Checkpoints(run / "checkpoints", 0)
    names = checkpoints.names()
    step = max([*names.values(), *(int(row["step"]) for row in rows)], default=0)
    finding = judge(rows, rules, implicit=config.algo.name in IMPLICIT, floor=lowest_value(config, data))
    newest = checkpoints.newest()
    diagnosis = Diagnosis(
        config,
        rows,
        data["sha256"],
        data["episodes"],
        step,
        0 if newest is None else critic_parameters(newest),
        finding,
        choose(finding, config.loop, names, step),
        (),
    )
    return _advised(diagnosis, finding, rules)


def critic_parameters(checkpoint: Path) -> int:
    """Numbers in the online Q networks of a checkpoint, from its header alone."""
    with safetensors.safe_open(checkpoint, framework="pt") as file:
        return sum(prod(file.get_slice(key).get_shape()) for key in file.keys() if _CRITIC.match(key))  # noqa: SIM118


def lowest_value(config: TrainConfig, data: Mapping[str, Any]) -> float | None:
    """The smallest discounted return that rewards of the run's range can add up to, in the run's units.

    None for BRAC, whose Q has the divergence from the behaviour in it.
    """
    if config.algo.name == "brac":
        return None
    if config.data.scale_reward or config.data.reward in BLIND or not config.algo.uses_rewards:
        return 0.0
    smallest = min(0.0, float(data["reward_range"][0]))
    discount = critic_settings(config.algo).discount
    if smallest == 0.0:
        return 0.0
    return smallest / (1.0 - discount) if discount < 1 else None


def preferred(found: Sequence[Diagnosis]) -> Diagnosis:
    """The run to take a checkpoint from: sound before underfitting before overfitting before undecided, as
    the workflow prefers settings whose Q does not fall; of equals the last."""
    return min(reversed(found), key=lambda each: _ORDER[each.finding.verdict])


def as_json(each: Diagnosis) -> dict[str, Any]:
    """What is said of a run, as plain JSON values."""
    finding, choice = each.finding, each.choice
    return {
        "run": str(each.run),
        "algorithm": each.config.algo.name,
        "step": each.step,
        "steps": each.config.loop.steps,
        "verdict": finding.verdict,
        "because": finding.because,
        "peak_step": finding.peak_step,
        "confirmed": finding.confirmed,
        "missing": finding.missing,
        "figures": dict(finding.figures),
        "checkpoint": {"step": choice.step, "on_disk": choice.name, "note": choice.note},
        "recover": each.recover(),
        "next": [{"name": c.name, "why": c.why, "command": command(c.config)} for c in each.next],
        "next_command": each.next_command(),
    }


def _advised(each: Diagnosis, finding: Finding, rules: Rules) -> Diagnosis:
    pictures = bool(read_facts(each.run).get("cameras"))
    advised = tuple(changes(finding, each.config, rules, pictures=pictures))
    return replace(each, finding=finding, next=advised)


def _compared(each: Diagnosis, found: Sequence[Diagnosis], rules: Rules) -> Diagnosis:
    larger = [
        other
        for other in found
        if other.data_sha256 == each.data_sha256
        and other.config.algo.name == each.config.algo.name
        and other.parameters > each.parameters
    ]
    if not larger or each.finding.verdict != "underfitting":
        return each
    largest = max(larger, key=lambda other: other.parameters)
    return _advised(each, compared(each.finding, largest.finding, rules), rules)


def read_facts(run: Path) -> dict[str, Any]:
    """What a run wrote of its data (`policy.run.write_run_files`).

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        content = json.loads((run / DATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{run / DATA_FILE}: this cannot be read ({error}). Train anew.") from error
    return dict(content)
