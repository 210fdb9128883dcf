"""What every algorithm has to keep, whatever it learns. A new one is added to `ALGORITHMS`."""

from __future__ import annotations

import dataclasses
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
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.gail import GAIL, GAILConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.checkpoint import load_state, save_state
from policy.encoders import EncoderConfig
from policy.export import ExportConfig, export
from policy.run import load_policy
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.training import BatchSampler
from policy.transitions import Transitions
from tests.policy.states import assert_same_bits, final, interrupt_and_resume, log, train
from tests.policy.worlds import TinyWorld, live

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
KINDS = [
    IQLConfig(hidden=(8, 8)),
    BCConfig(hidden=(8, 8)),
    CQLConfig(hidden=(8, 8), samples=2, bc_steps=25, policy_lr=3e-3),
    BRACConfig(hidden=(8, 8), behaviour_steps=15, behaviour_lr=1e-2),
    ORILConfig(discriminator_hidden=(8,), discriminator_steps=15, iql=IQLConfig(hidden=(8, 8))),
    GAILConfig(hidden=(8, 8), episodes=2, horizon=7, bc_steps=25, value_steps=3),
]
"""One of each; those that begin with another kind of step change to their own within a run of 30."""
ALGORITHMS = [
    *KINDS,
    IQLConfig(hidden=(8, 8), policy="deterministic"),
    BCConfig(hidden=(8, 8), policy="deterministic"),
    BCConfig(hidden=(8, 8), policy="tanh_gaussian"),
]


def name_of(algo: Any) -> str:
    return f"{algo.name}-{algo.policy}" if hasattr(algo, "policy") else algo.name


every_algorithm = pytest.mark.parametrize("algo", ALGORITHMS, ids=name_of)
every_kind = pytest.mark.parametrize("algo", KINDS, ids=lambda algo: algo.name)
OFFLINE = [algo for algo in KINDS if algo.name != "gail"]
"""Those that see cameras and that the front door runs without a simulation; GAIL's own: test_gail.py."""


def build(algo: Any) -> Any:
    """A learner for three numbers and two actions, ready to be updated."""
    learner = algo.build(3, 2, CPU)
    if isinstance(learner, GAIL):
        learner.connect(live(TinyWorld("tiny/home", horizon=algo.horizon)))
    return learner


def batch(rows: int = 16, **columns: torch.Tensor) -> Transitions:
    s, a = torch.randn(rows, 3), torch.rand(rows, 2) * 2 - 1
    zeros = torch.zeros(rows)
    return Transitions(s, a, torch.rand(rows), torch.randn(rows, 3), zeros, zeros)._replace(**columns)


@every_algorithm
def test_training_brings_the_policy_closer_to_the_data(algo) -> None:
    torch.manual_seed(0)
    learner = build(algo)
    data = batch(64)

    def loss() -> float:
        return learner.policy.imitation_loss(data.observations, data.actions).mean().item()

    before = loss()
    for _ in range(40):
        learner.update(data)
    assert loss() < before


@every_algorithm
def test_a_saved_state_goes_on_like_the_one_that_was_saved(algo, tmp_path: Path) -> None:
    torch.manual_seed(0)
    learner, other = build(algo), build(algo)
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
    assert log(a) != log(make_config("c").run)


@every_kind
def test_a_run_stopped_by_a_signal_ends_bit_for_bit_like_one_never_stopped(algo, make_config) -> None:
    loop = {"steps": 30, "log_every": 5, "evaluate_every": 9}
    whole, stopped = (make_config(run, algo=algo, loop=loop) for run in ("whole", "stopped"))
    interrupt_and_resume(stopped)
    train(whole)
    assert_same_bits(final(whole.run), final(stopped.run))
    assert log(whole.run) == log(stopped.run)


@pytest.mark.parametrize(
    "algo",
    [
        pytest.param(a, marks=[] if a.name in ("iql", "cql") else [pytest.mark.long], id=a.name)
        for a in OFFLINE
    ],
)
def test_with_a_camera_a_stopped_run_goes_on_exactly_and_its_bundle_does_what_the_network_does(
    algo, make_config, pictured, tiny
) -> None:
    settings = {
        "algo": algo,
        "data": {"files": (pictured,), "streams": ("state", "front")},
        "encoder": EncoderConfig(kind="workflow", shift=1),
    }
    whole, stopped = (make_config(run, **settings) for run in ("whole", "stopped"))
    interrupt_and_resume(stopped)
    train(whole)
    assert_same_bits(final(whole.run), final(stopped.run))
    bundle = export(ExportConfig(whole.run))
    assert [(t.name, t.dtype, t.shape) for t in bundle.manifest.inputs] == [
        ("state", "float32", (3,)),
        ("front", "uint8", (4, 5, 3)),
    ]
    assert bundle.parity.max_abs_difference < 1e-5
    rng = np.random.default_rng(0)
    policy, graph = Policy(Bundle.load(bundle.path)), load_policy(whole.run).graph
    actions = []
    for _ in range(5):
        observation = {"state": rng.normal(size=3), "front": rng.integers(0, 256, (4, 5, 3), np.uint8)}
        actions.append(policy.infer(observation)[0])
        np.testing.assert_allclose(actions[-1], graph.act(observation), rtol=0, atol=1e-6)
    blind = [policy.infer(observation | {"front": observation["front"] * np.uint8(0)})[0]]
    assert not np.array_equal(blind[0], actions[-1])


SHORT = {"iql"}


def arguments(algo: Any, at: str = "--algo") -> list[str]:
    """The settings of an algorithm that are not its defaults, as words of the command line."""
    words, plain = [], type(algo)()
    for field in dataclasses.fields(algo):
        value = getattr(algo, field.name)
        name = f"{at}.{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            words += arguments(value, name)
        elif value != getattr(plain, field.name):
            words += [name, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


@pytest.mark.parametrize(
    "algo",
    [pytest.param(a, marks=[] if a.name in SHORT else [pytest.mark.long], id=a.name) for a in OFFLINE],
)
def test_a_run_killed_with_sigkill_ends_bit_for_bit_like_one_never_killed(
    algo, make_config, prepared
) -> None:
    loop = {"steps": 400, "log_every": 50, "evaluate_every": 150, "checkpoint_every": 50}
    config, killed = (make_config(run, algo=algo, loop=loop) for run in ("whole", "killed"))
    command = [
        sys.executable, "armchair.py", "train", str(killed.run), "--data.files", str(prepared),
        "--steps", "400", "--log-every", "50", "--evaluate-every", "150", "--checkpoint-every", "50",
        "--no-tensorboard", "--batch-size", "16", "--num-threads", "1",
        f"algo:{algo.name}", *arguments(algo),
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
    assert 0 < result.resumed_from < 400
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
        for network in [*vars(learner).values(), *vars(getattr(learner, "learner", learner)).values()]:
            if isinstance(network, torch.nn.Module):
                next(network.parameters()).data.fill_(float("nan"))
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
    interrupt_and_resume(config)
    whole = make_config("whole", algo=algo, device="cuda")
    train(whole)
    assert_same_bits(final(whole.run), final(config.run))
    assert export(ExportConfig(config.run)).parity.max_abs_difference < 1e-5
