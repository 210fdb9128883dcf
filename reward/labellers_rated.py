"""Answers about single frames as rewards: scores, steps of the progress rubric, success yes or no.

Only some frames are asked about. What the others get is a stated rule (`between`), applied within an episode
and never across two; an episode without any answer is an error unless it is to be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset, usable
from episodes.errors import ConfigError, DatasetError, LabelError, did_you_mean
from reward.clients.protocol import Kind
from reward.drawing import rated_frames
from reward.exchange import stored_draws
from reward.frames import Frames
from reward.labellers import Report, Rewarded
from reward.store import FILE, LabelStore

Unanswered = Literal["refuse", "leave-out"]


@dataclass(frozen=True)
class RatedConfig:
    """A label set of --question progress or score as rewards: steps 1 to 5 become 0, 0.25, 0.5, 0.75, 1."""

    labels: str = ""
    """The label set; the only one of its kind when left out."""
    between: Literal["linear", "nearest", "none"] = "linear"
    """Frames without an answer: linear between the answered ones before and after (before the first and after
    the last: that one's value), the nearest answered one's (of two the earlier), or none: no valid reward,
    and training leaves the transition out."""
    unanswered: Unanswered = "refuse"
    """Episodes without any answer: an error, or no valid reward."""


@dataclass(frozen=True)
class SuccessConfig:
    """Sparse rewards: 1 in frames of success, 0 elsewhere."""

    source: Literal["labels", "outcome", "truth"] = "labels"
    """labels: a label set of --question success; more than half of the votes must say yes. outcome: the last
    frames of episodes whose outcome is success. truth: what the simulation saw."""
    labels: str = ""
    """The label set; the only one of its kind when left out."""
    between: Literal["nearest", "zero", "none"] = "nearest"
    """Frames without an answer get that of the nearest answered one (of two the earlier), 0, or no valid
    reward."""
    unanswered: Unanswered = "refuse"
    """Episodes without any answer, or of unknown outcome: an error, or no valid reward."""
    last_frames: int = 1
    """With outcome: how many frames at the end of a successful episode show success."""

    def __post_init__(self) -> None:
        if self.last_frames < 1:
            raise ConfigError(f"success.last-frames {self.last_frames}: write 1 or more.")


@dataclass(frozen=True, eq=False)
class Ratings:
    """Answered frames of one label set."""

    labels: str
    kind: Kind
    rows: NDArray[np.int64]
    """(n,) rising, each once; a frame that was asked about several times has the mean."""
    values: NDArray[np.float64]
    """(n,) in [0, 1]."""


def rated_rewards(dataset: Dataset, frames: Frames, config: RatedConfig, progress: Report = None) -> Rewarded:
    """Progress or score answers, directly and in between by the rule of `config`.

    Raises:
        LabelError: no such label set, or an episode without answers.
    """
    found = find_ratings(dataset, frames, config.labels, (Kind.PROGRESS, Kind.SCORE), "--rated.labels")
    rewards, valid = _spread(frames, found, config.between)
    _answered(dataset, frames, valid, config.unanswered, f"label set {found.labels!r} has no answer", "rated")
    return Rewarded(rewards, _basis(found, config.between), valid)


def success_rewards(
    dataset: Dataset, frames: Frames, config: SuccessConfig, progress: Report = None
) -> Rewarded:
    """1 in frames of success, 0 in the others.

    Raises:
        LabelError: no such label set, or an episode without answers or outcome.
        DatasetError: what the simulation saw is not there.
    """
    if config.source == "truth":
        if frames.success is None:
            raise DatasetError(
                f"{dataset.path}: --success.source truth, but not every episode has what the simulation saw "
                "(stream 'truth'). Take --success.source outcome or labels."
            )
        return Rewarded(frames.success.astype(np.float32), {"source": "truth"})
    if config.source == "outcome":
        rewards, valid = outcome_success(dataset, frames, config.last_frames)
        _answered(dataset, frames, valid, config.unanswered, "the outcome is unknown", "success")
        basis: dict[str, object] = {"source": "outcome", "last_frames": config.last_frames}
        return Rewarded(rewards, basis, valid)
    found = find_ratings(dataset, frames, config.labels, (Kind.SUCCESS,), "--success.labels")
    judged = Ratings(found.labels, found.kind, found.rows, (found.values > 0.5).astype(np.float64))
    if config.between == "zero":
        answered = np.isin(frames.episode, frames.episode[judged.rows])
        rewards = np.zeros(len(frames), np.float32)
        rewards[judged.rows] = judged.values
        valid = answered
    else:
        rewards, valid = _spread(frames, judged, config.between)
    _answered(
        dataset, frames, valid, config.unanswered, f"label set {found.labels!r} has no answer", "success"
    )
    return Rewarded(rewards, {"source": "labels", **_basis(found, config.between)}, valid)


def outcome_success(
    dataset: Dataset, frames: Frames, last_frames: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(rows,) 1 in the last frames of episodes whose outcome is success; (rows,) False where the outcome is
    unknown."""
    outcomes = {info.episode_id: info.outcome for info in usable(dataset)}
    rewards, valid = np.zeros(len(frames), np.float32), np.ones(len(frames), np.bool_)
    for number, episode_id in enumerate(frames.episode_ids):
        rows = frames.rows_of(number)
        if outcomes[episode_id] == "success":
            rewards[max(rows.start, rows.stop - last_frames) : rows.stop] = 1.0
        valid[rows] = outcomes[episode_id] != "unknown"
    return rewards, valid


def find_ratings(
    dataset: Dataset, frames: Frames, wanted: str, kinds: Sequence[Kind], option: str
) -> Ratings:
    """The answers of the label set `wanted`, or of the only one that asks one of `kinds`.

    Raises:
        LabelError: there is none, several to choose from, or one that holds answers to several questions.
    """
    path, names = dataset.path / FILE, " or ".join(kind.value for kind in kinds)
    hint = f"armchair label {dataset.path} --question {kinds[0].value}"
    if not path.is_file():
        raise LabelError(f"{dataset.path}: nothing was labelled yet: {hint}")
    with LabelStore(path) as store:
        asked: dict[str, set[Kind]] = {}
        for labels, _, settings, _ in stored_draws(store):
            asked.setdefault(labels, set()).add(Kind(settings.get("kind", Kind.PREFERENCE.value)))
        fitting = [labels for labels, found in asked.items() if found & set(kinds)]
        if wanted and wanted not in asked:
            raise LabelError(f"{path}: {option} {wanted}: no such label set; {did_you_mean(wanted, asked)}")
        if not wanted and len(fitting) != 1:
            what = f"give {option}, one of {', '.join(fitting)}." if fitting else f"none asks that: {hint}"
            raise LabelError(f"{path}: label sets with answers to {names}: {what}")
        labels = wanted or fitting[0]
        if len(asked[labels]) > 1 or not asked[labels] & set(kinds):
            held = " and ".join(sorted(kind.value for kind in asked[labels]))
            raise LabelError(
                f"{path}: {option} {labels}: it holds answers to {held}, where {names} is needed: {hint}"
            )
        kind = next(iter(asked[labels]))
        rows, values = rated_frames(store, store.drawn(labels), frames)
    if not len(rows):
        raise LabelError(f"{path}: label set {labels!r} has no usable answer yet: {hint}")
    if kind is Kind.PROGRESS:
        values = (values - 1.0) / 4.0
    unique, place, counts = np.unique(rows, return_inverse=True, return_counts=True)
    return Ratings(labels, kind, unique, np.bincount(place, weights=values) / counts)


def _spread(frames: Frames, found: Ratings, between: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of answered frames to all frames of their episodes → rewards (rows,), validity (rows,)."""
    rewards, valid = np.zeros(len(frames), np.float32), np.zeros(len(frames), np.bool_)
    rewards[found.rows], valid[found.rows] = found.values, True
    if between == "none":
        return rewards, valid
    for number in np.unique(frames.episode[found.rows]).tolist():
        rows = np.arange(frames.starts[number], frames.starts[number + 1])
        inside = (found.rows >= rows[0]) & (found.rows <= rows[-1])
        known, values = found.rows[inside], found.values[inside]
        if between == "linear":
            rewards[rows] = np.interp(rows, known, values)
        else:
            rewards[rows] = values[np.abs(rows[:, None] - known[None, :]).argmin(axis=1)]
        valid[rows] = True
    return rewards, valid


def _answered(
    dataset: Dataset, frames: Frames, valid: NDArray[np.bool_], rule: Unanswered, what: str, group: str
) -> None:
    """Refuse episodes without any valid reward, unless the rule leaves them out."""
    missing = [e for n, e in enumerate(frames.episode_ids) if not valid[frames.rows_of(n)].any()]
    if len(missing) == len(frames.episode_ids):
        raise LabelError(f"{dataset.path}: {what} for any episode.")
    if missing and rule == "refuse":
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise LabelError(
            f"{dataset.path}: {what} for {len(missing)} of {len(frames.episode_ids)} episodes ({shown}). Ask "
            f"about more frames (armchair label --pairs), or leave them out: --{group}.unanswered leave-out."
        )


def _basis(found: Ratings, between: str) -> dict[str, object]:
    return {
        "labels": found.labels,
        "question": found.kind.value,
        "answered_frames": len(found.rows),
        "between": between,
    }
