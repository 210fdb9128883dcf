"""HDF5's metadata checksum: Bob Jenkins' lookup3 (hashlittle, May 2006) with initial value 0."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """The 32-bit checksum of `data`."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    rest = data
    while len(rest) > 12:
        a, b, c = _add(a, b, c, rest)
        a = ((a - c) ^ _rotate(c, 4)) & _MASK
        c = (c + b) & _MASK
        b = ((b - a) ^ _rotate(a, 6)) & _MASK
        a = (a + c) & _MASK
        c = ((c - b) ^ _rotate(b, 8)) & _MASK
        b = (b + a) & _MASK
        a = ((a - c) ^ _rotate(c, 16)) & _MASK
        c = (c + b) & _MASK
        b = ((b - a) ^ _rotate(a, 19)) & _MASK
        a = (a + c) & _MASK
        c = ((c - b) ^ _rotate(b, 4)) & _MASK
        b = (b + a) & _MASK
        rest = rest[12:]
    if not rest:
        return c
    a, b, c = _add(a, b, c, rest)
    for turn in (14, 11, 25, 16, 4, 14, 24):
        # The final mix rotates through (c, a, b): each takes the one before it.
        c = ((c ^ b) - _rotate(b, turn)) & _MASK
        a, b, c = b, c, a
    return b


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _add(a: int, b: int, c: int, data: bytes) -> tuple[int, int, int]:
    """Add the next 12 bytes, short ones filled with zeros."""
    block = data[:12].ljust(12, b"\x00")
    words = [int.from_bytes(block[i : i + 4], "little") for i in (0, 4, 8)]
    return (a + words[0]) & _MASK, (b + words[1]) & _MASK, (c + words[2]) & _MASK
