"""Bench `workflow`: does the diagnosis from recordings say what simulation says?

Datasets made to overfit (5 and 20 trajectories) and to underfit (several tasks, a tiny network). Each is
trained as it is and with the workflow's first correction; every evaluation of either is also tried in
simulation, which the diagnosis never sees. Then: does the verdict match, what does the chosen checkpoint lose
against the best and the last one, and does fitted Q evaluation rank checkpoints as their success does?
Finished stages are kept, so an interrupted bench goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from bench.machine import machine
from bench.stages import ProgressCallback, Stages
from bench.workflow_truth import RETURN, SUCCESS, curve, rank_correlation, summarise, table, truth
from episodes.errors import ConfigError
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.data import DataConfig
from policy.diagnosis.fqe import FqeConfig
from policy.diagnosis.reading import diagnose
from policy.diagnosis.rules import Rules
from policy.diagnosis.valuing import ValueConfig, value_runs
from policy.metrics import METRICS_FILE, read_metrics
from policy.protocols import Act, Evaluate
from policy.regularise import Regularisers
from policy.run import TrainConfig
from policy.settings import to_json
from policy.training import LoopConfig
from sim.experts import Mix

CONTRACT = Path("launch/contracts/sawyer_sim_state.yaml")
CaseName = Literal["few-5", "few-20", "many-tasks"]
AlgorithmName = Literal["cql", "brac", "iql"]
MIX = Mix(expert=0.2, noisy=0.4, random=0.4, sigma_lower=0.5, sigma_upper=1.5, turning=0.5)
"""So that even five episodes hold one success."""


@dataclass(frozen=True)
class Case:
    """A dataset made to overfit or to underfit, and what the workflow advises first against it."""

    environments: tuple[str, ...]
    episodes: int
    """Of each environment."""
    hidden: tuple[int, ...]
    correction: Mapping[str, Any]
    """Critic settings of the corrected run."""


DRAWER = "metaworld/drawer-open-v3"
CASES: dict[CaseName, Case] = {
    "few-5": Case((DRAWER,), 5, (256, 256), {"regularise": Regularisers(vib=0.001)}),
    "few-20": Case((DRAWER,), 20, (256, 256), {"regularise": Regularisers(vib=0.001)}),
    "many-tasks": Case(
        (DRAWER, "metaworld/sweep-into-v3", "metaworld/door-open-v3", "metaworld/reach-v3"),
        25,
        (8, 8),
        {"hidden": (256, 256)},
    ),
}


@dataclass(frozen=True)
class WorkflowBenchConfig:
    """Measure how often the diagnosis is right; prints one JSON object last."""

    cases: tuple[CaseName, ...] = ("few-5", "few-20", "many-tasks")
    """Datasets."""
    algorithm: AlgorithmName = "cql"
    """What is trained."""
    seeds: int = 3
    """Seeds of data and training, counted from 0."""
    steps: int = 6_000
    """Gradient steps per run."""
    evaluations: int = 24
    """Evaluations per run, in the log and in simulation."""
    goals: int = 20
    """Goals per evaluation, shared among the tasks of a case; training never sees them."""
    horizon: int = 150
    """Steps per episode."""
    samples: int = 4
    """CQL: actions of each kind."""
    margin: float = 0.2
    """What success has to differ by to count as true over- or underfitting."""
    window: int = 3
    """Evaluations that success is averaged over."""
    fqe: bool = True
    """Rank checkpoints by fitted Q evaluation as well."""
    fqe_steps: int = 3_000
    """Gradient steps of each fit."""
    rules: Rules = field(default_factory=Rules)
    """The numbers behind the verdict."""
    num_threads: int = 2
    """CPU threads of training."""
    out: Path = Path("runs/bench-workflow")
    """Folder; finished stages in it are kept. The table is OUT/workflow.md."""

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "evaluations", "goals", "horizon", "window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: write 1 or more.")
        if not self.cases or len(set(self.cases)) < len(self.cases):
            raise ConfigError(f"--cases {' '.join(self.cases)}: write each at most once, and one at least.")


def main(config: WorkflowBenchConfig) -> int:
    """Run every case and seed, write the table, print the figures."""
    console = Console(highlight=False, stderr=True)
    torch.set_num_threads(config.num_threads)
    groups: list[dict[str, Any]] = []
    seconds = 0.0
    for seed in range(config.seeds):
        for case in config.cases:
            console.print(f"[bold]{case}, seed {seed}[/]")
            stages = Stages(config.out / f"{case}-{config.algorithm}" / f"seed-{seed}", console)
            groups.append(run_group(config, case, seed, stages))
            seconds += sum(record.seconds for record in stages.records.values())
            text = table(groups)
            (config.out / "workflow.md").write_text(text)  # after every group: it may be stopped
    console.print(text, markup=False, soft_wrap=True)
    report = {
        "bench": "workflow",
        "algorithm": config.algorithm,
        "figures": summarise(groups),
        "groups": groups,
        "compute_hours": round(seconds / 3600, 3),
        "goals_per_evaluation": config.goals,
        "machine": machine(),
    }
    console.print(f"compute: {seconds / 3600:.2f} h")
    print(json.dumps(report))
    return 0


def run_group(config: WorkflowBenchConfig, case: CaseName, seed: int, stages: Stages) -> dict[str, Any]:
    """One dataset: collected, learned from with and without the correction, diagnosed, and compared.

    Returns:
        case, seed, truth, verdict, because, chosen_step; best, chosen, success_base (last) and
        success_corrected (last) of the smoothed success curves; regret_chosen, regret_last; fqe_rank.
    """
    made = CASES[case]
    files = _data(config, made, seed, stages)
    runs = {
        name: run_config(config, case, name, seed, files, stages.folder) for name in ("base", "corrected")
    }
    for name, run in runs.items():
        settings = to_json(run) | {"goals": config.goals, "horizon": config.horizon}
        stages.run(
            name,
            f"train {name}, try in simulation",
            settings,
            _training(config, made, run),
            after=["prepare"],
            outputs=[run.run],
        )
    # A larger model is what underfitting is confirmed with; another correction has no say in the verdict.
    larger = "hidden" in CASES[case].correction
    found = diagnose([runs["base"].run, *([runs["corrected"].run] if larger else [])], config.rules)
    base = found[0]
    logs = [read_metrics(run.run / METRICS_FILE) for run in runs.values()]
    curves = [curve(rows, config.window) for rows in logs]
    actual = truth(*curves, config.margin, larger=larger)
    values = None
    if config.fqe:
        fit = FqeConfig(steps=config.fqe_steps, members=4, seed=seed)
        values = stages.run(
            "fqe", "fitted Q evaluation", to_json(fit), _valuing(found[:1], fit), after=["base"]
        )
    chosen = curves[0].at(base.choice.step)
    return {
        "case": case,
        "seed": seed,
        "truth": actual,
        "verdict": base.finding.verdict,
        "because": base.finding.because,
        "confirmed": base.finding.confirmed,
        "chosen_step": base.choice.step,
        "best": curves[0].best,
        "chosen": chosen,
        "success_base": curves[0].last,
        "success_corrected": curves[1].last,
        "regret_chosen": curves[0].best - chosen,
        "regret_last": curves[0].best - curves[0].last,
        "fqe_rank": None if values is None else values["rank"],
    }


def run_config(
    config: WorkflowBenchConfig, case: CaseName, name: str, seed: int, files: tuple[Path, ...], out: Path
) -> TrainConfig:
    """The run `base` or `corrected` of a case."""
    made = CASES[case]
    settings = {"hidden": made.hidden} | (dict(made.correction) if name == "corrected" else {})
    algo: CQLConfig | BRACConfig | IQLConfig
    if config.algorithm == "cql":
        algo = CQLConfig(samples=config.samples, **settings)
    else:
        algo = (BRACConfig if config.algorithm == "brac" else IQLConfig)(**settings)
    every = max(1, config.steps // config.evaluations)
    return TrainConfig(
        run=out / name,
        data=DataConfig(files=files, reward="truth"),
        loop=LoopConfig(
            steps=config.steps, log_every=every, evaluate_every=every, checkpoint_every=every, keep_last=0,
            tensorboard=False,
        ),
        seed=seed,
        num_threads=config.num_threads,
        algo=algo,
    )  # fmt: skip


def _data(config: WorkflowBenchConfig, made: Case, seed: int, stages: Stages) -> tuple[Path, ...]:
    folders = [stages.folder / f"data-{environment.split('/')[-1]}" for environment in made.environments]
    files = tuple(folder.with_suffix(".h5") for folder in folders)

    def collect(progress: ProgressCallback) -> dict[str, Any]:
        from sim.collect import CollectConfig
        from sim.collect import collect as record

        for folder, environment in zip(folders, made.environments, strict=True):
            record(
                CollectConfig(
                    dataset=folder, contract=CONTRACT, env=environment, episodes=made.episodes, seed=seed,
                    mix=MIX, horizon=config.horizon, workers=1,
                ),
                progress,
            )  # fmt: skip
        return {"episodes": made.episodes * len(folders)}

    def prepare(progress: ProgressCallback) -> dict[str, Any]:
        from episodes.prepare import prepare as write

        for folder, file in zip(folders, files, strict=True):
            write(folder, file, reward="truth", progress=progress, validation_fraction=0.2)
        return {"files": [str(file) for file in files]}

    settings = {"environments": made.environments, "episodes": made.episodes, "seed": seed}
    settings |= {"horizon": config.horizon, "mix": to_json(MIX)}
    stages.run("collect", "collect episodes", settings, collect, outputs=folders)
    stages.run("prepare", "prepare", {}, prepare, after=["collect"], outputs=files)
    return files


def _training(
    config: WorkflowBenchConfig, made: Case, run: TrainConfig
) -> Callable[[ProgressCallback], dict[str, Any]]:
    def work(progress: ProgressCallback) -> dict[str, Any]:
        from policy.train import train

        with ExitStack() as stack:
            evaluate = simulated(made.environments, config.goals, config.horizon, run.seed, stack)
            result = train(run, evaluate=evaluate, progress=progress)
        return {"success": result.metrics[SUCCESS], "train_s": result.seconds}

    return work


def simulated(
    environments: tuple[str, ...], goals: int, horizon: int, seed: int, stack: ExitStack
) -> Evaluate:
    """Judges a policy on `goals` unseen goals, shared among the environments; `stack` closes them."""
    from sim.evaluation import Evaluator, each, summarise

    # A policy that is called once per goal costs the same in any number of lanes.
    evaluators = [stack.enter_context(Evaluator(name, lanes=1, horizon=horizon)) for name in environments]
    share = max(1, goals // len(environments))

    def evaluate(step: int, act: Act) -> Mapping[str, float]:
        results = [result for one in evaluators for result in one.evaluate(each(act), seed, share)]
        summary = summarise(results)
        return {
            SUCCESS.partition("/")[2]: summary.success.estimate,
            RETURN.partition("/")[2]: summary.mean_return,
        }

    return evaluate


def _valuing(found: Any, fit: FqeConfig) -> Callable[[ProgressCallback], dict[str, Any]]:
    def work(progress: ProgressCallback) -> dict[str, Any]:
        valued = value_runs(found, ValueConfig(checkpoints=6, fit=fit), progress=progress)
        rows = {int(row["step"]): row for row in read_metrics(found[0].run / METRICS_FILE) if RETURN in row}
        # Returns differ where success is the same for many, so the ranking is held against them.
        known = [v for v in valued if v.step in rows]
        rank = rank_correlation(
            [v.estimate.value for v in known], [float(rows[v.step][RETURN]) for v in known]
        )
        return {"rank": rank, "values": [[v.step, v.estimate.value] for v in valued]}

    return work
