"""What a collection finds in its folder: episodes that are there, remains of runs that were killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from episodes.dataset import Dataset, EpisodeInfo
from episodes.errors import DatasetError
from episodes.layout import PARTIAL
from episodes.reader import Episode
from episodes.writer import HORIZON, TERMINATED
from sim.behaviours import PREFIXES, Acts
from sim.experts import Kind
from sim.record import episode_id


def take_stock(
    dataset: Dataset, behaviours: Sequence[Acts], task: str, horizon: int
) -> tuple[set[int], list[str]]:
    """Which of the episodes are there, and what to tell the user.

    Removes what killed runs left of the others, so that they can be recorded anew.

    Raises:
        DatasetError: another collection made one of them, or another process is recording it now.
    """
    there = {info.episode_id: info for info in dataset.infos(edited=False)}
    finished: set[int] = set()
    notes: list[str] = []
    for behaviour in behaviours:
        name = episode_id(behaviour.seed, behaviour.episode)
        info = there.get(name)
        if info is not None and (reason := _unfinished(info)) is not None:
            info.path.unlink()
            notes.append(f"{info.path.name} ended early ({reason}): removed, recorded anew.")
        elif info is not None:
            _check_same(info, behaviour, task, horizon)
            finished.add(behaviour.episode)
        for partial in (dataset.path / "episodes").glob(f"*_{name}{PARTIAL}"):
            with unlocked(partial):
                partial.unlink()
            notes.append(f"{partial.name} was left by a run that was killed: removed, recorded anew.")
    return finished, notes


def _by_collect(info: EpisodeInfo) -> bool:
    """Episodes recorded through ROS name their task and operator in other words; they are never touched."""
    kind = str(info.attrs["operator"]).partition(" ")[0]
    return str(info.attrs["task"]).startswith(PREFIXES) and kind in get_args(Kind)


def _unfinished(info: EpisodeInfo) -> str | None:
    """Why an episode of ours did not come to its end: the disk was full, for example."""
    reason = str(info.attrs["termination_reason"])
    return reason if _by_collect(info) and reason not in (HORIZON, TERMINATED) else None


def _check_same(info: EpisodeInfo, behaviour: Acts, task: str, horizon: int) -> None:
    if not _by_collect(info):
        return
    steps = info.samples["commands"]
    ended = str(info.attrs["termination_reason"]) == TERMINATED and 0 < steps <= horizon
    found = (info.attrs["task"], info.attrs["operator"], horizon if ended else steps)
    wanted = (task, behaviour.label, horizon)
    if found != wanted:
        raise DatasetError(
            f"{info.path}: holds {found[0]!r} by {found[1]!r} over {steps} steps, but this collection "
            f"would record {task!r} by {behaviour.label!r} over {horizon} steps under that name. Collect "
            "with the settings of the data set (--episodes, --mix, --horizon, --env), or into another folder."
        )


def check_randomisation(path: Path, wanted: Mapping[str, float]) -> None:
    """Raises DatasetError where the episode `path` was collected with another randomisation."""
    with Episode.open(path) as episode:
        said = next((dict(e.value) for e in episode.events if e.name == "collect"), {})
    found = said.get("randomise", {})
    if said and found != dict(wanted):
        raise DatasetError(
            f"{path}: was collected with --randomise {found or 'off'}, this collection has "
            f"{dict(wanted) or 'off'}. Collect with the settings of the data set, or into another folder."
        )


@contextmanager
def unlocked(partial: Path) -> Iterator[None]:
    """Refuse to touch a partial file that a living writer holds."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DatasetError(
            f"{partial}: another process is recording this episode. Wait for it, or record other indices."
        ) from error
    finally:
        os.close(descriptor)
