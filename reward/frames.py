"""The frames of a dataset as rows: pictures, where each stands, and what a simulation knows of it.

A frame is an aligned observation of an episode, so its index is the index of the training file. Reward r_t
belongs to frame t+1; frame 0 belongs to no transition, is never judged and never rewarded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.align import align_episode
from episodes.dataset import Dataset, usable
from episodes.errors import DatasetError, did_you_mean

MEMORY_BYTES = 4 << 30
"""Frames beyond this lie in a file that is mapped into memory."""


@dataclass(frozen=True, order=True)
class FrameId:
    """A frame of a dataset."""

    episode_id: str
    index: int


@dataclass(frozen=True, eq=False)
class Frames:
    """All frames of all episodes, episode after episode."""

    episode_ids: tuple[str, ...]
    starts: NDArray[np.int64]
    """(episodes + 1,) first row of each episode, and the number of rows."""
    images: NDArray[np.uint8]
    """(rows, height, width, 3) RGB."""
    truth: NDArray[np.float64]
    """(rows,) true reward, NaN where unknown."""
    success: NDArray[np.bool_] | None
    """(rows,) the simulation saw success; None for recordings without that."""
    tasks: tuple[str, ...] = ()
    """Task of each episode, where known."""

    def __len__(self) -> int:
        return len(self.images)

    @functools.cached_property
    def episode(self) -> NDArray[np.int64]:
        """(rows,) number of the episode."""
        return np.repeat(np.arange(len(self.episode_ids)), np.diff(self.starts))

    @functools.cached_property
    def judged(self) -> NDArray[np.int64]:
        """Rows that belong to a transition: all but the first of each episode."""
        return np.setdiff1d(np.arange(len(self)), self.starts[:-1])

    def of_judged(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(rows,) rewards from those of the judged rows; 0 in the others, which belong to no transition."""
        rewards = np.zeros(len(self), np.float32)
        rewards[self.judged] = values
        return rewards

    @functools.cached_property
    def task_by_episode(self) -> dict[str, str]:
        """Task of each episode by its id."""
        return dict(zip(self.episode_ids, self.tasks, strict=False))

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {episode_id: number for number, episode_id in enumerate(self.episode_ids)}

    def rows_of(self, number: int) -> slice:
        """Rows of the transitions of an episode, so frames 1..T."""
        return slice(int(self.starts[number]) + 1, int(self.starts[number + 1]))

    def has(self, *frames: FrameId | None) -> bool:
        """Whether the dataset has all of these frames; None stands for no frame."""
        for frame in frames:
            if frame is None:
                continue
            number = self._numbers.get(frame.episode_id)
            if number is None or not 0 <= frame.index < self.starts[number + 1] - self.starts[number]:
                return False
        return True

    def row(self, frame: FrameId) -> int:
        """Row of a frame.

        Raises:
            DatasetError: the dataset has no such frame.
        """
        number = self._numbers.get(frame.episode_id)
        if number is None:
            hint = did_you_mean(frame.episode_id, self.episode_ids)
            raise DatasetError(f"episode {frame.episode_id!r} was labelled but is not in the dataset; {hint}")
        length = int(self.starts[number + 1] - self.starts[number])
        if not 0 <= frame.index < length:
            raise DatasetError(
                f"frame {frame.index} of episode {frame.episode_id!r} was labelled, but the episode has "
                f"{length} frames: it was replaced since. Restore the episode."
            )
        return int(self.starts[number]) + frame.index

    def id(self, row: int) -> FrameId:
        """Which frame a row is."""
        number = int(self.episode[row])
        return FrameId(self.episode_ids[number], row - int(self.starts[number]))


DIGEST = 8
"""Letters of a digest of `question_digests`."""


def question_digests(
    frames: Frames, first: NDArray[np.int64], second: NDArray[np.int64] | None = None
) -> list[str]:
    """A short digest of each question about the rows `first` (n,), or about pairs of rows in either order. It
    tells questions of a dataset apart, whoever was asked, and says nothing of other datasets."""

    def named(row: int) -> str:
        frame = frames.id(row)
        return f"{frame.episode_id}:{frame.index}"

    asked = [[named(row)] for row in first.tolist()]
    if second is not None:
        asked = [sorted((*one, named(row))) for one, row in zip(asked, second.tolist(), strict=True)]
    return [hashlib.sha256("|".join(one).encode()).hexdigest()[:DIGEST] for one in asked]


def image_stream(dataset: Dataset, wanted: str = "") -> str:
    """The image stream to judge: `wanted`, else the only one or the reference.

    Raises:
        DatasetError: no such stream, none at all, or several to choose from.
    """
    contract = dataset.contract
    images = [name for name, stream in contract.observations.items() if stream.is_image]
    if wanted:
        if wanted not in images:
            raise DatasetError(
                f"{dataset.path}: --stream {wanted}: no image stream of the contract; "
                f"{did_you_mean(wanted, images)}"
            )
        return wanted
    if len(images) == 1 or contract.reference in images:
        return contract.reference if contract.reference in images else images[0]
    shown = ", ".join(images) or "none: record with a contract that has a camera"
    raise DatasetError(f"{dataset.path}: give --stream, the image stream to judge. There are: {shown}.")


def named_stream(dataset: Dataset, stream: str) -> str:
    """`stream` where it has to be named, empty where it is the one that is judged when none is named."""
    try:
        return "" if image_stream(dataset) == stream else stream
    except DatasetError:
        return stream


def load_frames(
    dataset: Dataset,
    stream: str | None,
    *,
    spill: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Frames:
    """Read the frames of every episode of `dataset`.

    Args:
        dataset: at least one episode.
        stream: an image stream, 8-bit RGB; None for all but the pictures, which are (rows, 0, 0, 3) then.
        spill: file for the pictures when they need more than MEMORY_BYTES.
        progress: called with (episodes done, episodes in all).

    Raises:
        DatasetError: no episodes, or pictures that are not 8-bit RGB.
        EpisodeError: a damaged episode.
    """
    infos = usable(dataset)
    shape = (0, 0, 3) if stream is None else dataset.contract.observations[stream].shape
    if len(shape) != 3 or shape[-1] != 3:
        raise DatasetError(
            f"{dataset.path}: stream {stream!r} has shape {shape}; a judge needs (height, width, 3)."
        )
    room = sum(info.samples.get(stream or "", 0) for info in infos)
    images = _room(room, shape, spill)
    starts, truths, successes, filled = [0], [], [], 0
    for number, info in enumerate(infos):
        with dataset.read(info.episode_id) as episode:
            aligned = align_episode(episode, () if stream is None else (stream,))
        pictures = (
            np.empty((len(aligned) + 1, *shape), np.uint8) if stream is None else aligned.observations[stream]
        )
        if pictures.dtype != np.uint8:
            raise DatasetError(
                f"{info.path}: stream {stream!r} is {pictures.dtype}; a judge needs 8-bit pictures."
            )
        if filled + len(pictures) > len(images):
            images = _grow(images, filled + len(pictures), spill)
        images[filled : filled + len(pictures)] = pictures
        filled += len(pictures)
        starts.append(filled)
        unknown = np.full(len(aligned), np.nan)
        truths += [np.array([np.nan]), unknown if aligned.rewards_truth is None else aligned.rewards_truth]
        successes.append(aligned.success)
        if progress is not None:
            progress(number + 1, len(infos))
    first = np.zeros(1, np.bool_)
    return Frames(
        episode_ids=tuple(info.episode_id for info in infos),
        starts=np.array(starts, np.int64),
        images=images[:filled],
        truth=np.concatenate(truths),
        success=None
        if any(success is None for success in successes)
        else np.concatenate(
            [part for success in successes if success is not None for part in (first, success)]
        ),
        tasks=tuple(str(info.attrs.get("task", "")) for info in infos),
    )


def _room(rows: int, shape: tuple[int, ...], spill: Path | None) -> NDArray[np.uint8]:
    if spill is None or rows * int(np.prod(shape)) <= MEMORY_BYTES:
        return np.empty((rows, *shape), np.uint8)
    spill.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(spill, mode="w+", dtype=np.uint8, shape=(rows, *shape))


def _grow(images: NDArray[np.uint8], rows: int, spill: Path | None) -> NDArray[np.uint8]:
    """A grid at the contract's rate can have more ticks than the camera has frames."""
    larger = _room(2 * rows, images.shape[1:], None if spill is None else spill.with_suffix(f".{rows}.npy"))
    larger[: len(images)] = images
    return larger
