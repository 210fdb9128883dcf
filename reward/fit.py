"""The verb `fit`: labelled pairs or scores in, a reward model out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from episodes.dataset import Dataset
from episodes.errors import LabelError, did_you_mean
from reward.ballots import Unsure
from reward.cached_pairs import cached_pairs
from reward.clients.protocol import Kind
from reward.drawing import labelled_pairs, labelled_scores, question_of
from reward.fitting import CHECKPOINT, RewardConfig, fit_reward
from reward.forms import Form, in_form
from reward.frames import Frames, image_stream, load_frames
from reward.inputs import load_inputs
from reward.model import CARD, pick_device, save_model
from reward.objectives import Labels
from reward.pairs import LabelledPairs
from reward.quality import Quality
from reward.records import left_out_note, present
from reward.store import FILE, LabelStore


@dataclass(frozen=True)
class FitConfig:
    """Fit a reward model to the labels of a dataset; interrupted, the same command goes on at the last
    epoch."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    labels: str = ""
    """Label set; the only one when left out."""
    out: Path | None = None
    """Folder of the reward model; DATASET/rewards/LABELS when left out."""
    stream: str = ""
    """Image stream that was judged; the contract's reference or only camera when left out."""
    cached: Path | None = None
    """Cached labels of Offline RL-VLM-F (a .pkl or a folder of them) to fit to instead; their pictures
    are brought to the size of the stream."""
    form: Form = "recipe"
    """recipe: what was found to work (docs/reward-recipe.md). paper: the exact form of Offline RL-VLM-F for
    the network kinds cnn, resnet and state-action; options that it settles are refused beside it."""
    unsure: Unsure = "drop"
    """drop: unsure answers and split votes are no labels. soft: they count as one half."""
    model: Annotated[RewardConfig, tyro.conf.arg(name="")] = field(default_factory=RewardConfig)
    """The reward model."""


def pick_labels(store: LabelStore, wanted: str) -> str:
    """The label set `wanted`, else the only one.

    Raises:
        LabelError: no such set, none at all, or several to choose from.
    """
    known = store.names()
    if wanted in known:
        return wanted
    if wanted:
        raise LabelError(f"{store.path}: there is no label set {wanted!r}; {did_you_mean(wanted, known)}")
    if not known:
        raise LabelError(f"{store.path}: nothing was labelled yet: armchair label {store.path.parent}")
    if len(known) > 1:
        raise LabelError(f"{store.path}: give --labels, one of {', '.join(known)}.")
    return known[0]


def main(config: FitConfig) -> int:
    """Fit, save, and say how good it is."""
    console = Console()
    dataset = Dataset.open(config.dataset)
    stream = image_stream(dataset, config.stream)
    settings = in_form(config.form, config.model)
    device = pick_device(settings.device)
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        reading = bar.add_task("reading frames", total=None)
        labels, frames, pairs, note = _labels(
            config,
            dataset,
            stream,
            lambda done, total: bar.update(reading, completed=done, total=total),
        )
        out = config.out or dataset.path / "rewards" / labels
        inputs = load_inputs(
            settings.network,
            None if config.cached is not None else dataset,
            frames,
            lambda done, total: bar.update(reading, completed=done, total=total),
            encoder=settings.encoder,
            crop=settings.crop,
        )
        fitting = bar.add_task("epochs", total=settings.optimise.epochs)
        fitted = fit_reward(
            frames,
            pairs,
            settings,
            device,
            stream=stream,
            inputs=inputs,
            checkpoint=out / CHECKPOINT,
            progress=lambda done, total: bar.update(fitting, completed=done, total=total),
        )
    save_model(out, fitted.model)
    if note:
        console.print(f"[yellow]{note}[/]", soft_wrap=True)
    say_quality(console, fitted.quality)
    say_held_out(console, fitted.model.card)
    what = "labelled pairs" if isinstance(pairs, LabelledPairs) else "scored frames"
    console.print(f"{len(pairs)} {what}, {len(fitted.history)} epochs -> {out / CARD}", soft_wrap=True)
    return 0


def _labels(
    config: FitConfig, dataset: Dataset, stream: str, progress: Callable[[int, int], None]
) -> tuple[str, Frames, Labels, str]:
    """Name of the label set, frames, pairs or scores, and what to tell about those that were left out."""
    if config.cached is not None:
        height, width = dataset.contract.observations[stream].shape[:2]
        return "cached", *cached_pairs(config.cached, (height, width), config.model.held_out), ""
    if not (dataset.path / FILE).is_file():
        raise LabelError(f"{dataset.path}: nothing was labelled yet: armchair label {dataset.path}")
    with LabelStore(dataset.path / FILE) as store:
        labels = pick_labels(store, config.labels)
        drawn = store.drawn(labels)
        kind = question_of(store, labels)
        spill = dataset.path / ".cache" / "frames.npy"
        frames = load_frames(dataset, stream, spill=spill, progress=progress)
        held_out = config.model.held_out
        note = left_out_note(len(drawn) - len(present(drawn, frames)), len(drawn))
        if kind is Kind.PREFERENCE:
            return labels, frames, labelled_pairs(store, drawn, frames, held_out, config.unsure), note
        return labels, frames, labelled_scores(store, drawn, frames, kind, held_out), note


def say_quality(console: Console, quality: Quality) -> None:
    """Print quality figures, the ones that matter first."""
    table = Table("quality of the reward", "value")
    for name, value in (
        ("P(success frame above best decile of the others)", quality.success_above_best_decile),
        ("rank of successful episodes by return (AUC)", quality.successful_episode_rank),
        ("held-out preference accuracy", quality.held_out_accuracy),
        ("held-out Bradley-Terry loss", quality.held_out_loss),
        ("rank correlation over all frames (flatters)", quality.rank_correlation),
    ):
        table.add_row(name, "unknown" if value is None else f"{value:.3f}")
    console.print(table)
    for warning in quality.warnings:
        console.print(f"[yellow]warning: {warning}[/]")


def say_held_out(console: Console, card: Mapping[str, Any]) -> None:
    """Print what the held-out labels say of the fit."""
    found = card.get("calibration")
    if found is not None:
        console.print(
            f"{found['pairs']} held-out pairs: the ensemble expects the answer in {found['accuracy']:.3f} of "
            f"them; expected calibration error {found['expected_error']:.3f}",
            soft_wrap=True,
        )
    scaled = card.get("calibration_scaled")
    if scaled is not None:
        after = scaled.get("expected_error")
        judged = "too few pairs to judge it by" if after is None else f"{after:.3f} cross-fitted"
        console.print(f"temperature {scaled['temperature']:.3f}: calibration error {judged}", soft_wrap=True)
    scores = card.get("scores")
    if scores is not None:
        rank = scores["rank_agreement"]
        console.print(
            f"{scores['frames']} held-out scores: mean squared error {scores['squared_error']:.4f} on "
            f"2·score − 1 (a constant: {scores['constant_error']:.4f}); rank agreement (Kendall's τ-b) "
            f"{'unknown' if rank is None else f'{rank:.3f}'}",
            soft_wrap=True,
        )
