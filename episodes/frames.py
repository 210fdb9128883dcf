"""Where the samples of a stream lie in their files, and how they get from there into a batch.

HDF5 tells at which byte of its file an uncompressed dataset (or an uncompressed chunk) begins. From there the
samples are copied out of a mapping of the file, past HDF5.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.align import AlignedEpisode, align_episode
from episodes.errors import DatasetError
from episodes.picking import NotReady, pick_all, stream_clocks
from episodes.reader import Episode, Stream

_MAPS = 256
_HANDLES = 64


@dataclass(frozen=True)
class StoredFrames:
    """The samples of one episode's stream, one row per transition."""

    path: Path | None
    """The file; None for values that are in memory."""
    shape: tuple[int, ...]
    """Shape of one sample."""
    dtype: np.dtype[Any]
    offsets: NDArray[np.int64] | None = None
    """Where each row begins in the file, bytes; None where HDF5 has to read it."""
    values: NDArray[Any] | None = None
    """Rows that are in memory."""
    rows: NDArray[np.int64] | None = None
    """Which sample each row is, for HDF5."""
    read: Callable[[Any, NDArray[np.int64]], NDArray[Any]] | None = None
    """How HDF5 reads samples: an open file and their numbers to (n, *shape)."""
    open: Callable[[Path], Any] | None = None


class Maps:
    """Files that are mapped, and files that are open in HDF5; the least used ones are let go of."""

    def __init__(self) -> None:
        self._maps: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._handles: OrderedDict[Path, Any] = OrderedDict()

    def map(self, path: Path) -> NDArray[np.uint8]:
        """All bytes of a file."""
        found = self._maps.get(path)
        if found is None:
            found = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
            self._maps[path] = found
            if len(self._maps) > _MAPS:
                self._maps.popitem(last=False)
        return found

    def handle(self, path: Path, open_file: Callable[[Path], Any]) -> Any:
        """The file open in HDF5."""
        if path not in self._handles:
            self._handles[path] = open_file(path)
            if len(self._handles) > _HANDLES:
                self._handles.popitem(last=False)[1].close()
        self._handles.move_to_end(path)
        return self._handles[path]

    def close(self) -> None:
        """Let go of everything."""
        self._maps.clear()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()


class FrameSource:
    """The samples of one stream over all episodes; row k belongs to transition k."""

    def __init__(self, parts: Sequence[StoredFrames], maps: Maps) -> None:
        """DatasetError when the episodes differ in shape or dtype."""
        first = parts[0]
        for part in parts:
            if (part.shape, part.dtype) != (first.shape, first.dtype):
                raise DatasetError(
                    f"{part.path}: samples of {part.dtype} {list(part.shape)} beside {first.dtype} "
                    f"{list(first.shape)} in {first.path}: prepare the episodes of one robot together."
                )
        self.shape, self.dtype = first.shape, first.dtype
        self._nbytes = int(np.prod(first.shape, dtype=np.int64)) * first.dtype.itemsize
        self._parts = parts
        self._maps = maps
        lengths = [_length(part) for part in parts]
        self._starts = np.cumsum([0, *lengths])
        self._part = np.repeat(np.arange(len(parts)), lengths)
        none = [np.full(n, -1, np.int64) for n in lengths]
        self._offsets = np.concatenate(
            [n if part.offsets is None else part.offsets for part, n in zip(parts, none, strict=True)]
        )
        self._paths = [part.path for part in parts]
        self._mapped = all(part.offsets is not None for part in parts)
        self._values = None
        if all(part.values is not None for part in parts):
            self._values = np.concatenate([part.values for part in parts if part.values is not None])

    def empty(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Room for windows of `shape` (B, frames)."""
        return np.empty((*shape, *self.shape), self.dtype)

    def copy(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy rows (B, F), each window from one episode, into `out` (B, F, *shape)."""
        if self._values is not None:
            np.take(self._values, rows, axis=0, out=out, mode="clip")
        elif self._mapped and out.flags.c_contiguous:
            self._copy_mapped(rows, out)
        else:
            self._copy_read(rows, out)

    def _copy_mapped(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        size, count = self._nbytes, rows.shape[1]
        target = out.reshape(-1).view(np.uint8).reshape(len(rows), count * size)
        offsets = self._offsets[rows]
        whole = (np.diff(offsets, axis=1) == size).all(axis=1).tolist()
        parts = self._part[rows[:, 0]].tolist()
        for b, starts in enumerate(offsets.tolist()):
            data = self._maps.map(self._paths[parts[b]])  # type: ignore[arg-type]
            if whole[b]:
                target[b] = data[starts[0] : starts[0] + count * size]
            else:
                for k, start in enumerate(starts):
                    target[b, k * size : (k + 1) * size] = data[start : start + size]

    def _copy_read(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Through HDF5, episode by episode, each sample once."""
        parts = self._part[rows[:, 0]]
        for number in np.unique(parts).tolist():
            part, inside = self._parts[number], parts == number
            own = rows[inside] - self._starts[number]
            out[inside] = self._read(part, own)

    def _read(self, part: StoredFrames, own: NDArray[np.int64]) -> NDArray[Any]:
        if part.offsets is not None and part.path is not None:
            data = self._maps.map(part.path)
            flat = [data[start : start + self._nbytes] for start in part.offsets[own].reshape(-1).tolist()]
            return np.stack(flat).view(self.dtype).reshape(*own.shape, *self.shape)
        if part.path is None or part.rows is None or part.read is None or part.open is None:
            raise DatasetError(f"{part.path}: the samples lie neither in the file nor in memory.")
        wanted, place = np.unique(part.rows[own], return_inverse=True)
        samples = part.read(self._maps.handle(part.path, part.open), wanted)
        return samples[place.reshape(own.shape)]


def _length(part: StoredFrames) -> int:
    for rows in (part.offsets, part.values, part.rows):
        if rows is not None:
            return len(rows)
    return 0


def loaded_frames(values: Sequence[NDArray[Any]], maps: Maps) -> FrameSource:
    """Values that are in memory, one array (T, …) per episode."""
    return FrameSource([StoredFrames(None, v.shape[1:], v.dtype, values=v) for v in values], maps)


def hdf5_frames(path: Path, datasets: Sequence[Any], lengths: Sequence[int], maps: Maps) -> FrameSource:
    """Datasets (T, …) of one HDF5 file, one per episode; DatasetError when one is not as long as it says."""
    parts = []
    size = os.path.getsize(path)
    for dataset, length in zip(datasets, lengths, strict=True):
        if dataset.shape[:1] != (length,) or not length:
            raise DatasetError(f"{path}: {dataset.name} is {dataset.shape}, the episode has {length} rows.")
        shape, dtype = dataset.shape[1:], dataset.dtype
        start = dataset.id.get_offset() if _plain(dataset) else None
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if start is not None and start + length * nbytes <= size:
            parts.append(StoredFrames(path, shape, dtype, offsets=start + nbytes * np.arange(length)))
        else:
            read = _dataset_reader(str(dataset.name))
            parts.append(
                StoredFrames(path, shape, dtype, rows=np.arange(length), read=read, open=_open_plain)
            )
    return FrameSource(parts, maps)


def _plain(dataset: Any) -> bool:
    """Whether the samples lie in one piece and as numpy has them."""
    return dataset.chunks is None and dataset.external is None and not dataset.is_virtual and _native(dataset)


def _native(dataset: Any) -> bool:
    return bool(dataset.dtype.isnative and not dataset.dtype.hasobject)


def _open_plain(path: Path) -> Any:
    return h5py.File(path, "r", locking=False)


def _dataset_reader(name: str) -> Callable[[Any, NDArray[np.int64]], NDArray[Any]]:
    def read(file: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
        dataset = file[name]
        return np.stack([dataset[row] for row in rows.tolist()])

    return read


def episode_frames(
    episode: Episode, streams: Sequence[str]
) -> tuple[AlignedEpisode, dict[str, StoredFrames]]:
    """An episode's alignment, and where the samples of each of its transitions lie.

    Vectors, which alignment may interpolate, come into memory; pictures stay where they are.

    Raises:
        EpisodeError: it does not align, or has no such stream.
    """
    pictures = [name for name in streams if len(episode.stream(name).shape) == 3]
    aligned = align_episode(episode, [name for name in streams if name not in pictures])
    found = {
        name: StoredFrames(None, values.shape[1:], values.dtype, values=values[:-1])
        for name, values in aligned.observations.items()
    }
    for name, rows in _rows(episode, aligned, pictures).items():
        found[name] = _stored(episode, episode.streams[name], rows)
    return aligned, found


def _rows(episode: Episode, aligned: AlignedEpisode, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Which sample of each picture stream each transition sees, chosen as alignment chooses."""
    contract = episode.contract
    wanted = dict.fromkeys((contract.reference, *names)) if names else {}
    specs = {name: contract.observations[name] for name in wanted}
    if not specs:
        return {}
    clocks = stream_clocks(specs, contract.reference)
    for name, clock in clocks.items():
        stream = episode.streams[name]
        for stamp_ns, recv_ns in zip(stream.stamp_ns.tolist(), stream.recv_ns.tolist(), strict=True):
            clock.push(stamp_ns, recv_ns)
    rows = {name: np.zeros(len(aligned), np.int64) for name in names}
    max_age_ns = specs[contract.reference].max_age_ns
    for k, tick_ns in enumerate(aligned.tick_ns[:-1].tolist()):
        for clock in clocks.values():
            clock.receive(tick_ns)
        picked = pick_all(clocks, contract.reference, max_age_ns, tick_ns)
        if isinstance(picked, NotReady):
            raise DatasetError(f"{episode.path}: tick {tick_ns} ns aligned once and does not again.")
        for name in names:
            rows[name][k] = picked[1][name].first
    return rows


def _stored(episode: Episode, stream: Stream, rows: NDArray[np.int64]) -> StoredFrames:
    offsets = _raw_offsets(stream)
    if offsets is not None:
        return StoredFrames(episode.path, stream.shape, stream.dtype, offsets=offsets[rows])
    name = stream.name

    def read(opened: Episode, wanted: NDArray[np.int64]) -> NDArray[Any]:
        return opened.streams[name].read(wanted)

    return StoredFrames(episode.path, stream.shape, stream.dtype, rows=rows, read=read, open=Episode.open)


def _raw_offsets(stream: Stream) -> NDArray[np.int64] | None:
    """Where each sample begins in the file, (N,); None unless each is one chunk that is stored as it is."""
    data = stream._group["data"]
    shape, size = stream.shape, int(np.prod(stream.shape, dtype=np.int64)) * stream.dtype.itemsize
    if stream.encoding != "raw" or data.chunks != (1, *shape) or data.compression or not _native(data):
        return None
    offsets = np.full(len(stream), -1, np.int64)

    def note(chunk: Any) -> None:
        row = int(chunk.chunk_offset[0])
        if row < len(offsets) and chunk.size == size and chunk.byte_offset is not None:
            offsets[row] = chunk.byte_offset

    data.id.chunk_iter(note)
    return None if (offsets < 0).any() else offsets
