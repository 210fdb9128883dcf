"""What is written to ROS messages, and action chunks both ways; `episodes.messages` reads everything else.

`control/command` is a JointTrajectory: header.stamp is the send time, header.frame_id carries what the
command was computed from as text (`source=policy;observation_ns=123`), since the standard message has no
field for it. `policy/action_chunk` is stamped with the time of its observation.
"""

from __future__ import annotations

import array
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from episodes.contract import Source
from episodes.errors import ConfigError
from episodes.messages import NS_PER_S, MessageError, NameOrder, decode_tags, encode_tags, to_ns
from policy.runtime.chunks import Chunk


def message_type(name: str) -> type:
    """The message class of a full type name such as `sensor_msgs/msg/Image`.

    Raises:
        ConfigError: the message package is not installed.
    """
    package, kind, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), message)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"message type {name} is not installed ({error}): install ros-jazzy-{package.replace('_', '-')}."
        ) from error


def set_stamp(stamp: Any, time_ns: int) -> None:
    """Write int ns into a builtin_interfaces Time or Duration."""
    stamp.sec, stamp.nanosec = divmod(time_ns, NS_PER_S)


def writable_view(message: Any, field: str) -> NDArray[np.float64]:
    """The float64 sequence `field` of a message as an array that writes through.

    The view is taken from the message, since a setter may keep what it is given or a copy of it.
    """
    return np.frombuffer(getattr(message, field), np.float64)


class CommandEncoder:
    """Writes `control/command` messages; one message is reused, so publish it at once."""

    def __init__(self, names: Sequence[str]) -> None:
        point = JointTrajectoryPoint(positions=array.array("d", bytes(8 * len(names))))
        self._view = writable_view(point, "positions")
        self._message = JointTrajectory(joint_names=list(names), points=[point])

    def encode(
        self, values: NDArray[np.float64], *, stamp_ns: int, observation_ns: int, source: Source
    ) -> JointTrajectory:
        """`values` (dim,) in the order of the names given at construction."""
        np.copyto(self._view, values)
        self._message.header.frame_id = encode_tags(source, observation_ns=observation_ns)
        set_stamp(self._message.header.stamp, stamp_ns)
        return self._message


def encode_chunk(
    chunk: Chunk | None,
    names: Sequence[str],
    tick_ns: int,
    inference_ns: int | None = None,
    points: list[JointTrajectoryPoint] | None = None,
) -> JointTrajectory:
    """`policy/action_chunk`: actions at start + k·period, as offsets from the observation time.

    In lock-step the policy answers every tick, with None (no points) where the last chunk still runs, so that
    control knows that nothing new will come for `tick_ns`. `inference_ns` is how long the inference took.
    `points` are those of an earlier message of as many actions, to be filled anew.
    """
    message = JointTrajectory(joint_names=list(names))
    if chunk is None:
        message.header.frame_id = encode_tags(Source.NONE, tick_ns=tick_ns)
        return message
    offset = chunk.start_ns - chunk.observation_ns
    count, dim = chunk.actions.shape
    if points is None or len(points) != count:
        points = [JointTrajectoryPoint(positions=array.array("d", bytes(8 * dim))) for _ in range(count)]
    for k, point in enumerate(points):
        np.copyto(writable_view(point, "positions"), chunk.actions[k])
        set_stamp(point.time_from_start, offset + k * chunk.period_ns)
    message.points = points
    message.header.frame_id = chunk_tags(chunk, tick_ns, inference_ns)
    set_stamp(message.header.stamp, chunk.observation_ns)
    return message


def chunk_tags(chunk: Chunk, tick_ns: int, inference_ns: int | None) -> str:
    """The text of a chunk's header.frame_id."""
    times = {"observation_ns": chunk.observation_ns, "period_ns": chunk.period_ns, "tick_ns": tick_ns}
    if inference_ns is not None:
        times["inference_ns"] = inference_ns
    if chunk.frozen:
        times["frozen"] = chunk.frozen
    return encode_tags(Source(chunk.source), **times)


class ChunkDecoder:
    """Reads `policy/action_chunk` messages, whatever order their joints come in."""

    def __init__(self, names: Sequence[str], topic: str) -> None:
        self._topic = topic
        self._dim = len(names)
        self._order = NameOrder(names, topic, exact=True)

    def decode(self, message: JointTrajectory) -> tuple[Chunk | None, int]:
        """(chunk or None where nothing is new, tick_ns that it answers).

        Raises:
            MessageError: wrong joint set, points of unequal length, or a frame_id without the tags.
        """
        source, times = decode_tags(message.header.frame_id, self._topic)
        try:
            tick_ns = times["tick_ns"]
            if not message.points:
                return None, tick_ns
            observation_ns, period_ns = times["observation_ns"], times["period_ns"]
        except KeyError as error:
            raise MessageError(f"{self._topic}: header.frame_id lacks {error}.") from error
        actions = np.stack([self._order(message.joint_names, point.positions) for point in message.points])
        start_ns = observation_ns + to_ns(message.points[0].time_from_start)
        return Chunk(observation_ns, start_ns, period_ns, actions, source, times.get("frozen", 0)), tick_ns
