"""Rewards that a labeller gave to an episode: `labels/<labeller>/<id>.h5`, beside the raw files.

r_t is the reward of the transition from frame t to frame t+1 and belongs to the frame at t+1, so that an
aligned episode of T+1 frames has T rewards. A trim of the episode leaves its label files as they are: they
remember for which part they were written, and reading cuts them to the part that counts now.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.aligned import align_episode
from episodes.dataset import Dataset
from episodes.errors import DatasetError
from episodes.layout import DAMAGE, LIBVER, Attribute, damage, get_attributes, put_attributes
from episodes.partial import sync_folder

SCHEMA = "armchair/labels/1"
RESERVED = ("truth", "none", "random", "zero", "constant", "average")
"""Rewards that are made rather than read from a file; no labeller may take their names."""

_LABELLER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
_OWN = ("schema", "labeller", "episode_id", "trim_start_ns", "trim_end_ns")
_UNTRIMMED = (None, None)

Window = tuple[int | None, int | None]


@dataclass(frozen=True)
class Labels:
    """The rewards of one episode."""

    reward: NDArray[np.float32]
    """(T,)"""
    valid: NDArray[np.bool_]
    """(T,), False where the labeller has no opinion; the reward there means nothing."""
    attrs: dict[str, Attribute]
    """What the labeller wrote beside them: model, prompt, settings."""


def write_labels(
    dataset: Dataset,
    labeller: str,
    episode_id: str,
    reward: NDArray[np.floating],
    valid: NDArray[np.bool_] | None = None,
    attrs: Mapping[str, Attribute] | None = None,
) -> Path:
    """Write the label file of one episode, all or nothing, replacing an older one.

    Args:
        dataset: the dataset that holds the episode.
        labeller: name of the labeller; a folder name.
        episode_id: a finished episode.
        reward: (T,), finite where valid.
        valid: (T,), None for all.
        attrs: what to remember beside them.

    Raises:
        DatasetError: a name, shape or value that cannot be, or the file cannot be written.
    """
    path = _path(dataset, labeller, episode_id)
    dataset.file(episode_id)
    window = _window_now(dataset, episode_id)
    values = np.asarray(reward, dtype=np.float32)
    mask = np.ones(values.shape, np.bool_) if valid is None else np.asarray(valid)
    if values.ndim != 1 or mask.shape != values.shape or mask.dtype != np.bool_:
        raise DatasetError(
            f"{path}: rewards of shape {values.shape}, validity of shape {mask.shape} and dtype "
            f"{mask.dtype}: both are (T,), validity is bool."
        )
    if window != _UNTRIMMED and len(values) != (kept := _kept(dataset, episode_id, window)[1]):
        raise DatasetError(
            f"{path}: {len(values)} rewards for an episode that is trimmed to {kept} transitions: it was "
            "edited since. Label it again."
        )
    bad = np.flatnonzero(~np.isfinite(values) & mask)
    if len(bad):
        raise DatasetError(f"{path}: the reward of step {bad[0]} is {values[bad[0]]}; mark it as not valid.")
    extra = {key: value for key, value in (attrs or {}).items() if key not in _OWN}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(partial, "w", libver=LIBVER, locking=False) as file:
            file["reward"] = values
            file["valid"] = mask
            put_attributes(file, {"schema": SCHEMA, "labeller": labeller, "episode_id": episode_id})
            put_attributes(file, {**_as_attributes(window), **extra})
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(partial, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise DatasetError(
            f"{path}: the labels cannot be written ({' '.join(str(error).split())})."
        ) from error
    return path


def read_labels(dataset: Dataset, labeller: str, episode_id: str) -> Labels:
    """The rewards that `labeller` gave to an episode, for the part that edits keep of it.

    Transitions that were trimmed away when it was labelled, and are not any more, are not valid.

    Raises:
        DatasetError: there are none, or the file is damaged.
    """
    path = _path(dataset, labeller, episode_id)
    if not path.is_file():
        raise DatasetError(
            f"{path}: labeller {labeller!r} has not labelled episode {episode_id!r} (there are labels of: "
            f"{', '.join(labellers(dataset)) or 'nobody'}). Label it: armchair relabel {dataset.path}"
        )
    try:
        with h5py.File(path, "r", locking=False) as file:
            attrs = get_attributes(file)
            reward = np.asarray(file["reward"][:], dtype=np.float32)
            valid = np.asarray(file["valid"][:], dtype=np.bool_)
            own = [attrs.pop(key, None) for key in _OWN]
            if own[0] != SCHEMA or own[2] != episode_id or reward.shape != valid.shape or reward.ndim != 1:
                raise ValueError(f"labels of schema {own[0]!r} for episode {own[2]!r}")
    except DAMAGE as error:
        raise DatasetError(
            f"{path}: the label file is damaged ({' '.join(str(error).split())}). Delete it and label again."
        ) from error
    then: Window = (own[3], own[4])  # type: ignore[assignment]
    now = _window_now(dataset, episode_id)
    if then != now:
        first, count = _kept(dataset, episode_id, then)
        if count != len(reward):
            raise DatasetError(
                f"{path}: {len(reward)} rewards for {count} transitions of episode {episode_id!r}: label it "
                "again."
            )
        new_first, new_count = _kept(dataset, episode_id, now)
        reward, valid = _moved(reward, valid, first - new_first, new_count)
    return Labels(reward, valid, attrs)


def _window_now(dataset: Dataset, episode_id: str) -> Window:
    """The part of an episode that edits keep now."""
    edit = dataset.edits.in_force().get(episode_id)
    if edit is None or edit.trim == _UNTRIMMED:
        return _UNTRIMMED
    path = dataset.file(episode_id)
    with damage(path, "reading the attributes"), h5py.File(path, "r", locking=False) as file:
        return edit.window_ns(int(file.attrs["started_ns"]))


def _as_attributes(window: Window) -> dict[str, int]:
    keys = zip(_OWN[3:], window, strict=True)
    return {key: bound for key, bound in keys if bound is not None}


def _kept(dataset: Dataset, episode_id: str, window: Window) -> tuple[int, int]:
    """Number of the first transition that `window` keeps, and how many it keeps."""
    with dataset.read(episode_id) as episode:
        episode.window_ns = window
        aligned = align_episode(episode, streams=())
    return aligned.first, len(aligned)


def _moved(
    reward: NDArray[np.float32], valid: NDArray[np.bool_], offset: int, count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Labels of `count` transitions of which the ones that there are begin at `offset`, maybe before them."""
    new_reward, new_valid = np.zeros(count, np.float32), np.zeros(count, np.bool_)
    start, stop = max(0, offset), min(count, offset + len(reward))
    if start < stop:
        new_reward[start:stop] = reward[start - offset : stop - offset]
        new_valid[start:stop] = valid[start - offset : stop - offset]
    return new_reward, new_valid


def has_labels(dataset: Dataset, labeller: str, episode_id: str) -> bool:
    """Whether `labeller` has labelled the episode."""
    return _path(dataset, labeller, episode_id).is_file()


def labellers(dataset: Dataset) -> list[str]:
    """Names of all labellers with at least one file, sorted."""
    folder = dataset.path / "labels"
    if not folder.is_dir():
        return []
    return sorted(f.name for f in folder.iterdir() if f.is_dir() and next(f.glob("*.h5"), None) is not None)


def _path(dataset: Dataset, labeller: str, episode_id: str) -> Path:
    if not _LABELLER.match(labeller) or labeller in RESERVED:
        raise DatasetError(
            f"labeller {labeller!r}: use letters, digits, '.', '_' and '-', but not {', '.join(RESERVED)}."
        )
    return dataset.path / "labels" / labeller / f"{episode_id}.h5"
