"""The verb `label`: draw pairs of frames, let a judge compare them, keep the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.asking import LabelSummary, ask_pairs, question_of
from reward.clients.protocol import Judge, Outcome
from reward.drawing import DrawConfig, draw_pairs
from reward.frames import Frames, image_stream, load_frames
from reward.judging import JudgeConfig, label_set_name, make_judge
from reward.store import FILE, Budget, DrawnPair, LabelStore


@dataclass(frozen=True)
class LabelConfig:
    """Let a judge compare pairs of frames; the same command goes on where it was stopped."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder; answers are kept in its labels.sqlite."""
    labels: str = ""
    """Name of the label set; the judge's name when left out."""
    stream: str = ""
    """Image stream to judge; the contract's reference or only camera when left out."""
    who: Annotated[JudgeConfig, tyro.conf.arg(name="")] = field(default_factory=JudgeConfig)
    """The judge."""
    draw: Annotated[DrawConfig, tyro.conf.arg(name="")] = field(default_factory=DrawConfig)
    """The pairs."""
    reward: Path | None = None
    """Folder of a fitted reward model, for --selection top and disagreement."""
    budget: Budget = field(default_factory=Budget)
    """What all answers of this dataset may take."""
    dry_run: bool = False
    """Only say how many questions are open and what they may cost."""
    retry_in_doubt: bool = False
    """Ask again what was in flight when a run was killed; it may have been charged then."""


def main(config: LabelConfig) -> int:
    """Draw, ask, and say what came of it."""
    console = Console()
    dataset = Dataset.open(config.dataset)
    judge = make_judge(config.who, dataset)
    stream = image_stream(dataset, config.stream)
    with (
        Progress(*Progress.get_default_columns(), console=console, transient=True) as bar,
        LabelStore(dataset.path / FILE) as store,
    ):
        reading = bar.add_task("reading frames", total=None)
        frames = load_frames(
            dataset,
            stream,
            spill=dataset.path / ".cache" / "frames.npy",
            progress=lambda done, total: bar.update(reading, completed=done, total=total),
        )
        pairs = _draw(config, store, frames, judge, stream)
        if config.dry_run:
            bar.stop()
            _say_estimate(console, store, frames, judge, pairs)
            return 0
        asking = bar.add_task(f"asking {judge.name}", total=len(pairs))
        summary = ask_pairs(
            store,
            frames,
            judge,
            pairs,
            budget=config.budget,
            again=config.retry_in_doubt,
            progress=lambda done, total: bar.update(asking, completed=done, total=total),
        )
    say_summary(console, summary)
    return 0


def _draw(
    config: LabelConfig, store: LabelStore, frames: Frames, judge: Judge, stream: str
) -> tuple[DrawnPair, ...]:
    name = label_set_name(config.labels, judge)
    if config.draw.selection == "uniform":
        return draw_pairs(store, name, frames, judge, config.draw)
    if config.reward is None:
        raise ConfigError(
            f"--selection {config.draw.selection} needs --reward, the folder of a fitted reward model: "
            "armchair fit "
            f"{config.dataset} makes one."
        )
    # Loads torch, which labelling uniform pairs has no need to wait for.
    from reward.model import load_model, model_hash, pick_device

    model = load_model(config.reward, pick_device("auto"))
    if model.stream != stream:
        raise ConfigError(
            f"{config.reward}: fitted on stream {model.stream!r}, not {stream!r}; give --stream."
        )
    rewards = model.rewards(frames.images)
    return draw_pairs(
        store, name, frames, judge, config.draw, rewards=rewards, model=model_hash(config.reward)
    )


def _say_estimate(
    console: Console, store: LabelStore, frames: Frames, judge: Judge, pairs: tuple[DrawnPair, ...]
) -> None:
    answered = store.outcomes({pair.key for pair in pairs})
    todo = [pair for pair in pairs if pair.key not in answered]
    estimate = judge.estimate(question_of(frames, todo[0])) if todo else None
    calls, usd = (0, 0.0) if estimate is None else (estimate.calls * len(todo), estimate.cost_usd * len(todo))
    spent = store.spending()
    console.print(f"{len(pairs)} pairs, {len(todo)} without an answer; nothing was asked.")
    console.print(f"asking {judge.name} about them: {calls} calls, about {usd:.2f} USD without repetitions")
    console.print(f"spent so far on this dataset: {spent.calls} calls, {spent.cost_usd:.2f} USD")


def say_summary(console: Console, summary: LabelSummary) -> None:
    """Print what came of asking."""
    table = Table("outcome", "pairs", "share")
    for outcome in Outcome:
        count = summary.outcomes.get(outcome.value, 0)
        table.add_row(outcome.value, str(count), f"{count / max(summary.pairs, 1):.1%}")
    console.print(table)
    console.print(
        f"{summary.usable} of {summary.pairs} pairs have a label; {summary.asked} asked now; "
        f"{summary.calls} paid calls, {summary.cost_usd:.2f} USD in all"
    )
    if summary.in_doubt:
        console.print(
            f"[yellow]{summary.in_doubt} pairs were in flight when a run was killed; they may have been "
            "charged and are "
            "left out (--retry-in-doubt asks again)[/]"
        )
    unclear = sum(summary.outcomes.get(o.value, 0) for o in (Outcome.UNSURE, Outcome.MALFORMED))
    if unclear > summary.pairs / 2:
        console.print(
            "[yellow]more than half of the pairs have no label: the judge may not see the difference. "
            "Try another "
            "camera, larger frames, or another judge.[/]"
        )
