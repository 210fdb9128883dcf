"""The recorder's state as `episode/status` carries it: flat keys, and one line of JSON per stream."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ros_nodes.recorder.watching import StreamWatch

IDLE, RECORDING, FAILED = "idle", "recording", "failed"
_STREAM = "stream."


@dataclass(frozen=True)
class StreamStatus:
    """One stream, or one topic that commands come from."""

    name: str
    samples: int
    """Since the beginning of the episode; before it, since the recorder's."""
    rate_hz: float
    lost: int
    """Published, but never received."""
    gaps: int
    gap_max_ms: float
    age_ms: float | None
    """Time since the last sample, None before the first."""
    problem: str = ""
    """Why the last message was refused."""

    @classmethod
    def of(cls, name: str, watch: StreamWatch, now_ns: int, problem: str) -> StreamStatus:
        """What is watched of a stream, at `now_ns` of the monotonic clock."""
        age_ns = watch.age_ns(now_ns)
        return cls(
            name=name,
            samples=watch.samples,
            rate_hz=round(watch.rate_hz(now_ns), 2),
            lost=watch.lost,
            gaps=watch.gaps,
            gap_max_ms=round(watch.gap_max_ns / 1e6, 1),
            age_ms=None if age_ns is None else round(age_ns / 1e6, 1),
            problem=problem,
        )


@dataclass(frozen=True)
class RecorderStatus:
    """All that a terminal shows."""

    state: str = IDLE
    """idle, recording or failed: idle after an episode that could not go on."""
    error: str = ""
    """What went wrong, in words for the operator."""
    note: str = ""
    """What happened last."""
    episodes: int = 0
    """Episodes that this recorder has finished."""
    in_dataset: int = 0
    """Episodes in the dataset."""
    closing: int = 0
    """Episodes that are still being written out."""
    path: str = ""
    elapsed_s: float = 0.0
    """Length of the episode so far."""
    samples: int = 0
    dropped: int = 0
    """Samples that found the buffer full."""
    undecodable: int = 0
    """Messages that do not fit the contract."""
    queued: int = 0
    """Samples that wait for the disk."""
    queued_mib: float = 0.0
    buffer_mib: int = 0
    bytes_free: int | None = None
    """Room on the disk, None where the folder is gone."""
    bytes_per_s: float = 0.0
    """What an episode takes of it, estimated."""
    robot: str = ""
    dataset: str = ""
    task: str = ""
    operator: str = ""
    streams: tuple[StreamStatus, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing asks for the operator."""
        return not self.error and not any(stream.problem for stream in self.streams)


def to_pairs(status: RecorderStatus) -> list[tuple[str, str]]:
    """Key and value of each entry of the message."""
    pairs = [
        (field.name, _text(getattr(status, field.name)))
        for field in dataclasses.fields(status)
        if field.name not in ("state", "streams")
    ]
    for number, stream in enumerate(status.streams):
        pairs.append((f"{_STREAM}{number}", json.dumps(dataclasses.asdict(stream))))
    return pairs


def from_pairs(state: str, pairs: Iterable[tuple[str, str]]) -> RecorderStatus:
    """Inverse of `to_pairs`; keys that another version wrote are left out."""
    values = dict(pairs)
    kinds = {field.name: str(field.type) for field in dataclasses.fields(RecorderStatus)}
    known = {name: _value(kinds[name], text) for name, text in values.items() if name in kinds}
    streams = [StreamStatus(**json.loads(text)) for key, text in values.items() if key.startswith(_STREAM)]
    return RecorderStatus(**{**known, "state": state, "streams": tuple(streams)})  # type: ignore[arg-type]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _value(kind: str, text: str) -> object:
    readers: Mapping[str, type] = {"int": int, "float": float}
    if kind == "int | None":
        return int(text) if text else None
    return readers.get(kind, str)(text)
