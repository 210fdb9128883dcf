"""The form of every labeller of `armchair relabel`, and those that look at no picture.

One kind of reward is one function (dataset, frames, config, progress) -> Rewarded. Truth, random, constant
and average are what a learned reward is compared with: the ceiling, and what a policy does with rewards that
say nothing (the ablations of Offline RL-VLM-F).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError, did_you_mean
from episodes.labels import labellers, read_labels
from reward.frames import Frames
from reward.shaping import ShapingConfig, scale_of, shape

Report = Callable[[int, int], None] | None
"""Called with (done, total)."""
TRUTH = "truth"
"""Stands for the simulation's reward where a labeller is named."""


@dataclass(frozen=True, eq=False)
class Rewarded:
    """One reward per row of the frames."""

    rewards: NDArray[np.float32]
    """(rows,); rows of no transition (frame 0 of each episode) mean nothing."""
    basis: dict[str, object]
    """What the rewards stem from, JSON; label files of the same basis and values are left as they are."""
    valid: NDArray[np.bool_] | None = None
    """(rows,) False where there is no opinion, None for all; training leaves such transitions out."""


@dataclass(frozen=True)
class TruthConfig:
    """The simulation's reward, scaled to [0, 1]."""

    exponent: float = 1.0
    """Power after scaling."""


@dataclass(frozen=True)
class RandomConfig:
    """Uniform in [0, 1)."""

    seed: int = 0
    """Seed of the draw."""


@dataclass(frozen=True)
class ConstantConfig:
    """The same reward everywhere."""

    value: float = 1.0
    """The reward; finite."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise ConfigError(f"constant.value {self.value}: write a finite number.")


@dataclass(frozen=True)
class AverageConfig:
    """The mean of another reward over all transitions, everywhere."""

    of: str = TRUTH
    """truth: the simulation's reward. Else the name of a labeller that has labelled every episode."""


def true_rewards(dataset: Dataset, frames: Frames, config: TruthConfig, progress: Report = None) -> Rewarded:
    """The simulation's reward, by quantiles to [0, 1].

    Raises:
        DatasetError: an episode without the stream 'truth'.
    """
    known = _truth(dataset, frames)
    shaping = ShapingConfig(exponent=config.exponent)
    out = np.zeros(len(frames), np.float32)
    out[frames.judged] = shape(known, scale_of(known, shaping), shaping)
    return Rewarded(out, {"exponent": config.exponent})


def random_rewards(
    dataset: Dataset, frames: Frames, config: RandomConfig, progress: Report = None
) -> Rewarded:
    """Uniform in [0, 1) per frame; an episode's numbers depend on seed and id alone."""
    out = np.zeros(len(frames), np.float32)
    for number, episode_id in enumerate(frames.episode_ids):
        rows = frames.rows_of(number)
        digest = int.from_bytes(hashlib.sha256(episode_id.encode()).digest()[:8], "little")
        generator = np.random.default_rng([config.seed, digest])
        out[rows] = generator.random(rows.stop - rows.start, np.float32)
    return Rewarded(out, {"seed": config.seed})


def constant_rewards(
    dataset: Dataset, frames: Frames, config: ConstantConfig, progress: Report = None
) -> Rewarded:
    """`config.value` for every frame."""
    return Rewarded(np.full(len(frames), config.value, np.float32), {"value": config.value})


def average_rewards(
    dataset: Dataset, frames: Frames, config: AverageConfig, progress: Report = None
) -> Rewarded:
    """The mean over all transitions with a valid reward, for every frame.

    Raises:
        DatasetError: the reward to average is not there for every episode, or valid nowhere.
    """
    if config.of == TRUTH:
        mean = float(_truth(dataset, frames).mean())
    else:
        known = labellers(dataset)
        if config.of not in known:
            raise DatasetError(
                f"{dataset.path}: --average.of {config.of}: no such labeller; "
                f"{did_you_mean(config.of, [TRUTH, *known])}"
            )
        parts = [read_labels(dataset, config.of, episode_id) for episode_id in frames.episode_ids]
        values = np.concatenate([part.reward[part.valid] for part in parts]).astype(np.float64)
        if not len(values):
            raise DatasetError(f"{dataset.path}: labeller {config.of!r} has no valid reward to average.")
        mean = float(values.mean())
    return Rewarded(np.full(len(frames), mean, np.float32), {"of": config.of, "mean": mean})


def _truth(dataset: Dataset, frames: Frames) -> NDArray[np.float64]:
    known = frames.truth[frames.judged]
    if np.isnan(known).any():
        raise DatasetError(
            f"{dataset.path}: not every episode has the simulation's reward (stream 'truth'): recordings of "
            "a real robot have none. Take --kind model, rated or success."
        )
    return known
