"""What a recording gathers in memory between two flushes, per stream, and how it goes to the file.

An interrupt can come between any two steps. So a sample is taken by one append, a block is written to fixed
rows, which may happen twice, and forgotten by one assignment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import EpisodeError
from episodes.jpeg import encode_jpeg
from episodes.layout import Attribute, StreamSpec, write_rows


@dataclass
class Count:
    """What is counted of a stream while it is recorded."""

    samples: int = 0
    dropped: int = 0
    gap_max_ns: int = 0
    """Longest time between the stamps of two samples in a row, ns."""
    first_ns: int = 0
    last_ns: int = 0

    def add(self, stamp_ns: int) -> None:
        """Count a sample."""
        if self.samples:
            self.gap_max_ns = max(self.gap_max_ns, stamp_ns - self.last_ns)
            self.first_ns = min(self.first_ns, stamp_ns)
            self.last_ns = max(self.last_ns, stamp_ns)
        else:
            self.first_ns = self.last_ns = stamp_ns
        self.samples += 1

    def attributes(self, written: int) -> dict[str, Attribute]:
        """As file attributes, with `written` samples in the file; the rate is the mean one."""
        span_ns = self.last_ns - self.first_ns
        rate_hz = (self.samples - 1) * 1e9 / span_ns if span_ns > 0 else 0.0
        return {
            "samples": written,
            "dropped": self.dropped + max(0, self.samples - written),
            "gap_max_ns": self.gap_max_ns,
            "rate_hz": rate_hz,
        }


@dataclass
class Block:
    """Samples that wait, each with its stamps, and the rows where they go."""

    start: int = 0
    """Row of the first one."""
    start_byte: int = 0
    """Where its bytes begin, for samples stored as flat bytes."""
    size: int = 0
    """Bytes that wait."""
    samples: list[tuple[NDArray[Any], tuple[int, ...]]] = field(default_factory=list)

    def stamps(self, column: int) -> NDArray[np.int64]:
        """One of the stamps of every sample."""
        return np.array([stamps[column] for _, stamps in self.samples], dtype=np.int64)

    def values(self) -> list[NDArray[Any]]:
        """The samples without their stamps."""
        return [value for value, _ in self.samples]


class Sink:
    """What streams, commands and events have in common: a block that waits and is written in two steps."""

    stamp_columns: tuple[str, ...] = ()
    """Datasets of the stamps in the order of a sample's stamps; written last, the first one last of all."""

    def __init__(self, group: Any) -> None:
        self.count = Count()
        self._datasets = {name: group[name] for name in group}
        self._block = Block()
        self._flat: str | None = None

    @property
    def pending_bytes(self) -> int:
        """Size of the samples that wait."""
        return self._block.size

    @property
    def written(self) -> int:
        """How many samples stand in the file."""
        return self._block.start

    def rows(self) -> dict[str, int]:
        """How many rows of each dataset were written whole."""
        return {
            name: self._block.start_byte if name == self._flat else self._block.start
            for name in self._datasets
        }

    def _take(self, value: NDArray[Any], *stamps: int) -> None:
        self._block.samples.append((value, stamps))
        self._block.size += value.nbytes + 64
        self.count.add(stamps[0])

    def write_data(self) -> None:
        """Write the samples themselves."""
        block = self._block
        if not block.samples:
            return
        if self._flat is None:
            self._write_values(block)
            return
        flat = np.concatenate(block.values())
        ends = block.start_byte + np.cumsum([len(v) for v in block.values()], dtype=np.int64)
        write_rows(self._datasets[self._flat], block.start_byte, flat)
        write_rows(self._datasets["offsets"], block.start, ends)

    def _write_values(self, block: Block) -> None:
        write_rows(self._datasets["data"], block.start, np.stack(block.values()))

    def write_stamps(self) -> None:
        """Write the stamps, once the samples are on their way to the disk."""
        block = self._block
        if block.samples:
            for column in reversed(range(len(self.stamp_columns))):
                write_rows(self._datasets[self.stamp_columns[column]], block.start, block.stamps(column))

    def commit(self) -> None:
        """Forget what was written."""
        block = self._block
        flat = sum(len(value) for value in block.values()) if self._flat is not None else 0
        self._block = Block(block.start + len(block.samples), block.start_byte + flat)


class StreamSink(Sink):
    """Samples of one observation or extra stream."""

    stamp_columns = ("stamp_ns", "recv_ns")

    def __init__(self, group: Any, spec: StreamSpec) -> None:
        super().__init__(group)
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._flat = "data" if spec.encoding == "jpeg" else None

    def add(self, value: ArrayLike, stamp_ns: int, recv_ns: int) -> None:
        """Take a copy of one sample; EpisodeError when shape or dtype do not fit."""
        array = np.asarray(value)
        spec = self._spec
        if array.shape != spec.shape:
            raise EpisodeError(f"a sample of shape {array.shape} came where {spec.shape} belongs.")
        picture = len(spec.shape) == 3
        if array.dtype != self._dtype and (
            picture or not np.can_cast(array.dtype, self._dtype, casting="same_kind")
        ):
            raise EpisodeError(f"a sample of dtype {array.dtype} came where {spec.dtype} belongs.")
        with np.errstate(over="ignore"):
            sample = np.array(array, dtype=self._dtype, order="C")
        self._take(encode_jpeg(sample) if self.is_jpeg else sample, stamp_ns, recv_ns)

    @property
    def is_jpeg(self) -> bool:
        """Whether the samples are stored as JPEG bytes."""
        return self._spec.encoding == "jpeg"

    def add_jpeg(self, data: NDArray[np.uint8], stamp_ns: int, recv_ns: int) -> None:
        """Take a copy of one picture that is JPEG already; EpisodeError when these are no JPEG bytes."""
        if not self.is_jpeg:
            raise EpisodeError(f"it is stored as {self._spec.encoding}: append pictures, not JPEG bytes.")
        sample = np.array(data)
        if sample.ndim != 1 or sample.dtype != np.uint8 or sample[:2].tobytes() != b"\xff\xd8":
            raise EpisodeError(f"{sample.size} values of dtype {sample.dtype} are no JPEG bytes.")
        self._take(sample, stamp_ns, recv_ns)


class CommandSink(Sink):
    """Commands with the observation that each was computed from and who sent it."""

    stamp_columns = ("stamp_ns", "recv_ns", "observation_ns", "source")

    def __init__(self, group: Any) -> None:
        super().__init__(group)
        self._shape = group["values"].shape[1:]
        self._names: list[str] = json.loads(group.attrs["names"])

    def add(self, value: ArrayLike, stamp_ns: int, recv_ns: int, observation_ns: int, source: int) -> None:
        """Take a copy of one command; EpisodeError when it has the wrong length or is not finite."""
        array = np.asarray(value)
        if array.shape != self._shape:
            raise EpisodeError(
                f"a command of shape {array.shape} came where {self._shape} belongs ({self._names})."
            )
        if not np.can_cast(array.dtype, np.float64, casting="same_kind"):
            raise EpisodeError(f"a command of dtype {array.dtype} came where float64 belongs.")
        array = np.array(array, dtype=np.float64)
        if not np.isfinite(array).all():
            joint = self._names[int(np.flatnonzero(~np.isfinite(array))[0])]
            raise EpisodeError(f"the command at {stamp_ns} ns is not finite in {joint!r}: {array.tolist()}.")
        self._take(array, stamp_ns, recv_ns, observation_ns, source)

    def _write_values(self, block: Block) -> None:
        write_rows(self._datasets["values"], block.start, np.stack(block.values()))


class EventSink(Sink):
    """Events, each a line of JSON."""

    stamp_columns = ("stamp_ns",)

    def __init__(self, group: Any) -> None:
        super().__init__(group)
        self._flat = "text"

    def add(self, name: str, value: object, stamp_ns: int) -> None:
        """Take one event; EpisodeError when JSON cannot hold its value."""
        try:
            text = json.dumps({"name": name, "value": value}).encode("utf-8")
        except (TypeError, ValueError) as error:
            raise EpisodeError(f"the value {value!r} does not fit into JSON ({error}).") from error
        self._take(np.frombuffer(text, dtype=np.uint8), stamp_ns)
