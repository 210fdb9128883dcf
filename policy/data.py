"""Transitions for offline learning: several prepared files, one reward chosen by name, one split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.contract import Contract
from episodes.errors import ConfigError, DatasetError
from policy.normalise import STD_FLOOR, ActionRange, Normaliser
from policy.prepared import Demo, Prepared, read_prepared

BLIND = ("random", "zero", "constant")
"""Rewards for ablations that need no reward in the file."""


class Transitions(NamedTuple):
    """N transitions (s, a, r, s′), or a batch of them. float32, first axis N.

    Bootstrapping stops at `terminated` only: where an episode was merely cut off, s′ still has a value.
    """

    observations: Tensor
    """s, (N, D)."""
    actions: Tensor
    """a, (N, dim)."""
    rewards: Tensor
    """r, (N,), of the frame that was reached."""
    next_observations: Tensor
    """s′, (N, D)."""
    terminated: Tensor
    """(N,), 1 where the task ended with this transition."""
    truncated: Tensor
    """(N,), 1 where only the recording ended with it."""

    def to(self, device: torch.device) -> Transitions:
        """The same transitions on another device."""
        return Transitions(*(tensor.to(device) for tensor in self))

    def scaled(self, normaliser: Normaliser, action_range: ActionRange) -> Transitions:
        """As the networks see them: observations normalised, actions in [-1, 1]."""
        return self._replace(
            observations=normaliser(self.observations),
            actions=action_range.to_unit(self.actions),
            next_observations=normaliser(self.next_observations),
        )


@dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    files: tuple[Path, ...]
    """Prepared files (`armchair prepare`) of robots with one interface; several are chained."""
    streams: tuple[str, ...] = ("state",)
    """Vector streams of the contract that the policy sees, side by side in this order."""
    reward: str = "truth"
    """Whose reward: truth, a labeller by name, prepared (the file's own), or random, zero, constant (1),
    average (the mean of the file's own). Transitions without a valid label are left out."""
    scale_reward: bool = True
    """Map the reward's range over the training transitions to [0, 1]. IQL's beta counts on it."""
    reward_seed: int = 0
    """Seed of the random reward."""
    std_floor: float = STD_FLOOR
    """Smallest standard deviation that an observation entry is divided by, in the entry's own unit."""


@dataclass(frozen=True)
class OfflineData:
    """Everything that a run learns from, in the contract's units."""

    train: Transitions
    valid: Transitions | None
    streams: dict[str, int]
    """Width of every stream, in the order in which they stand side by side."""
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

    @property
    def observation_dim(self) -> int:
        return sum(self.streams.values())


def load_data(config: DataConfig) -> OfflineData:
    """Read, chain and check the prepared files.

    Raises:
        ConfigError: no file or stream was given, or one twice.
        DatasetError: a file is wrong, the files do not fit together, nothing is left to train on, or the
            reward never changes.
    """
    for key, values in (("files", config.files), ("streams", config.streams)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"--data.{key} {list(map(str, values))}: give at least one, and none twice.")
    wanted = {"average": "prepared", **dict.fromkeys(BLIND)}.get(config.reward, config.reward)
    parts = [read_prepared(path, config.streams, wanted) for path in config.files]
    _check_same_interface(parts, config.files)
    train = [demo for part in parts for demo in part.train]
    valid = [demo for part in parts for demo in part.valid if len(demo)]
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
    observations = np.concatenate([demo.observations for demo in train])
    contract = parts[0].contract
    transitions = _stack(train, rewards[: len(train)])
    held_out = _stack(valid, rewards[len(train) :]) if valid else None
    return OfflineData(
        train=transitions,
        valid=held_out,
        streams=parts[0].streams,
        contract=contract,
        episodes=(len(train), len(valid)),
        reward_range=reward_range,
        clipped_actions=_outside(train, contract),
        unlabelled=unlabelled,
        mean=observations.mean(axis=0, dtype=np.float64),
        std=observations.std(axis=0, dtype=np.float64),
        sha256=_hash(contract, transitions, held_out),
    )


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


def _stack(demos: Sequence[Demo], rewards: Sequence[NDArray[np.float64]]) -> Transitions:
    def tensor(arrays: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays).astype(np.float32))

    return Transitions(
        observations=tensor([demo.observations for demo in demos]),
        actions=tensor([demo.actions for demo in demos]),
        rewards=tensor(rewards),
        next_observations=tensor([demo.next_observations for demo in demos]),
        terminated=tensor([demo.terminated for demo in demos]),
        truncated=tensor([demo.truncated for demo in demos]),
    )


def _outside(demos: Sequence[Demo], contract: Contract) -> int:
    lower, upper = contract.action_lower, contract.action_upper
    return sum(int(((demo.actions < lower) | (demo.actions > upper)).any(axis=1).sum()) for demo in demos)


def _hash(contract: Contract, *parts: Transitions | None) -> str:
    digest = hashlib.sha256(contract.interface_sha256.encode())
    for part in parts:
        for tensor in part or ():
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
