"""MCAP files as a stream of records, whole, cut short or damaged.

The index at the end is used only to learn the topics of a whole file; messages are read from the start, chunk
by chunk, and each chunk's checksum is verified where the writer made one. A chunk that fails is left out and
told. Where the length of a record makes no sense, what is left of the file is searched for the next chunk or
message, so that a flipped byte costs a chunk and not the rest. The records of an uncompressed chunk that was
cut short are read like records of the file.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from episodes.bags.mcap_format import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    DATA_END,
    FOOTER,
    HEAD,
    KNOWN,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    SCHEMA,
    STATISTICS,
    decompress,
    find_record,
    read_text,
)
from episodes.bags.records import BagError, Record

_FOOTER_BYTES = 9 + 20 + 8
_SEARCH_BYTES = 4 << 20
_OVERLAP = 128


class McapFile:
    """One .mcap file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._size = path.stat().st_size
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, int]] = {}
        self.seen: Counter[str] = Counter()
        self.declared: dict[str, int] = {}
        self._counts: dict[int, int] = {}
        self._last_ns: int | None = None
        self._plain = False

    def topics(self) -> dict[str, str]:
        """Message type of each topic, from the index, or by reading everything where there is none.

        Raises:
            BagError: the file holds nothing of MCAP.
        """
        with self.path.open("rb") as file:
            if not self._summary(file):
                self._schemas.clear()
                self._channels.clear()
                for _ in self._messages(file, ()):
                    pass
        if not self._channels:
            raise BagError(
                f"{self.path}: there is no topic in these {self._size} bytes: it is no MCAP file, or nothing "
                "of it is left. Copy it again from its source."
            )
        return {
            topic: self._schemas.get(schema, "") for topic, schema in dict(self._channels.values()).items()
        }

    def _summary(self, file: BinaryIO) -> bool:
        """Learn the topics from the index at the end of a whole file; False where it is not whole."""
        if self._size < _FOOTER_BYTES + len(MAGIC):
            return False
        file.seek(self._size - _FOOTER_BYTES)
        footer = file.read(_FOOTER_BYTES)
        opcode, length = HEAD.unpack_from(footer)
        (start,) = struct.unpack_from("<Q", footer, 9)
        if footer[-8:] != MAGIC or (opcode, length) != (FOOTER, 20) or not 8 <= start < self._size:
            return False
        file.seek(start)
        summary = file.read(self._size - start)
        position, whole = 0, False
        while position + 9 <= len(summary):
            opcode, length = HEAD.unpack_from(summary, position)
            position += 9
            if opcode == FOOTER or length > len(summary) - position:
                return whole
            try:
                self._note(opcode, summary[position : position + length])
            except (struct.error, ValueError):
                return False
            whole = whole or opcode == STATISTICS
            position += length
        return False

    def _note(self, opcode: int, content: bytes | memoryview) -> None:
        """Remember a schema, a channel or the statistics; what came first holds."""
        if opcode == SCHEMA:
            (number,) = struct.unpack_from("<H", content)
            self._schemas.setdefault(number, read_text(content, 2)[0])
        elif opcode == CHANNEL:
            number, schema = struct.unpack_from("<HH", content)
            self._channels.setdefault(number, (read_text(content, 4)[0], schema))
        elif opcode == STATISTICS:
            (size,) = struct.unpack_from("<I", content, 42)
            self._counts = dict(struct.iter_unpack("<HQ", content[46 : 46 + size]))

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Messages of these topics in the order of the file."""
        self.damage = []
        self.seen = Counter()
        self._last_ns = None
        self.declared = {}
        for number, count in self._counts.items():
            topic = self._channels.get(number, ("", 0))[0]
            self.declared[topic] = self.declared.get(topic, 0) + count
        with self.path.open("rb") as file:
            yield from self._messages(file, topics)

    def _tell(self, text: str) -> None:
        self.damage.append(f"{self.path}: {text}")

    def _messages(self, file: BinaryIO, topics: Collection[str]) -> Iterator[Record]:
        file.seek(0)
        if (magic := file.read(8)) != MAGIC:
            self._tell(f"it does not begin like an MCAP file ({magic!r})")
        position = 8
        while position < self._size:
            file.seek(position)
            head = file.read(9)
            opcode, length = HEAD.unpack(head) if len(head) == 9 else (0, 0)
            following = position + 9 + length
            if opcode == DATA_END and length == 4:
                file.seek(max(0, self._size - len(MAGIC)))
                if file.read() != MAGIC:
                    self._tell("it was cut short behind its last message")
                return
            impossible = (opcode == CHUNK and length < 40) or opcode == DATA_END
            if opcode not in KNOWN or following > self._size or impossible:
                cut = opcode == CHUNK and following > self._size and self._is_chunk(file, position, length)
                if cut:
                    yield from self._cut_chunk(file, position, topics)
                found = self._inside_chunk(file, position) or self._search(file, position + 1)
                if found is None or (following > self._size and not cut):
                    self._tell(
                        f"it is damaged or cut short at byte {position} of {self._size}{self._last_message()}"
                    )
                elif not cut:
                    self._tell(f"bytes {position} to {found} are damaged")
                if found is None:
                    return
                position = found
                continue
            if opcode in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
                content = memoryview(file.read(length))
                self._plain = self._plain or opcode == MESSAGE
                if opcode == CHUNK:
                    yield from self._chunk(content, position, topics)
                else:
                    yield from self._record(opcode, content, position, topics)
            position = following
        self._tell(
            f"it was cut short or never closed: there is no end mark in its {self._size} bytes"
            + self._last_message()
        )

    def _last_message(self) -> str:
        return "" if self._last_ns is None else f"; the last message is of {self._last_ns} ns"

    def _is_chunk(self, file: BinaryIO, position: int, length: int) -> bool:
        """Whether the inner lengths of the chunk at `position` agree with its outer one."""
        file.seek(position + 9)
        with suppress(struct.error, ValueError):
            head = file.read(64)
            name, place = read_text(head, CHUNK_HEAD.size - 4)
            (records,) = struct.unpack_from("<Q", head, place)
            return bool(records == length - 40 - len(name))
        return False

    def _record(self, opcode: int, content: memoryview, at: int, topics: Collection[str]) -> Iterator[Record]:
        try:
            if opcode != MESSAGE:
                self._note(opcode, content)
                return
            number, _, recv_ns, _ = MESSAGE_HEAD.unpack_from(content)
        except (struct.error, ValueError) as error:
            self._tell(f"the record at byte {at} is damaged ({error})")
            return
        channel = self._channels.get(number)
        if channel is None or recv_ns >= 2**63:
            self._tell(f"the message at byte {at} is damaged: there is no topic {number}")
            return
        self.seen[channel[0]] += 1
        self._last_ns = recv_ns
        if channel[0] in topics:
            yield Record(channel[0], recv_ns, content[MESSAGE_HEAD.size :])

    def _chunk(self, content: memoryview, at: int, topics: Collection[str]) -> Iterator[Record]:
        try:
            start_ns, end_ns, size, checksum, _ = CHUNK_HEAD.unpack_from(content)
            name, place = read_text(content, CHUNK_HEAD.size - 4)
            data = decompress(name, content[place + 8 :])
            self._plain = self._plain or not name
            if len(data) != size:
                raise ValueError(f"{len(data)} bytes where {size} belong")
            if checksum and crc32(data) != checksum:
                raise ValueError("its checksum does not hold")
        except (ValueError, struct.error) as error:
            times = f", of {start_ns} to {end_ns} ns," if len(content) >= 16 else ""
            self._tell(f"the chunk at byte {at}{times} is damaged ({error}): its messages are left out")
            return
        yield from self._inner(memoryview(data), at, topics)

    def _inner(self, data: memoryview, at: int, topics: Collection[str]) -> Iterator[Record]:
        position = 0
        while position + 9 <= len(data):
            opcode, length = HEAD.unpack_from(data, position)
            if opcode not in KNOWN or length > len(data) - position - 9:
                found = find_record(data, position + 1, len(data), self._channels, self._last_ns)
                self._tell(f"the chunk at byte {at} is damaged {position} bytes from its start")
                if found is None:
                    return
                position = found
                continue
            content = data[position + 9 : position + 9 + length]
            yield from self._record(opcode, content, at, topics)
            position += 9 + length

    def _cut_chunk(self, file: BinaryIO, position: int, topics: Collection[str]) -> Iterator[Record]:
        """What can be decompressed of a compressed chunk that reaches behind the end of the file."""
        file.seek(position + 9)
        content = memoryview(file.read(self._size - position - 9))
        data = memoryview(b"")
        with suppress(ValueError, struct.error):
            name, place = read_text(content, CHUNK_HEAD.size - 4)
            if name:
                data = memoryview(decompress(name, content[place + 8 :], whole=False))
        yield from self._inner(data, position, topics)

    def _inside_chunk(self, file: BinaryIO, position: int) -> int | None:
        """Where the records of an uncompressed chunk begin whose length is wrong or too large."""
        file.seek(position)
        head = file.read(9 + CHUNK_HEAD.size + 8)
        if len(head) == 9 + CHUNK_HEAD.size + 8 and head[0] == CHUNK and head[37:41] == bytes(4):
            self._plain = True
            return position + len(head)
        return None

    def _search(self, file: BinaryIO, position: int) -> int | None:
        """The next byte from `position` on where a chunk or a message begins."""
        channels: Collection[int] = self._channels if self._plain else ()
        while position < self._size:
            file.seek(position)
            window = memoryview(file.read(_SEARCH_BYTES))
            found = find_record(window, 0, self._size - position, channels, self._last_ns)
            if found is not None:
                return position + found
            if position + len(window) >= self._size:
                return None
            position += max(1, len(window) - _OVERLAP)
        return None
