"""The verb `label`: draw pairs of frames or single ones, let a judge answer, keep the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.acquisition import BY_REWARD
from reward.asking import LabelSummary, ask_pairs, estimate_for
from reward.ballots import VoteConfig
from reward.clients.protocol import Judge, Kind, Outcome
from reward.drawing import DrawConfig, draw_pairs
from reward.frames import image_stream
from reward.judging import JudgeConfig, label_set_name, make_judge
from reward.outliving import run_outliving
from reward.records import Budget, DrawnPair, left_out_note, present
from reward.showing import ShowConfig, Showing, load_showing
from reward.store import FILE, LabelStore


@dataclass(frozen=True)
class LabelConfig:
    """Let a judge compare pairs of frames, or rate single ones; the same command goes on where it was
    stopped.

    Beside it: `armchair label status|cost|export|import DATASET`.
    """

    dataset: tyro.conf.Positional[Path]
    """The dataset folder; answers are kept in its labels.sqlite."""
    labels: str = ""
    """Name of the label set; the judge's name when left out."""
    stream: str = ""
    """Image stream to judge; the contract's reference or only camera when left out."""
    who: Annotated[JudgeConfig, tyro.conf.arg(name="")] = field(default_factory=JudgeConfig)
    """The judge and the question."""
    draw: Annotated[DrawConfig, tyro.conf.arg(name="")] = field(default_factory=DrawConfig)
    """The pairs."""
    show: ShowConfig = field(default_factory=ShowConfig)
    """What is shown of a frame: clips, further cameras, crop."""
    vote: Annotated[VoteConfig, tyro.conf.arg(name="")] = field(default_factory=VoteConfig)
    """How often each pair is asked about."""
    reward: Path | None = None
    """Folder of a fitted reward model, for the selections that look at one; DATASET/rewards/LABELS when left
    out and there is one."""
    budget: Budget = field(default_factory=Budget)
    """What all answers of this dataset may take."""
    dry_run: bool = False
    """Only say how many questions are open and what they may cost: nothing is asked, nothing is written, no
    key is needed."""
    retry_in_doubt: bool = False
    """Ask again what was in flight when a run was killed; it may have been charged then."""


def main(config: LabelConfig) -> int:
    """Draw, ask, and say what came of it."""
    paid = config.who.judge not in ("scripted", "replay")
    if not paid or config.dry_run:
        return label(config)
    Dataset.open(config.dataset)
    return run_outliving(label, config, "label")


def label(config: LabelConfig) -> int:
    """The same in this process: a kill loses what is in flight."""
    console = Console()
    dataset = Dataset.open(config.dataset)
    stream = image_stream(dataset, config.stream)
    judge = make_judge(
        config.who,
        dataset,
        layout=config.show.layout(stream),
        votes=config.vote,
        asks=not config.dry_run,
    )
    with _progress(console) as bar, LabelStore(dataset.path / FILE, copied=config.dry_run) as store:
        reading = bar.add_task("reading frames", total=None, cost="")
        show = load_showing(
            dataset,
            stream,
            config.show,
            progress=lambda done, total: bar.update(reading, completed=done, total=total),
        )
        pairs = draw_for(config, dataset, store, show, judge, stream)
        if config.dry_run:
            bar.stop()
            _say_estimate(console, store, show, judge, pairs, config.budget)
            return 0
        questions = sum(len(pair.ballots) for pair in pairs)
        asking = bar.add_task(f"asking {judge.name}", total=questions, cost="")
        summary = ask_pairs(
            store,
            show,
            judge,
            pairs,
            budget=config.budget,
            again=config.retry_in_doubt,
            progress=_reporting(bar, asking, store if judge.paid else None),
        )
    say_summary(console, summary, config.who.kind)
    return 0


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[cost]}"),
    )
    return Progress(*columns, console=console, transient=True)


def _reporting(bar: Progress, task: object, store: LabelStore | None) -> Callable[[int, int], None]:
    """Progress with what was spent so far; time left counts from the first answer of this run."""
    before: dict[str, float] = {}

    def report(done: int, total: int) -> None:
        cost = ""
        if store is not None:
            spent = store.spending()
            start = before.setdefault("usd", spent.cost_usd)
            cost = f"{spent.cost_usd - start:.2f} USD, {spent.cost_usd:.2f} in all"
        bar.update(task, completed=done, total=total, cost=cost)  # type: ignore[arg-type]

    return report


def draw_for(
    config: LabelConfig, dataset: Dataset, store: LabelStore, show: Showing, judge: Judge, stream: str
) -> tuple[DrawnPair, ...]:
    """The pairs or frames of `config`, drawn for `judge` once and then read back.

    Raises:
        ConfigError, DatasetError: the selection needs a reward model, or one of another stream is given.
    """
    kind = config.who.kind
    name = label_set_name(config.labels, judge, kind)
    draw = config.draw
    folder = _model_folder(config, name)
    if folder is None:
        return draw_pairs(store, name, show, judge, draw, kind=kind, votes=config.vote)
    # Loads torch, which labelling uniform pairs has no need to wait for.
    from reward.inputs import model_inputs
    from reward.model import load_model, model_hash, pick_device

    model = load_model(folder, pick_device("auto"))
    if model.stream != stream:
        raise ConfigError(f"{folder}: fitted on stream {model.stream!r}, not {stream!r}; give --stream.")
    inputs = model_inputs(model, dataset, show.frames)
    return draw_pairs(
        store,
        name,
        show,
        judge,
        draw,
        kind=kind,
        votes=config.vote,
        rewards=model.rewards(inputs) if draw.selection in BY_REWARD else None,
        features=lambda rows: model.features(inputs, rows),
        model=model_hash(folder),
    )


def _model_folder(config: LabelConfig, labels: str) -> Path | None:
    """The reward model that the draw looks at, None where it looks at none."""
    draw = config.draw
    if not draw.may_use_model:
        return None
    folder = config.reward or config.dataset / "rewards" / labels
    if config.reward is not None or (folder / "reward.json").is_file():
        return folder
    if draw.needs_model:
        raise ConfigError(
            f"--selection {draw.selection} needs --reward, the folder of a fitted reward model: there is "
            f"none in {folder}. Make one: armchair fit {config.dataset}"
        )
    return None


def _say_estimate(
    console: Console,
    store: LabelStore,
    show: Showing,
    judge: Judge,
    pairs: tuple[DrawnPair, ...],
    budget: Budget,
) -> None:
    drawn, pairs = len(pairs), present(pairs, show.frames)
    items = {ballot.key: (pair, ballot) for pair in pairs for ballot in pair.ballots}
    answered = store.outcomes(items)
    todo = [item for key, item in items.items() if key not in answered]
    takes, spent = estimate_for(judge, show, todo), store.spending()
    console.print(
        f"{len(pairs)} pairs or frames, {len(items)} questions, {len(todo)} without an answer; nothing was "
        f"asked."
    )
    console.print(
        f"asking {judge.name} about them: {takes['calls']:.0f} calls, about {takes['cost_usd']:.2f} USD "
        "without repetitions",
        soft_wrap=True,
    )
    console.print(f"spent so far on this dataset: {spent.calls} calls, {spent.cost_usd:.2f} USD")
    if note := left_out_note(drawn - len(pairs), drawn):
        console.print(f"[yellow]{note}[/]", soft_wrap=True)
    over_calls = budget.calls is not None and spent.calls + takes["calls"] > budget.calls
    over_usd = budget.usd is not None and spent.cost_usd + takes["cost_usd"] > budget.usd
    if over_calls or over_usd:
        console.print("[yellow]that is more than the budget leaves: the run would stop before its end[/]")


def say_summary(console: Console, summary: LabelSummary, kind: Kind = Kind.PREFERENCE) -> None:
    """Print what came of asking."""
    table = Table("outcome", "pairs" if kind is Kind.PREFERENCE else "frames", "share")
    for outcome in Outcome:
        count = summary.outcomes.get(outcome.value, 0)
        if count or (outcome is Outcome.RATED) is (kind is not Kind.PREFERENCE):
            table.add_row(outcome.value, str(count), f"{count / max(summary.pairs, 1):.1%}")
    console.print(table)
    what = "pairs have a label" if kind is Kind.PREFERENCE else "frames have a value"
    console.print(
        f"{summary.usable} of {summary.pairs} {what}; {summary.asked} questions asked now; "
        f"{summary.calls} paid calls, {summary.cost_usd:.2f} USD in all",
        soft_wrap=True,
    )
    if summary.in_doubt:
        console.print(
            f"[yellow]{summary.in_doubt} questions were in flight when a run was killed; they may have been "
            "charged and are left out (--retry-in-doubt asks again)[/]",
            soft_wrap=True,
        )
    if summary.failed:
        console.print(
            f"[yellow]{summary.failed} questions found no answer; the same command asks them again, after "
            "all others. The first one:[/]",
            soft_wrap=True,
        )
        console.print(summary.failure, soft_wrap=True, markup=False)
    if note := left_out_note(summary.left_out, summary.pairs + summary.left_out):
        console.print(f"[yellow]{note}[/]", soft_wrap=True)
    say_reports(console, summary)


def say_reports(console: Console, summary: LabelSummary) -> None:
    """Print how the judge fared on each task, and what to change."""
    table = Table("task", "answers", "−1", "malformed", "swap disagrees", "first named", "votes disagree")
    for report in summary.reports:
        rates = (
            report.unsure_rate,
            report.malformed_rate,
            report.swap_disagreement,
            report.first_share,
            report.vote_disagreement,
        )
        shown = ("" if rate is None else f"{rate:.1%}" for rate in rates)
        table.add_row(report.task, str(report.answers), *shown)
    console.print(table)
    for report in summary.reports:
        for advice in report.advice:
            console.print(f"[yellow]{advice}[/]", soft_wrap=True)
