"""What reading needs of the MCAP format (https://mcap.dev/spec), and how to find it in damaged bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection

import lz4.frame
from backports import zstd

from episodes.bags.records import JUMP_NS

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x03, 0x04, 0x05, 0x06
STATISTICS, DATA_END, FOOTER = 0x0B, 0x0F, 0x02

HEAD = struct.Struct("<BQ")
"""Opcode and length of a record."""
MESSAGE_HEAD = struct.Struct("<HIQQ")
"""Channel, sequence number, log time, publish time."""
CHUNK_HEAD = struct.Struct("<QQQII")
"""First and last log time, size when decompressed, checksum, length of the name of the compression."""
KNOWN = frozenset((*range(0x01, 0x10), *range(0x80, 0x100)))
"""Opcodes of the format, and those that it leaves to programs of their own."""

# Zero-width, so that a match inside another one is found too. Behind a chunk's times, size and checksum
# stands the name of its compression; behind a message's header stands CDR's own header.
_CANDIDATE = re.compile(
    rb"(?=(\x06.{36}(?:\x00\x00\x00\x00|\x03\x00\x00\x00lz4|\x04\x00\x00\x00zstd)|"
    rb"\x05.{4}\x00\x00\x00\x00.{22}\x00[\x00\x01]\x00\x00))",
    re.DOTALL,
)


def find_record(
    data: memoryview, start: int, end: int, channels: Collection[int], last_ns: int | None
) -> int | None:
    """Offset in `data`, from `start` on, of the next chunk or message that makes sense; None without one.

    Args:
        data: bytes in which a record was damaged.
        start: where to begin.
        end: how far records may reach, which may be behind `data`.
        channels: channels whose messages are looked for; none where the bytes are compressed, since
            compressed bytes hold pieces of messages, as they are, too.
        last_ns: log time of the last message, near which the next one must be.
    """
    for match in _CANDIDATE.finditer(data, start):
        place = match.start()
        opcode, length = HEAD.unpack_from(data, place)
        if length > end - place - 9:
            continue
        if opcode == MESSAGE and length >= MESSAGE_HEAD.size:
            number, _, recv_ns, _ = MESSAGE_HEAD.unpack_from(data, place + 9)
            if number in channels and (last_ns is None or abs(recv_ns - last_ns) < JUMP_NS):
                return place
        elif opcode == CHUNK and place + 64 <= len(data):
            start_ns, end_ns, _, _, name_bytes = CHUNK_HEAD.unpack_from(data, place + 9)
            (records,) = struct.unpack_from("<Q", data, place + 9 + CHUNK_HEAD.size + name_bytes)
            if start_ns <= end_ns and records == length - 40 - name_bytes:
                return place
    return None


def read_text(content: bytes | memoryview, at: int) -> tuple[str, int]:
    """A text with its length before it, and where it ends; ValueError when it reaches too far."""
    (length,) = struct.unpack_from("<I", content, at)
    if length > len(content) - at - 4:
        raise ValueError(f"a text of {length} bytes in {len(content)}")
    return bytes(content[at + 4 : at + 4 + length]).decode("utf-8"), at + 4 + length


def decompress(name: str, data: memoryview, *, whole: bool = True) -> bytes | memoryview:
    """The records of a chunk, or as many of them as there are where it is not `whole`.

    ValueError when they are damaged or compressed in an unknown way.
    """
    try:
        if name == "":
            return data
        if name == "lz4":
            read = lz4.frame.decompress if whole else lz4.frame.LZ4FrameDecompressor().decompress
            return bytes(read(data))
        if name == "zstd":
            return zstd.decompress(data) if whole else zstd.ZstdDecompressor().decompress(data)
    except (RuntimeError, zstd.ZstdError) as error:
        raise ValueError(f"{name} fails: {error}") from error
    raise ValueError(f"its compression {name!r} is unknown; lz4 and zstd are known")
