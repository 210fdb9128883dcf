"""A run's folder: what it says of itself, when it is resumed, and when not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from episodes.errors import ConfigError, DatasetError, MachineError
from policy.algorithms.bc import BCConfig
from policy.algorithms.iql import IQLConfig
from policy.metrics import latest_metrics
from policy.run import TrainConfig, load_policy, only_one, read_config
from policy.settings import from_json, to_json
from policy.train import main, train


def test_a_run_says_what_it_was_told_and_what_it_learned_from(make_config, tiny) -> None:
    config = make_config(algo=BCConfig(hidden=(8,)), seed=3)
    train(config)
    assert read_config(config.run) == config
    assert (config.run / "contract.yaml").read_text() == tiny.contract
    data = json.loads((config.run / "data.json").read_text())
    assert data["streams"] == {"state": 3}
    assert data["training_transitions"] == 96
    assert data["episodes"] == {"train": 8, "valid": 2}


@pytest.mark.parametrize("algo", [IQLConfig(expectile=0.9, hidden=()), BCConfig(policy="deterministic")])
def test_a_configuration_survives_json(make_config, algo) -> None:
    config = make_config(algo=algo, data={"streams": ("state", "wrench"), "std_floor": 1})
    assert from_json(TrainConfig, json.loads(json.dumps(to_json(config))), "x") == config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("algo", "name"), "sac", "'sac' is unknown; known:.*'iql'"),
        (("algo", "betta"), 3, "betta"),
        (("seed",), "zero", "seed: 'zero' does not fit"),
        (("loop",), [], "do not fit LoopConfig"),
        (("algo", "policy"), "mixture", "policy: 'mixture' does not fit"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_its_key(make_config, path, value, message) -> None:
    tree = to_json(make_config())
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(ConfigError, match=rf"config\.json.*{message}"):
        from_json(TrainConfig, tree, "config.json")


def test_the_command_line_reads_as_documented(tmp_path: Path) -> None:
    words = f"{tmp_path} --data.files a.h5 b.h5 --data.reward random --steps 5 algo:iql --algo.expectile 0.9"
    config = tyro.cli(TrainConfig, args=words.split())
    assert config.data.files == (Path("a.h5"), Path("b.h5"))
    assert config.data.reward == "random"
    assert config.loop.steps == 5
    assert config.algo == IQLConfig(expectile=0.9)
    assert tyro.cli(TrainConfig, args=["x", "--data.files", "a", "algo:bc"]).algo == BCConfig()


def test_the_defaults_are_those_of_the_main_job() -> None:
    config = tyro.cli(TrainConfig, args=["x", "--data.files", "a"])
    assert config.algo == IQLConfig(
        expectile=0.8, beta=30.0, discount=0.99, tau=0.005, lr=3e-4, hidden=(256, 256), policy="gaussian"
    )
    assert config.loop.steps == 10_000
    assert config.batch_size == 256
    assert config.data.scale_reward


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (IQLConfig, {"expectile": 1.0}),
        (IQLConfig, {"beta": -1.0}),
        (IQLConfig, {"discount": 1.1}),
        (IQLConfig, {"tau": 0.0}),
        (IQLConfig, {"max_weight": 0.0}),
        (IQLConfig, {"lr": 0.0}),
        (BCConfig, {"lr": float("nan")}),
        (BCConfig, {"hidden": (8, 0)}),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(algorithm, settings) -> None:
    (key,) = settings
    with pytest.raises(ConfigError, match=f"--algo.{key.replace('_', '-')}"):
        algorithm(**settings)


def test_another_configuration_is_refused_with_every_difference(make_config) -> None:
    config = make_config(algo=IQLConfig(hidden=(8,)))
    train(config)
    before = (config.run / "metrics.jsonl").read_bytes()
    changed = dataclasses.replace(config, seed=1, algo=IQLConfig(hidden=(8, 8), beta=3.0))
    with pytest.raises(ConfigError) as refused:
        train(changed)
    for line in (
        "seed: 0 -> 1",
        "algo.beta: 30.0 -> 3.0",
        "algo.hidden: [8] -> [8, 8]",
        "another run folder",
    ):
        assert line in str(refused.value)
    assert (config.run / "metrics.jsonl").read_bytes() == before
    assert read_config(config.run) == config


def test_other_data_are_refused_and_moved_data_are_not(
    make_config, prepared: Path, tmp_path: Path, tiny
) -> None:
    config = make_config(algo=BCConfig(hidden=(8,)))
    train(config)
    moved = tmp_path / "moved.h5"
    moved.write_bytes(prepared.read_bytes())
    elsewhere = dataclasses.replace(config, data=dataclasses.replace(config.data, files=(moved,)))
    assert train(elsewhere).resumed_from == 30
    tiny.write(moved, [tiny.episode(np.random.default_rng(5))])
    with pytest.raises(ConfigError, match="their transitions"):
        train(elsewhere)


def test_a_run_killed_before_its_first_checkpoint_starts_over_with_any_configuration(make_config) -> None:
    config = make_config(algo=BCConfig(hidden=(8,)))

    def crash(done: int, total: int) -> None:
        raise ZeroDivisionError

    never = dataclasses.replace(config, loop=dataclasses.replace(config.loop, checkpoint_every=0))
    with pytest.raises(ZeroDivisionError):
        train(never, progress=crash)
    changed = dataclasses.replace(config, seed=9)
    assert train(changed).resumed_from is None
    assert read_config(config.run) == changed


def test_two_processes_do_not_train_in_one_folder(make_config) -> None:
    config = make_config(algo=BCConfig(hidden=(8,)))
    with only_one(config.run), pytest.raises(MachineError, match="another process trains here"):
        train(config)
    assert train(config).step == 30


def test_validation_and_evaluation_are_logged(make_config, tiny) -> None:
    seen: list[int] = []

    def evaluate(step: int, act) -> dict[str, float]:
        action = act({"state": np.zeros(3), "front": np.zeros((4, 5, 3), np.uint8)})
        assert action.shape == (2,)
        assert ((action >= tiny.lower) & (action <= tiny.upper)).all()
        seen.append(step)
        return {"success": 0.5}

    config = make_config(algo=IQLConfig(hidden=(8,)))
    train(config, evaluate=evaluate)
    assert seen == [10, 20, 30]
    latest = latest_metrics(config.run / "metrics.jsonl")
    assert latest["evaluate/success"] == 0.5
    assert {"valid/loss_v", "valid/loss_q", "valid/loss_policy", "train/weight"} <= set(latest)


def test_behaviour_cloning_needs_no_reward(make_config, tmp_path: Path, tiny, rng) -> None:
    episode = tiny.episode(rng) | {"rewards": None, "labels/truth": None}
    path = tiny.write(tmp_path / "a.h5", [episode])
    assert train(make_config(data={"files": (path,)}, algo=BCConfig(hidden=(8,)))).step == 30
    with pytest.raises(DatasetError, match="no rewards by 'truth'"):
        train(make_config("iql", data={"files": (path,)}, algo=IQLConfig(hidden=(8,))))


def test_the_policy_of_a_run_acts_as_it_did_when_it_was_trained(make_config) -> None:
    observation = {"wrench": np.array([3.0, -4.0]), "state": np.array([0.3, -0.2, 0.25])}
    actions = []
    config = make_config(data={"streams": ("wrench", "state")}, algo=IQLConfig(hidden=(8,)))
    train(config, evaluate=lambda step, act: actions.append(act(observation)) or {})
    trained = load_policy(config.run)
    assert trained.step == 30
    assert trained.streams == {"wrench": 2, "state": 3}
    np.testing.assert_array_equal(trained.graph.act(observation), actions[-1])


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"config\.json.*is no training run"):
        load_policy(tmp_path)


def test_a_missing_gpu_and_no_threads_are_refused(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="--device cuda: torch finds no GPU"):
        train(make_config(device="cuda"))
    with pytest.raises(ConfigError, match="--num-threads 0"):
        train(make_config(num_threads=0))


def test_the_thread_count_is_put_back(make_config) -> None:
    before = torch.get_num_threads()
    train(make_config(algo=BCConfig(hidden=(8,)), num_threads=2))
    assert torch.get_num_threads() == before


def test_the_verb_reports_what_it_did(make_config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(make_config(algo=BCConfig(hidden=(8,)))) == 0
    said = capsys.readouterr().out
    assert "30 steps" in said
    assert "train/loss_policy" in said
