"""A training run on disk: what it was told, what it learned from, and the policy that it holds.

<run>/config.json      the configuration, complete
<run>/data.json        streams, normalisation, reward range and hash of the data
<run>/contract.yaml    the robot contract of the data
<run>/metrics.jsonl, tensorboard/, checkpoints/
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from episodes.contract import Contract, load_contract
from episodes.errors import ConfigError, DatasetError, MachineError
from policy.algorithms.bc import BCConfig
from policy.algorithms.iql import IQLConfig
from policy.checkpoint import Checkpoints, load_state
from policy.data import DataConfig, OfflineData
from policy.graph import PolicyGraph
from policy.normalise import ActionRange, Normaliser
from policy.protocols import PolicyLearner
from policy.settings import differences, from_json, to_json
from policy.training import FINAL, LoopConfig

CONFIG_FILE, DATA_FILE, CONTRACT_FILE = "config.json", "data.json", "contract.yaml"

Algorithm = (
    Annotated[IQLConfig, tyro.conf.subcommand("iql", description="Implicit Q-learning: learns from rewards.")]
    | Annotated[BCConfig, tyro.conf.subcommand("bc", description="Behaviour cloning, blind to rewards.")]
)


@dataclass(frozen=True)
class TrainConfig:
    """Learn a policy offline from prepared files. A run that was stopped goes on where it stood."""

    run: tyro.conf.Positional[Path]
    """Folder of the run: configuration, metrics, checkpoints."""
    data: DataConfig
    """What is learned from."""
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)
    """How long, and what is written when."""
    batch_size: int = 256
    """Transitions per gradient step."""
    seed: int = 0
    """Seed of the weights, the batches and everything else that is random."""
    num_threads: int = 2
    """CPU threads. The result is the same, bit for bit, for one seed and one thread count. Two runs side by
    side on two cores go best with one thread each."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train. Networks of this size gain nothing on a GPU."""
    algo: Algorithm = field(default_factory=IQLConfig)
    """The algorithm; its settings follow it, as in `algo:iql --algo.expectile 0.9`."""


@dataclass(frozen=True)
class TrainedPolicy:
    """What a checkpoint of a run holds, ready to act or to be exported."""

    config: TrainConfig
    contract: Contract
    streams: dict[str, int]
    graph: PolicyGraph
    step: int
    checkpoint: str
    data_sha256: str


def build_graph(
    learner: PolicyLearner,
    contract: Contract,
    streams: Mapping[str, int],
    normaliser: Normaliser,
    device: torch.device,
) -> PolicyGraph:
    """The learner's policy between raw observations and actions of the contract; it shares the weights."""
    action_range = ActionRange(contract.action_lower, contract.action_upper)
    return PolicyGraph(learner.policy, normaliser, action_range, tuple(streams)).to(device)


def load_policy(run: Path, checkpoint: str = FINAL) -> TrainedPolicy:
    """Read the policy of a run, on the CPU.

    Raises:
        DatasetError: the folder holds no run, or no such checkpoint.
        ConfigError: its configuration is not of this version.
    """
    config = read_config(run)
    data = _read_json(run / DATA_FILE)
    contract = load_contract(run / CONTRACT_FILE)
    state = load_state(Checkpoints(run / "checkpoints", 0).path(checkpoint))
    cpu = torch.device("cpu")
    streams = {str(name): int(width) for name, width in data["streams"].items()}
    learner = config.algo.build(sum(streams.values()), contract.action_dim, cpu)
    learner.load_state_dict(state["learner"])
    normaliser = Normaliser(np.array(data["mean"]), np.array(data["std"]), config.data.std_floor)
    graph = build_graph(learner, contract, streams, normaliser, cpu).eval()
    return TrainedPolicy(config, contract, streams, graph, state["step"], checkpoint, data["sha256"])


def read_config(run: Path) -> TrainConfig:
    """The configuration of a run.

    Raises:
        DatasetError: the folder holds no run.
        ConfigError: the configuration is not of this version.
    """
    return from_json(TrainConfig, _read_json(run / CONFIG_FILE), str(run / CONFIG_FILE))


def check_same_run(config: TrainConfig, data: OfflineData) -> None:
    """Refuse to go on with checkpoints of another configuration or of other data.

    The folder and the files may have moved: what counts is what they hold.

    Raises:
        ConfigError: listing every setting that differs, old and new.
    """
    old, new = _read_json(config.run / CONFIG_FILE), to_json(config)
    for tree in (old, new):
        tree.pop("run", None)
        tree.get("data", {}).pop("files", None)
    found = list(differences(old, new))
    if _read_json(config.run / DATA_FILE)["sha256"] != data.sha256:
        found.append(("data.files (their transitions)", "as trained on", "others"))
    if found:
        lines = "\n".join(f"  {key}: {before!r} -> {after!r}" for key, before, after in found)
        raise ConfigError(
            f"{config.run}: this run has checkpoints of another configuration:\n{lines}\n"
            "Give another run folder, delete this one, or use the settings it has."
        )


def write_run_files(config: TrainConfig, data: OfflineData) -> None:
    """Write what a run was told and what it learns from into its folder."""
    _write(config.run / CONTRACT_FILE, data.contract.text)
    summary = {
        "streams": data.streams,
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "reward_range": list(data.reward_range),
        "training_transitions": len(data.train.rewards),
        "episodes": {"train": data.episodes[0], "valid": data.episodes[1]},
        "clipped_actions": data.clipped_actions,
        "unlabelled_transitions": data.unlabelled,
        "sha256": data.sha256,
    }
    _write(config.run / DATA_FILE, json.dumps(summary, indent=1) + "\n")
    _write(config.run / CONFIG_FILE, json.dumps(to_json(config), indent=1) + "\n")


@contextmanager
def only_one(run: Path) -> Iterator[None]:
    """Hold the run's lock, which the system releases when the process ends, however it ends.

    Raises:
        MachineError: another process trains in this folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MachineError(f"{run}: another process trains here; wait for it or stop it.") from error
        yield


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: there is no such file, so {path.parent} is no training run. Give the folder that "
            "`armchair train` wrote."
        ) from error
    except ValueError as error:
        raise DatasetError(f"{path}: this is no JSON ({error}). Train anew in another folder.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: this is no JSON object. Train anew in another folder.")
    return content


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
