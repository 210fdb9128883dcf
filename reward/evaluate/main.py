"""The verb `reward eval`: figures of every labeller and judge, one HTML page and one JSON file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from episodes.dataset import Dataset
from episodes.errors import DatasetError, LabelError, did_you_mean
from episodes.screen import DOUBTFUL, print_table, progress_bar, screen, told
from reward.agreement import agreements, raters
from reward.evaluate.advice import headline
from reward.evaluate.ground import find_ground
from reward.evaluate.judges import LabelSet, judge_figures, read_label_sets
from reward.evaluate.measure import MeasureConfig, held_out_share, measure, model_cards, trained_by_model
from reward.evaluate.page import write_page
from reward.evaluate.pictures import read_pictures, telling_frames
from reward.evaluate.report import Evaluation, as_json, in_order
from reward.evaluate.texts import with_interval
from reward.frames import Frames, image_stream, load_frames
from reward.labelled import known_labellers, labelled_rewards
from reward.store import FILE, LabelStore

Report = Callable[[int, int], None] | None


@dataclass(frozen=True)
class EvalConfig:
    """Is the reward, and the judge behind it, any good? With or without ground truth."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    labeller: tuple[str, ...] = ()
    """Labellers to measure; "truth" is the simulation's reward as it was recorded. All when left out."""
    labels: tuple[str, ...] = ()
    """Label sets to hold them against; all when left out."""
    success_labels: str = ""
    """Label set of --question success that says which frames show success; the simulation's word when left
    out, and where there is none the only such set."""
    stream: str = ""
    """Image stream to show; the contract's reference or only camera when left out."""
    out: Path | None = None
    """Folder of the page and the figures; DATASET/reward-eval when left out."""
    frames: int = 8
    """Frames in a picture strip; 0 for no pictures."""
    measure: Annotated[MeasureConfig, tyro.conf.arg(name="")] = field(default_factory=MeasureConfig)
    """How figures are made."""
    json: bool = False
    """Print the figures as one JSON object instead of a table."""


def evaluate(
    config: EvalConfig, dataset: Dataset, *, created_utc: str, progress: Report = None
) -> tuple[Evaluation, Frames]:
    """Measure everything.

    Args:
        config: what to measure.
        dataset: the dataset.
        created_utc: time that the report names.
        progress: called with (done, total) while episodes are read, then while labellers are measured.

    Raises:
        DatasetError: nothing was relabelled, or no such labeller.
        LabelError: no such label set.
    """
    names = known_labellers(dataset, config.labeller)
    frames = load_frames(dataset, None, progress=progress)
    found = [labelled_rewards(dataset, frames, name) for name in names]
    ground = find_ground(dataset, frames, config.success_labels)
    cards = model_cards(dataset, found)
    held_out = held_out_share(list(cards.values()), config.measure)
    sets: tuple[LabelSet, ...] = ()
    agreed = ()
    with ExitStack() as stack:
        if (dataset.path / FILE).is_file():
            store = stack.enter_context(LabelStore(dataset.path / FILE))
            _check(store, config.labels)
            sets = read_label_sets(store, frames, config.labels, held_out)
            agreed = tuple(each for each in agreements(raters(store)) if each.people)
        elif config.labels:
            raise LabelError(f"{dataset.path}: nothing was labelled yet: armchair label {dataset.path}")
    measured = []
    for number, each in enumerate(found):
        measured.append(
            measure(each, frames, ground, sets, config.measure, trained_by_model(each, cards, config.measure))
        )
        if progress is not None:
            progress(number + 1, len(found))
    return (
        Evaluation(
            dataset=str(dataset.path),
            created_utc=created_utc,
            episodes=len(frames.episode_ids),
            ground=ground,
            held_out=held_out,
            gamma=config.measure.gamma,
            resamples=config.measure.resampling.count,
            measured=in_order(measured),
            judges=tuple(judge_figures(each, frames, ground, config.measure.resampling) for each in sets),
            agreements=agreed,
        ),
        frames,
    )


def main(config: EvalConfig) -> int:
    """Measure, write the page and the figures, say the most important ones."""
    dataset = Dataset.open(config.dataset)
    now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    with progress_bar("measuring") as report:
        found, frames = evaluate(config, dataset, created_utc=now, progress=report)
    out = config.out or dataset.path / "reward-eval"
    strips = {}
    pictures = {}
    if config.frames:
        strips = {
            each.labeller: telling_frames(each.rewards, frames, found.ground, config.frames)
            for each in found.measured
        }
        wanted = {frames.id(row) for rows in strips.values() for strip in rows for row in strip.rows.tolist()}
        pictures = read_pictures(dataset, image_stream(dataset, config.stream), sorted(wanted))
    figures = json.dumps(as_json(found), indent=1) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        page = write_page(out, found, frames, strips, pictures)
        partial = out / f"figures.json.{os.getpid()}.partial"
        partial.write_text(figures, encoding="utf-8")
        os.replace(partial, out / "figures.json")
    except OSError as error:
        raise DatasetError(f"{out}: the report cannot be written ({error}); give another --out.") from error
    if config.json:
        print(json.dumps(as_json(found)))
        return 0
    _say(found, page)
    return 0


def _check(store: LabelStore, wanted: tuple[str, ...]) -> None:
    known = store.names()
    for name in wanted:
        if name not in known:
            raise LabelError(f"{store.path}: there is no label set {name!r}; {did_you_mean(name, known)}")


def _say(found: Evaluation, page: Path) -> None:
    console = screen()
    table = Table("labeller", "headline", "value (95 %)", "episodes", "frames")
    for each in found.measured:
        top = headline(each)
        table.add_row(
            each.labeller, top.name, with_interval(top.figure), str(each.episodes), str(each.frames)
        )
    print_table(console, table)
    for judge in found.judges:
        shown = [
            f"{name} {with_interval(figure)}"
            for name, figure in (
                ("swap consistency", judge.swap_consistency),
                ("self-agreement", judge.self_agreement),
                ("agrees with the true reward", judge.accuracy),
            )
            if figure.value is not None
        ]
        console.print(
            f"label set {judge.labels} ({judge.question}), {judge.usable} of {judge.items} usable: "
            + ("; ".join(shown) or "asked once each, in one order, and no true reward to compare with")
        )
    for one in found.agreements:
        kappa = "undefined" if one.kappa is None else f"{one.kappa:.3f} ({one.low:.3f} to {one.high:.3f})"
        who = f"{one.first} and {one.second} ({one.kind})"
        console.print(f"{who}: Cohen's κ {kappa} over {one.decided} questions")
    for each in found.measured:
        for line in found.advice_for(each):
            console.print(told(f"{each.labeller}:", DOUBTFUL, line))
    for judge in found.judges:
        for line in judge.advice:
            console.print(told("judge:", DOUBTFUL, line))
    console.print(f"report: {page}")
