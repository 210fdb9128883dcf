"""Rollouts in simulation while a policy trains, as the command line asks for them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import armchair
from episodes.errors import ConfigError
from policy.algorithms.bc import BCConfig
from policy.metrics import read_metrics
from policy.run import RolloutsConfig
from policy.train import train
from sim.contracts import contract_text
from sim.judge import Judge, JudgeConfig
from sim.make import make_env

CONTRACT = Path(__file__).parents[2] / "launch" / "contracts" / "sawyer_sim_state.yaml"
ENV = "metaworld/drawer-open-v3"


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared file that fits the simulated arm: numbers of the right widths."""
    rng = np.random.default_rng(0)
    steps = 8
    ended = np.arange(steps) == steps - 1
    episode = {
        "obs/state": rng.normal(size=(steps, 39)),
        "next_obs/state": rng.normal(size=(steps, 39)),
        "actions": rng.uniform(-1, 1, (steps, 4)),
        "rewards": rng.random(steps),
        "labels/truth": rng.random(steps),
        "terminated": np.zeros(steps, np.bool_),
        "truncated": ended,
        "dones": ended.astype(np.int64),
    }
    path = tmp_path_factory.mktemp("recorded") / "prepared.h5"
    return tiny.write(path, [episode, episode], contract=CONTRACT.read_text())


def test_success_is_logged_and_the_first_goal_filmed(recorded, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    words = (
        f"train {run} --data.files {recorded} --steps 4 --evaluate-every 2 --num-threads 1 --no-tensorboard "
    )
    words += f"--rollouts.env {ENV} --rollouts.episodes 2 --rollouts.horizon 6 --rollouts.video "
    assert armchair.main([*words.split(), "algo:bc", "--algo.hidden", "8"]) == 0
    logged = {row["step"]: row for row in read_metrics(run / "metrics.jsonl") if "evaluate/success" in row}
    assert list(logged) == [2, 4]
    assert all(row["evaluate/episodes"] == 2 and row["evaluate/faults"] == 0 for row in logged.values())
    assert all(row["evaluate/success"] == 0 and row["evaluate/return"] > 0 for row in logged.values())
    for step in logged:
        film = cv2.VideoCapture(str(run / "films" / f"step-{step:08d}.mp4"))
        shown, frame = film.read()
        film.release()
        assert shown
        assert frame.std() > 5, "the film shows nothing"
        assert (run / "films" / f"step-{step:08d}.png").stat().st_size > 1000


def test_a_judge_gives_the_same_policy_the_same_figures() -> None:
    config = JudgeConfig(ENV, episodes=2, horizon=5, seed=3)
    judge = Judge(config, CONTRACT, ("state",))

    def act(observation) -> np.ndarray:
        assert observation["state"].shape == (39,)
        return np.array([0.1, 0.2, 0.0, 1.0])

    first = judge(1, act)
    assert judge(2, act) == first
    assert first.keys() == {"success", "return", "faults", "episodes"}
    judge.close()
    again = Judge(config, CONTRACT, ("state",))
    assert again(1, act) == first
    again.close()


def test_an_episode_is_as_long_as_its_environment_has_them(tmp_path: Path) -> None:
    contract = tmp_path / "contract.yaml"
    env = make_env("rl-vlm-f/CartPole")
    contract.write_text(contract_text(env.spec, (), (84, 84)))
    env.close()
    judge = Judge(JudgeConfig("rl-vlm-f/CartPole", episodes=1), contract, ("state",))
    steps = []

    def act(observation) -> np.ndarray:
        steps.append(1)
        return np.zeros(1)

    judge(1, act)
    judge.close()
    assert len(steps) == 100
    assert RolloutsConfig().horizon is None


def test_settings_that_cannot_work_are_refused(make_config) -> None:
    with pytest.raises(ConfigError, match=r"--rollouts\.episodes 0"):
        RolloutsConfig(episodes=0)
    with pytest.raises(ConfigError, match=r"--rollouts\.horizon 0"):
        Judge(JudgeConfig(ENV, horizon=0), CONTRACT, ("state",))
    with pytest.raises(ConfigError, match=r"--rollouts\.env .*who calls `train` gives `evaluate`"):
        train(make_config(algo=BCConfig(hidden=(8,)), rollouts=RolloutsConfig(env=ENV)))
    with pytest.raises(ConfigError, match="nowhere"):
        Judge(JudgeConfig("nowhere"), CONTRACT, ("state",))(1, lambda observation: np.zeros(4))
