"""Messages as a broken or hostile publisher sends them: whatever the wire can carry, drawn at random. Pure.

Each begins as a good message, in which one to three things are then wrong, so that it gets past the first
check and hits the next one.
"""

from __future__ import annotations

import array
import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, KeyValue
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

Rng = np.random.Generator

NUMBERS = (
    float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 1e300, -1e19, 1e12, 1e-320, -0.0, 0.0, 100.0
)  # fmt: skip
WHOLE = (0, -1, 1, 2**31, -(2**31), 2**63, -(2**63), 2**64, 10**30, 5_000_000, 50_000_000)
SECONDS = (0, 1, -1, -(2**31), 2**31 - 1, 1_700_000_000)
NANOSECONDS = (0, 1, 999_999_999, 1_000_000_000, 2**32 - 1)
TEXTS = (
    "",
    " ",
    "\n",
    "a" * 20_000,
    "é∂ƒ",
    "source=policy",
    "source=;;==",
    "%s%n",
    "../../etc/passwd",
    "nan",
    "{}",
)
ENCODINGS = ("", "rgb8", "bgr8", "mono8", "mono16", "16UC1", "32FC1", "rgba8", "yuv422", "RGB8", "x" * 5_000)


def pick(rng: Rng, choices: Sequence[Any]) -> Any:
    """One of them."""
    return choices[int(rng.integers(len(choices)))]


def spoil(message: Any, rng: Rng, ways: Sequence[Callable[[Any, Rng], None]]) -> Any:
    """A copy of `message` with one to three things wrong."""
    spoilt = copy.deepcopy(message)
    for _ in range(int(rng.integers(1, 4))):
        pick(rng, ways)(spoilt, rng)
    return spoilt


def numbers(values: Sequence[float], rng: Rng) -> array.array[float]:
    """The values with some wrong, or too few, or too many."""
    data = array.array("d", values)
    kind = int(rng.integers(6))
    if kind == 0:
        return array.array("d", data[: int(rng.integers(len(data) + 1))])
    if kind == 1:
        return array.array("d", [*data, *([pick(rng, NUMBERS)] * int(rng.integers(1, 50)))])
    if kind == 2:
        return array.array("d", rng.uniform(-10.0, 10.0, len(data)))
    for _ in range(int(rng.integers(1, 3))):
        if data:
            data[int(rng.integers(len(data)))] = pick(rng, NUMBERS)
    return data


def names(good: Sequence[str], rng: Rng) -> list[str]:
    """Names in another order, missing, twice, unknown, none, or very many."""
    found = list(good)
    kind = int(rng.integers(6))
    if kind == 0:
        rng.shuffle(found)
    elif kind == 1 and found:
        found.pop(int(rng.integers(len(found))))
    elif kind == 2 and found:
        found[int(rng.integers(len(found)))] = pick(rng, found)
    elif kind == 3 and found:
        found[int(rng.integers(len(found)))] = pick(rng, TEXTS)
    elif kind == 4:
        found = []
    else:
        found += [f"n{k}" for k in range(int(rng.integers(1, 300)))]
    return found


def _stamp(message: Any, rng: Rng) -> None:
    message.header.stamp.sec, message.header.stamp.nanosec = pick(rng, SECONDS), pick(rng, NANOSECONDS)


def _frame_id(message: Any, rng: Rng) -> None:
    message.header.frame_id = pick(rng, TEXTS)


# -- JointTrajectory ----------------------------------------------------------------------------------------


def _tag(message: JointTrajectory, rng: Rng) -> None:
    """One of the tags says something else, is missing, or stands there twice."""
    parts = message.header.frame_id.split(";")
    at = int(rng.integers(len(parts)))
    key = parts[at].split("=")[0]
    kind = int(rng.integers(5))
    if kind == 0:
        parts.pop(at)
    elif kind == 1:
        parts.append(parts[at])
    elif kind == 2:
        parts[at] = f"{key}={pick(rng, TEXTS)}"
    elif key == "source":
        parts[at] = (
            f"source={pick(rng, ('none', 'teleop', 'policy', 'intervention', 'safety', 'script', 'me'))}"
        )
    else:
        parts[at] = f"{key}={pick(rng, WHOLE)}"
    message.header.frame_id = ";".join(parts)


def _joint_names(message: JointTrajectory, rng: Rng) -> None:
    message.joint_names = names(message.joint_names, rng)


def _positions(message: JointTrajectory, rng: Rng) -> None:
    if message.points:
        point = pick(rng, message.points)
        point.positions = numbers(point.positions, rng)


def _points(message: JointTrajectory, rng: Rng) -> None:
    count = int(pick(rng, (0, 1, 2, 40, 1_001)))
    points = list(message.points) or [JointTrajectoryPoint()]
    message.points = [copy.deepcopy(points[k % len(points)]) for k in range(count)]


def _offset(message: JointTrajectory, rng: Rng) -> None:
    if message.points:
        point = pick(rng, (message.points[0], pick(rng, message.points)))
        point.time_from_start.sec = pick(rng, SECONDS)
        point.time_from_start.nanosec = pick(rng, NANOSECONDS)


def _velocities_only(message: JointTrajectory, rng: Rng) -> None:
    for point in message.points:
        point.velocities, point.positions = point.positions, array.array("d")


def trajectory(good: JointTrajectory, rng: Rng) -> JointTrajectory:
    """A chunk or an operator's command."""
    ways = (_tag, _tag, _joint_names, _positions, _positions, _positions, _points, _offset, _stamp, _frame_id)
    return spoil(good, rng, (*ways, _velocities_only))


def diagnostics(good: DiagnosticArray, rng: Rng) -> DiagnosticArray:
    """What a node says of itself."""

    def level(message: DiagnosticArray, rng: Rng) -> None:
        for status in message.status:
            status.level = bytes([int(rng.integers(256))])

    def words(message: DiagnosticArray, rng: Rng) -> None:
        for status in message.status:
            setattr(status, pick(rng, ("name", "message", "hardware_id")), pick(rng, TEXTS))

    def values(message: DiagnosticArray, rng: Rng) -> None:
        for status in message.status:
            status.values = [KeyValue(key=pick(rng, TEXTS), value=pick(rng, TEXTS)) for _ in range(5)]

    def count(message: DiagnosticArray, rng: Rng) -> None:
        message.status = list(message.status) * int(pick(rng, (0, 2, 50)))

    return spoil(good, rng, (level, level, words, words, values, count, _stamp, _frame_id))


# -- JointState, Float64MultiArray --------------------------------------------------------------------------


def _state_names(message: JointState, rng: Rng) -> None:
    message.name = names(message.name, rng)


def _state_positions(message: JointState, rng: Rng) -> None:
    message.position = numbers(message.position, rng)


def _state_others(message: JointState, rng: Rng) -> None:
    message.velocity = numbers(message.position, rng)
    message.effort = numbers(message.position, rng)


def _no_positions(message: JointState, rng: Rng) -> None:
    message.velocity, message.position = message.position, array.array("d")


def joint_state(good: JointState, rng: Rng) -> JointState:
    """What a driver measures."""
    ways = (_state_names, _state_positions, _state_positions, _state_others, _no_positions, _stamp, _frame_id)
    return spoil(good, rng, ways)


def _spatial(message: Any, rng: Rng) -> None:
    """A number of a twist, a pose or a wrench."""
    kind = next(name for name in ("twist", "pose", "wrench") if hasattr(message, name))
    content = getattr(message, kind)
    part = getattr(content, pick(rng, list(content.get_fields_and_field_types())))
    setattr(part, pick(rng, list(part.get_fields_and_field_types())), pick(rng, NUMBERS))


def spatial(good: Any, rng: Rng) -> Any:
    """A TwistStamped, PoseStamped or WrenchStamped."""
    return spoil(good, rng, (_spatial, _spatial, _stamp, _frame_id))


def joy(good: Joy, rng: Rng) -> Joy:
    """A joystick."""

    def axes(message: Joy, rng: Rng) -> None:
        with np.errstate(over="ignore"):
            message.axes = np.array(numbers(message.axes, rng), np.float32).tolist()

    def buttons(message: Joy, rng: Rng) -> None:
        message.buttons = rng.integers(-(2**31), 2**31, int(rng.integers(0, 40))).tolist()

    return spoil(good, rng, (axes, axes, buttons, _stamp, _frame_id))


def text(good: String, rng: Rng) -> String:
    """Words."""
    return String(data=pick(rng, TEXTS))


def multi_array(good: Float64MultiArray, rng: Rng) -> Float64MultiArray:
    """What moves an actuator."""

    def data(message: Float64MultiArray, rng: Rng) -> None:
        message.data = numbers(message.data, rng)

    def offset(message: Float64MultiArray, rng: Rng) -> None:
        message.layout.data_offset = pick(rng, (0, 1, 2**32 - 1))

    return spoil(good, rng, (data, data, data, offset))


# -- pictures -----------------------------------------------------------------------------------------------


def _encoding(message: Image, rng: Rng) -> None:
    message.encoding = pick(rng, ENCODINGS)


def _size(message: Image, rng: Rng) -> None:
    field = pick(rng, ("height", "width", "step"))
    value = getattr(message, field)
    setattr(message, field, int(pick(rng, (0, 1, value - 1, value + 1, 2 * value, 2**31, 2**32 - 1))) % 2**32)


def _endian(message: Image, rng: Rng) -> None:
    message.is_bigendian = int(rng.integers(256))


def _bytes(message: Image | CompressedImage, rng: Rng) -> None:
    data = message.data
    kind = int(rng.integers(4))
    if kind == 0:
        message.data = array.array("B", data[: int(rng.integers(len(data) + 1))])
    elif kind == 1:
        message.data = array.array("B", bytes(data) + bytes(int(rng.integers(1, 100_000))))
    elif kind == 2:
        message.data = array.array("B")
    else:
        message.data = array.array("B", rng.integers(0, 256, len(data), dtype=np.uint8).tobytes())


def image(good: Image, rng: Rng) -> Image:
    """A camera's picture."""
    return spoil(good, rng, (_encoding, _size, _size, _endian, _bytes, _bytes, _stamp, _frame_id))


def compressed(good: CompressedImage, rng: Rng) -> CompressedImage:
    """A camera's JPEG."""

    def form(message: CompressedImage, rng: Rng) -> None:
        message.format = pick(rng, TEXTS)

    return spoil(good, rng, (form, _bytes, _bytes, _bytes, _stamp, _frame_id))
