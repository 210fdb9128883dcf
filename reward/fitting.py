"""From labelled pairs to a reward model: what `fit` and every round do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.errors import ConfigError
from reward.frames import Frames
from reward.model import RewardModel
from reward.optimise import Epoch, OptimiseConfig, evaluate, fit, resolve_precision
from reward.pairs import LabelledPairs
from reward.preference import NetworkConfig, RewardEnsemble, predict
from reward.quality import Quality, reward_quality
from reward.regions import Box, active_box, whole
from reward.shaping import ShapingConfig, scale_of

CHECKPOINT = "fit.safetensors"
"""Name of the file from which an interrupted fit goes on."""
SAMPLES = 1500
"""Frames that decide where the picture changes and what its mean is."""


@dataclass(frozen=True)
class RewardConfig:
    """The reward model and how it is fitted; the defaults are the recipe of docs/reward-recipe.md."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The networks."""
    optimise: OptimiseConfig = field(default_factory=OptimiseConfig)
    """The fit."""
    shaping: ShapingConfig = field(default_factory=ShapingConfig)
    """From the model's reward to the policy's."""
    crop: Literal["active", "none"] = "active"
    """active: only the part of the picture in which anything changes, for cameras that stand still."""
    centre: bool = True
    """Subtract the mean picture and divide by the overall standard deviation."""
    held_out: float = 0.1
    """Share of labelled pairs that is never trained on."""
    seed: int = 0
    """Seed of weights, shuffling and augmentation."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held-out {self.held_out} is a share: from 0 to below 1.")


def paper_config(seed: int = 0) -> RewardConfig:
    """The form of Offline RL-VLM-F: whole pictures in [0, 1], tanh head, plain loss, stop at 0.97 accuracy.

    Its pairs are uniform: rounds=(4500,). Its shaping is none; exponent 1 only scales to [0, 1].
    """
    return RewardConfig(
        network=NetworkConfig(head="tanh"),
        optimise=OptimiseConfig(
            learning_rate=3e-4, early_stop="accuracy", mistakes=0.0, shift=0, precision="fp32"
        ),
        shaping=ShapingConfig(exponent=1.0),
        crop="none",
        centre=False,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class FittedReward:
    """A reward model with its rewards on the frames that it was fitted on."""

    model: RewardModel
    rewards: NDArray[np.float32]
    """(members, rows) before shaping."""
    history: tuple[Epoch, ...]
    quality: Quality


def fit_reward(
    frames: Frames,
    pairs: LabelledPairs,
    config: RewardConfig,
    device: torch.device,
    *,
    stream: str,
    start: RewardModel | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FittedReward:
    """Fit an ensemble to labelled pairs of `frames` and give rewards to all of them.

    Args:
        frames: of the dataset.
        pairs: rows and labels.
        config: the reward model.
        device: where to compute.
        stream: image stream that the frames are of.
        start: model whose weights are the start, fitted with the same config (warm start).
        checkpoint: file for going on after an interruption.
        progress: called with (epochs done, epochs at most).

    Raises:
        LabelError: too few labels, or the fit diverged.
    """
    ensemble = new_ensemble(frames, config, device) if start is None else start.ensemble
    images = np.ascontiguousarray(ensemble.box.crop(frames.images))
    key = _fit_key(pairs, config, start)
    history = fit(
        ensemble,
        images,
        pairs,
        config.optimise,
        seed=config.seed,
        checkpoint=checkpoint,
        key=key,
        progress=progress,
    )
    precision = resolve_precision(config.optimise.precision, device)
    rewards = predict(ensemble, images, precision=precision)
    judged = frames.judged
    mean = rewards.mean(axis=0)
    held_out = evaluate(ensemble, images, pairs.part(held_out=True), config.optimise.mistakes, precision)
    quality = frame_quality(frames, mean, held_out)
    model = RewardModel(
        ensemble=ensemble,
        stream=stream,
        frame_shape=(int(frames.images.shape[1]), int(frames.images.shape[2])),
        scale=scale_of(mean[judged], config.shaping),
        shaping=config.shaping,
        precision=config.optimise.precision,
        card={
            "config": _json(asdict(config)),
            "pairs": len(pairs),
            "held_out_pairs": int(pairs.held_out.sum()),
            "epochs": [asdict(epoch) for epoch in history],
            "quality": quality.as_json(),
        },
    )
    return FittedReward(model, rewards, tuple(history), quality)


def frame_quality(
    frames: Frames,
    reward: NDArray[np.floating],
    held_out: tuple[float, float] | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> Quality:
    """Quality of one reward per row of `frames`; rows without transition, and those that are not `valid`
    (rows,), do not count."""
    judged = frames.judged if valid is None else frames.judged[valid[frames.judged]]
    truth = frames.truth[judged]
    return reward_quality(
        reward[judged],
        frames.episode[judged],
        success=None if frames.success is None else frames.success[judged],
        truth=None if np.isnan(truth).any() else truth,
        held_out=held_out,
    )


def new_ensemble(frames: Frames, config: RewardConfig, device: torch.device) -> RewardEnsemble:
    """A fresh ensemble for `frames`: where to look, what to subtract, random weights of the config's seed."""
    sample = frames.images[:: max(1, len(frames) // SAMPLES)]
    height, width = frames.images.shape[1:3]
    smallest = config.network.smallest_side
    box: Box = active_box(sample, smallest) if config.crop == "active" else whole(height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        ensemble = RewardEnsemble(config.network, box)
    if config.centre:
        ensemble.centre(box.crop(sample))
    return ensemble.to(device)


def _fit_key(pairs: LabelledPairs, config: RewardConfig, start: RewardModel | None) -> str:
    digest = hashlib.sha256(json.dumps(_json(asdict(config)), sort_keys=True).encode())
    for column in (pairs.first, pairs.second, pairs.label, pairs.held_out):
        digest.update(np.ascontiguousarray(column).tobytes())
    for value in [] if start is None else start.ensemble.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _json(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found
