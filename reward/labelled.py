"""Rewards that labellers wrote, read back as rows of the frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import DatasetError, did_you_mean
from episodes.labels import has_labels, labellers, read_labels
from reward.frames import Frames
from reward.labellers import TRUTH


@dataclass(frozen=True, eq=False)
class LabelledRewards:
    """What one labeller gave to the frames of a dataset."""

    labeller: str
    rewards: NDArray[np.float64]
    """(rows,); means nothing where not valid."""
    valid: NDArray[np.bool_]
    """(rows,) False for rows of no transition, episodes without labels, and where there is no opinion."""
    episodes: int
    """How many episodes have labels."""
    basis: dict[str, Any]
    """What the rewards stem from; {} when unknown or when it differs between episodes."""
    mixed: bool
    """The basis differs between episodes: they were labelled with different settings."""
    written_ns: int | None
    """When the newest file was written, ns since 1970; None when no file says."""


def known_labellers(dataset: Dataset, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """`wanted`, else all that there are.

    Raises:
        DatasetError: one of them has labelled nothing, or nobody has.
    """
    known = labellers(dataset)
    for name in wanted:
        if name not in (TRUTH, *known):
            raise DatasetError(
                f"{dataset.path}: --labeller {name}: no such labeller; {did_you_mean(name, [TRUTH, *known])}"
            )
    if not known and not wanted:
        raise DatasetError(
            f"{dataset.path}: no episode has rewards yet. Write some: armchair relabel {dataset.path}"
        )
    return tuple(wanted or known)


def labelled_rewards(dataset: Dataset, frames: Frames, labeller: str) -> LabelledRewards:
    """The rewards of `labeller`, or the simulation's own for "truth".

    Raises:
        DatasetError: a label file is damaged or does not fit its episode, or there is no true reward.
    """
    rewards, valid = np.zeros(len(frames)), np.zeros(len(frames), np.bool_)
    if labeller == TRUTH:
        valid[frames.judged] = ~np.isnan(frames.truth[frames.judged])
        rewards[valid] = frames.truth[valid]
        count = len(np.unique(frames.episode[valid]))
        if not count:
            raise DatasetError(f"{dataset.path}: no episode has the simulation's reward (stream 'truth').")
        return LabelledRewards(labeller, rewards, valid, count, {"kind": "truth, as recorded"}, False, None)
    bases: list[str] = []
    times: list[int] = []
    for number, episode_id in enumerate(frames.episode_ids):
        if not has_labels(dataset, labeller, episode_id):
            continue
        labels, rows = read_labels(dataset, labeller, episode_id), frames.rows_of(number)
        if len(labels.reward) != rows.stop - rows.start:
            raise DatasetError(
                f"{dataset.path}: labeller {labeller!r} gave {len(labels.reward)} rewards to episode "
                f"{episode_id!r} of {rows.stop - rows.start} transitions: label it again (armchair relabel)."
            )
        rewards[rows], valid[rows] = np.where(labels.valid, labels.reward, 0.0), labels.valid
        bases.append(str(labels.attrs.get("basis", "")))
        if "written_ns" in labels.attrs:
            times.append(int(labels.attrs["written_ns"]))
    mixed = len(set(bases)) > 1
    basis = _object(bases[0]) if bases and not mixed else {}
    return LabelledRewards(labeller, rewards, valid, len(bases), basis, mixed, max(times) if times else None)


def _object(text: str) -> dict[str, Any]:
    """A basis that another program wrote may be anything; it is shown, never relied upon."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"said": text} if text else {}
    return found if isinstance(found, dict) else {"said": text}


def in_words(found: LabelledRewards) -> str:
    """The basis in short: kind first, hashes cut to 12 letters."""
    if found.mixed:
        return "differs between episodes: relabel all"
    kind = str(found.basis.get("kind", ""))
    flat: dict[str, Any] = {}
    for key, value in found.basis.items():
        flat |= value if isinstance(value, dict) else {key: value}
    words = [] if kind in flat else [kind]
    for key, value in flat.items():
        if key != "kind" and isinstance(value, str | int | float | bool):
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            words.append(f"{key} {text if len(text) <= 40 else text[:12] + '…'}")
    words = [word for word in words if word]
    return ", ".join(words) or "unknown"
