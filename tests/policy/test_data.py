"""Prepared files become transitions, and what is wrong with them is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.errors import ConfigError, ContractError, DatasetError
from policy.data import DataConfig, load_data


@pytest.fixture
def episode(tiny, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return tiny.episode(rng)


def load(*files: Path, **settings):
    return load_data(DataConfig(files=files, **settings))


def test_transitions_are_the_rows_of_the_training_episodes_in_order(tiny, tmp_path: Path, rng) -> None:
    episodes = [tiny.episode(rng, steps) for steps in (3, 5, 4)]
    path = tiny.write(tmp_path / "a.h5", episodes, masks={"train": [0, 2], "valid": [1]})
    data = load(path, scale_reward=False)
    keys = ("obs/state", "actions", "labels/truth", "next_obs/state", "terminated", "truncated")
    for name, key in zip(data.train._fields, keys, strict=False):
        expected = np.concatenate([episodes[i][key] for i in (0, 2)]).astype(np.float32)
        np.testing.assert_array_equal(getattr(data.train, name).numpy(), expected)
        np.testing.assert_array_equal(getattr(data.valid, name).numpy(), episodes[1][key].astype(np.float32))
    assert data.episodes == (2, 1)
    np.testing.assert_allclose(data.mean, data.train.observations.numpy().mean(axis=0), rtol=1e-6)


def test_demo_10_comes_after_demo_9(tiny, tmp_path: Path, rng) -> None:
    episodes = [tiny.episode(rng, 1) for _ in range(11)]
    for number, one in enumerate(episodes):
        one["labels/truth"] = np.array([number])
    data = load(tiny.write(tmp_path / "a.h5", episodes), scale_reward=False)
    assert data.train.rewards.tolist() == list(range(11))


def test_termination_and_truncation_are_kept_apart(tiny, tmp_path: Path, rng) -> None:
    episodes = [tiny.episode(rng, 2), tiny.episode(rng, 2)]
    episodes[1] |= {"terminated": np.array([False, True]), "truncated": np.array([False, False])}
    train = load(tiny.write(tmp_path / "a.h5", episodes)).train
    assert train.terminated.tolist() == [0, 0, 0, 1]
    assert train.truncated.tolist() == [0, 1, 0, 0]


def test_several_files_are_chained(tiny, tmp_path: Path, rng) -> None:
    files = [tiny.write(tmp_path / f"{n}.h5", [tiny.episode(rng, n)]) for n in (2, 3)]
    data = load(*files)
    assert len(data.train.rewards) == 5
    assert data.sha256 != load(*files[::-1]).sha256


def test_several_streams_stand_side_by_side(tiny, tmp_path: Path, episode) -> None:
    path = tiny.write(tmp_path / "a.h5", [episode])
    data = load(path, streams=("wrench", "state"))
    assert data.streams == {"wrench": 2, "state": 3}
    expected = np.concatenate([episode["obs/wrench"], episode["obs/state"]], axis=1).astype(np.float32)
    np.testing.assert_array_equal(data.train.observations.numpy(), expected)


def test_the_reward_is_scaled_by_the_range_of_the_training_transitions(tiny, tmp_path: Path, rng) -> None:
    episodes = [tiny.episode(rng, 3), tiny.episode(rng, 2)]
    episodes[0]["labels/truth"] = np.array([-2.0, 0.0, 6.0])
    episodes[1]["labels/truth"] = np.array([2.0, 10.0])
    path = tiny.write(tmp_path / "a.h5", episodes, masks={"train": [0], "valid": [1]})
    data = load(path)
    assert data.train.rewards.tolist() == [0.0, 0.25, 1.0]
    assert data.valid is not None
    assert data.valid.rewards.tolist() == [0.5, 1.5]
    assert data.reward_range == (-2.0, 6.0)


def test_rewards_are_chosen_by_name(tiny, tmp_path: Path, episode) -> None:
    steps = len(episode["actions"])
    episode["labels/judge"] = np.linspace(0, 1, steps)
    path = tiny.write(tmp_path / "a.h5", [episode])

    def rewards(name: str, **settings) -> list[float]:
        return load(path, reward=name, **settings).train.rewards.tolist()

    assert rewards("judge") == pytest.approx(list(np.linspace(0, 1, steps)))
    assert rewards("prepared", scale_reward=False) == pytest.approx(episode["rewards"].tolist())
    assert rewards("zero") == [0.0] * steps
    assert rewards("constant") == [1.0] * steps
    assert rewards("average", scale_reward=False) == pytest.approx([episode["rewards"].mean()] * steps)
    random = rewards("random")
    assert random == rewards("random")
    assert random != rewards("random", reward_seed=1)
    assert all(0 <= value < 1 for value in random)


def test_blind_rewards_need_no_label_in_the_file(tiny, tmp_path: Path, episode) -> None:
    path = tiny.write(tmp_path / "a.h5", [episode | {"rewards": None, "labels/truth": None}])
    assert load(path, reward="constant").train.rewards.sum() == len(episode["actions"])
    with pytest.raises(DatasetError, match=r"data/demo_0/rewards is missing"):
        load(path, reward="average")


def test_transitions_without_a_valid_label_are_left_out(tiny, tmp_path: Path, episode) -> None:
    steps = len(episode["actions"])
    valid = np.arange(steps) % 3 > 0
    episode |= {"labels/judge": np.where(valid, np.arange(steps), np.nan), "label_valid/judge": valid}
    data = load(tiny.write(tmp_path / "a.h5", [episode]), reward="judge", scale_reward=False)
    assert data.train.rewards.tolist() == np.arange(steps)[valid].tolist()
    np.testing.assert_array_equal(
        data.train.observations.numpy(), episode["obs/state"][valid].astype(np.float32)
    )
    assert data.unlabelled == steps - valid.sum()
    episode["label_valid/judge"] = np.zeros(steps, np.bool_)
    with pytest.raises(DatasetError, match="valid reward to none of the 12"):
        load(tiny.write(tmp_path / "b.h5", [episode]), reward="judge")


def test_without_masks_everything_is_trained_on(tiny, tmp_path: Path, episode) -> None:
    data = load(tiny.write(tmp_path / "a.h5", [episode]))
    assert data.episodes == (1, 0)
    assert data.valid is None


def test_actions_outside_the_bounds_are_counted(tiny, tmp_path: Path, episode) -> None:
    episode["actions"][3, 1] = 0.8
    assert load(tiny.write(tmp_path / "a.h5", [episode])).clipped_actions == 1


def test_the_hash_names_the_transitions_and_not_the_file(tiny, tmp_path: Path, episode) -> None:
    first = load(tiny.write(tmp_path / "a.h5", [episode])).sha256
    assert load(tiny.write(tmp_path / "b.h5", [episode])).sha256 == first
    episode["actions"][0, 0] = 0.05
    assert load(tiny.write(tmp_path / "c.h5", [episode])).sha256 != first


def test_tensors_are_float32(prepared: Path) -> None:
    assert {x.dtype for x in load(prepared).train if x is not None} == {torch.float32}


@pytest.mark.parametrize("name", ["obs/state", "next_obs/state", "actions", "labels/truth"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_place(
    tiny, tmp_path: Path, episode, name, value
) -> None:
    episode[name][5, ...] = value
    path = tiny.write(tmp_path / "a.h5", [episode])
    with pytest.raises(DatasetError, match=rf"a\.h5: data/demo_0/{name} is {value} at step 5"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((12, 3))}, r"data/demo_0/actions has the shape \[12, 3\].*\['steps', 2\]"),
        ({"obs/state": np.zeros((12, 4))}, r"data/demo_0/obs/state has the shape \[12, 4\].*\[12, 3\]"),
        ({"obs/state": np.zeros((11, 3))}, r"data/demo_0/obs/state has the shape \[11, 3\].*\[12, 3\]"),
        ({"terminated": None}, r"data/demo_0/terminated is missing"),
        ({"next_obs/state": None}, r"data/demo_0/next_obs/state is missing"),
        ({"labels/truth": None, "labels/thuth": np.zeros(12)}, r"no rewards by 'truth'.*'thuth'"),
        ({"labels/truth": np.ones(12)}, r"reward 'truth' is 1 in all 12 .* nothing to learn"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(tiny, tmp_path: Path, episode, change, message) -> None:
    with pytest.raises(DatasetError, match=message):
        load(tiny.write(tmp_path / "a.h5", [episode | change]))


def test_an_episode_without_steps_is_refused(tiny, tmp_path: Path, episode) -> None:
    empty = {name: values[:0] for name, values in episode.items()}
    with pytest.raises(DatasetError, match="data/demo_0 has no step"):
        load(tiny.write(tmp_path / "a.h5", [empty]))


def test_a_file_without_episodes_is_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.h5: there is no episode in it"):
        load(tiny.write(tmp_path / "a.h5", []))


def test_an_empty_training_mask_is_refused(tiny, tmp_path: Path, episode) -> None:
    path = tiny.write(tmp_path / "a.h5", [episode], masks={"train": [], "valid": [0]})
    with pytest.raises(DatasetError, match="mask/train is empty"):
        load(path)


def test_overlapping_masks_and_masks_of_missing_episodes_are_refused(tiny, tmp_path: Path, episode) -> None:
    overlap = tiny.write(tmp_path / "a.h5", [episode], masks={"train": [0], "valid": [0]})
    with pytest.raises(DatasetError, match="demo_0 is in mask/train and in mask/valid"):
        load(overlap)
    missing = tiny.write(tmp_path / "b.h5", [episode], masks={"train": [0, 4]})
    with pytest.raises(DatasetError, match="mask/train names 'demo_4'"):
        load(missing)


def test_a_file_that_is_missing_or_no_hdf5_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.h5.*cannot be opened"):
        load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DatasetError, match=r"text\.h5.*cannot be opened"):
        load(tmp_path / "text.h5")


def test_a_file_cut_in_half_is_refused_by_name(tiny, tmp_path: Path, episode) -> None:
    path = tiny.write(tmp_path / "a.h5", [episode] * 5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"a\.h5.*cannot be opened"):
        load(path)


def test_files_of_different_robots_are_not_mixed(tiny, tmp_path: Path, episode) -> None:
    here = tiny.write(tmp_path / "a.h5", [episode])
    faster = tiny.write(tmp_path / "b.h5", [episode], contract=tiny.contract.replace("20", "25"))
    with pytest.raises(DatasetError, match=r"b\.h5: its robot .* another interface than .*a\.h5"):
        load(here, faster)
    wider = tiny.write(tmp_path / "c.h5", [episode], contract=tiny.contract.replace("-0.1,", "-0.2,"))
    with pytest.raises(DatasetError, match=r"c\.h5: its action_lower is \[-0.2, -0.3\]"):
        load(here, wider)


def test_a_file_without_a_contract_is_refused(tiny, tmp_path: Path, episode) -> None:
    with pytest.raises(DatasetError, match="attribute 'contract' of /data is missing"):
        load(tiny.write(tmp_path / "a.h5", [episode], contract=None))
    with pytest.raises(ContractError, match="attribute contract"):
        load(tiny.write(tmp_path / "b.h5", [episode], contract="robot: 3"))


def test_streams_that_are_unknown_or_not_in_the_file_are_refused(prepared: Path) -> None:
    with pytest.raises(DatasetError, match="no observation stream 'stat'; did you mean 'state'"):
        load(prepared, streams=("stat",))
    with pytest.raises(DatasetError, match=r"data/demo_0/obs/front is missing.*--streams … front"):
        load(prepared, streams=("front",))


def test_no_file_and_files_given_twice_are_refused(prepared: Path) -> None:
    with pytest.raises(ConfigError, match=r"--data\.files"):
        load()
    with pytest.raises(ConfigError, match="none twice"):
        load(prepared, prepared)
