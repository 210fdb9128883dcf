"""Joint states and actions as rows: what a reward model on vectors looks at.

The row of frame t+1 holds (s_t, a_t): r_t is the reward of that frame, and r̂(s_t, a_t) of PEBBLE (Lee et al.
2021) judges the transition that led there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from episodes.align import align_episode
from episodes.dataset import Dataset
from episodes.errors import DatasetError, did_you_mean
from reward.frames import Frames
from reward.networks import StateActionConfig


def vector_streams(dataset: Dataset, config: StateActionConfig) -> tuple[str, ...]:
    """The observation streams that are looked at, in the contract's order.

    Raises:
        DatasetError: no such stream, or nothing to look at.
    """
    known = [name for name, stream in dataset.contract.observations.items() if not stream.is_image]
    for name in config.streams:
        if name not in known:
            raise DatasetError(
                f"{dataset.path}: --network.state-action.streams {name}: no stream of numbers in the "
                f"contract; {did_you_mean(name, known)}"
            )
    found = tuple(name for name in known if not config.streams or name in config.streams)
    if not found and not config.actions:
        raise DatasetError(
            f"{dataset.path}: the contract has no observation stream of numbers, so a reward model on "
            "vectors has nothing to look at: take --network.kind cnn."
        )
    return found


def load_vectors(
    dataset: Dataset,
    frames: Frames,
    config: StateActionConfig,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], str]:
    """States and actions of every row of `frames`, in the units of the contract.

    Args:
        dataset: of which the frames are.
        frames: rows.
        config: which streams.
        progress: called with (episodes done, episodes in all).

    Returns:
        (rows, d): entries of the streams in the contract's order, then the action; a first frame, which
        belongs to no transition, repeats the row after it. And a name of these entries: a model fitted on
        others must not judge them.

    Raises:
        DatasetError: see `vector_streams`; or an episode has other ticks than its frames.
        EpisodeError: a damaged episode, or one without a stream.
    """
    streams = vector_streams(dataset, config)
    contract = dataset.contract
    parts: list[NDArray[np.float32]] = []
    for number, episode_id in enumerate(frames.episode_ids):
        ticks = int(frames.starts[number + 1] - frames.starts[number])
        with dataset.read(episode_id) as episode:
            aligned = align_episode(episode, streams)
        if len(aligned) + 1 != ticks:
            raise DatasetError(
                f"{dataset.path}: episode {episode_id!r} has {len(aligned) + 1} ticks, and {ticks} frames "
                "were read from it: it was edited meanwhile; start again."
            )
        states = [aligned.observations[name][:-1].reshape(len(aligned), -1) for name in streams]
        rows = np.concatenate([*states, *([aligned.actions] if config.actions else [])], axis=1)
        parts.append(np.concatenate([rows[:1], rows]).astype(np.float32))
        if progress is not None:
            progress(number + 1, len(frames.episode_ids))
    sizes = [f"{name}{list(contract.observations[name].shape)}" for name in streams]
    return np.concatenate(parts), " ".join([*sizes, *(["actions"] if config.actions else [])])
