"""A training run on disk: what it was told, what it learned from, and the policy that it holds.

<run>/config.json      the configuration, complete
<run>/data.json        streams, normalisation, reward range and hash of the data
<run>/contract.yaml    the robot contract of the data
<run>/tower.safetensors  the weights of the frozen tower, where there is one
<run>/metrics.jsonl, tensorboard/, checkpoints/
<run>/films/           a film of every evaluation's first rollout, where rollouts are filmed
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
import safetensors
import safetensors.torch
import torch
import tyro

from episodes.contract import Contract, load_contract
from episodes.errors import ConfigError, DatasetError, MachineError
from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.gail import GAILConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.checkpoint import Checkpoints, load_state
from policy.data import DataConfig, OfflineData
from policy.encoders import EncoderConfig
from policy.graph import PolicyGraph
from policy.normalise import ActionRange, Normaliser
from policy.observations import ObservationSpace
from policy.precision import Precision
from policy.protocols import PolicyLearner
from policy.settings import differences, from_json, require, to_json
from policy.towers import Tower, TowerConfig, tower_sha256
from policy.training import FINAL, LoopConfig

FILMS = "films"
CONFIG_FILE, DATA_FILE, CONTRACT_FILE = "config.json", "data.json", "contract.yaml"
TOWER_FILE = "tower.safetensors"

Algorithm = (
    Annotated[IQLConfig, tyro.conf.subcommand("iql", description="Implicit Q-learning: learns from rewards.")]
    | Annotated[BCConfig, tyro.conf.subcommand("bc", description="Behaviour cloning, blind to rewards.")]
    | Annotated[CQLConfig, tyro.conf.subcommand("cql", description="Conservative Q-learning, CQL(H).")]
    | Annotated[
        BRACConfig, tyro.conf.subcommand("brac", description="Behaviour-regularised actor-critic, KL.")
    ]
    | Annotated[
        ORILConfig,
        tyro.conf.subcommand("oril", description="Imitates named experts with the help of all other data."),
    ]
    | Annotated[
        GAILConfig, tyro.conf.subcommand("gail", description="Imitates named experts in a live simulation.")
    ]
)


@dataclass(frozen=True)
class RolloutsConfig:
    """Rollouts in simulation while training, logged as `evaluate/success` and `evaluate/return`."""

    env: str = ""
    """Environment, such as metaworld/drawer-open-v3. Empty: no rollouts."""
    episodes: int = 10
    """Goals per evaluation, the same each time, of the evaluation split."""
    seed: int = 0
    """Seed of the goals."""
    horizon: int | None = None
    """Steps per episode. None: the environment's own."""
    video: bool = False
    """Film the first goal of every evaluation into RUN/films."""
    camera: str = ""
    """Camera of the film. Empty: the contract's first one, else corner2, else the environment's first."""

    def __post_init__(self) -> None:
        for name in ("episodes", "horizon"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"rollouts.{name}", value, "give 1 or more")
        require(self.seed >= 0, "rollouts.seed", self.seed, "give 0 or more")


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
    seeds: tuple[int, ...] = ()
    """Several seeds in the place of `seed`, one run after the other in RUN/seed-N, summed up in
    RUN/seeds.json."""
    num_threads: int = 2
    """CPU threads. The result is the same, bit for bit, for one seed and one thread count. Two runs side by
    side on two cores go best with one thread each."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train. Networks on vectors of this size gain nothing on a GPU, those on pictures do."""
    precision: Precision = "fp32"
    """bf16: hidden layers in bfloat16 while training; the last layer, losses, targets and Adam in fp32."""
    compile: bool = False
    """Put the losses through torch.compile, where the algorithm gains from it. On a CPU that needs a C++
    compiler; without one training goes on as it is, and says so."""
    cuda_graphs: bool = False
    """Record a gradient step of IQL or CQL once and launch it as one CUDA graph. Needs `--device cuda`."""
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    """Tries in simulation at every evaluation, where an environment is named."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """What turns pictures into features, where `data.streams` names a camera."""
    tower: TowerConfig = field(default_factory=TowerConfig)
    """A pretrained, frozen network in the place of `encoder`."""
    algo: Algorithm = field(default_factory=IQLConfig)
    """The algorithm; its settings follow it, as in `algo:iql --algo.expectile 0.9`."""


@dataclass(frozen=True)
class TrainedPolicy:
    """What a checkpoint of a run holds, ready to act or to be exported."""

    config: TrainConfig
    contract: Contract
    streams: dict[str, int]
    """Width of every vector stream, in order."""
    cameras: dict[str, tuple[int, int, int]]
    """(H, W, C) of every camera, in order."""
    graph: PolicyGraph
    step: int
    checkpoint: str
    data_sha256: str


def build_graph(
    learner: PolicyLearner,
    contract: Contract,
    streams: Mapping[str, int],
    cameras: Mapping[str, tuple[int, int, int]],
    normaliser: Normaliser,
    device: torch.device,
    tower: Tower | None = None,
) -> PolicyGraph:
    """The learner's policy between raw observations and actions of the contract; it shares the weights."""
    action_range = ActionRange(contract.action_lower, contract.action_upper)
    graph = PolicyGraph(learner.policy, normaliser, action_range, tuple(streams), tuple(cameras), tower)
    return graph.to(device)


def observation_space(
    config: TrainConfig,
    streams: Mapping[str, int],
    cameras: Mapping[str, tuple[int, int, int]],
    tower: Tower | None = None,
) -> ObservationSpace:
    """The sizes that the networks of a run are built from; a frozen tower's features count as a vector."""
    vector = sum(streams.values())
    if tower is not None:
        return ObservationSpace(vector + len(cameras) * tower.out_dim)
    return ObservationSpace(vector, tuple(cameras.values()), config.encoder)


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
    cameras = {str(name): tuple(map(int, shape)) for name, shape in data["cameras"].items()}
    tower = load_tower(run, config, data["tower_sha256"]) if data["tower_sha256"] else None
    space = observation_space(config, streams, cameras, tower)
    learner = config.algo.build(space, contract.action_dim, cpu)
    learner.load_state_dict(state["learner"])
    normaliser = Normaliser(np.array(data["mean"]), np.array(data["std"]), config.data.std_floor)
    graph = build_graph(learner, contract, streams, cameras, normaliser, cpu, tower).eval()
    return TrainedPolicy(config, contract, streams, cameras, graph, state["step"], checkpoint, data["sha256"])


def save_tower(run: Path, tower: Tower) -> None:
    """Keep the frozen tower's weights in the run's folder, once, so that the run can be moved and
    exported."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in tower.state_dict().items()}
    _write_bytes(run / TOWER_FILE, safetensors.torch.save(weights))


def load_tower(run: Path, config: TrainConfig, sha256: str) -> Tower:
    """The frozen tower of a run, with the weights that the run keeps.

    Raises:
        DatasetError: they are missing, or not those that the run was trained with.
    """
    tower, path = Tower(config.tower), run / TOWER_FILE
    try:
        tower.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        raise DatasetError(f"{path}: the tower's weights cannot be read ({error}). Train anew.") from error
    if tower_sha256(tower) != sha256:
        raise DatasetError(f"{path}: these are not the weights that the run was trained with. Train anew.")
    return tower


def read_config(run: Path) -> TrainConfig:
    """The configuration of a run.

    Raises:
        DatasetError: the folder holds no run.
        ConfigError: the configuration is not of this version.
    """
    return from_json(TrainConfig, _read_json(run / CONFIG_FILE), str(run / CONFIG_FILE))


def check_same_run(config: TrainConfig, data: OfflineData, processes: int = 1) -> None:
    """Refuse to go on with checkpoints of another configuration or of other data.

    The folder and the files may have moved: what counts is what they hold.

    Raises:
        ConfigError: listing every setting that differs, old and new.
    """
    old, new = _read_json(config.run / CONFIG_FILE), to_json(config)
    for tree in (old, new):
        tree.pop("run", None)
        for group, key in (("data", "files"), ("data", "prior"), ("tower", "checkpoint")):
            tree.get(group, {}).pop(key, None)
    found = list(differences(old, new))
    if _read_json(config.run / DATA_FILE)["sha256"] != data.sha256:
        found.append(("data.files (their transitions)", "as trained on", "others"))
    if _read_json(config.run / DATA_FILE).get("tower_sha256") != data.tower_sha256:
        found.append(("tower.checkpoint (its weights)", "as trained with", "others"))
    if (before := _read_json(config.run / DATA_FILE).get("processes", 1)) != processes:
        found.append(("torchrun's processes", before, processes))
    if found:
        lines = "\n".join(f"  {key}: {before!r} -> {after!r}" for key, before, after in found)
        raise ConfigError(
            f"{config.run}: this run has checkpoints of another configuration:\n{lines}\n"
            "Give another run folder, delete this one, or use the settings it has."
        )


def write_run_files(config: TrainConfig, data: OfflineData, processes: int = 1) -> None:
    """Write what a run was told and what it learns from into its folder."""
    _write(config.run / CONTRACT_FILE, data.contract.text)
    summary = {
        "streams": data.streams,
        "cameras": data.cameras,
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "reward_range": list(data.reward_range),
        "training_transitions": len(data.train.rewards),
        "episodes": {"train": data.episodes[0], "valid": data.episodes[1]},
        "clipped_actions": data.clipped_actions,
        "unlabelled_transitions": data.unlabelled,
        "sha256": data.sha256,
        "tower_sha256": data.tower_sha256,
        "processes": processes,
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
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
