"""The prepared training file: its layout, what it refuses, and that it is written all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from episodes.dataset import Dataset
from episodes.errors import ArmchairError, DatasetError, EpisodeError
from episodes.labels import write_labels
from episodes.prepare import PrepareConfig, main, prepare
from episodes.writer import TERMINATED


def test_the_file_holds_what_was_recorded_in_the_robomimic_layout(dataset: Dataset, robot: Any) -> None:
    out = dataset.path / "p.h5"
    calls = []
    made = prepare(dataset.path, out, ("state", "front"), "truth", lambda *done: calls.append(done))
    assert (made.episodes, made.transitions, made.skipped) == (3, 33, {})
    assert calls == [(1, 3), (2, 3), (3, 3)]
    with h5py.File(out, "r") as file:
        data = file["data"]
        assert sorted(data) == ["demo_0", "demo_1", "demo_2"]
        assert data.attrs["total"] == 33
        assert json.loads(data.attrs["env_args"]) == {"env_name": "none/arm2", "type": 2, "env_kwargs": {}}
        assert data.attrs["interface_sha256"] == robot.contract.interface_sha256
        assert data.attrs["contract"] == robot.contract.text
        for n in range(3):
            demo, steps = data[f"demo_{n}"], 10 + n
            assert (demo.attrs["num_samples"], demo.attrs["episode_id"]) == (steps, f"e{n}")
            assert demo.attrs["outcome"] == "success"
            for name, sample in (("state", robot.state), ("front", robot.front)):
                frames = np.stack([sample(k) for k in range(steps + 1)])
                np.testing.assert_array_equal(demo[f"obs/{name}"][:], frames[:-1])
                np.testing.assert_array_equal(demo[f"next_obs/{name}"][:], frames[1:])
            np.testing.assert_array_equal(
                demo["actions"][:], np.stack([robot.action(k) for k in range(steps)])
            )
            np.testing.assert_allclose(demo["rewards"][:], np.arange(1, steps + 1) / 10)
            np.testing.assert_array_equal(demo["labels/truth"][:], demo["rewards"][:])
            np.testing.assert_array_equal(demo["success"][:], np.arange(1, steps + 1) > 5)
            ended = np.arange(steps) == steps - 1
            np.testing.assert_array_equal(demo["dones"][:], ended)
            np.testing.assert_array_equal(demo["truncated"][:], ended)
            assert not demo["terminated"][:].any()
            assert set(demo["sources"][:]) == {5}
        names = {key: [name.decode("utf-8") for name in file[f"mask/{key}"][:]] for key in ("train", "valid")}
        assert sorted(names["train"] + names["valid"]) == ["demo_0", "demo_1", "demo_2"]
        assert len(names["valid"]) == 1


def read_like_robomimic(path: Path, filter_key: str, obs_keys: tuple[str, ...]) -> int:
    """The reads of robomimic 0.3's SequenceDataset, call by call; the number of its sequences."""
    with h5py.File(path, "r", swmr=True, libver="latest") as file:
        demos = [elem.decode("utf-8") for elem in np.array(file[f"mask/{filter_key}"][:])]
        demos = [demos[i] for i in np.argsort([int(elem[5:]) for elem in demos])]
        total = 0
        for demo in demos:
            length = file[f"data/{demo}"].attrs["num_samples"]
            for key in obs_keys:
                for group in ("obs", "next_obs"):
                    assert file[f"data/{demo}/{group}/{key}"][()].astype("float32").shape[0] == length
            for key in ("actions", "rewards", "dones"):
                assert file[f"data/{demo}/{key}"][()].astype("float32").shape[0] == length
            total += len(range(length))
        assert json.loads(file["data"].attrs["env_args"])["type"] == 2
        return total


def test_robomimic_reads_the_file_as_it_is(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out, ("state", "front"), "truth")
    assert sum(read_like_robomimic(out, key, ("state", "front")) for key in ("train", "valid")) == 33


def test_terminated_and_truncated_are_apart(dataset: Dataset, new_writer: Any, robot: Any) -> None:
    with new_writer("e9") as writer:
        robot.record(writer, 4)
        writer.finish("success", "sim", TERMINATED)
    out = prepare(dataset.path, dataset.path / "p.h5").path
    with h5py.File(out, "r") as file:
        np.testing.assert_array_equal(file["data/demo_3/terminated"][:], [False, False, False, True])
        assert not file["data/demo_3/truncated"][:].any()
        assert "rewards" not in file["data/demo_3"]


def test_every_labeller_is_put_in_and_one_can_be_the_reward(dataset: Dataset) -> None:
    for n, episode_id in enumerate(dataset.ids()):
        write_labels(dataset, "vlm", episode_id, np.full(10 + n, n, np.float32))
    half = np.arange(10) < 5
    write_labels(dataset, "partly", "e0", np.zeros(10), half)
    made = prepare(dataset.path, dataset.path / "p.h5", reward="vlm")
    assert made.labellers == ("partly", "vlm")[1:]
    with h5py.File(made.path, "r") as file:
        assert json.loads(file["data"].attrs["labellers"]) == ["vlm"]
        assert sorted(file["data/demo_0/labels"]) == ["partly", "truth", "vlm"]
        assert sorted(file["data/demo_1/labels"]) == ["truth", "vlm"]
        np.testing.assert_array_equal(file["data/demo_0/label_valid/partly"][:], half)
        np.testing.assert_array_equal(file["data/demo_2/rewards"][:], np.full(12, 2))
    with pytest.raises(DatasetError, match=r"'e0' has no reward 'partly' for every transition"):
        prepare(dataset.path, dataset.path / "q.h5", reward="partly")


def test_labels_of_the_wrong_length_are_refused(dataset: Dataset) -> None:
    write_labels(dataset, "vlm", "e1", np.zeros(7))
    with pytest.raises(DatasetError, match=r"'vlm' gave 7 rewards to episode 'e1' of 11 transitions"):
        prepare(dataset.path, dataset.path / "p.h5")


def test_an_action_that_is_not_finite_is_refused_with_episode_and_tick(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out)
    before = out.read_bytes()
    with h5py.File(dataset.file("e1"), "r+") as file:
        file["commands/values"][6, 1] = np.nan
    with pytest.raises(EpisodeError, match=r"tick 6 of episode 'e1' is not finite: \[0\.006, nan, 0\.0\]"):
        prepare(dataset.path, out)
    assert out.read_bytes() == before
    assert not list(dataset.path.glob("*.partial"))


def test_a_split_of_the_dataset_wins_and_new_episodes_are_for_training(dataset: Dataset, record: Any) -> None:
    splits = dataset.set_splits(1, 0.4)
    record("e7")
    out = prepare(dataset.path, dataset.path / "p.h5", validation_fraction=0.9).path
    with h5py.File(out, "r") as file:
        ids = {name: file[f"data/{name}"].attrs["episode_id"] for name in file["data"]}
        valid = [ids[name.decode()] for name in file["mask/valid"][:]]
        train = [ids[name.decode()] for name in file["mask/train"][:]]
    assert valid == splits["valid"]
    assert train == sorted([*splits["train"], "e7"])


def test_only_the_outcomes_asked_for_are_taken(dataset: Dataset, new_writer: Any, robot: Any) -> None:
    with new_writer("f") as writer:
        robot.record(writer, 4)
        writer.finish("failure", "sim")
    assert prepare(dataset.path, dataset.path / "p.h5", outcomes=("failure",)).transitions == 4
    with pytest.raises(DatasetError, match="no episode has an outcome among unknown"):
        prepare(dataset.path, dataset.path / "p.h5", outcomes=("unknown",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"streams": ("sate",)}, r"no observation stream 'sate'; did you mean 'state'"),
        ({"reward": "vlm"}, r"reward 'vlm' is neither 'truth' nor a labeller"),
    ],
)
def test_settings_that_name_nothing_are_refused(
    dataset: Dataset, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        prepare(dataset.path, dataset.path / "p.h5", **settings)


def test_a_dataset_without_episodes_is_refused(tmp_path: Path, contract: Any) -> None:
    Dataset.create(tmp_path, contract)
    with pytest.raises(DatasetError, match="no finished episode"):
        prepare(tmp_path, tmp_path / "p.h5")
    with pytest.raises(DatasetError, match="no such folder"):
        prepare(tmp_path / "x", tmp_path / "p.h5")


def test_an_interrupted_run_leaves_the_old_file_and_no_partial(dataset: Dataset) -> None:
    out = dataset.path / "p.h5"
    prepare(dataset.path, out)
    before = out.read_bytes()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(dataset.path, out, progress=interrupt)
    assert out.read_bytes() == before
    assert not list(dataset.path.glob("*.partial"))


def test_an_output_that_cannot_be_written_is_named(dataset: Dataset) -> None:
    (dataset.path / "file").write_text("")
    with pytest.raises(ArmchairError, match=r"p\.h5"):
        prepare(dataset.path, dataset.path / "file" / "p.h5")


def test_the_verb_says_what_it_wrote(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(PrepareConfig(dataset.path, reward="truth")) == 0
    assert "3 episodes, 33 transitions" in capsys.readouterr().out
    assert (dataset.path / "prepared.h5").exists()
