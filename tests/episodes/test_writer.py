"""Recording and reading back: what is kept, what is refused, and what a file claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from episodes.contract import Contract, Source
from episodes.errors import EpisodeError
from episodes.jpeg import encode_jpeg
from episodes.reader import Episode, stream_hash
from episodes.writer import TERMINATED, EpisodeWriter, ExtraStream

Writer = Callable[..., EpisodeWriter]


@pytest.mark.parametrize("image_storage", ["lzf", "raw"])
def test_what_was_recorded_is_read_back_bit_for_bit(robot: Any, record: Any, image_storage: str) -> None:
    path = record(steps=12, image_storage=image_storage)
    with Episode.open(path) as episode:
        stamps = [robot.stamp_ns(k) for k in range(13)]
        for name, sample in (("front", robot.front), ("state", robot.state), ("pose", robot.pose)):
            stream = episode.stream(name)
            np.testing.assert_array_equal(stream.read(), np.stack([sample(k) for k in range(13)]))
            np.testing.assert_array_equal(stream.stamp_ns, stamps)
            np.testing.assert_array_equal(stream.recv_ns, stamps)
            assert stream.read().dtype == stream.dtype
        commands = episode.commands
        assert commands is not None
        np.testing.assert_array_equal(commands.values, np.stack([robot.action(k) for k in range(12)]))
        np.testing.assert_array_equal(commands.observation_ns, stamps[:-1])
        assert set(commands.source) == {Source.SCRIPT}
        assert commands.names == ("j0", "j1", "grip")
        assert len(episode.stream("truth")) == 12
        assert episode.contract.interface_sha256 == robot.contract.interface_sha256


def test_jpeg_pictures_come_back_close_and_in_the_right_colours(
    new_writer: Writer, contract: Contract
) -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[..., 0], picture[..., 2] = 200, 30
    with new_writer(image_storage="jpeg") as writer:
        for k in range(5):
            writer.append("front", picture, k, k)
        path = writer.finish()
    with Episode.open(path) as episode:
        read = episode.stream("front").read(np.array([4, 0, 4]))
        assert read.shape == (3, 6, 8, 3)
        assert np.abs(read.astype(int) - picture).max() <= 6
    with h5py.File(path, "r") as file:
        assert file["streams/front/data"].ndim == 1


def test_jpeg_bytes_of_a_camera_are_kept_untouched(new_writer: Writer) -> None:
    picture = np.full((6, 8, 3), 90, np.uint8)
    data = encode_jpeg(picture)
    with new_writer(image_storage="jpeg") as writer:
        assert writer.stores_jpeg("front")
        assert not writer.stores_jpeg("state")
        writer.append_jpeg("front", data, 1, 1)
        writer.append("front", picture, 2, 2)
        for name, bad in (("front", data[2:]), ("front", picture), ("state", data)):
            with pytest.raises(EpisodeError, match=f"stream '{name}'.*JPEG"):
                writer.append_jpeg(name, bad, 3, 3)
        path = writer.finish()
    with h5py.File(path, "r") as file:
        assert file["streams/front/data"][: len(data)].tobytes() == data.tobytes()
    with Episode.open(path) as episode:
        first, second = episode.stream("front").read()
        np.testing.assert_array_equal(first, second)


def test_samples_can_be_read_by_slice_and_by_indices_in_any_order(robot: Any, record: Any) -> None:
    with Episode.open(record(steps=20)) as episode:
        for name, sample in (("front", robot.front), ("state", robot.state)):
            stream = episode.stream(name)
            picked = stream.read(np.array([20, 0, 7, 7, -1]))
            np.testing.assert_array_equal(picked, np.stack([sample(k) for k in (20, 0, 7, 7, 20)]))
            np.testing.assert_array_equal(
                stream.read(slice(19, 2, -5)), np.stack([sample(k) for k in range(19, 2, -5)])
            )
            assert stream.read(slice(3, 3)).shape == (0, *stream.shape)
            with pytest.raises(IndexError, match="21 samples"):
                stream.read(np.array([21]))


def test_while_recording_only_the_partial_file_exists(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        robot.record(writer, 3)
        assert writer.partial.exists()
        assert not writer.path.exists()
        with pytest.raises(EpisodeError, match="never finished"):
            Episode.open(writer.partial)
        path = writer.finish("failure", "operator", "operator")
    assert path == writer.path
    assert path.exists()
    assert not writer.partial.exists()


def test_outcome_and_termination_are_apart(record: Any, robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        robot.record(writer, 3)
        path = writer.finish("unknown", "none", TERMINATED)
    with Episode.open(path) as episode:
        assert episode.attrs["outcome"] == "unknown"
        assert episode.attrs["termination_reason"] == "terminated"
        assert episode.attrs["complete"] is True
        assert episode.attrs["clock"] == "sim"


def test_an_exception_keeps_the_episode_as_a_failure(robot: Any, new_writer: Writer) -> None:
    with pytest.raises(ZeroDivisionError), new_writer() as writer:
        robot.record(writer, 4)
        _ = 1 // 0
    with Episode.open(writer.path) as episode:
        assert episode.attrs["outcome"] == "failure"
        assert "ZeroDivisionError" in str(episode.attrs["termination_reason"])
        assert len(episode.stream("state")) == 5


def test_ctrl_c_keeps_the_episode_as_interrupted(robot: Any, new_writer: Writer) -> None:
    with pytest.raises(KeyboardInterrupt), new_writer() as writer:
        robot.record(writer, 4)
        raise KeyboardInterrupt
    with Episode.open(writer.path) as episode:
        assert (episode.attrs["outcome"], episode.attrs["termination_reason"]) == ("failure", "interrupted")


def test_leaving_without_finish_claims_nothing(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        robot.record(writer, 2)
    with Episode.open(writer.path) as episode:
        assert episode.attrs["outcome"] == "unknown"


def test_success_needs_someone_who_says_so(new_writer: Writer) -> None:
    with new_writer() as writer:
        with pytest.raises(EpisodeError, match="needs a source"):
            writer.finish("success")
        writer.finish("success", "vlm")


def test_a_discarded_episode_leaves_nothing(robot: Any, new_writer: Writer, tmp_path: Path) -> None:
    with new_writer() as writer:
        robot.record(writer, 2)
        writer.discard()
    assert list((tmp_path / "episodes").iterdir()) == []


def test_nothing_is_recorded_after_the_end(robot: Any, new_writer: Writer) -> None:
    with new_writer() as writer:
        writer.finish()
        with pytest.raises(EpisodeError, match="is finished"):
            robot.frame(writer, 1)
        with pytest.raises(EpisodeError, match="is finished"):
            writer.finish()


def test_an_id_is_used_once(record: Any, new_writer: Writer) -> None:
    record("a_b")
    new_writer("b").discard()
    with pytest.raises(EpisodeError, match="'a_b' exists already"):
        new_writer("a_b")


@pytest.mark.parametrize("episode_id", ["", "../x", "a/b", ".hidden", "x" * 200, "a b"])
def test_an_id_that_is_no_file_name_is_refused(new_writer: Writer, episode_id: str) -> None:
    with pytest.raises(EpisodeError, match="episode id"):
        new_writer(episode_id)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sate", [0.0, 0.0, 0.0], r"no stream 'sate'; did you mean 'state'"),
        ("state", [0.0, 0.0], r"stream 'state': a sample of shape \(2,\) came where \(3,\) belongs"),
        ("state", [1j, 0j, 0j], r"dtype complex128 came where float64"),
        ("state", ["a", "b", "c"], r"dtype <U1 came where float64"),
        ("front", np.zeros((6, 8, 3)), r"stream 'front': a sample of dtype float64 came where uint8"),
        ("front", np.zeros((8, 6, 3), np.uint8), r"shape \(8, 6, 3\)"),
        ("front", np.zeros((6, 8, 3), np.int8), r"dtype int8"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(
    new_writer: Writer, name: str, value: Any, message: str
) -> None:
    with new_writer() as writer:
        with pytest.raises(EpisodeError, match=message) as caught:
            writer.append(name, value, 1, 1)
        assert str(writer.partial) in str(caught.value)
        writer.discard()


@pytest.mark.parametrize("stamp", [-1, 1.5, True, 2**63, "1"])
def test_a_stamp_is_a_whole_number_of_nanoseconds(new_writer: Writer, stamp: Any) -> None:
    with new_writer() as writer:
        with pytest.raises(EpisodeError, match="whole nanoseconds"):
            writer.append("mode", [0.0], stamp, 1)
        writer.discard()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_command_that_is_not_finite_is_refused_with_its_joint(new_writer: Writer, bad: float) -> None:
    with new_writer() as writer:
        with pytest.raises(EpisodeError, match=r"command at 7 ns is not finite in 'j1'"):
            writer.append_command([0.0, bad, 0.0], 7, 7, 7, Source.POLICY)
        assert writer.finish()


def test_a_command_of_the_wrong_length_is_refused(new_writer: Writer) -> None:
    with new_writer() as writer:
        with pytest.raises(EpisodeError, match=r"shape \(2,\) came where \(3,\)"):
            writer.append_command([0.0, 0.0], 7, 7, 7, Source.POLICY)
        writer.discard()


def test_a_source_that_is_none_is_refused(new_writer: Writer) -> None:
    with new_writer() as writer:
        writer.append_command([0.0, 0.0, 0.0], 7, 7, 7, 5)  # type: ignore[arg-type]
        with pytest.raises(EpisodeError, match="source 9 is unknown"):
            writer.append_command([0.0, 0.0, 0.0], 7, 7, 7, 9)  # type: ignore[arg-type]
        writer.discard()


def test_command_stamps_never_go_back(new_writer: Writer) -> None:
    with new_writer() as writer:
        writer.append_command([0.0, 0.0, 0.0], 7, 7, 7, Source.POLICY)
        writer.append_command([0.0, 0.0, 0.0], 7, 7, 7, Source.POLICY)
        with pytest.raises(EpisodeError, match="stamp 6 lies before the last one, 7"):
            writer.append_command([0.0, 0.0, 0.0], 6, 8, 7, Source.POLICY)
        writer.discard()


def test_a_wall_clock_receive_stamp_is_refused_in_simulated_time(new_writer: Writer) -> None:
    with new_writer() as writer:
        with pytest.raises(EpisodeError, match="different clocks"):
            writer.append("mode", [0.0], 1_000_000_000, 1_800_000_000_000_000_000)
        writer.discard()


def test_observations_that_are_not_finite_are_recorded_as_they_are(new_writer: Writer) -> None:
    with new_writer() as writer:
        writer.append("state", [np.nan, np.inf, -0.0], 1, 1)
        path = writer.finish()
    with Episode.open(path) as episode:
        np.testing.assert_array_equal(episode.stream("state").read(), [[np.nan, np.inf, -0.0]])


def test_the_caller_may_reuse_its_buffer(new_writer: Writer) -> None:
    buffer = np.zeros(3)
    with new_writer() as writer:
        for k in range(3):
            buffer[:] = k
            writer.append("state", buffer, k, k)
        path = writer.finish()
    with Episode.open(path) as episode:
        np.testing.assert_array_equal(episode.stream("state").read()[:, 0], [0, 1, 2])


def test_drops_gaps_and_rates_are_counted(new_writer: Writer) -> None:
    with new_writer() as writer:
        for stamp in (0, 100, 200, 700, 800):
            writer.append("mode", [0.0], stamp * 10**6, stamp * 10**6)
        writer.count_drop("mode", 4)
        with pytest.raises(EpisodeError, match="no stream"):
            writer.count_drop("nothing")
        path = writer.finish()
    with Episode.open(path) as episode:
        attrs = episode.stream("mode").attrs
        assert (attrs["samples"], attrs["dropped"], attrs["gap_max_ns"]) == (5, 4, 500_000_000)
        assert attrs["rate_hz"] == pytest.approx(5.0)
        assert episode.attrs["ended_ns"] == 800_000_000


def test_events_keep_their_order_and_values(new_writer: Writer) -> None:
    with new_writer() as writer:
        writer.event("start", {"goal": [1, 2.5], "who": "ä"}, 5)
        writer.event("mark", None, 3)
        with pytest.raises(EpisodeError, match="JSON"):
            writer.event("bad", object(), 4)
        path = writer.finish()
    with Episode.open(path) as episode:
        assert [(e.name, e.value, e.stamp_ns) for e in episode.events] == [
            ("start", {"goal": [1, 2.5], "who": "ä"}, 5),
            ("mark", None, 3),
        ]


def test_an_extra_stream_may_not_take_a_name_of_the_contract(new_writer: Writer) -> None:
    with pytest.raises(EpisodeError, match="'state'"):
        new_writer(extra_streams=(ExtraStream("state", (3,)),))
    with pytest.raises(EpisodeError, match="dtype"):
        new_writer(extra_streams=(ExtraStream("x", (3,), "object"),))
    with pytest.raises(EpisodeError, match="twice"):
        new_writer(extra_streams=(ExtraStream("x", (3,)), ExtraStream("x", (2,))))


def test_equal_recordings_have_equal_stream_hashes_whatever_the_storage(record: Any) -> None:
    hashes = []
    for episode_id, storage in (("a", "lzf"), ("b", "raw"), ("c", "lzf")):
        with Episode.open(record(episode_id, image_storage=storage)) as episode:
            hashes.append(stream_hash(episode))
    assert len(set(hashes)) == 1


def test_one_bit_changes_the_stream_hash(robot: Any, new_writer: Writer) -> None:
    hashes = set()
    for episode_id, nudge in (("a", 0.0), ("b", np.nextafter(0.0, 1.0))):
        with new_writer(episode_id) as writer:
            writer.append("state", [nudge, 0.0, 0.0], 1, 1)
            writer.append("mode", [0.0], 1, 1)
            path = writer.finish()
        with Episode.open(path) as episode:
            hashes.add(stream_hash(episode, ["state"]))
            hashes.add(stream_hash(episode, ["mode"]))
    assert len(hashes) == 3


def test_the_stream_hash_leaves_receive_stamps_out_and_names_what_is_not_there(new_writer: Writer) -> None:
    hashes = set()
    for episode_id, delay in (("a", 0), ("b", 99)):
        with new_writer(episode_id) as writer:
            writer.append("mode", [0.0], 1, 1 + delay)
            path = writer.finish()
        with Episode.open(path) as episode:
            hashes.add(stream_hash(episode))
            with pytest.raises(EpisodeError, match="no stream 'x'"):
                stream_hash(episode, ["x"])
            with pytest.raises(EpisodeError, match="no commands"):
                stream_hash(episode, ["commands"])
    assert len(hashes) == 1


def test_samples_reach_the_disk_within_the_flush_period(robot: Any, new_writer: Writer) -> None:
    now_ns = 0
    with new_writer(flush_period_s=1.0, monotonic_ns=lambda: now_ns) as writer:
        writer.append("mode", [0.0], 1, 1)
        with h5py.File(writer.partial, "r", swmr=True, locking=False) as live:
            stamps = live["streams/mode/stamp_ns"]
            assert len(stamps) == 0
            now_ns = 999_999_999
            writer.flush_if_due()
            stamps.refresh()
            assert len(stamps) == 0
            now_ns = 1_000_000_000
            writer.flush_if_due()
            stamps.refresh()
            assert len(stamps) == 1
        writer.discard()


def test_the_file_is_of_the_generation_that_hdf5_1_10_reads(record: Any) -> None:
    assert record().read_bytes()[8] == 3
