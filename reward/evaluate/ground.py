"""What is known about success and the true reward, from the simulation, a judge, or the operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset, usable
from episodes.errors import LabelError
from reward.clients.protocol import Kind
from reward.frames import Frames
from reward.labellers_rated import find_ratings


@dataclass(frozen=True, eq=False)
class Ground:
    """What a reward is held against."""

    success: NDArray[np.bool_]
    """(rows,) success is shown; means nothing where not known."""
    known: NDArray[np.bool_]
    """(rows,) it is known whether."""
    success_from: str
    """Who says so; empty when nobody does."""
    episode_success: NDArray[np.float64]
    """(episodes,) 1 succeeded, 0 did not, NaN unknown."""
    episodes_from: str
    """Who says so; empty when nobody does."""
    truth: NDArray[np.float64] | None
    """(rows,) the simulation's reward, NaN in rows of no transition; None unless every transition has one."""


def find_ground(dataset: Dataset, frames: Frames, success_labels: str = "") -> Ground:
    """The best of what there is: the simulation's word, else judged frames and the episodes' outcomes.

    Args:
        dataset: the dataset.
        frames: its frames; pictures are not needed.
        success_labels: label set of --question success that tells success of frames where the simulation does
            not, or instead of it; the only one when left out and the simulation is silent.

    Raises:
        LabelError: there is no such label set.
    """
    truth = None if np.isnan(frames.truth[frames.judged]).any() else frames.truth
    success, known, source = _frames(dataset, frames, success_labels)
    outcomes = {info.episode_id: info.outcome for info in usable(dataset)}
    said = np.array([{"success": 1.0, "failure": 0.0}.get(outcomes[i], np.nan) for i in frames.episode_ids])
    if source == SIMULATION:
        rows = [frames.rows_of(n) for n in range(len(frames.episode_ids))]
        episodes, episodes_from = np.array([float(success[r].any()) for r in rows]), source
    elif not np.isnan(said).all():
        episodes, episodes_from = said, "the episodes' outcomes"
    else:
        episodes, episodes_from = said, ""
    return Ground(success, known, source, episodes, episodes_from, truth)


SIMULATION = "the simulation"


def _frames(
    dataset: Dataset, frames: Frames, wanted: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], str]:
    success, known = np.zeros(len(frames), np.bool_), np.zeros(len(frames), np.bool_)
    if frames.success is not None and not wanted:
        known[frames.judged] = True
        return frames.success & known, known, SIMULATION
    try:
        found = find_ratings(dataset, frames, wanted, (Kind.SUCCESS,), "--success-labels")
    except LabelError:
        if wanted:
            raise
        return success, known, ""
    known[found.rows] = True
    success[found.rows] = found.values > 0.5
    return success, known, f"label set {found.labels!r}"
