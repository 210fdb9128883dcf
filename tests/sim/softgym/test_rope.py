"""The rope tasks: what SoftGym says of them, and what their experts reach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import ConfigError
from sim.make import make_env
from sim.softgym.cache import InitialStates
from sim.softgym.env import SoftGymEnv
from sim.softgym.experts import expert
from sim.softgym.letters import LETTERS, letter
from sim.softgym.rope import LENGTH_M, RADIUS_M, SEGMENTS, SPACING_M, RopeFlatten, RopeFlattenEasy


def test_the_tasks_last_and_step_as_in_softgym() -> None:
    for name, horizon, repeat in (
        ("RopeFlatten", 75, 8), ("RopeFlattenEasy", 40, 6), ("RopeConfiguration", 100, 8),
    ):  # fmt: skip
        spec = make_env(f"softgym-equivalent/{name}").spec
        assert spec.horizon == horizon
        assert spec.period_ns == repeat * 10_000_000
        assert len(spec.action_names) == 8
    assert len(SoftGymEnv("RopeFlatten").spec.observation_names["state"]) == 36
    assert len(SoftGymEnv("RopeConfiguration").spec.observation_names["state"]) == 66
    cloud = SoftGymEnv("RopeFlatten", observation="point_cloud").spec.observation_names["state"]
    assert len(cloud) == 41 * 3 + 6
    assert cloud[-1] == "picker1_z"


@pytest.mark.parametrize("name", ["RopeFlatten", "RopeFlattenEasy"])
def test_the_expert_straightens_ropes_that_nobody_trained_on(name: str) -> None:
    env, act = SoftGymEnv(name, split="evaluation"), expert(name)
    for episode in range(4):
        step = env.reset(seed=7, episode=episode)
        assert env.variation >= 800
        assert not step.success
        while not step.truncated:
            step = env.step(act(step.observation["state"]))
        assert step.success
        assert env.score.further["end_point_distance"] >= 0.95 * LENGTH_M
        assert env.score.normalized >= (0.95 if name == "RopeFlatten" else 1.95)


def test_the_expert_lays_letters_though_not_every_one_to_the_end() -> None:
    env, reached = SoftGymEnv("RopeConfiguration", split="evaluation"), []
    for episode in range(4):
        act, step = expert("RopeConfiguration"), env.reset(seed=0, episode=episode)
        while not step.truncated:
            step = env.step(act(step.observation["state"]))
        reached.append(env.score.normalized)
    assert np.mean(reached) > 0.7


def test_rewards_are_the_distance_of_the_ends_as_each_task_counts_it() -> None:
    plain, easy = RopeFlatten(), RopeFlattenEasy()
    for task in (plain, easy):
        task.body.p[:] = 0.0
        task.body.p[0, -1] = 0.3
    assert plain.score().reward == pytest.approx(-0.2)
    assert plain.score().normalized == pytest.approx(0.6)
    assert easy.score().reward == pytest.approx(0.3)
    assert easy.score().normalized == pytest.approx(1.6)
    easy.body.p[0, -1] = 0.7
    assert easy.score().reward == pytest.approx(0.55), "up to 1.1 lengths"
    assert easy.score().success


def test_a_picker_takes_the_nearest_particle_within_reach_and_lets_it_go() -> None:
    task = RopeFlatten()
    task.begin(task.generate(0))
    pickers, body = task.pickers, task.body
    pickers.at = np.array([body.p[:, 10] + [0.0, 0.02, 0.0], [0.2, 0.2, 0.2]])
    up, none = np.array([[0.0, 0.01, 0.0], [0.0, 0.0, 0.0]]), np.zeros((2, 3))
    before = body.p[:, 10].copy()
    pickers.step(up, np.ones(2))
    assert pickers.held == [10, None], "the second one is out of reach"
    np.testing.assert_allclose(body.p[:, 10], before + np.array([0.0, 0.01, 0.0]), atol=1e-12)
    for _ in range(5):
        pickers.step(up, np.ones(2))
    assert body.p[1, 10] > 0.05
    pickers.step(none, np.zeros(2))
    assert pickers.held == [None, None]
    for _ in range(60):
        pickers.step(none, np.zeros(2))
    assert body.p[1, 10] < 0.05


def test_pickers_stay_inside_their_room() -> None:
    task = RopeFlatten()
    task.begin(task.generate(0))
    for _ in range(20):
        task.act(np.array([0.01, 0.01, 0.01, 0.0, -0.01, -0.01, -0.01, 0.0]))
    first, second = task.pickers.at
    assert first[1] == pytest.approx(0.28)
    assert second[1] == pytest.approx(0.02)
    assert np.ptp(task.pickers.at[:, 0]) <= 0.66 + 1e-9


def test_the_easy_rope_cannot_be_carried_out_of_the_picture() -> None:
    env = SoftGymEnv("RopeFlattenEasy")
    env.reset(seed=0, episode=0)
    for _ in range(30):
        env.step(np.tile([1.0, 0.0, 0.0, 1.0], 2))
    assert np.abs(env.points[:, [0, 2]]).max() < 0.34


def test_letters_are_as_long_as_the_rope() -> None:
    for name in LETTERS:
        goal = letter(name, SEGMENTS + 1, SPACING_M, RADIUS_M)
        lengths = np.linalg.norm(np.diff(goal, axis=1), axis=0)
        assert lengths.sum() == pytest.approx(LENGTH_M, rel=0.03)
        np.testing.assert_allclose(goal.mean(axis=1), [0.0, RADIUS_M, 0.0], atol=1e-12)


def test_a_rope_on_its_letter_has_done_the_task() -> None:
    env = SoftGymEnv("RopeConfiguration")
    env.reset(seed=0, episode=0)
    assert env.score.normalized == 0.0
    env._task.body.p[:] = env._task.look().goal  # type: ignore[attr-defined]
    assert env.score.normalized == pytest.approx(1.0)


def test_training_and_evaluation_share_no_initial_state() -> None:
    train, held_out = SoftGymEnv("RopeFlatten"), SoftGymEnv("RopeFlatten", split="evaluation")
    seen: list[set[int]] = []
    for env in (train, held_out):
        env.reset(seed=3, episode=0)
        seen.append({env.variation})
    assert max(seen[0]) < 800 <= min(seen[1])


def test_an_initial_state_is_the_same_made_or_read(tmp_path: Path) -> None:
    said: list[str] = []
    task = RopeFlatten()
    states = InitialStates(task, "key", tmp_path, said.append)
    assert states.make(2) == 2
    assert len([line for line in said if "of 2 initial states" in line]) == 2
    read = InitialStates(task, "key", tmp_path).get(1)
    np.testing.assert_array_equal(read["p"], task.generate(1)["p"])
    file = states.folder / "0001.npz"
    file.write_bytes(b"torn")
    np.testing.assert_array_equal(states.get(1)["p"], read["p"])
    assert InitialStates(task, "other", tmp_path).folder != states.folder
    assert not list(states.folder.glob("*.partial"))


def test_what_is_unknown_is_refused_with_what_is_known() -> None:
    with pytest.raises(ConfigError, match="did you mean 'RopeFlatten'"):
        make_env("softgym-equivalent/RopeFlaten")
    with pytest.raises(ConfigError, match="key_point"):
        SoftGymEnv("RopeFlatten", observation="camera")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="horizon 0"):
        SoftGymEnv("RopeFlatten", horizon=0)
    with pytest.raises(ConfigError, match="split"):
        SoftGymEnv("RopeFlatten", split="test")  # type: ignore[arg-type]
    env = SoftGymEnv("RopeFlatten")
    with pytest.raises(ConfigError, match="0 or more"):
        env.reset(seed=0, episode=-1)
    env.reset(seed=0, episode=0)
    with pytest.raises(ConfigError, match="not one of"):
        env.restore_state(np.zeros(40, dtype=np.uint8))


def test_pickers_show_where_wanted_and_are_hidden_as_in_rl_vlm_f() -> None:
    pictures = {}
    for show in (None, True, False):
        env = SoftGymEnv("RopeFlattenEasy", pickers=show)
        env.reset(seed=0, episode=0)
        pictures[show] = env.render("default_camera", 84, 84)
        env.close()
    np.testing.assert_array_equal(pictures[None], pictures[False])
    assert np.abs(pictures[True].astype(int) - pictures[False]).max() > 30


def test_nothing_loads_numba_before_a_soft_task_is_made() -> None:
    code = "import sys, sim.make, sim.env, sim.conformance; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
