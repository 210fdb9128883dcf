"""Frames between armchair and a worker in another Python; the layout is told in `worker/armchair_serve.py`.

Nothing that a worker sends is trusted: lengths, dtypes and shapes are checked before memory is taken.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"ARMB"
HEAD = struct.Struct("<4sIQ")
MOST_TEXT, MOST_DATA = 2**24, 2**29
"""Bytes of a frame's text and of its arrays, at most."""


class FrameError(ValueError):
    """Raised when bytes are no frame."""


@dataclass(frozen=True)
class Frame:
    """A request or a reply."""

    text: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def encoded(text: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A frame as bytes; arrays are of bool, integers or floats."""
    listed, data = [], []
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"))
        listed.append([name, little.dtype.str, list(little.shape)])
        data.append(little.tobytes())
    blob = json.dumps({**text, "arrays": listed}).encode()
    joined = b"".join(data)
    return HEAD.pack(MAGIC, len(blob), len(joined)) + blob + joined


def lengths(head: bytes) -> tuple[int, int]:
    """Bytes of text and of arrays that follow a head. Raises FrameError where `head` is none."""
    magic, text, data = HEAD.unpack(head)
    if magic != MAGIC:
        raise FrameError(f"it begins with {head[:16]!r}")
    if text > MOST_TEXT or data > MOST_DATA:
        raise FrameError(f"it announces {text} and {data} bytes")
    return text, data


def decoded(blob: bytes, data: bytes) -> Frame:
    """The frame whose text and arrays these are. Raises FrameError where they are none."""
    try:
        text = json.loads(blob.decode())
        listed = text.pop("arrays")
        arrays, start = {}, 0
        for name, dtype, shape in listed:
            kind = np.dtype(str(dtype))
            sides = tuple(int(side) for side in shape)
            size = math.prod(sides) * kind.itemsize
            if kind.kind not in "biuf" or min(sides, default=0) < 0 or start + size > len(data):
                raise FrameError(f"array {name!r} of {dtype} {shape} does not fit {len(data)} bytes")
            arrays[str(name)] = np.frombuffer(data, kind, math.prod(sides), start).reshape(sides).copy()
            start += size
    except (UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"its text is {blob[:60]!r} ({error})") from error
    if start != len(data):
        raise FrameError(f"{len(data) - start} bytes belong to no array")
    return Frame(text, arrays)
