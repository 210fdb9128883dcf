"""Random windows of observations and actions at the speed of memory, without loading a file first.

A window ends at one transition: the last `frames` observations up to it and the `horizon` actions from it on.
Before an episode's begin its first frame is repeated, behind its end its last action, as robomimic does.
Whatever lies uncompressed in its file is mapped and copied straight into the batch, a window of neighbours in
one piece; the operating system decides what stays in memory. What is compressed is read through HDF5, which
is far slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset, usable
from episodes.errors import ConfigError, DatasetError, did_you_mean
from episodes.frames import FrameSource, Maps, StoredFrames, episode_frames, hdf5_frames, loaded_frames
from episodes.layout import DAMAGE


@dataclass(frozen=True)
class Batch:
    """B windows."""

    observations: dict[str, NDArray[Any]]
    """Of each stream, (B, frames, *shape), oldest first, in the dtype of the file."""
    actions: NDArray[Any]
    """(B, horizon, action_dim), in the contract's units."""


class WindowReader:
    """Reads windows of a prepared file or of raw episodes by the number of their transition."""

    def __init__(
        self,
        sources: dict[str, FrameSource],
        actions: FrameSource,
        lengths: Sequence[int],
        maps: Maps,
        *,
        frames: int,
        horizon: int,
    ) -> None:
        """Use `open_prepared` or `open_episodes`. Row k of every source belongs to transition k."""
        for key, value in (("frames", frames), ("horizon", horizon)):
            if value < 1:
                raise ConfigError(f"{key} {value}: a window has at least one.")
        self._sources = sources
        self._actions = actions
        self._maps = maps
        self._back = np.arange(1 - frames, 1)
        self._ahead = np.arange(horizon)
        ends = np.cumsum(lengths)
        self._first = np.repeat(ends - lengths, lengths)
        self._last = np.repeat(ends - 1, lengths)

    @classmethod
    def open_prepared(
        cls,
        path: Path | str,
        streams: Sequence[str],
        *,
        frames: int = 2,
        horizon: int = 1,
        mask: str | None = None,
    ) -> WindowReader:
        """Windows of a file that `armchair prepare` or robomimic wrote.

        Args:
            path: the file.
            streams: observation streams.
            frames: observations per window.
            horizon: actions per window.
            mask: "train" or "valid"; None for all episodes.

        Raises:
            DatasetError: the file is damaged, or has no such stream or mask.
        """
        path, maps = Path(path), Maps()
        try:
            with h5py.File(path, "r", locking=False) as file:
                demos = _demos(file, mask)
                lengths = [int(file[f"data/{demo}"].attrs["num_samples"]) for demo in demos]
                for stream in streams:
                    known = file[f"data/{demos[0]}/obs"]
                    if stream not in known:
                        raise DatasetError(
                            f"{path}: there is no stream {stream!r}; {did_you_mean(stream, known)} "
                            f"Prepare it anew with --streams {stream}."
                        )
                sources = {
                    stream: hdf5_frames(
                        path, [file[f"data/{demo}/obs/{stream}"] for demo in demos], lengths, maps
                    )
                    for stream in streams
                }
                actions = hdf5_frames(path, [file[f"data/{d}/actions"] for d in demos], lengths, maps)
        except DatasetError:
            raise
        except DAMAGE as error:
            text = " ".join(str(error).split())
            raise DatasetError(
                f"{path}: cannot be read as a prepared file ({text}). Prepare it anew."
            ) from error
        return cls(sources, actions, lengths, maps, frames=frames, horizon=horizon)

    @classmethod
    def open_episodes(
        cls,
        dataset: Dataset,
        streams: Sequence[str],
        *,
        frames: int = 2,
        horizon: int = 1,
        ids: Sequence[str] | None = None,
    ) -> WindowReader:
        """Windows straight from raw episodes, aligned by their stamps; pictures stay in their files.

        Args:
            dataset: the dataset.
            streams: observation streams.
            frames: observations per window.
            horizon: actions per window.
            ids: episodes; None for all.

        Raises:
            DatasetError: there are no episodes.
            EpisodeError: one of them is damaged or does not align, or has no such stream.
        """
        maps = Maps()
        parts: dict[str, list[StoredFrames]] = {stream: [] for stream in streams}
        actions, lengths = [], []
        for episode_id in ids if ids is not None else [info.episode_id for info in usable(dataset)]:
            with dataset.read(episode_id) as episode:
                aligned, frames_of = episode_frames(episode, streams)
            for stream in streams:
                parts[stream].append(frames_of[stream])
            actions.append(aligned.actions)
            lengths.append(len(aligned))
        sources = {stream: FrameSource(parts[stream], maps) for stream in streams}
        loaded = loaded_frames(actions, maps)
        return cls(sources, loaded, lengths, maps, frames=frames, horizon=horizon)

    def __len__(self) -> int:
        """How many transitions, and so windows, there are."""
        return len(self._first)

    def read(self, index: NDArray[np.integer[Any]], out: Batch | None = None) -> Batch:
        """The windows that end at transitions `index` (B,).

        Args:
            index: numbers from 0 to len − 1, in any order, repeats allowed.
            out: a batch of the same size to be filled instead of a new one.

        Raises:
            IndexError: a number lies outside.
            EpisodeError, DatasetError: compressed samples are damaged.
        """
        index = np.asarray(index, dtype=np.int64).reshape(-1)
        if index.size and not (index.min() >= 0 and index.max() < len(self)):
            raise IndexError(f"there are {len(self)} windows")
        seen = np.maximum(index[:, None] + self._back, self._first[index][:, None])
        coming = np.minimum(index[:, None] + self._ahead, self._last[index][:, None])
        if out is None:
            room = {name: source.empty(seen.shape) for name, source in self._sources.items()}
            out = Batch(room, self._actions.empty(coming.shape))
        for name, source in self._sources.items():
            source.copy(seen, out.observations[name])
        self._actions.copy(coming, out.actions)
        return out

    def sample(self, rng: np.random.Generator, size: int, out: Batch | None = None) -> Batch:
        """`size` windows drawn evenly, with replacement."""
        return self.read(rng.integers(0, len(self), size), out)

    def __enter__(self) -> WindowReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all files; batches that were read stay."""
        self._maps.close()


def _demos(file: Any, mask: str | None) -> list[str]:
    """Names of the episodes in the order of their numbers."""
    if mask is None:
        names = [str(name) for name in file["data"]]
    elif f"mask/{mask}" in file:
        names = [name.decode("utf-8") for name in file[f"mask/{mask}"][:]]
    else:
        known = did_you_mean(mask, file.get("mask", ()))
        raise DatasetError(f"{file.filename}: there is no mask {mask!r}; {known}")
    names = [name for name in names if name.startswith("demo_")]
    if not names:
        raise DatasetError(f"{file.filename}: there is no episode" + (f" in mask {mask!r}." if mask else "."))
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))
