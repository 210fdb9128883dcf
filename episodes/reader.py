"""Reading an episode file: streams, commands and events, decoded only where asked for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract, parse_contract
from episodes.errors import ArmchairError, EpisodeError, did_you_mean
from episodes.jpeg import decode_jpeg
from episodes.layout import PARTIAL, SCHEMA, Attribute, StreamSpec, damage, get_attributes

_HASH_BLOCK_BYTES = 16 << 20


class Stream:
    """One recorded stream; samples are in the order of their arrival."""

    def __init__(self, path: Path, name: str, group: Any) -> None:
        self.name = name
        self.attrs: dict[str, Attribute] = get_attributes(group)
        self.spec = StreamSpec.read(name, group)
        self.shape = self.spec.shape
        self.dtype = np.dtype(self.spec.dtype)
        self.names = self.spec.names
        self.unit = self.spec.unit
        self.encoding = self.spec.encoding
        self.kind = self.spec.kind
        self._path = path
        self._group = group
        self._length = int(group["stamp_ns"].shape[0])
        rows = group["offsets" if self.encoding == "jpeg" else "data"].shape[0]
        if not rows == self._length == group["recv_ns"].shape[0]:
            raise ValueError(f"stream {name!r} has {rows} samples for {self._length} stamps")

    def __len__(self) -> int:
        return self._length

    @cached_property
    def stamp_ns(self) -> NDArray[np.int64]:
        """Source stamps, (N,) int64."""
        return self._column("stamp_ns")

    @cached_property
    def recv_ns(self) -> NDArray[np.int64]:
        """Receive stamps, (N,) int64."""
        return self._column("recv_ns")

    def _column(self, name: str) -> NDArray[np.int64]:
        with damage(self._path, f"reading {name} of stream {self.name!r}"):
            return np.asarray(self._group[name][:], dtype=np.int64)

    def read(self, selection: slice | NDArray[np.integer[Any]] = slice(None)) -> NDArray[Any]:
        """Decoded samples, (n, *shape): a slice, or an array of indices in any order, repeats allowed.

        Raises:
            IndexError: an index lies outside the stream.
            EpisodeError: the samples are damaged.
        """
        if isinstance(selection, slice):
            index = np.arange(*selection.indices(self._length))
        else:
            index = np.asarray(selection, dtype=np.int64).reshape(-1)
            index = np.where(index < 0, index + self._length, index)
            if index.size and (index.min() < 0 or index.max() >= self._length):
                raise IndexError(f"stream {self.name!r} has {self._length} samples")
        if index.size == 0:
            return np.empty((0, *self.shape), self.dtype)
        wanted, place = np.unique(index, return_inverse=True)
        with damage(self._path, f"reading stream {self.name!r}"):
            samples = self._read_sorted(wanted)
            if samples.shape != (len(wanted), *self.shape) or samples.dtype != self.dtype:
                raise ValueError(f"samples of shape {samples.shape} and dtype {samples.dtype}")
        return samples if len(index) == len(wanted) and (place[:-1] < place[1:]).all() else samples[place]

    def _read_sorted(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        if self.encoding == "jpeg":
            return np.stack([self._read_jpeg(int(i)) for i in wanted])
        data = self._group["data"]
        first, last = int(wanted[0]), int(wanted[-1]) + 1
        if len(self.shape) < 3 or last - first <= 2 * len(wanted):
            block = np.asarray(data[first:last])
            return block if len(block) == len(wanted) else block[wanted - first]
        return np.stack([data[int(i)] for i in wanted])

    def _read_jpeg(self, index: int) -> NDArray[np.uint8]:
        start, end = (int(self._offsets[i]) if i >= 0 else 0 for i in (index - 1, index))
        return decode_jpeg(np.asarray(self._group["data"][start:end], dtype=np.uint8), self.shape)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        offsets = self._column("offsets")
        if (np.diff(offsets, prepend=0) <= 0).any() or (
            len(offsets) and offsets[-1] > self._group["data"].shape[0]
        ):
            raise ValueError("the offsets of the pictures do not fit their bytes")
        return offsets

    def stored(self) -> Iterator[NDArray[Any]]:
        """Each sample in turn without decoding: the bytes (n,) of a JPEG, else the sample itself.

        Raises:
            EpisodeError: the samples are damaged.
        """
        if self.encoding != "jpeg":
            for block in self.blocks():
                yield from block
            return
        with damage(self._path, f"reading stream {self.name!r}"):
            ends = self._offsets
        first = 0
        while first < len(ends):
            start = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, start + _HASH_BLOCK_BYTES, "right")))
            with damage(self._path, f"reading stream {self.name!r}"):
                data = np.asarray(self._group["data"][start : int(ends[last - 1])], dtype=np.uint8)
            yield from np.split(data, ends[first : last - 1] - start)
            first = last

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All samples in blocks of about 16 MiB, for work that must not hold everything in memory."""
        size = max(1, int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)
        rows = max(1, _HASH_BLOCK_BYTES // size)
        for start in range(0, self._length, rows):
            yield self.read(slice(start, start + rows))


@dataclass(frozen=True)
class Commands:
    """The commands that were sent, N in all, in the order of sending."""

    values: NDArray[np.float64]
    """(N, action_dim), in the contract's order and units."""
    stamp_ns: NDArray[np.int64]
    """When each was sent, (N,)."""
    recv_ns: NDArray[np.int64]
    """When the recorder received it, (N,)."""
    observation_ns: NDArray[np.int64]
    """Stamp of the observation that it was computed from, (N,); 0 for none."""
    source: NDArray[np.uint8]
    """Who sent it, (N,), see `Source`."""
    names: tuple[str, ...]
    """Names of the entries."""

    def __len__(self) -> int:
        return len(self.stamp_ns)


@dataclass(frozen=True)
class Event:
    """Something that happened while recording."""

    stamp_ns: int
    name: str
    value: Any


class Episode:
    """A finished (or recovered) episode, open for reading; a context manager."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file
        self.attrs: dict[str, Attribute] = get_attributes(file)
        if self.attrs["schema"] != SCHEMA:
            raise ValueError(f"schema {self.attrs['schema']!r} where {SCHEMA!r} belongs")
        self.episode_id = str(self.attrs["episode_id"])
        self.window_ns: tuple[int | None, int | None] = (None, None)
        """First and last tick that alignment keeps; set by a dataset whose edits trim the episode."""
        self.streams: dict[str, Stream] = {
            str(name): Stream(path, str(name), group) for name, group in file["streams"].items()
        }

    @classmethod
    def open(cls, path: Path | str) -> Episode:
        """Open the episode file `path`.

        Raises:
            EpisodeError: no such file, a partial one, one of another kind, damaged or cut short.
        """
        path = Path(path)
        if path.name.endswith(PARTIAL):
            raise EpisodeError(
                f"{path}: this recording was never finished. If nothing is writing it any more, salvage it: "
                f"armchair episodes recover {path}"
            )
        if not path.is_file():
            raise EpisodeError(f"{path}: there is no such episode file. See: armchair episodes list DATASET")
        if os.path.getsize(path) == 0:
            raise EpisodeError(f"{path}: the file is empty. Copy it again from its source, or delete it.")
        with damage(path, "opening the episode"):
            file = h5py.File(path, "r", locking=False)
            try:
                episode = cls(path, file)
                if not episode.attrs["complete"]:
                    raise ValueError("it was never completed")
            except BaseException:
                file.close()
                raise
            return episode

    def __enter__(self) -> Episode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays."""
        self._file.close()

    @cached_property
    def contract(self) -> Contract:
        """The contract that the episode was recorded with."""
        try:
            return _contract(str(self.attrs["contract"]), str(self.attrs["contract_source"]))
        except ArmchairError as error:
            raise EpisodeError(f"{self.path}: the contract inside is damaged: {error}") from error

    def stream(self, name: str) -> Stream:
        """The stream called `name`, or an EpisodeError that lists what there is."""
        if name not in self.streams:
            raise EpisodeError(
                f"{self.path}: there is no stream {name!r}; {did_you_mean(name, self.streams)}"
            )
        return self.streams[name]

    @cached_property
    def commands(self) -> Commands | None:
        """All commands, or None when none was recorded."""
        with damage(self.path, "reading the commands"):
            group = self._file["commands"]
            columns = {
                name: np.asarray(group[name][:])
                for name in ("values", "stamp_ns", "recv_ns", "observation_ns", "source")
            }
            lengths = {len(column) for column in columns.values()}
            names = tuple(str(n) for n in json.loads(str(get_attributes(group)["names"])))
            if len(lengths) != 1 or columns["values"].shape[1:] != (len(names),):
                raise ValueError("the columns of the commands differ in length")
        return Commands(**columns, names=names) if lengths != {0} else None

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """All events in the order in which they were recorded."""
        with damage(self.path, "reading the events"):
            group = self._file["events"]
            text = bytes(group["text"][:])
            ends = [int(end) for end in group["offsets"][:]]
            stamps = [int(stamp) for stamp in group["stamp_ns"][:]]
            found = []
            for start, end, stamp in zip([0, *ends], ends, stamps, strict=False):
                entry = json.loads(text[start:end])
                found.append(Event(stamp, str(entry["name"]), entry["value"]))
        return tuple(found)


@lru_cache(maxsize=64)
def _contract(text: str, source: str) -> Contract:
    return parse_contract(text, source)


def stream_hash(episode: Episode, names: Iterable[str] | None = None) -> str:
    """SHA-256 over decoded samples and source stamps of streams, and over the commands.

    Receive stamps and the way of storage do not count, so that two lock-step runs, in process or over DDS,
    compare equal exactly when they recorded the same.

    Args:
        episode: the episode.
        names: streams to include, "commands" for the commands (values, stamps, observation stamps, source);
            None for everything that holds a sample.

    Raises:
        EpisodeError: a stream is not there, or damaged.
    """
    if names is None:
        names = [name for name, stream in episode.streams.items() if len(stream)]
        names += ["commands"] if episode.commands is not None else []
    digest = hashlib.sha256()
    for name in sorted(names):
        if name == "commands":
            commands = episode.commands
            if commands is None:
                raise EpisodeError(f"{episode.path}: there are no commands to hash.")
            digest.update(f"commands {len(commands)} {commands.names}\n".encode())
            for column in (commands.values, commands.stamp_ns, commands.observation_ns, commands.source):
                digest.update(np.ascontiguousarray(column).tobytes())
            continue
        stream = episode.stream(name)
        digest.update(f"{name} {stream.dtype.str} {len(stream)} {stream.shape}\n".encode())
        digest.update(stream.stamp_ns.tobytes())
        for block in stream.blocks():
            digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()
