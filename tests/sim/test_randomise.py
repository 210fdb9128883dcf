"""Randomised episodes differ as they should, come out the same again, and leave physics and reward alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError
from episodes.reader import Episode, stream_hash
from sim.collect import CollectConfig, collect
from sim.conformance import EnvConformance
from sim.env import Env
from sim.experts import Mix
from sim.make import make_env
from sim.randomise import Randomisation, RandomisedEnv
from sim.replay import Replay, origin_of

ROOT = Path(__file__).parents[2]
LOOKS = Randomisation(
    camera_m=0.02, camera_deg=2.0, fov_deg=1.0, light=0.4, light_m=0.1, texture=0.5, pixel_noise=0.01
)
SENSES = Randomisation(latency_steps=3, noise=0.01, dropout=0.3)
ALL = Randomisation(
    camera_m=0.02, camera_deg=2.0, light=0.4, texture=0.5, latency_steps=2, noise=0.01, pixel_noise=0.01,
    dropout=0.3,
)  # fmt: skip


class TestRandomisedArm(EnvConformance):
    camera = "front"

    def make(self) -> Env:
        return make_env("arm6/reach", horizon=15, randomise=ALL)


@pytest.mark.long
class TestRandomisedSawyer(EnvConformance):
    camera = "corner2"
    steps = 4

    def make(self) -> Env:
        return make_env("metaworld/drawer-open-v3", horizon=6, randomise=ALL)


def states(
    env: Env, actions: NDArray[np.float64], seed: int = 0, episode: int = 0
) -> list[NDArray[np.float64]]:
    steps = [env.reset(seed=seed, episode=episode), *(env.step(action) for action in actions)]
    return [step.observation["state"] for step in steps]


def some_actions(env: Env, count: int = 12) -> NDArray[np.float64]:
    rng = np.random.default_rng(1)
    return rng.uniform(env.spec.action_lower, env.spec.action_upper, (count, len(env.spec.action_lower)))


def test_nothing_is_randomised_unless_it_is_asked_for() -> None:
    assert not Randomisation().as_dict()
    assert not isinstance(make_env("arm6/reach", randomise=Randomisation()), RandomisedEnv)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"noise": -1.0}, "noise"), ({"light": 1.5}, "share"), ({"dropout": 1.0}, "below 1")],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Randomisation(**options)  # type: ignore[arg-type]


def test_a_task_without_a_scene_takes_noise_and_refuses_looks() -> None:
    make_env("rl-vlm-f/CartPole", randomise=SENSES).close()
    with pytest.raises(ConfigError, match="no MuJoCo scene"):
        make_env("gymnasium/Taxi-v4", randomise=LOOKS)


@pytest.mark.parametrize(
    "name",
    [
        "arm6/push",
        pytest.param("metaworld/drawer-open-v3", marks=pytest.mark.long),
        pytest.param("softgym-equivalent/RopeFlatten", marks=pytest.mark.long),
    ],
)
def test_looks_change_pictures_from_episode_to_episode_and_nothing_else(name: str) -> None:
    plain, varied = make_env(name), make_env(name, randomise=LOOKS)
    camera = "corner2" if name.startswith("metaworld") else plain.spec.cameras[0]
    actions = some_actions(plain, 3)
    pictures = []
    for episode in (0, 1):
        for a, b in zip(states(plain, actions, 0, episode), states(varied, actions, 0, episode), strict=True):
            np.testing.assert_array_equal(a, b)
        own, other = plain.render(camera, 64, 64), varied.render(camera, 64, 64)
        assert np.abs(own.astype(int) - other).mean() > 3.0
        assert other.std() > 5.0
        pictures.append(other.astype(int) - own)
    assert np.abs(pictures[0] - pictures[1]).mean() > 2.0, "each episode looks another way"
    plain.close()
    varied.close()


def test_a_scene_is_modelled_as_before_once_it_is_drawn() -> None:
    """The same environment without an appearance draws the plain picture again, textures included."""
    env = make_env("arm6/push", randomise=LOOKS)
    assert isinstance(env, RandomisedEnv)
    plain = make_env("arm6/push")
    for each in (env, plain):
        each.reset(seed=0, episode=0)
    env.render("front", 64, 64)
    inner = env.env
    inner.appearance = None  # type: ignore[attr-defined]
    np.testing.assert_array_equal(inner.render("front", 64, 64), plain.render("front", 64, 64))
    env.close()
    plain.close()


def test_latency_shows_what_was_so_many_steps_ago() -> None:
    options = Randomisation(latency_steps=4)
    plain, late = make_env("arm6/reach"), make_env("arm6/reach", randomise=options)
    actions = some_actions(plain)
    lags = set()
    for episode in range(6):
        true, seen = states(plain, actions, 0, episode), states(late, actions, 0, episode)
        (lag,) = [
            k for k in range(5) if all(np.array_equal(seen[t], true[max(0, t - k)]) for t in range(len(true)))
        ]
        lags.add(lag)
    assert len(lags) > 1, "drawn anew for each episode"


def test_a_late_picture_is_the_one_of_that_state_and_the_episode_goes_on_as_it_was() -> None:
    options = Randomisation(latency_steps=3)
    plain, late = make_env("arm6/push"), make_env("arm6/push", randomise=options)
    actions = some_actions(plain, 8)
    assert isinstance(late, RandomisedEnv)
    episode = 0
    late.reset(seed=0, episode=episode)
    while late._lag == 0:
        episode += 1
        late.reset(seed=0, episode=episode)
    plain.reset(seed=0, episode=episode)
    pictures = [plain.render("front", 32, 32)]
    shown = [late.render("front", 32, 32)]
    for action in actions:
        a, b = plain.step(action), late.step(action)
        assert a.reward == b.reward
        pictures.append(plain.render("front", 32, 32))
        shown.append(late.render("front", 32, 32))
    for t in range(len(shown)):
        np.testing.assert_array_equal(shown[t], pictures[max(0, t - late._lag)])
    plain.close()
    late.close()


def test_dropouts_freeze_everything_for_a_step_at_their_rate() -> None:
    env = make_env("arm6/reach", randomise=Randomisation(dropout=0.3))
    env.reset(seed=0, episode=0)
    frozen, before = 0, None
    for k in range(120):
        target = env.spec.action_lower + 0.4 * (env.spec.action_upper - env.spec.action_lower)
        seen = env.step(target + 0.2 * np.sin(k / 10.0)).observation["state"]
        frozen += before is not None and np.array_equal(seen, before)
        before = seen
    assert 20 <= frozen <= 52


def test_noise_has_the_size_that_is_asked_for_and_the_truth_stays_what_it_is() -> None:
    env = make_env("arm6/reach", randomise=Randomisation(noise=0.02))
    assert isinstance(env, RandomisedEnv)
    plain = make_env("arm6/reach")
    env.reset(seed=0, episode=0)
    plain.reset(seed=0, episode=0)
    errors = []
    for action in some_actions(env, 40):
        noisy, true = env.step(action), plain.step(action)
        assert noisy.reward == true.reward
        np.testing.assert_array_equal(env.true_step.observation["state"], true.observation["state"])
        errors.append(noisy.observation["state"] - true.observation["state"])
    assert np.std(errors) == pytest.approx(0.02, rel=0.1)
    assert abs(np.mean(errors)) < 0.002


def test_a_randomised_collection_is_recorded_resumed_and_drawn_again(tmp_path: Path) -> None:
    contract = ROOT / "launch" / "contracts" / "arm6_sim_push.yaml"
    mix = Mix(expert=1.0, noisy=0.0, random=0.0)

    def config(folder: str, options: Randomisation) -> CollectConfig:
        return CollectConfig(
            tmp_path / folder, contract, episodes=2, mix=mix, horizon=5, randomise=options, workers=1
        )

    collect(config("a", ALL))
    collect(config("b", ALL))
    dataset = Dataset.open(tmp_path / "a")
    for episode_id in dataset.ids():
        with dataset.read(episode_id) as a, Dataset.open(tmp_path / "b").read(episode_id) as b:
            assert stream_hash(a) == stream_hash(b)
    assert collect(config("a", ALL)).kept == (0, 1)
    with pytest.raises(DatasetError, match=r"collected with --randomise \{'camera_m'"):
        collect(config("a", Randomisation()))
    with Episode.open(dataset.file("s0-e0001")) as recorded:
        replay = Replay(recorded, origin_of(recorded))
        drawn = np.stack([world.env.render("front", 84, 84) for world in replay])
        np.testing.assert_array_equal(drawn, recorded.stream("front").read())
        replay.close()
