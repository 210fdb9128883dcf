"""Chunks as bytes: what rclpy would write, and what it would read, or nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rclpy.serialization import deserialize_message, serialize_message
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import Source
from policy.runtime.chunks import Chunk
from ros_nodes.chunk_bytes import ChunkBytes
from ros_nodes.convert import ChunkDecoder, encode_chunk

NAMES = st.lists(st.text(max_size=6), min_size=1, max_size=8, unique=True).filter(
    lambda names: not any("\0" in name or not name.isprintable() for name in names)
)
TIMES = st.integers(0, 2 * 10**18)
NUMBERS = st.floats(width=64)


@st.composite
def chunks(draw: st.DrawFn, dim: int) -> Chunk:
    observation_ns = draw(TIMES)
    shape = (draw(st.integers(1, 12)), dim)
    actions = draw(hnp.arrays(np.float64, shape, elements=NUMBERS))
    ahead_ns = draw(st.integers(-(10**9), 10**10))
    source = draw(st.sampled_from([Source.POLICY, Source.TELEOP]))
    period_ns, frozen = draw(st.integers(1, 10**9)), draw(st.integers(0, 3))
    return Chunk(observation_ns, observation_ns + ahead_ns, period_ns, actions, source, frozen)


@settings(max_examples=40)
@given(st.data(), NAMES, TIMES, st.none() | st.integers(0, 10**9))
def test_the_bytes_hold_the_message_of_rclpy_and_read_back_as_the_same_chunk(
    data: st.DataObject, names: list[str], tick_ns: int, inference_ns: int | None
) -> None:
    chunk = data.draw(chunks(len(names)))
    ours = ChunkBytes(names, "chunks")
    written = ours.write(chunk, tick_ns, inference_ns)
    message = encode_chunk(chunk, names, tick_ns, inference_ns)
    assert len(written) <= len(serialize_message(message)), "it leaves bytes behind its message"
    assert repr(deserialize_message(written, JointTrajectory)) == repr(message), "nan is not equal to nan"
    expected, _ = ChunkDecoder(names, "chunks").decode(message)
    assert expected is not None
    for read in (ours.read(written), ours.read(written + bytes(3))):
        assert read is not None
        found, times = read
        assert found.actions.tobytes() == expected.actions.tobytes()
        assert (found.observation_ns, found.start_ns, found.period_ns, found.source, found.frozen) == (
            expected.observation_ns, expected.start_ns, expected.period_ns, expected.source, expected.frozen,
        )  # fmt: skip
        assert times["tick_ns"] == tick_ns
        assert times.get("inference_ns") == inference_ns


@settings(max_examples=60)
@given(st.data())
def test_damaged_bytes_are_read_as_rclpy_and_the_decoder_read_them_or_left_to_them(
    data: st.DataObject,
) -> None:
    names = ["a", "bcd", "gripper"]
    ours = ChunkBytes(names, "chunks")
    written = bytearray(ours.write(data.draw(chunks(3)), 7, 9))
    for _ in range(data.draw(st.integers(1, 3))):
        written[data.draw(st.integers(4, len(written) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(written)))
    for damaged in (bytes(written), bytes(written[:cut])):
        if (read := ours.read(damaged)) is not None:
            message = deserialize_message(damaged, JointTrajectory)
            expected, tick_ns = ChunkDecoder(names, "chunks").decode(message)
            assert expected is not None
            assert read[0].actions.tobytes() == expected.actions.tobytes()
            assert (read[0].start_ns, read[1]["tick_ns"]) == (expected.start_ns, tick_ns)


def test_another_order_of_names_and_a_message_without_points_are_left_to_the_ordinary_way() -> None:
    chunk = Chunk(5, 5, 1, np.zeros((2, 2)))
    assert ChunkBytes(["a", "b"], "chunks").read(ChunkBytes(["b", "a"], "chunks").write(chunk, 1, 1)) is None
    assert ChunkBytes(["a"], "chunks").read(ChunkBytes(["a", "b"], "chunks").write(chunk, 1, 1)) is None
    assert ChunkBytes(["a"], "chunks").read(serialize_message(encode_chunk(None, ["a"], 7))) is None
    assert ChunkBytes(["a"], "chunks").read(b"") is None
