"""Action chunks as the bytes of their message, both ways, without a Python object per action.

rclpy makes five objects of each action of a JointTrajectory, which control would pay for between its deadline
and its command. Here all actions are one array over the bytes. What is written is what rclpy serialises
(XCDR1, little endian, which is every machine that ROS 2 runs on); what is read is only that layout, in the
contract's order of names. Everything else is no error here: `read` gives None, and the message is decoded in
the ordinary way, which says what is wrong.

    frozen layout of the points, `data` being where the first action's numbers begin, a multiple of 8:
    action k    dim float64 at data + k·(24 + 8·dim)
    then        three empty sequences, time_from_start, and the next action's count
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from episodes.messages import NS_PER_S, MessageError, decode_tags
from policy.runtime.chunks import Chunk
from ros_nodes.convert import chunk_tags

_ORIGIN = 4
"""The encapsulation, which alignment does not count."""
_LITTLE = b"\0\1\0\0"
_SURPLUS = 8
"""Bytes that RTPS and rmw_fastrtps leave behind a message at most."""
_MOST_POINTS = 1000


class ChunkBytes:
    """Of one set of names, in the contract's order."""

    def __init__(self, names: Sequence[str], topic: str) -> None:
        self._topic = topic
        self._dim = dim = len(names)
        texts = [name.encode() + b"\0" for name in names]
        strings = [struct.pack("<I", len(text)) + text + bytes(-len(text) % 4) for text in texts]
        self._names = struct.pack("<I", dim) + b"".join(strings)
        fields = [
            ("positions", "<f8", (dim,)), ("empty", "<u4", (3,)),
            ("sec", "<i4"), ("nanosec", "<u4"), ("next", "<u4"),
        ]  # fmt: skip
        self._point = np.dtype(fields)

    def write(self, chunk: Chunk, tick_ns: int, inference_ns: int | None) -> bytes:
        """The message of `ros_nodes.convert.encode_chunk`, serialised."""
        text = chunk_tags(chunk, tick_ns, inference_ns).encode() + b"\0"
        head = struct.pack("<iII", *divmod(chunk.observation_ns, NS_PER_S), len(text)) + text
        count = len(chunk.actions)
        head += bytes(-len(head) % 4) + self._names + struct.pack("<II", count, self._dim)
        head += bytes(-len(head) % 8)
        points = np.zeros(count, self._point)
        points["positions"] = chunk.actions
        ahead_ns = chunk.start_ns - chunk.observation_ns + np.arange(count) * chunk.period_ns
        points["sec"], points["nanosec"] = np.divmod(ahead_ns, NS_PER_S)
        points["next"] = self._dim
        return b"".join((_LITTLE, head, points.tobytes()[:-4]))

    def read(self, data: bytes) -> tuple[Chunk, dict[str, int]] | None:
        """The chunk and its times (ns, by tag), or None where the ordinary way must look at it."""
        try:
            return self._read(data)
        except (struct.error, ValueError, MessageError, KeyError):
            return None

    def _read(self, data: bytes) -> tuple[Chunk, dict[str, int]] | None:
        dim, names = self._dim, self._names
        (length,) = struct.unpack_from("<I", data, _ORIGIN + 8)
        end = _ORIGIN + 12 + length
        at = end + -(end - _ORIGIN) % 4
        if data[:4] != _LITTLE or data[at : at + len(names)] != names or data[end - 1 : end] != b"\0":
            return None
        at += len(names)
        count, first = struct.unpack_from("<II", data, at)
        at += 8
        at += -(at - _ORIGIN) % 8
        surplus = len(data) + 4 - at - count * self._point.itemsize
        if not 0 < count <= _MOST_POINTS or first != dim or not 0 <= surplus <= _SURPLUS:
            return None
        points = np.frombuffer(data + bytes(4), self._point, count, at)
        if points["empty"].any() or (points["next"][:-1] != dim).any():
            return None
        source, times = decode_tags(data[_ORIGIN + 12 : end - 1].decode(), self._topic)
        observation_ns, period_ns = times["observation_ns"], times["period_ns"]
        start_ns = observation_ns + int(points["sec"][0]) * NS_PER_S + int(points["nanosec"][0])
        actions = points["positions"].astype(np.float64)
        chunk = Chunk(observation_ns, start_ns, period_ns, actions, source, times.get("frozen", 0))
        return (chunk, times) if "tick_ns" in times else None
