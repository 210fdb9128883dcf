"""The dataset folder: index, listing, splits and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.contract import Contract, parse_contract
from episodes.dataset import Dataset, split_ids, usable
from episodes.errors import ContractError, DatasetError, EpisodeError
from episodes.labels import has_labels, labellers, read_labels, write_labels


def test_an_empty_folder_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"an empty folder or no dataset.*armchair collect"):
        Dataset.open(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        Dataset.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "armchair/dataset/1"}', '{"schema": 7}', "\xff"]
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        Dataset.open(tmp_path)


def test_a_dataset_without_episodes_says_how_to_get_some(tmp_path: Path, contract: Contract) -> None:
    dataset = Dataset.create(tmp_path, contract)
    with pytest.raises(DatasetError, match=r"no finished episode.*armchair collect"):
        usable(dataset)
    dataset.new_writer(clock="sim", started_ns=0, episode_id="a")
    with pytest.raises(DatasetError, match=r"1 unfinished.*armchair episodes recover"):
        usable(dataset)


def test_episodes_are_listed_by_id_with_their_counts(dataset: Dataset, record: Any) -> None:
    record("d9")
    again = Dataset.open(dataset.path)
    infos = again.infos()
    assert [info.episode_id for info in infos] == ["d9", "e0", "e1", "e2"]
    assert infos[1].samples == {"front": 11, "state": 11, "pose": 11, "mode": 11, "truth": 10, "commands": 10}
    assert infos[1].outcome == "success"
    with again.read("e2") as episode:
        assert episode.episode_id == "e2"
    with pytest.raises(DatasetError, match=r"no episode 'e3'"):
        again.read("e3")


def test_a_damaged_episode_is_never_skipped_in_silence(dataset: Dataset) -> None:
    path = dataset.file("e1")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EpisodeError, match=path.name):
        dataset.infos()


def test_a_file_that_was_renamed_or_copied_is_noticed(dataset: Dataset) -> None:
    path = dataset.file("e1")
    copy = path.with_name(path.name.replace("_e1", "_e7"))
    copy.write_bytes(path.read_bytes())
    with pytest.raises(EpisodeError, match="renamed from episode 'e1'"):
        dataset.infos()
    copy.rename(copy.with_name("20000101T000000Z_e1.h5"))
    with pytest.raises(DatasetError, match="'e1' is there twice"):
        dataset.ids()


def test_an_episode_of_another_robot_is_refused(
    dataset: Dataset, tmp_path: Path, contract_text: str, robot: Any
) -> None:
    other = parse_contract(contract_text.replace("names: [grip]", "names: [claw]"), "other.yaml")
    with pytest.raises(ContractError, match="gripper"):
        dataset.new_writer(contract=other, clock="sim", started_ns=0)
    with pytest.raises(ContractError, match="gripper"):
        Dataset.open_or_create(dataset.path, other)
    foreign = Dataset.create(tmp_path / "other", other)
    with foreign.new_writer(clock="sim", started_ns=0, episode_id="x") as writer:
        path = writer.finish()
    path.rename(dataset.path / "episodes" / path.name)
    with pytest.raises(EpisodeError, match="another robot contract"):
        dataset.infos()


def test_a_dataset_is_created_once_and_opened_again(tmp_path: Path, contract: Contract) -> None:
    first = Dataset.open_or_create(tmp_path, contract)
    assert Dataset.open_or_create(tmp_path, contract).contract.text == first.contract.text
    with pytest.raises(DatasetError, match="already"):
        Dataset.create(tmp_path, contract)


def test_splits_are_remembered_and_leave_no_partial_file(dataset: Dataset) -> None:
    splits = dataset.set_splits(seed=3, validation_fraction=0.3)
    assert Dataset.open(dataset.path).splits == splits
    assert sorted(splits["train"] + splits["valid"]) == ["e0", "e1", "e2"]
    assert len(splits["valid"]) == 1
    assert not list(dataset.path.glob("*.partial"))
    assert json.loads((dataset.path / "dataset.json").read_text())["split_seed"] == 3


@given(
    st.lists(st.text(min_size=1), unique=True, max_size=40),
    st.integers(0, 9),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_split_takes_every_episode_once_whatever_the_order(ids: list[str], seed: int, part: float) -> None:
    splits = split_ids(ids, seed, part)
    assert sorted(splits["train"] + splits["valid"]) == sorted(ids)
    assert split_ids(reversed(ids), seed, part) == splits
    if len(ids) > 1:
        assert splits["train"]
        assert bool(splits["valid"]) == (part > 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(DatasetError, match="validation fraction"):
        split_ids(["a", "b"], 0, fraction)


def test_labels_come_back_as_they_were_written(dataset: Dataset) -> None:
    reward = np.array([0.1, np.nan, 0.3], np.float32)
    valid = np.array([True, False, True])
    path = write_labels(dataset, "vlm-1.5", "e0", reward, valid, {"model": "gemini", "exponent": 4.0, "n": 3})
    assert path == dataset.path / "labels" / "vlm-1.5" / "e0.h5"
    labels = read_labels(dataset, "vlm-1.5", "e0")
    np.testing.assert_array_equal(labels.reward, reward)
    np.testing.assert_array_equal(labels.valid, valid)
    assert labels.attrs == {"model": "gemini", "exponent": 4.0, "n": 3}
    assert labellers(dataset) == ["vlm-1.5"]
    assert has_labels(dataset, "vlm-1.5", "e0")
    assert not has_labels(dataset, "vlm-1.5", "e1")


def test_labels_replace_older_ones_without_touching_the_raw_file(dataset: Dataset) -> None:
    raw = dataset.file("e0").read_bytes()
    write_labels(dataset, "a", "e0", np.zeros(3))
    write_labels(dataset, "a", "e0", np.ones(4))
    assert len(read_labels(dataset, "a", "e0").reward) == 4
    assert dataset.file("e0").read_bytes() == raw
    assert [p.name for p in (dataset.path / "labels" / "a").iterdir()] == ["e0.h5"]


@pytest.mark.parametrize("name", ["truth", "random", "../a", "a/b", "", ".a"])
def test_a_labeller_needs_a_name_of_its_own(dataset: Dataset, name: str) -> None:
    with pytest.raises(DatasetError, match="labeller"):
        write_labels(dataset, name, "e0", np.zeros(3))


def test_labels_that_do_not_fit_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="reward of step 1 is nan"):
        write_labels(dataset, "a", "e0", np.array([0.0, np.nan]))
    with pytest.raises(DatasetError, match=r"\(T,\)"):
        write_labels(dataset, "a", "e0", np.zeros((3, 1)))
    with pytest.raises(DatasetError, match=r"\(T,\)"):
        write_labels(dataset, "a", "e0", np.zeros(3), np.ones(4, np.bool_))
    with pytest.raises(DatasetError, match="no episode 'e9'"):
        write_labels(dataset, "a", "e9", np.zeros(3))
    with pytest.raises(DatasetError, match="has not labelled"):
        read_labels(dataset, "a", "e0")


def test_a_damaged_label_file_is_named(dataset: Dataset) -> None:
    path = write_labels(dataset, "a", "e0", np.zeros(300))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"e0\.h5.*damaged"):
        read_labels(dataset, "a", "e0")
    path.write_bytes(whole)
    path.rename(path.with_name("e1.h5"))
    with pytest.raises(DatasetError, match=r"e1\.h5.*damaged"):
        read_labels(dataset, "a", "e1")


def test_attributes_are_plain_python_values(dataset: Dataset) -> None:
    for value in dataset.info("e0").attrs.values():
        assert type(value) in (str, int, float, bool)
    with h5py.File(dataset.file("e0"), "r") as file:
        assert file.attrs["outcome"].decode() == "success"
