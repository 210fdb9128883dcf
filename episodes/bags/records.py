"""What a bag file gives, whatever its storage: topics with their types, and messages with receive stamps."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from backports import zstd

from episodes.errors import EpisodeError

JUMP_NS = 6 * 3600 * 10**9
"""A receive stamp this far from all around it is damaged."""

_AHEAD = 4
_ZSTD = b"\x28\xb5\x2f\xfd"


class BagError(EpisodeError):
    """Raised when a bag holds nothing that can be imported."""


class Record(NamedTuple):
    """One message as it stands in the bag."""

    topic: str
    recv_ns: int
    """When the recorder received it, int64 ns."""
    data: bytes | memoryview
    """CDR, maybe compressed."""


class BagFile(Protocol):
    """One storage file, read from its start to its end without trust in any index.

    `damage` grows while `records` runs: one sentence for everything that is missing.
    """

    path: Path
    damage: list[str]
    seen: Counter[str]
    """Messages of each topic that `records` found, also of those not asked for."""
    declared: dict[str, int]
    """Messages of each topic that the file says it holds, where it says so."""

    def topics(self) -> dict[str, str]:
        """Message type of each topic, as far as they can be told without the messages."""

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Messages of these topics in the order of the file."""


def steady(records: Iterable[Record], lost: list[str]) -> Iterator[Record]:
    """Leave out single records whose receive stamp is far from all around it: a flipped bit in a stamp.

    A pause of any length stays, for what comes after it lies together. Each that is left out is told in
    `lost`.
    """
    source = iter(records)
    ahead: deque[Record] = deque()
    last_ns: int | None = None
    while True:
        record = ahead.popleft() if ahead else next(source, None)
        if record is None:
            return
        if last_ns is None or abs(record.recv_ns - last_ns) > JUMP_NS:
            ahead.extend(islice(source, _AHEAD - len(ahead)))
            near = any(abs(record.recv_ns - other.recv_ns) <= JUMP_NS for other in ahead)
            if not near and (ahead or last_ns is not None):
                lost.append(
                    f"a message of {record.topic} was left out: its receive stamp {record.recv_ns} ns is far "
                    "from those of its neighbours"
                )
                continue
        last_ns = record.recv_ns
        yield record


def uncompressed(data: bytes | memoryview) -> bytes | memoryview:
    """The CDR bytes of a message; rosbag2 may have compressed each one (zstd).

    Raises:
        ValueError: the compressed bytes are damaged.
    """
    if bytes(data[:4]) != _ZSTD:
        return data
    try:
        return zstd.decompress(bytes(data))
    except zstd.ZstdError as error:
        raise ValueError(f"a compressed message is damaged ({error})") from error
