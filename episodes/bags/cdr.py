"""The messages in a bag, from the bytes as a publisher or a bag's writer made them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from episodes.bags.records import Record, uncompressed
from episodes.messages import MessageError

TYPES: Any = get_typestore(Stores.ROS2_JAZZY)
_HEADER = 4
_PADDING = 3
"""RTPS fills a payload up to a multiple of four bytes."""


def deserialise(record: Record, kind: str) -> Any:
    """The message in a record, of type `kind`.

    Raises:
        MessageError: it is damaged.
    """
    try:
        data = memoryview(uncompressed(record.data))
    except ValueError as error:
        raise MessageError(f"a message of {record.topic} is damaged ({error})") from error
    return read_cdr(data, kind, record.topic)


def read_cdr(data: bytes | memoryview, kind: str, topic: str) -> Any:
    """The message of type `kind` that `data` holds in CDR; its arrays are views into `data`.

    Bytes that the message does not use are a sign of damage, with two exceptions: padding, and what
    `rclpy.serialization.serialize_message` leaves behind the message. rmw_fastrtps hands out a buffer of the
    estimated size, which counts four bytes too many for a sequence of 8-byte numbers whose alignment, or
    whose emptiness, makes the padding before it unnecessary; rosbag2_py stores the buffer as it is.

    Raises:
        MessageError: it is damaged.
    """
    try:
        data = memoryview(data)
        if bytes(data[:2]) not in (b"\0\0", b"\0\1"):
            raise ValueError("its encapsulation is not CDR")
        definition = TYPES.get_msgdef(kind)
        read = definition.deserialize_cdr_le if data[1] else definition.deserialize_cdr_be
        message, end = read(data[_HEADER:], 0, definition.cls, TYPES)
        surplus = len(data) - _HEADER - end
        if surplus > _PADDING and surplus > _PADDING + 4 * _sequences(message):
            raise ValueError(f"{surplus} bytes are left over")
    except (SerdeError, ValueError, struct.error, IndexError) as error:
        raise MessageError(f"a message of {topic} is damaged ({error})") from error
    return message


def _sequences(message: Any) -> int:
    """How many arrays of 8-byte numbers there are in a message."""
    found = 0
    for value in vars(message).values():
        if isinstance(value, np.ndarray):
            found += value.dtype.itemsize == 8
        elif isinstance(value, list):
            found += sum(_sequences(entry) for entry in value if hasattr(entry, "__msgtype__"))
        elif hasattr(value, "__msgtype__"):
            found += _sequences(value)
    return found
