"""Transitions for offline learning: several prepared files, one reward chosen by name, one split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.contract import Contract
from episodes.errors import ConfigError, DatasetError
from policy.normalise import STD_FLOOR
from policy.pictures import Pictures
from policy.prepared import Demo, Prepared, read_prepared
from policy.settings import require
from policy.transitions import Transitions, action_chunks, n_step, segment_ends

__all__ = ["BLIND", "DataConfig", "OfflineData", "Transitions", "load_data"]

BLIND = ("random", "zero", "constant")
"""Rewards for ablations that need no reward in the file."""


@dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    files: tuple[Path, ...]
    """Prepared files (`armchair prepare`) of robots with one interface; several are chained."""
    prior: tuple[Path, ...] = ()
    """Further prepared files, of other tasks: their transitions are learned from with the lowest reward that
    a training transition of `files` has; with scaled rewards, and with those that need no file, that is 0."""
    weights: tuple[float, ...] = ()
    """How often each file is drawn from, those of `files` first, then those of `prior`; only their ratios
    count. Left out, every transition is drawn equally often."""
    streams: tuple[str, ...] = ("state",)
    """Streams of the contract that the policy sees: vectors, side by side in this order, and cameras."""
    reward: str = "truth"
    """Whose reward: truth, a labeller by name, prepared (the file's own), or random, zero, constant (1),
    average (the mean of the file's own). Transitions without a valid label are left out."""
    scale_reward: bool = True
    """Map the reward's range over the training transitions to [0, 1]. IQL's beta counts on it."""
    reward_seed: int = 0
    """Seed of the random reward."""
    std_floor: float = STD_FLOOR
    """Smallest standard deviation that an observation entry is divided by, in the entry's own unit."""
    n_step: int = 1
    """Rewards that are added up, discounted, before the value of the state behind them is asked for."""
    expert: str = "success"
    """Which episodes ORIL and GAIL imitate: success for those whose outcome that is, or the name of a mask of
    the prepared files. Others do not look at it."""

    def __post_init__(self) -> None:
        require(self.n_step >= 1, "data.n-step", self.n_step, "give 1 or more")
        require(
            not self.weights or (min(self.weights) >= 0 and max(self.weights) > 0),
            "data.weights",
            self.weights,
            "give numbers from 0 on, one of them above 0",
        )


@dataclass(frozen=True)
class OfflineData:
    """Everything that a run learns from, in the contract's units."""

    train: Transitions
    valid: Transitions | None
    streams: dict[str, int]
    """Width of every vector stream, in the order in which they stand side by side."""
    cameras: dict[str, tuple[int, int, int]]
    """(H, W, C) of every camera, in order."""
    pictures: Pictures | None
    weights: Tensor | None
    """(N,), how often each training transition is drawn; None for all alike."""
    contract: Contract
    episodes: tuple[int, int]
    """Episodes to train on and to validate on."""
    reward_range: tuple[float, float]
    """Smallest and largest reward of the training transitions before scaling."""
    clipped_actions: int
    """Training transitions whose action lies outside the contract's bounds."""
    unlabelled: int
    """Training transitions left out because the labeller gave them no valid reward."""
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """(D,) of the training observations, without a floor."""
    sha256: str
    """Hash over all transitions and the contract's interface: the same data, however it is stored."""
    episode_rows: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """Transitions of each episode that has any, in order, to train on and to validate on."""
    tower_sha256: str | None = None
    """Hash of the frozen tower whose features stand behind the vectors; None without one."""


def load_data(
    config: DataConfig, *, discount: float = 1.0, chunk: int = 1, experts: bool = False
) -> OfflineData:
    """Read, chain and check the prepared files.

    Args:
        discount: γ of the algorithm, for n-step returns.
        chunk: actions per transition that the algorithm wants to see.
        experts: mark the transitions of expert episodes; there has to be one to train on.

    Raises:
        ConfigError: no file or stream was given, or one twice, or not one weight per file.
        DatasetError: a file is wrong, the files do not fit together, nothing is left to train on, or the
            reward never changes.
    """
    every = (*config.files, *config.prior)
    for key, values in (("files", config.files), ("streams", config.streams), ("prior", every)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"--data.{key} {list(map(str, values))}: give at least one, and none twice.")
    if config.weights and len(config.weights) != len(every):
        raise ConfigError(
            f"--data.weights {list(config.weights)}: there are {len(every)} files; give one weight for each."
        )
    wanted = {"average": "prepared", **dict.fromkeys(BLIND)}.get(config.reward, config.reward)
    expert = config.expert if experts else None
    parts = [read_prepared(path, config.streams, wanted, expert=expert) for path in config.files]
    parts += [read_prepared(path, config.streams, None, expert=expert) for path in config.prior]
    _check_same_interface(parts, every)
    tasks = parts[: len(config.files)]
    train = [demo for part in tasks for demo in part.train]
    valid = [demo for part in tasks for demo in part.valid if len(demo)]
    unlabelled = sum(demo.unlabelled for demo in train)
    if unlabelled and not sum(map(len, train)):
        raise DatasetError(
            f"{', '.join(map(str, config.files))}: {config.reward!r} gave a valid reward to none of the "
            f"{unlabelled} training transitions. Relabel the episodes, or choose another --data.reward."
        )
    if not train:
        raise DatasetError(
            f"{', '.join(map(str, config.files))}: no episode to train on (mask/train is empty). Split the "
            "dataset anew with a smaller validation fraction and run `armchair prepare` again."
        )
    rewards, reward_range = _rewards(config, train, valid)
    of_demo = {id(demo): reward for demo, reward in zip([*train, *valid], rewards, strict=True)}
    pictures, starts = _pictures(parts)
    lowest = 0.0 if config.scale_reward or config.reward in BLIND else reward_range[0]
    stack = _Stack(of_demo, lowest, starts, config.n_step, discount, chunk, experts)
    train = [demo for part in parts for demo in part.train]
    valid = [demo for part in parts for demo in part.valid if len(demo)]
    observations = np.concatenate([demo.observations for demo in train])
    contract = parts[0].contract
    transitions = stack(parts, [part.train for part in parts])
    if experts and transitions.expert is not None and not transitions.expert.any():
        raise DatasetError(
            f"{', '.join(map(str, every))}: no episode to train on is an expert's (--data.expert "
            f"{config.expert}). Give outcomes to the episodes, or name another mask."
        )
    held_out = stack(parts, [[d for d in part.valid if len(d)] for part in parts]) if valid else None
    return OfflineData(
        train=transitions,
        valid=held_out,
        streams=parts[0].streams,
        cameras=parts[0].cameras,
        pictures=pictures,
        weights=_row_weights(config, parts),
        contract=contract,
        episodes=(len(train), len(valid)),
        reward_range=reward_range,
        clipped_actions=_outside(train, contract),
        unlabelled=unlabelled,
        mean=observations.mean(axis=0, dtype=np.float64),
        std=observations.std(axis=0, dtype=np.float64),
        sha256=_hash(contract, pictures, transitions, held_out),
        episode_rows=(_lengths(train), _lengths(valid)),
    )


def _lengths(demos: Sequence[Demo]) -> tuple[int, ...]:
    return tuple(len(demo) for demo in demos if len(demo))


def _pictures(parts: Sequence[Prepared]) -> tuple[Pictures | None, list[int]]:
    """The pictures of all files, and where those of each begin."""
    files = [part.pictures for part in parts if part.pictures is not None]
    if not files:
        return None, [0] * len(parts)
    pictures = Pictures(files)
    return pictures, pictures.starts.tolist()


def _row_weights(config: DataConfig, parts: Sequence[Prepared]) -> Tensor | None:
    """(N,) of the training transitions: a file's weight is shared among its rows."""
    if not config.weights:
        return None
    counts = [sum(map(len, part.train)) for part in parts]
    each = [w / n if n else 0.0 for w, n in zip(config.weights, counts, strict=True)]
    return torch.from_numpy(np.repeat(each, counts))


def _check_same_interface(parts: Sequence[Prepared], files: Sequence[Path]) -> None:
    for part, path in zip(parts, files, strict=True):
        if part.contract.interface_sha256 != parts[0].contract.interface_sha256:
            raise DatasetError(
                f"{path}: its robot ({part.contract.robot}) has another interface than {files[0]} "
                f"({parts[0].contract.robot}): streams, names, kinds or rate differ. "
                "Train on files of one robot."
            )
        first = parts[0].contract
        for key in ("action_lower", "action_upper"):
            if not np.array_equal(getattr(part.contract, key), getattr(first, key)):
                raise DatasetError(
                    f"{path}: its {key} is {getattr(part.contract, key).tolist()}, that of {files[0]} is "
                    f"{getattr(first, key).tolist()}. Actions are scaled by these bounds, so they must "
                    "agree: record under one contract, or train on one file."
                )


def _rewards(
    config: DataConfig, train: Sequence[Demo], valid: Sequence[Demo]
) -> tuple[list[NDArray[np.float64]], tuple[float, float]]:
    """The reward of every demo, training demos first, and the range before scaling."""
    demos = [*train, *valid]
    if config.reward == "random":
        rng = np.random.default_rng(config.reward_seed)
        return [rng.random(len(demo)) for demo in demos], (0.0, 1.0)
    if config.reward in ("zero", "constant"):
        value = float(config.reward == "constant")
        return [np.full(len(demo), value) for demo in demos], (value, value)
    rewards = [demo.rewards for demo in demos]
    known = np.concatenate(rewards[: len(train)])
    low, high = float(known.min()), float(known.max())
    if config.scale_reward:
        if low == high:
            raise DatasetError(
                f"{train[0].source.partition(':')[0]}: the reward {config.reward!r} is {low:g} in all "
                f"{len(known)} training transitions, so there is nothing to learn from. Choose another "
                "--data.reward, or collect episodes that differ."
            )
        rewards = [(reward - low) / (high - low) for reward in rewards]
    if config.reward == "average":
        mean = float(np.concatenate(rewards[: len(train)]).mean())
        rewards = [np.full(len(demo), mean) for demo in demos]
    return rewards, (low, high)


@dataclass(frozen=True)
class _Stack:
    """Puts the demos of all files behind one another."""

    rewards: Mapping[int, NDArray[np.float64]]
    """By the demo's id; demos of prior files have none."""
    lowest: float
    """The reward of demos that have none."""
    starts: Sequence[int]
    """The first row of each file's pictures."""
    n_step: int
    discount: float
    chunk: int
    experts: bool

    def __call__(self, parts: Sequence[Prepared], demos: Sequence[Sequence[Demo]]) -> Transitions:
        columns = [
            self._columns(demo, start, bool(part.cameras))
            for part, start, some in zip(parts, self.starts, demos, strict=False)
            for demo in some
        ]
        return Transitions(**{name: _column([c[name] for c in columns]) for name in Transitions._fields})

    def _columns(self, demo: Demo, first_frame: int, pictures: bool) -> dict[str, NDArray[Any] | None]:
        ends = segment_ends(demo.ticks, demo.terminated, demo.truncated)
        reward = self.rewards.get(id(demo), np.full(len(demo), self.lowest))
        returns, last = n_step(reward, ends, self.n_step, self.discount)
        chunks, recorded = action_chunks(demo.actions, ends, self.chunk)
        return {
            "observations": demo.observations,
            "actions": demo.actions,
            "rewards": returns,
            "next_observations": demo.next_observations[last],
            "terminated": demo.terminated[last],
            "truncated": demo.truncated[last],
            "steps": (last - np.arange(len(demo)) + 1.0) if self.n_step > 1 else None,
            "chunks": chunks if self.chunk > 1 else None,
            "chunk_valid": recorded if self.chunk > 1 else None,
            "expert": np.full(len(demo), demo.expert) if self.experts else None,
            "frames": first_frame + demo.frames if pictures else None,
            "next_frames": first_frame + demo.frames[last] if pictures and self.n_step > 1 else None,
        }


def _column(arrays: Sequence[NDArray[Any] | None]) -> Tensor | None:
    present = [array for array in arrays if array is not None]
    if not present:
        return None
    whole = np.concatenate(present)
    return torch.from_numpy(
        whole if whole.dtype == np.int64 and whole.ndim == 1 else whole.astype(np.float32)
    )


def _outside(demos: Sequence[Demo], contract: Contract) -> int:
    lower, upper = contract.action_lower, contract.action_upper
    return sum(int(((demo.actions < lower) | (demo.actions > upper)).any(axis=1).sum()) for demo in demos)


def _hash(contract: Contract, pictures: Pictures | None, *parts: Transitions | None) -> str:
    digest = hashlib.sha256(contract.interface_sha256.encode())
    for part in parts:
        for name, tensor in (part or Transitions(*[None] * 6))._asdict().items():
            if tensor is not None and not name.endswith("frames"):
                digest.update(repr(tuple(tensor.shape)).encode())
                digest.update(tensor.numpy().tobytes())
        if pictures is not None and part is not None and part.frames is not None:
            digest.update(pictures.sha256(part.frames.numpy()).encode())
    return digest.hexdigest()
