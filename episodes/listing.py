"""`armchair episodes list`, `show` and `recover`: what there is, and what can be salvaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from episodes.align import align_episode
from episodes.dataset import Dataset, EpisodeInfo
from episodes.errors import ArmchairError
from episodes.labels import has_labels, labellers
from episodes.reader import Episode, Stream, stream_hash
from episodes.recover import recover


@dataclass(frozen=True)
class ListConfig:
    """List the episodes of a dataset."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""


@dataclass(frozen=True)
class ShowConfig:
    """Show one episode as it was recorded: streams with rates and gaps, events, and how it aligns."""

    episode: tyro.conf.Positional[Path]
    """The episode file."""
    hashes: bool = False
    """Also hash the streams (equal for equal runs; reads everything)."""


@dataclass(frozen=True)
class RecoverConfig:
    """Salvage recordings that were never finished, or files that were cut short."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or dataset folders: all their unfinished recordings."""


def list_episodes(config: ListConfig) -> int:
    """Show a line for each episode; 1 when one is damaged."""
    path, console, errors = config.dataset, Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    dataset = Dataset.open(path)
    names = labellers(dataset)
    split = {i: name for name, ids in dataset.splits.items() for i in ids}
    table = Table(title=f"{path} · {dataset.contract.robot} at {dataset.contract.rate_hz:g} Hz")
    for column in ("episode", "outcome", "by", "ended", "clock", "seconds", "commands", "dropped", "split"):
        table.add_column(column, justify="right" if column in ("seconds", "commands", "dropped") else "left")
    table.add_column("labels")
    table.add_column("edits")
    damaged = []
    for episode_id in dataset.ids():
        try:
            info = dataset.info(episode_id)
        except ArmchairError as error:
            damaged.append(str(error))
            continue
        has = [name for name in names if has_labels(dataset, name, episode_id)]
        cells = (*_row(info), split.get(episode_id, ""), " ".join(has), info.edit.describe())
        table.add_row(*cells, style="dim" if info.edit.excluded else "")
    console.print(table)
    for text in damaged:
        errors.print(f"[red]damaged:[/red] {text}", highlight=False)
    for partial in dataset.partials():
        errors.print(
            f"unfinished: {partial} (being recorded, or to salvage: armchair episodes recover {partial})",
            highlight=False,
        )
    return 1 if damaged else 0


def _row(info: EpisodeInfo) -> list[str]:
    attrs = info.attrs
    first_ns, last_ns = int(attrs["started_ns"]), int(attrs["ended_ns"])
    return [
        info.episode_id,
        info.outcome,
        str(attrs["outcome_source"]),
        str(attrs["termination_reason"]) + (" (recovered)" if attrs["recovered"] else ""),
        str(attrs["clock"]),
        f"{max(0, last_ns - first_ns) / 1e9:.2f}",
        str(info.samples["commands"]),
        str(sum(info.dropped.values())),
    ]


def show_episode(config: ShowConfig) -> int:
    """Show one episode as it was recorded."""
    with Episode.open(config.episode) as episode:
        _show(episode, config.hashes, Console(soft_wrap=True))
    return 0


def _show(episode: Episode, hashes: bool, console: Console) -> None:
    for key, value in episode.attrs.items():
        if key != "contract" and value != "":
            console.print(f"{key:>20}  {value}", highlight=False)
    table = Table(title="streams")
    for column in ("stream", "shape", "dtype", "stored", "samples", "rate Hz", "longest gap ms", "dropped"):
        table.add_column(column)
    for stream in episode.streams.values():
        table.add_row(stream.name, *_stream_row(stream))
    console.print(table)
    commands = episode.commands
    console.print(
        f"{0 if commands is None else len(commands)} commands of {episode.contract.action_dim} entries"
    )
    for event in episode.events:
        console.print(f"  {event.stamp_ns / 1e9:.3f} s  {event.name}  {event.value}", highlight=False)
    try:
        aligned = align_episode(episode, streams=())
    except ArmchairError as error:
        console.print(f"[yellow]does not align:[/yellow] {error}", highlight=False)
    else:
        skipped = ", ".join(f"{reason} {n}" for reason, n in aligned.skipped.items()) or "none"
        console.print(f"aligns to {len(aligned)} transitions; ticks left out: {skipped}")
    if hashes:
        for name in (*(n for n, s in episode.streams.items() if len(s)), "commands"):
            if name != "commands" or commands is not None:
                console.print(f"{stream_hash(episode, [name])}  {name}", highlight=False)


def _stream_row(stream: Stream) -> list[str]:
    attrs: dict[str, Any] = stream.attrs
    return [
        "×".join(map(str, stream.shape)),
        str(stream.dtype),
        stream.encoding,
        str(len(stream)),
        f"{attrs['rate_hz']:.2f}",
        f"{attrs['gap_max_ns'] / 1e6:.1f}",
        str(attrs["dropped"]),
    ]


def recover_episodes(config: RecoverConfig) -> int:
    """Salvage what can be; 1 when a file could not."""
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    files: list[Path] = []
    for path in config.paths:
        files += Dataset.open(path).partials() if path.is_dir() else [path]
    if not files:
        console.print("nothing to recover: there are no unfinished recordings")
    failed = 0
    for file in files:
        try:
            made = recover(file)
            with Episode.open(made) as episode:
                console.print(f"{made}: {episode.attrs['recovery']}", highlight=False)
        except ArmchairError as error:
            failed += 1
            errors.print(f"[red]not recovered:[/red] {error}", highlight=False)
    return 1 if failed else 0
