"""The verb `reward list` and `relabel --list`: all labellers of a dataset side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from episodes.dataset import Dataset
from episodes.screen import print_table, progress_bar, screen
from reward.fitting import frame_quality
from reward.frames import Frames, load_frames
from reward.labelled import LabelledRewards, in_words, known_labellers, labelled_rewards
from reward.quality import Quality


@dataclass(frozen=True)
class ListConfig:
    """All labellers of a dataset side by side."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Listed:
    """One labeller in short. Figures are over valid rewards, None where there are none."""

    labeller: str
    episodes: int
    """Episodes with a label file."""
    of_episodes: int
    valid_share: float
    """Share of the transitions of those episodes that have a reward."""
    least: float | None
    mean: float | None
    most: float | None
    quality: Quality
    basis: str
    """What the rewards stem from, in short."""
    written_utc: str | None
    """When the newest file was written; None when no file says."""


def listing(dataset: Dataset, frames: Frames) -> tuple[Listed, ...]:
    """Every labeller of `dataset`, by name.

    Raises:
        DatasetError: there is none, or a label file is damaged.
    """
    return tuple(
        _listed(labelled_rewards(dataset, frames, name), frames) for name in known_labellers(dataset)
    )


def _listed(found: LabelledRewards, frames: Frames) -> Listed:
    values = found.rewards[found.valid]
    covered = sum(
        rows.stop - rows.start
        for rows in (frames.rows_of(n) for n in range(len(frames.episode_ids)))
        if found.valid[rows].any()
    )
    return Listed(
        labeller=found.labeller,
        episodes=found.episodes,
        of_episodes=len(frames.episode_ids),
        valid_share=float(found.valid.sum() / covered) if covered else 0.0,
        least=float(values.min()) if len(values) else None,
        mean=float(values.mean()) if len(values) else None,
        most=float(values.max()) if len(values) else None,
        quality=frame_quality(frames, found.rewards, valid=found.valid),
        basis=in_words(found),
        written_utc=None
        if found.written_ns is None
        else datetime.fromtimestamp(found.written_ns / 1e9, UTC).isoformat(timespec="seconds"),
    )


def show(dataset: Dataset, *, as_json: bool = False) -> None:
    """Print the labellers side by side."""
    with progress_bar("reading episodes") as report:
        found = listing(dataset, load_frames(dataset, None, progress=report))
    console = screen()
    if as_json:
        print(json.dumps([_json(each) for each in found]))
        return
    columns = ("labeller", "episodes", "valid", "min", "mean", "max", "success on top", "rank", "written")
    table = Table(*columns, "basis")
    for each in found:
        quality = each.quality
        figures = (each.least, each.mean, each.most)
        table.add_row(
            each.labeller,
            f"{each.episodes}/{each.of_episodes}",
            f"{each.valid_share:.0%}",
            *("" if value is None else f"{value:.3f}" for value in figures),
            _number(quality.success_above_best_decile),
            _number(quality.successful_episode_rank),
            (each.written_utc or "").replace("+00:00", "Z"),
            each.basis,
        )
    print_table(console, table)
    console.print(
        "success on top: P(a frame of success is above the best decile of the others). rank: P(an episode "
        "with success has the higher return); 0.5 is chance for rank."
    )


def _json(each: Listed) -> dict[str, Any]:
    return {**asdict(each), "quality": each.quality.as_json()}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def main(config: ListConfig) -> int:
    """Show the labellers."""
    show(Dataset.open(config.dataset), as_json=config.json)
    return 0
