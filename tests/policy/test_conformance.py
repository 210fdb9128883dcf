"""What every algorithm has to keep, whatever it learns. A new one is added to `ALGORITHMS`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.errors import ConfigError, DatasetError
from policy.algorithms.bc import BCConfig
from policy.algorithms.iql import IQLConfig
from policy.checkpoint import load_state, save_state
from policy.data import Transitions
from policy.export import ExportConfig, export
from policy.metrics import read_metrics
from policy.run import load_policy
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.train import train
from policy.training import BatchSampler

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
ALGORITHMS = [
    IQLConfig(hidden=(8, 8)),
    IQLConfig(hidden=(8, 8), policy="deterministic"),
    BCConfig(hidden=(8, 8)),
    BCConfig(hidden=(8, 8), policy="deterministic"),
]
every_algorithm = pytest.mark.parametrize("algo", ALGORITHMS, ids=lambda algo: f"{algo.name}-{algo.policy}")
every_kind = pytest.mark.parametrize("algo", ALGORITHMS[::2], ids=lambda algo: algo.name)


def leaves(tree: Any, at: str = "") -> dict[str, Any]:
    """Tensors and plain values of a state by their path."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {path: leaf for key, node in items for path, leaf in leaves(node, f"{at}/{key}").items()}
    return {at: tree}


def assert_same_bits(a: Any, b: Any) -> None:
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    for path in a:
        if isinstance(a[path], torch.Tensor):
            assert torch.equal(a[path], b[path]), path
        else:
            assert a[path] == b[path], path


def final(run: Path) -> dict[str, Any]:
    return load_state(run / "checkpoints" / "final.safetensors")


def log(run: Path) -> list[dict[str, float]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{key: row[key] for key in row if not key.startswith("speed/")} for row in rows]


def batch(rows: int = 16, **columns: torch.Tensor) -> Transitions:
    s, a = torch.randn(rows, 3), torch.rand(rows, 2) * 2 - 1
    zeros = torch.zeros(rows)
    return Transitions(s, a, torch.rand(rows), torch.randn(rows, 3), zeros, zeros)._replace(**columns)


@every_algorithm
def test_training_brings_the_policy_closer_to_the_data(algo) -> None:
    torch.manual_seed(0)
    learner = algo.build(3, 2, CPU)
    data = batch(64)

    def loss() -> float:
        return learner.policy.imitation_loss(data.observations, data.actions).mean().item()

    before = loss()
    for _ in range(200):
        learner.update(data)
    assert loss() < before


@every_algorithm
def test_a_saved_state_goes_on_like_the_one_that_was_saved(algo, tmp_path: Path) -> None:
    torch.manual_seed(0)
    learner, other = algo.build(3, 2, CPU), algo.build(3, 2, CPU)
    batches = [batch() for _ in range(10)]
    for one in batches[:5]:
        learner.update(one)
    save_state(tmp_path / "state.safetensors", learner.state_dict(), step=5)
    other.load_state_dict(load_state(tmp_path / "state.safetensors"))
    for going_on in (learner, other):
        torch.manual_seed(1)  # dropout draws from the global generator, which the loop saves and restores
        for one in batches[5:]:
            going_on.update(one)
    assert_same_bits(learner.state_dict(), other.state_dict())


@every_algorithm
def test_one_seed_and_one_thread_count_give_one_result(algo, make_config) -> None:
    for run in ("a", "b"):
        # What happened in the process before must not matter.
        torch.rand(7)
        train(make_config(run, algo=algo))
    a, b = make_config("a").run, make_config("b").run
    assert_same_bits(final(a), final(b))
    assert log(a) == log(b)
    train(make_config("c", algo=algo, seed=1))
    assert not torch.equal(
        final(a)["learner"]["policy"]["mean.0.weight"],
        final(make_config("c").run)["learner"]["policy"]["mean.0.weight"],
    )


@every_kind
def test_a_run_killed_with_sigkill_ends_bit_for_bit_like_one_never_killed(
    algo, make_config, prepared
) -> None:
    loop = {"steps": 1000, "log_every": 50, "evaluate_every": 300, "checkpoint_every": 100}
    config, killed = (make_config(run, algo=algo, loop=loop) for run in ("whole", "killed"))
    command = [
        sys.executable, "armchair.py", "train", str(killed.run), "--data.files", str(prepared),
        "--steps", "1000", "--log-every", "50", "--evaluate-every", "300", "--checkpoint-every", "100",
        "--no-tensorboard", "--batch-size", "16", "--num-threads", "1",
        f"algo:{algo.name}", "--algo.hidden", "8", "8",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not list((killed.run / "checkpoints").glob("step-*.safetensors")):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    result = train(killed)
    assert 0 < result.resumed_from < 1000
    train(config)
    assert_same_bits(final(config.run), final(killed.run))
    assert log(config.run) == log(killed.run)


@every_kind
def test_the_exported_bundle_does_what_the_network_does(algo, make_config, tiny) -> None:
    config = make_config(algo=algo)
    train(config)
    bundle = export(ExportConfig(config.run))
    assert bundle.manifest.algorithm == algo.name
    assert bundle.parity.samples == 96
    assert bundle.parity.max_abs_difference < 1e-5
    observation = {"state": np.array([0.5, -1.0, 0.25])}
    action = Policy(Bundle.load(bundle.path)).infer(observation)[0]
    np.testing.assert_allclose(action, load_policy(config.run).graph.act(observation), rtol=0, atol=1e-6)
    assert ((action >= tiny.lower) & (action <= tiny.upper)).all()


@every_algorithm
def test_an_empty_batch_is_refused(algo, make_config) -> None:
    with pytest.raises(ConfigError, match="--batch-size 0"):
        train(make_config(algo=algo, batch_size=0))
    with pytest.raises(DatasetError, match="nothing to draw batches from"):
        BatchSampler(batch(0), 16, seed=0)


@every_algorithm
def test_nan_in_the_data_is_refused_before_training(algo, make_config, tmp_path: Path, tiny, rng) -> None:
    episode = tiny.episode(rng)
    episode["actions"][4, 0] = np.nan
    path = tiny.write(tmp_path / "nan.h5", [episode])
    with pytest.raises(DatasetError, match=r"nan\.h5: data/demo_0/actions is nan at step 4, entry 0"):
        train(make_config(algo=algo, data={"files": (path,)}))


@every_algorithm
def test_nan_that_arises_while_training_stops_it_without_a_checkpoint(algo, make_config, monkeypatch) -> None:
    build = type(algo).build

    def poisoned(self, *arguments):
        learner = build(self, *arguments)
        learner.policy.mean[0].weight.data[0, 0] = float("nan")
        return learner

    monkeypatch.setattr(type(algo), "build", poisoned)
    config = make_config(algo=algo)
    with pytest.raises(ConfigError, match="the training diverged"):
        train(config)
    assert not list((config.run / "checkpoints").glob("*"))


@every_algorithm
def test_one_episode_is_enough(algo, make_config, tmp_path: Path, tiny, rng) -> None:
    path = tiny.write(tmp_path / "one.h5", [tiny.episode(rng, steps=1), tiny.episode(rng, steps=2)],
                      masks={"train": [1], "valid": []})  # fmt: skip
    result = train(make_config(algo=algo, data={"files": (path,)}))
    assert result.step == 30
    assert np.isfinite(list(result.metrics.values())).all()


@every_algorithm
@pytest.mark.parametrize("name", ["actions", "obs/state", "next_obs/state"])
def test_wrong_dimensions_are_refused_by_name(algo, name, make_config, tmp_path: Path, tiny, rng) -> None:
    episode = tiny.episode(rng)
    episode[name] = np.zeros((12, 7))
    path = tiny.write(tmp_path / "wide.h5", [episode])
    with pytest.raises(DatasetError, match=rf"wide\.h5: data/demo_0/{name} has the shape \[12, 7\]"):
        train(make_config(algo=algo, data={"files": (path,)}))


@every_algorithm
def test_the_policy_is_deterministic_and_bounded(algo) -> None:
    torch.manual_seed(0)
    policy = algo.build(3, 2, CPU).policy
    observations = torch.randn(50, 3) * 100
    assert torch.equal(policy(observations), policy(observations))
    assert policy(observations).abs().max() <= 1


@every_kind
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_training_on_a_gpu_resumes_there_and_exports_from_the_cpu(algo, make_config) -> None:
    config = make_config(algo=algo, device="cuda")

    def interrupt(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, progress=interrupt)
    assert train(config).resumed_from == 21
    whole = make_config("whole", algo=algo, device="cuda")
    train(whole)
    assert_same_bits(final(whole.run), final(config.run))
    assert export(ExportConfig(config.run)).parity.max_abs_difference < 1e-5
