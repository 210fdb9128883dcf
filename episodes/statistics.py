"""Statistics of a dataset, streaming: each episode is read once, in any number of processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from episodes.contract import Contract, Source
from episodes.dataset import Dataset, EpisodeInfo, usable
from episodes.errors import EpisodeError
from episodes.jobs import for_each
from episodes.reader import Commands, Episode, Stream
from episodes.sketch import Sketch

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass
class StreamStatistics:
    """What is known of one stream over all episodes."""

    names: tuple[str, ...]
    """Entries, or the channels of pictures."""
    values: list[Sketch]
    """One per entry."""
    samples: int = 0
    episodes: int = 0
    dropped: int = 0
    looked_into: int = 0
    """Samples whose values are in `values`: all vectors, some of the pictures."""
    rate_hz: Sketch = field(default_factory=Sketch)
    """Mean rate of each episode."""
    gap_s: Sketch = field(default_factory=Sketch)
    """Longest gap of each episode."""

    def merge(self, other: StreamStatistics) -> None:
        """Add another part of the dataset."""
        for mine, theirs in zip(self.values, other.values, strict=True):
            mine.merge(theirs)
        for key in ("samples", "episodes", "dropped", "looked_into"):
            setattr(self, key, getattr(self, key) + getattr(other, key))
        self.rate_hz.merge(other.rate_hz)
        self.gap_s.merge(other.gap_s)


@dataclass
class Statistics:
    """What is known of a dataset, or of a part of it."""

    streams: dict[str, StreamStatistics] = field(default_factory=dict)
    """Per stream, the commands under "commands"."""
    histograms: dict[str, list[int]] = field(default_factory=dict)
    """Of each action entry: how many commands lie below its limits, in each of equal bins between them, and
    above."""
    seconds: Sketch = field(default_factory=Sketch)
    """Duration of each episode."""
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Episodes by task, outcome and who said so."""
    sources: Counter[str] = field(default_factory=Counter)
    """Commands by who issued them."""

    def merge(self, other: Statistics) -> None:
        """Add another part of the dataset."""
        for name, stream in other.streams.items():
            if name in self.streams:
                self.streams[name].merge(stream)
            else:
                self.streams[name] = stream
        for name, counts in other.histograms.items():
            mine = self.histograms.setdefault(name, [0] * len(counts))
            self.histograms[name] = [a + b for a, b in zip(mine, counts, strict=True)]
        self.seconds.merge(other.seconds)
        self.outcomes.update(other.outcomes)
        self.sources.update(other.sources)

    def as_json(self, contract: Contract) -> dict[str, Any]:
        """As plain JSON values."""
        limits = zip(contract.action_names, contract.action_lower, contract.action_upper, strict=True)
        return {
            "schema": "armchair/stats/1",
            "robot": contract.robot,
            "interface_sha256": contract.interface_sha256,
            "episodes": self.seconds.count,
            "seconds": {"total": self.seconds.mean * self.seconds.count, **_summary(self.seconds)},
            "outcomes": [
                {"task": task, "outcome": outcome, "source": source, "episodes": count}
                for (task, outcome, source), count in sorted(self.outcomes.items())
            ],
            "command_sources": dict(sorted(self.sources.items())),
            "streams": {
                name: {
                    "samples": stream.samples,
                    "episodes": stream.episodes,
                    "dropped": stream.dropped,
                    "looked_into": stream.looked_into,
                    "rate_hz": _summary(stream.rate_hz),
                    "longest_gap_s": _summary(stream.gap_s),
                    "values": {
                        entry: _summary(sketch)
                        for entry, sketch in zip(stream.names, stream.values, strict=True)
                    },
                }
                for name, stream in self.streams.items()
            },
            "actions": {
                name: {
                    "lower": float(lower),
                    "upper": float(upper),
                    "below_bins_above": self.histograms[name],
                }
                for name, lower, upper in limits
                if name in self.histograms
            },
        }


def _summary(sketch: Sketch) -> dict[str, Any]:
    if not sketch.count:
        return {"count": 0, "not_finite": sketch.not_finite}
    quantiles = sketch.quantiles(QUANTILES)
    return {
        "count": sketch.count,
        "not_finite": sketch.not_finite,
        "mean": sketch.mean,
        "std": sketch.deviation,
        "min": sketch.least,
        "max": sketch.most,
        "quantiles": {f"{share:g}": float(q) for share, q in zip(QUANTILES, quantiles, strict=True)},
    }


@dataclass(frozen=True)
class _Job:
    dataset: Path
    info: EpisodeInfo
    bins: int
    pictures: int


def statistics(
    dataset: Dataset,
    *,
    bins: int = 20,
    pictures: int = 10,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Statistics of all episodes that no edit excludes, of the parts that edits keep.

    They do not depend on `workers`.

    Args:
        dataset: the dataset.
        bins: bins of the action histograms.
        pictures: pictures of each stream and episode to look into, evenly spaced; 0 for all.
        workers: processes.
        progress: called with (done, total) episodes.

    Raises:
        DatasetError: there are no episodes.
        EpisodeError: one of them is damaged.
    """
    jobs = [_Job(dataset.path, info, bins, pictures) for info in usable(dataset)]
    total = Statistics()
    for part in for_each(_of_episode, jobs, workers, _died, progress):
        total.merge(part)
    return total


def _died(job: _Job) -> Statistics:
    raise EpisodeError(
        f"{job.info.path}: reading it killed the process that read it. "
        f"Look at it: armchair episodes check {job.info.path}"
    )


def _of_episode(job: _Job) -> Statistics:
    found = Statistics()
    info = job.info
    found.outcomes[str(info.attrs["task"]), info.outcome, str(info.attrs["outcome_source"])] += 1
    with Dataset.open(job.dataset).read(info.episode_id) as episode:
        window = episode.window_ns
        ends: list[int] = []
        for name, stream in episode.streams.items():
            rows = np.flatnonzero(_inside(stream.recv_ns, window))
            if len(rows):
                ends += [int(stream.stamp_ns[rows].min()), int(stream.stamp_ns[rows].max())]
                found.streams[name] = _of_stream(stream, rows, job.pictures)
        commands = episode.commands
        if commands is not None:
            rows = np.flatnonzero(_inside(commands.recv_ns, window))
            if len(rows):
                ends += [int(commands.stamp_ns[rows[0]]), int(commands.stamp_ns[rows[-1]])]
                _add_commands(found, episode, commands, rows, job.bins)
    found.seconds.add([(max(ends) - min(ends)) / 1e9 if ends else 0.0])
    return found


def _inside(times_ns: Any, window: tuple[int | None, int | None]) -> Any:
    return (times_ns >= (window[0] or 0)) & (times_ns <= (window[1] if window[1] is not None else 2**63 - 1))


def _of_stream(stream: Stream, rows: Any, pictures: int) -> StreamStatistics:
    image = len(stream.shape) == 3
    if image:
        names: tuple[str, ...] = ("grey",) if stream.shape[2] == 1 else ("red", "green", "blue")
        names = names if stream.dtype == np.uint8 else ("depth",)
    else:
        width = int(np.prod(stream.shape, dtype=np.int64))
        names = stream.names or tuple(str(k) for k in range(width))
    found = StreamStatistics(names, [Sketch() for _ in names], samples=len(rows), episodes=1)
    found.dropped = int(stream.attrs["dropped"])
    _add_timing(found, stream.stamp_ns[rows])
    if image and 0 < pictures < len(rows):
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, pictures).round().astype(np.int64))]
    found.looked_into = len(rows)
    for start in range(0, len(rows), 16 if image else 65536):
        block = stream.read(rows[start : start + (16 if image else 65536)])
        flat = block.reshape(-1, len(names))
        for k, sketch in enumerate(found.values):
            sketch.add(flat[:, k])
    return found


def _add_timing(found: StreamStatistics, stamp_ns: Any) -> None:
    times = np.unique(stamp_ns)
    if len(times) > 1:
        found.rate_hz.add([(len(times) - 1) * 1e9 / float(times[-1] - times[0])])
        found.gap_s.add([float(np.diff(times).max()) / 1e9])


def _add_commands(found: Statistics, episode: Episode, commands: Commands, rows: Any, bins: int) -> None:
    contract, values = episode.contract, commands.values[rows]
    stream = StreamStatistics(
        commands.names, [Sketch() for _ in commands.names], samples=len(rows), episodes=1
    )
    stream.looked_into = len(rows)
    _add_timing(stream, commands.stamp_ns[rows])
    for k, sketch in enumerate(stream.values):
        sketch.add(values[:, k])
        lower, upper = float(contract.action_lower[k]), float(contract.action_upper[k])
        counts, _ = np.histogram(values[:, k], bins=bins, range=(lower, upper))
        below, above = int((values[:, k] < lower).sum()), int((values[:, k] > upper).sum())
        found.histograms[commands.names[k]] = [below, *counts.tolist(), above]
    found.streams["commands"] = stream
    for source, count in zip(*np.unique(commands.source[rows], return_counts=True), strict=True):
        known = int(source) in tuple(Source)
        found.sources[Source(int(source)).name.lower() if known else str(int(source))] += int(count)
