"""What a ring of pictures looks like in memory, and what writer and reader agree on.

    0      magic, identity (16 bytes), number of slots, bytes of a slot
    256    per slot 64 bytes: mark, begun, stamp_ns, height, width, bytes, encoding
    4096   the slots' pixels, each slot a whole number of pages

A slot's mark is the number of the picture that it holds, and 0 while it must not be read; `begun` is the
same from before the picture is copied.
"""

from __future__ import annotations

import struct
import threading

MAGIC = b"armchair ring 1\0"
PAGE = 4096
HEADER = struct.Struct("=16s16sQQ")
SLOTS_AT = 256
SLOT_BYTES = 64
SLOT = struct.Struct("=qQQQ16s")
"""What follows a slot's mark and begun: stamp_ns, height, width, bytes, encoding."""
SLOT_AFTER_MARK = 16
SLOTS = 4
MOST_SLOTS = (PAGE - SLOTS_AT) // SLOT_BYTES
LONGEST_ENCODING = 16
LARGEST_RING = 1 << 29
"""Bytes; no reader maps a larger one."""
LINK = "/memfd:armchair-pictures"
"""How /proc shows the memory of a ring."""
FUTURE_WRITE = 0x10
"""F_SEAL_FUTURE_WRITE of Linux 5.1, which `fcntl` does not name: later mappings may only read."""

_LOCK = threading.Lock()


def mark_at(slot: int) -> int:
    """Index of a slot's mark in the ring seen as 64-bit words."""
    return (SLOTS_AT + slot * SLOT_BYTES) // 8


def pixels_at(slot: int, slot_bytes: int) -> int:
    """Offset of a slot's pixels."""
    return PAGE + slot * slot_bytes


def fence() -> None:
    """Order all loads and stores before it before all that come after it, on every processor.

    Taking a lock is a read-modify-write with acquire order, letting go of it a store with release order. One
    pair would let what stands before and after it meet in the middle. With two, everything before is ordered
    before the first release, that one before the second acquire (both are sequentially consistent among
    themselves on arm64: STLR and LDAR, or their atomic forms), and that one before everything after. On x86
    each of them is a locked instruction, hence a full fence.
    """
    with _LOCK:
        pass
    with _LOCK:
        pass
