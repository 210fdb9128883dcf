"""One open episode as the checks see it: what its edits keep of it, each thing read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.checks.thresholds import Thresholds
from episodes.contract import Contract
from episodes.errors import EpisodeError
from episodes.layout import Attribute
from episodes.reader import Commands, Episode, Stream

_POSITIONS = (
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/PoseStamped",
)


@dataclass(frozen=True)
class Samples:
    """The samples of one stream that the edits keep, N in the order of their arrival."""

    stream: Stream
    rows: NDArray[np.int64]
    """(N,) their numbers in the file."""
    stamp_ns: NDArray[np.int64]
    """(N,)"""
    recv_ns: NDArray[np.int64]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(N, n) of a stream of vectors."""
        return self.stream.read(self.rows).reshape(len(self), -1).astype(np.float64)


@dataclass(frozen=True)
class Pictures:
    """What one reading of a stream of pictures tells; all arrays are over its N samples or some of them."""

    same: NDArray[np.bool_]
    """(N,) whether it is, pixel for pixel, the one before."""
    dark: NDArray[np.float64]
    """(S,) mean brightness of the sampled ones, 1 for white; of depth, the share of pixels with a value."""
    bright: NDArray[np.float64]
    """(S,) share of white pixels of the sampled ones; 0 for depth."""
    cut: int
    """JPEG pictures without their end."""
    damaged: int
    """Sampled pictures that cannot be decoded."""
    is_depth: bool


@dataclass(frozen=True)
class Motion:
    """Where the measured joints were: the entries that move at all, each as a share of its way."""

    stamp_ns: NDArray[np.int64]
    """(N,) rising."""
    values: NDArray[np.float64]
    """(N, n)"""

    def within(self, start_ns: int, end_ns: int) -> float:
        """How far the entry that moves most goes between two moments."""
        rows = slice(*np.searchsorted(self.stamp_ns, [start_ns, end_ns + 1]))
        inside = self.values[rows]
        return float(np.ptp(inside, axis=0).max()) if inside.size else 0.0


@dataclass(frozen=True)
class Subject:
    """An open episode, its edits applied."""

    episode: Episode
    recorded: Mapping[str, Attribute]
    """The attributes without edits."""
    dataset: Contract | None
    """The contract of its dataset, None for a file alone."""
    thresholds: Thresholds

    @property
    def contract(self) -> Contract:
        """The contract that it was recorded with."""
        return self.episode.contract

    def samples(self, name: str) -> Samples:
        """The samples of a stream that the edits keep; EpisodeError when it is damaged or not there."""
        if name not in self._samples:
            stream = self.episode.stream(name)
            rows = np.flatnonzero(self._kept(stream.recv_ns))
            self._samples[name] = Samples(stream, rows, stream.stamp_ns[rows], stream.recv_ns[rows])
        return self._samples[name]

    @cached_property
    def _samples(self) -> dict[str, Samples]:
        return {}

    @cached_property
    def _pictures(self) -> dict[str, Pictures]:
        return {}

    def _kept(self, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        first_ns, last_ns = self.episode.window_ns
        return (times_ns >= (first_ns or 0)) & (times_ns <= (last_ns if last_ns is not None else 2**63 - 1))

    @cached_property
    def commands(self) -> Commands | None:
        """The commands that the edits keep, None when there is none."""
        found = self.episode.commands
        if found is None:
            return None
        rows = self._kept(found.recv_ns)
        if not rows.any():
            return None
        return Commands(
            values=found.values[rows],
            stamp_ns=found.stamp_ns[rows],
            recv_ns=found.recv_ns[rows],
            observation_ns=found.observation_ns[rows],
            source=found.source[rows],
            names=found.names,
        )

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """The contract's observation streams that are in the file."""
        return tuple(name for name in self.contract.observations if name in self.episode.streams)

    @cached_property
    def filled(self) -> tuple[str, ...]:
        """Those of them that hold a sample."""
        return tuple(name for name in self.observed if len(self.samples(name)))

    @cached_property
    def image_streams(self) -> tuple[str, ...]:
        """All streams of pictures that hold a sample, the ones that the contract does not name too."""
        return tuple(n for n, s in self.episode.streams.items() if len(s.shape) == 3 and len(self.samples(n)))

    @cached_property
    def vector_streams(self) -> tuple[str, ...]:
        """All streams of vectors that hold a sample."""
        return tuple(n for n, s in self.episode.streams.items() if len(s.shape) < 3 and len(self.samples(n)))

    @cached_property
    def span_ns(self) -> tuple[int, int]:
        """First and last source stamp of all observations and commands; EpisodeError when there is none."""
        stamps = [self.samples(name).stamp_ns for name in self.filled]
        stamps += [self.commands.stamp_ns] if self.commands is not None else []
        if not stamps:
            raise EpisodeError(f"{self.episode.path}: it holds neither an observation nor a command.")
        return min(int(s.min()) for s in stamps), max(int(s.max()) for s in stamps)

    @cached_property
    def position_streams(self) -> tuple[str, ...]:
        """The contract's streams with samples that measure where something is: no speeds, no efforts."""
        return tuple(
            name
            for name in self.filled
            if (spec := self.contract.observations[name]).type in _POSITIONS
            and spec.field in (None, "position")
            and spec.align in ("linear", "slerp")
        )

    @cached_property
    def motion(self) -> Motion | None:
        """The measured positions; None when nothing measures any, or nothing moves."""
        parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        for name in self.position_streams:
            samples = self.samples(name)
            stamps, rows = np.unique(samples.stamp_ns, return_index=True)
            values = samples.values[rows]
            span = np.ptp(np.where(np.isfinite(values), values, 0.0), axis=0)
            moving = (span > self.thresholds.still) & np.isfinite(values).all(axis=0)
            if moving.any():
                parts.append((stamps, values[:, moving] / span[moving]))
        if not parts:
            return None
        times = np.unique(np.concatenate([stamps for stamps, _ in parts]))
        columns = [np.interp(times, stamps, column) for stamps, values in parts for column in values.T]
        return Motion(times, np.stack(columns, axis=1))

    def pictures(self, name: str) -> Pictures:
        """Read all pictures of a stream once; EpisodeError when they cannot be read."""
        if name not in self._pictures:
            self._pictures[name] = _look(self.samples(name), self.thresholds.picture_samples)
        return self._pictures[name]


def _look(samples: Samples, count: int) -> Pictures:
    jpeg, depth = samples.stream.encoding == "jpeg", samples.stream.dtype != np.uint8
    same = np.zeros(len(samples), np.bool_)
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(np.int64))
    wanted = set(samples.rows[chosen].tolist())
    place = {row: k for k, row in enumerate(samples.rows.tolist())}
    cut = damaged = 0
    dark, bright = [], []
    before: NDArray[Any] | None = None
    for row, stored in enumerate(samples.stream.stored()):
        if row not in place:
            continue
        same[place[row]] = before is not None and _equal(before, stored)
        before = stored
        whole = not jpeg or stored[-2:].tobytes() == b"\xff\xd9"
        cut += not whole
        if row not in wanted:
            continue
        try:
            picture = samples.stream.read(np.array([row])) if jpeg else stored
        except EpisodeError:
            damaged += whole
            continue
        if depth:
            dark.append(float((np.isfinite(picture) & (picture > 0)).mean()))
            bright.append(0.0)
        else:
            dark.append(float(picture.mean()) / 255.0)
            bright.append(float((picture >= 250).all(axis=-1).mean()))
    return Pictures(same, np.array(dark), np.array(bright), cut, damaged, depth)


def _equal(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two samples are the same to the bit; most differ within the first bytes."""
    if first.shape != second.shape:
        return False
    head_first, head_second = first.reshape(-1)[:4096], second.reshape(-1)[:4096]
    return head_first.tobytes() == head_second.tobytes() and first.tobytes() == second.tobytes()
