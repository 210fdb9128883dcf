"""The verb `train`: prepared files and a configuration in, a run folder with checkpoints out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from episodes.errors import MachineError
from policy.checkpoint import Checkpoints
from policy.data import Transitions, load_data
from policy.normalise import Normaliser
from policy.protocols import Evaluate, PolicyLearner
from policy.run import TrainConfig, build_graph, check_same_run, only_one, write_run_files
from policy.settings import require
from policy.training import BatchSampler, LoopResult, TrainingInterrupted, run_loop

__all__ = ["TrainConfig", "main", "train"]

VALIDATION_ROWS = 10_000
"""Held-out transitions that an evaluation looks at, evenly spaced; more would make it felt in the speed."""


def train(
    config: TrainConfig,
    *,
    evaluate: Evaluate | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LoopResult:
    """Train in `config.run`, from its newest checkpoint where it has one; a finished run returns at once.

    Args:
        evaluate: judges the policy at `loop.evaluate_every`, logged as `evaluate/<name>`.
        progress: called with (steps done, steps in all).

    Raises:
        ConfigError: a setting cannot work, or the folder holds checkpoints of another configuration (all
            differences are listed), or the training diverged.
        DatasetError: the prepared files are wrong.
        MachineError: no such device, or another process trains in this folder.
        TrainingInterrupted: a signal came; the state is kept.
    """
    require(config.num_threads >= 1, "num-threads", config.num_threads, "give 1 or more")
    device = _device(config.device)
    data = load_data(config.data if config.algo.uses_rewards else replace(config.data, reward="zero"))
    with only_one(config.run), _threads(config.num_threads):
        if Checkpoints(config.run / "checkpoints", 0).newest() is not None:
            check_same_run(config, data)
        else:
            write_run_files(config, data)
        torch.manual_seed(config.seed)
        learner = config.algo.build(data.observation_dim, data.contract.action_dim, device)
        normaliser = Normaliser(data.mean, data.std, config.data.std_floor)
        graph = build_graph(learner, data.contract, data.streams, normaliser, device)
        rows = data.train.to(device).scaled(graph.normaliser, graph.action_range)
        held_out = None
        if data.valid is not None:
            held_out = _thin(data.valid).to(device).scaled(graph.normaliser, graph.action_range)

        def judge(step: int) -> Mapping[str, float]:
            figures = {} if held_out is None else _validate(learner, held_out)
            if evaluate is not None:
                figures |= {f"evaluate/{name}": value for name, value in evaluate(step, graph.act).items()}
            return figures

        sampler = BatchSampler(rows, config.batch_size, config.seed)
        return run_loop(learner, sampler, config.loop, config.run, evaluate=judge, progress=progress)


def main(config: TrainConfig) -> int:
    """Train with a progress bar, and say what came out."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"train {config.algo.name}", total=config.loop.steps)
            result = train(config, progress=lambda done, total: bar.update(task, completed=done, total=total))
    except TrainingInterrupted as stopped:
        console.print(f"[yellow]{stopped}[/]")
        raise
    table = Table("figure", "value")
    for name, value in result.metrics.items():
        table.add_row(name, f"{value:.4g}")
    out = Console()
    out.print(table)
    done = f"{result.step} steps"
    if result.resumed_from is not None:
        done += f", taken up at {result.resumed_from}"
    speed = f"{result.seconds:.1f} s, {result.steps_per_s:.0f} steps/s"
    out.print(f"{done}, {speed} -> {result.checkpoint}", soft_wrap=True)
    return 0


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError("--device cuda: torch finds no GPU here. Use --device cpu, or install the driver.")
    return torch.device(name)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have torch use `count` CPU threads; the thread count is part of what fixes a result bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _thin(rows: Transitions) -> Transitions:
    stride = -(-len(rows.rewards) // VALIDATION_ROWS)
    return Transitions(*(tensor[::stride] for tensor in rows))


def _validate(learner: PolicyLearner, rows: Transitions) -> dict[str, float]:
    return {f"valid/{name}": float(value.mean()) for name, value in learner.validate(rows).items()}


class _Speed(ProgressColumn):
    """Steps per second of a progress bar."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} steps/s")
