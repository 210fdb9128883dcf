"""Windows of frames and actions, from prepared files and straight from raw episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from episodes import frames
from episodes.align import align_episode
from episodes.dataset import Dataset
from episodes.errors import ArmchairError, ConfigError, DatasetError
from episodes.prepare import prepare
from episodes.windows import Batch, WindowReader


def expected(
    dataset: Dataset, index: np.ndarray, stream: str, count: int, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Windows by the definition, one by one, from whole aligned episodes in memory."""
    observations, actions, place = [], [], []
    for episode_id in dataset.ids():
        with dataset.read(episode_id) as episode:
            aligned = align_episode(episode)
        place += [(len(actions), k) for k in range(len(aligned))]
        observations.append(aligned.observations[stream][:-1])
        actions.append(aligned.actions)
    seen = [
        [observations[e][max(0, k - count + 1 + j)] for j in range(count)]
        for e, k in (place[i] for i in index)
    ]
    coming = [
        [actions[e][min(len(actions[e]) - 1, k + j)] for j in range(horizon)]
        for e, k in (place[i] for i in index)
    ]
    return np.array(seen), np.array(coming)


@pytest.fixture(params=["plain", "lzf", "raw episodes", "lzf episodes"])
def reader_of(
    request: pytest.FixtureRequest, tmp_path: Path, contract: Any, record: Callable[..., Path]
) -> Callable[..., tuple[Dataset, WindowReader]]:
    """A dataset and a reader on each kind of storage."""
    dataset = Dataset.create(tmp_path, contract)
    kind = request.param
    for k in range(3):
        record(f"e{k}", steps=9 + k, image_storage="raw" if kind == "raw episodes" else "lzf")

    def make(streams: tuple[str, ...], **settings: Any) -> tuple[Dataset, WindowReader]:
        if kind.endswith("episodes"):
            return dataset, WindowReader.open_episodes(dataset, streams, **settings)
        out = tmp_path / "prepared.h5"
        prepare(dataset.path, out, ("state", "front"), image_storage=kind)
        return dataset, WindowReader.open_prepared(out, streams, **settings)

    return make


@pytest.mark.parametrize(("count", "horizon"), [(1, 1), (2, 1), (3, 4)])
def test_windows_are_what_whole_episodes_say_from_any_storage(
    reader_of: Callable[..., tuple[Dataset, WindowReader]], count: int, horizon: int
) -> None:
    dataset, reader = reader_of(("front", "state"), frames=count, horizon=horizon)
    with reader:
        assert len(reader) == 30
        index = np.array([0, 29, 8, 9, 10, 17, 9, 3, 18, 19])
        batch = reader.read(index)
        for stream in ("front", "state"):
            seen, coming = expected(dataset, index, stream, count, horizon)
            assert batch.observations[stream].dtype == seen.dtype
            np.testing.assert_array_equal(batch.observations[stream], seen)
            np.testing.assert_array_equal(batch.actions, coming)
        assert batch.observations["front"].shape == (10, count, 6, 8, 3)
        again = reader.read(index[::-1], out=batch)
        assert again is batch
        np.testing.assert_array_equal(batch.observations["state"], seen[::-1])


def test_sampling_is_even_and_repeatable(reader_of: Callable[..., tuple[Dataset, WindowReader]]) -> None:
    _, reader = reader_of(("state",))
    with reader:
        first = reader.sample(np.random.default_rng(1), 500)
        second = reader.sample(np.random.default_rng(1), 500)
        np.testing.assert_array_equal(first.actions, second.actions)
        assert len(np.unique(first.observations["state"][:, -1, 0])) == 11


def test_plain_pictures_are_mapped_and_not_loaded(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out, ("front",))
    with WindowReader.open_prepared(out, ("front",)) as reader:
        assert reader._sources["front"]._mapped
        assert reader._maps._maps == {}, "nothing is touched before it is asked for"
        reader.read(np.array([5]))
        assert list(reader._maps._maps) == [out]
        assert reader._maps._handles == {}, "HDF5 is not asked"


def test_windows_that_another_stream_pushed_apart_in_the_file_are_read_frame_by_frame(
    tmp_path: Path, contract: Any, new_writer: Callable[..., Any], robot: Any
) -> None:
    dataset = Dataset.create(tmp_path, contract)
    with new_writer("a", image_storage="raw") as writer:
        for k in range(20):
            robot.frame(writer, k)
            robot.command(writer, k)
            writer.flush()
        robot.frame(writer, 20)
        writer.finish()
    with WindowReader.open_episodes(dataset, ("front",), frames=3) as reader:
        source = reader._sources["front"]
        assert source._mapped
        assert (np.diff(source._offsets) != 6 * 8 * 3).any()
        seen, _ = expected(dataset, np.arange(20), "front", 3, 1)
        np.testing.assert_array_equal(reader.read(np.arange(20)).observations["front"], seen)


def test_jpeg_episodes_are_decoded(tmp_path: Path, contract: Any, record: Callable[..., Path]) -> None:
    dataset = Dataset.create(tmp_path, contract)
    record("a", steps=6, image_storage="jpeg")
    with WindowReader.open_episodes(dataset, ("front",)) as reader:
        seen, _ = expected(dataset, np.arange(6), "front", 2, 1)
        np.testing.assert_array_equal(reader.read(np.arange(6)).observations["front"], seen)


def test_only_the_episodes_of_a_mask_are_read(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out, ("state",))
    sizes = []
    for mask in ("train", "valid"):
        with WindowReader.open_prepared(out, ("state",), mask=mask) as reader:
            sizes.append(len(reader))
    assert sum(sizes) == 33
    with pytest.raises(DatasetError, match=r"no mask 'tarin'; did you mean 'train'"):
        WindowReader.open_prepared(out, ("state",), mask="tarin")


def test_many_files_stay_within_few_open_ones(
    tmp_path: Path, contract: Any, record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_MAPS", 2)
    monkeypatch.setattr(frames, "_HANDLES", 2)
    for storage in ("raw", "lzf"):
        dataset = Dataset.create(tmp_path / storage, contract)
        for k in range(6):
            path = record(f"{storage}{k}", steps=4, image_storage=storage)
            path.rename(dataset.path / "episodes" / path.name)
        with WindowReader.open_episodes(dataset, ("front",)) as reader:
            seen, _ = expected(dataset, np.arange(24), "front", 2, 1)
            np.testing.assert_array_equal(reader.read(np.arange(24)).observations["front"], seen)
            assert max(len(reader._maps._maps), len(reader._maps._handles)) == 2


def test_what_cannot_be_read_is_refused_by_name(dataset: Dataset, tmp_path: Path) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out, ("state",))
    with pytest.raises(DatasetError, match=r"no stream 'front'.*--streams front"):
        WindowReader.open_prepared(out, ("front",))
    with pytest.raises(ArmchairError, match="no stream 'side'"):
        WindowReader.open_episodes(dataset, ("side",))
    with pytest.raises(ConfigError, match="frames 0"):
        WindowReader.open_prepared(out, ("state",), frames=0)
    with WindowReader.open_prepared(out, ("state",)) as reader, pytest.raises(IndexError):
        reader.read(np.array([33]))
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"x\.h5: cannot be read as a prepared file"):
        WindowReader.open_prepared(tmp_path / "x.h5", ("state",))


def test_a_prepared_file_that_was_cut_short_is_refused_not_mapped_behind_its_end(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out, ("front", "state"))
    data = out.read_bytes()
    for left in (0.3, 0.7, 0.95):
        out.write_bytes(data[: int(len(data) * left)])
        with pytest.raises(DatasetError, match="cannot be read"):
            WindowReader.open_prepared(out, ("front",))


def test_a_demo_that_is_not_as_long_as_it_says_is_refused(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out, ("state",))
    with h5py.File(out, "r+") as file:
        file["data/demo_1"].attrs["num_samples"] = 12
    with pytest.raises(DatasetError, match=r"demo_1/obs/state is \(11, 3\), the episode has 12 rows"):
        WindowReader.open_prepared(out, ("state",))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    index=st.lists(st.integers(0, 32), min_size=1, max_size=9),
    count=st.integers(1, 4),
    horizon=st.integers(1, 4),
)
def test_any_window_is_the_one_of_the_definition(
    index: list[int], count: int, horizon: int, dataset: Dataset
) -> None:
    out = dataset.path / "p.h5"
    if not out.exists():
        prepare(dataset.path, out, ("front", "state"))
    with WindowReader.open_prepared(out, ("front",), frames=count, horizon=horizon) as reader:
        batch: Batch = reader.read(np.array(index))
    seen, coming = expected(dataset, np.array(index), "front", count, horizon)
    np.testing.assert_array_equal(batch.observations["front"], seen)
    np.testing.assert_array_equal(batch.actions, coming)
