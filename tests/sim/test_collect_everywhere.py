"""Collection works in every family, with scripted experts, with noise and by chance, on one step or many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.aligned import align_episode
from episodes.dataset import Dataset
from episodes.errors import ConfigError
from episodes.reader import stream_hash
from sim.behaviours import acts, family_of
from sim.collect import CollectConfig, collect
from sim.contracts import contract_text
from sim.experts import Mix
from sim.make import make_env

EASY = "softgym-equivalent/RopeFlattenEasy"
DIAGONAL = "softgym-equivalent/ClothFoldDiagonal"
POLE = "gymnasium/CartPole-v1"
THIRDS = Mix(expert=1 / 3, noisy=1 / 3, random=1 / 3, sigma_lower=0.3, sigma_upper=0.6, turning=0.0)
CHANCE = Mix(expert=0.0, noisy=0.0, random=1.0)


def without_pictures(name: str, folder: Path) -> Path:
    """A contract of an environment without cameras, so that nothing is drawn."""
    env = make_env(name)
    file = folder / "contract.yaml"
    file.write_text(contract_text(env.spec, (), (1, 1)))
    env.close()
    return file


def hashes(folder: Path) -> dict[str, str]:
    dataset = Dataset.open(folder)
    found = {}
    for episode_id in dataset.ids():
        with dataset.read(episode_id) as episode:
            found[episode_id] = stream_hash(episode)
    return found


@pytest.mark.long
def test_a_rope_is_collected_by_expert_noise_and_chance_and_the_expert_succeeds(tmp_path: Path) -> None:
    contract = without_pictures(EASY, tmp_path)
    config = CollectConfig(tmp_path / "d", contract, EASY, episodes=3, mix=THIRDS, workers=1)
    done = collect(config)
    assert len(done.recorded) == 3
    dataset = Dataset.open(tmp_path / "d")
    infos = {str(info.attrs["operator"]).split()[0]: info for info in dataset.infos()}
    assert set(infos) == {"expert", "noisy", "random"}
    assert infos["expert"].outcome == "success"
    assert {info.samples["commands"] for info in infos.values()} == {40}, "the environment's own horizon"
    assert collect(config).kept == (0, 1, 2)


def test_a_task_of_one_step_terminates_and_makes_one_transition(tmp_path: Path) -> None:
    contract = without_pictures(DIAGONAL, tmp_path)
    mix = Mix(expert=1.0, noisy=0.0, random=0.0)
    collect(CollectConfig(tmp_path / "d", contract, DIAGONAL, episodes=1, mix=mix, workers=1))
    with Dataset.open(tmp_path / "d").read("s0-e0000") as episode:
        aligned = align_episode(episode)
        assert episode.attrs["termination_reason"] == "terminated"
        assert episode.attrs["outcome"] == "success"
    assert len(aligned) == 1
    assert aligned.terminated
    assert not aligned.truncated


def test_an_episode_that_ends_early_is_whole_and_kept(tmp_path: Path) -> None:
    contract = without_pictures(POLE, tmp_path)
    config = CollectConfig(tmp_path / "d", contract, POLE, episodes=4, mix=CHANCE, workers=1)
    assert len(collect(config).recorded) == 4
    infos = Dataset.open(tmp_path / "d").infos()
    assert all(info.attrs["termination_reason"] == "terminated" for info in infos)
    assert all(8 < info.samples["commands"] < 100 for info in infos)
    again = collect(config)
    assert again.kept == (0, 1, 2, 3)
    assert not again.notes


def test_what_has_no_expert_is_collected_by_chance_and_says_so_otherwise(tmp_path: Path) -> None:
    name = "gymnasium/Pendulum-v1"
    contract = without_pictures(name, tmp_path)
    with pytest.raises(ConfigError, match=r"--mix\.random 1"):
        collect(CollectConfig(tmp_path / "d", contract, name, episodes=4, workers=1))
    done = collect(
        CollectConfig(tmp_path / "d", contract, name, episodes=2, mix=CHANCE, horizon=5, workers=1)
    )
    assert done.recorded == (0, 1)


def test_pictures_come_from_the_first_camera_where_no_contract_is_given(tmp_path: Path) -> None:
    mix = Mix(expert=1.0, noisy=0.0, random=0.0)
    collect(CollectConfig(tmp_path / "d", env=POLE, episodes=1, mix=mix, horizon=3, workers=1))
    with Dataset.open(tmp_path / "d").read("s0-e0000") as episode:
        assert episode.stream("screen").read().shape == (4, 84, 84, 3)
        assert episode.attrs["task"] == POLE


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "horizon"),
    [(EASY, 40), (DIAGONAL, 1), ("softgym-equivalent/ClothFold", 20), ("softgym-equivalent/PassWater", 10),
     (POLE, 40), ("vlmrm/Humanoid", 20)],
)  # fmt: skip
def test_the_result_does_not_depend_on_the_number_of_workers(name: str, horizon: int, tmp_path: Path) -> None:
    contract = without_pictures(name, tmp_path)
    mix = CHANCE if name == "vlmrm/Humanoid" else THIRDS
    for workers in (1, 2):
        collect(
            CollectConfig(
                tmp_path / str(workers), contract, name, episodes=4, mix=mix, horizon=horizon, workers=workers
            )
        )
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    assert len(hashes(tmp_path / "1")) == 4


def test_noise_is_repeated_for_the_same_episode_and_stays_inside_the_bounds() -> None:
    family = family_of(EASY)
    low, high = -np.ones(8), np.ones(8)
    state = np.random.default_rng(0).normal(size=len(family.state_names))
    runs = []
    for _ in range(2):
        noisy = acts(EASY, "noisy", 3, 7, sigma=1.5, switch_step=2)
        rng = noisy.rng()
        runs.append([noisy.act(state, rng, k, low, high) for k in range(4)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0]).max() <= 1.0
    other = acts(EASY, "noisy", 3, 8, sigma=1.5)
    assert not np.array_equal(other.act(state, other.rng(), 0, low, high), runs[0][0])
    assert noisy.label == "noisy sigma=1.5000 random-from=2"


def test_the_experts_of_a_family_say_what_they_read() -> None:
    assert len(family_of("softgym-equivalent/ClothFoldDiagonal").state_names) == 111
    with pytest.raises(ConfigError, match="no scripted expert"):
        family_of("softgym-equivalent/ClothFoldPPP")
    with pytest.raises(ConfigError, match="no scripted expert"):
        family_of("gymnasium/CartPole-v1")
