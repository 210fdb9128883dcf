"""From labelled pairs to a reward model: what `fit` and every round do."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.errors import ConfigError, LabelError
from reward.calibration import FEWEST, answer_chances, best_temperature, calibration, cross_fitted
from reward.frames import Frames, question_digests
from reward.goal_image import ImageEncoderConfig
from reward.inputs import Inputs, refuse_short_segments
from reward.model import RewardModel
from reward.networks import NetworkConfig
from reward.objectives import Labels, evaluate
from reward.optimise import Epoch, OptimiseConfig, fit, precision_for
from reward.pairs import LabelledPairs
from reward.preference import RewardEnsemble, predict
from reward.quality import Quality, reward_quality
from reward.regions import active_box, whole
from reward.resnet import load_backbone
from reward.scores import score_figures
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
    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    """The frozen encoder of --network.kind encoder."""
    crop: Literal["active", "none"] = "active"
    """active: only the part of the picture in which anything changes, for cameras that stand still."""
    centre: bool = True
    """Subtract the mean picture and divide by the overall standard deviation."""
    calibrate: Literal["none", "temperature"] = "none"
    """temperature: divide rewards by the number that makes predicted preferences of held-out pairs as
    frequent as they say (Guo et al. 2017). Order, and the reward that a policy gets, stay the same; what
    disagreement and entropy select may change."""
    held_out: float = 0.1
    """Share of labels that is never trained on."""
    seed: int = 0
    """Seed of weights, shuffling and augmentation."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held-out {self.held_out} is a share: from 0 to below 1.")


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
    pairs: Labels,
    config: RewardConfig,
    device: torch.device,
    *,
    stream: str,
    inputs: Inputs | None = None,
    start: RewardModel | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FittedReward:
    """Fit an ensemble to labelled pairs or scores of `frames` and give rewards to all of them.

    Args:
        frames: of the dataset.
        pairs: rows and labels, or rows and scores.
        config: the reward model.
        device: where to compute.
        stream: image stream that the frames are of.
        inputs: what the networks look at, row by row (`load_inputs`); the frames' pictures when left out.
        start: model whose weights are the start, fitted with the same config (warm start).
        checkpoint: file for going on after an interruption.
        progress: called with (epochs done, epochs at most).

    Raises:
        LabelError: too few labels, labels or inputs that make no sense, or the fit diverged.
    """
    looked = inputs if inputs is not None else Inputs(frames.images)
    refuse_short_segments(config.network, frames, pairs)
    ensemble = new_ensemble(frames, config, device, looked) if start is None else start.ensemble
    values = looked.values
    if ensemble.dim is None:
        values = np.ascontiguousarray(ensemble.box.crop(values))
    history = fit(
        ensemble,
        values,
        pairs,
        config.optimise,
        seed=config.seed,
        checkpoint=checkpoint,
        key=_fit_key(pairs, config, start, looked.identity, values, ensemble),
        progress=progress,
    )
    precision = precision_for(ensemble, config.optimise.precision)
    rewards = predict(ensemble, values, precision=precision)
    checked = evaluate(ensemble, values, pairs.part(held_out=True), config.optimise.mistakes, precision)
    held_out, temperature = held_out_figures(rewards, pairs, config)
    if temperature != 1:
        rewards /= np.float32(temperature)
    mean = rewards.mean(axis=0)
    quality = frame_quality(frames, mean, checked if isinstance(pairs, LabelledPairs) else None)
    model = RewardModel(
        ensemble=ensemble,
        stream=stream,
        frame_shape=(int(frames.images.shape[1]), int(frames.images.shape[2])),
        scale=scale_of(mean[frames.judged], config.shaping),
        shaping=config.shaping,
        precision=config.optimise.precision,
        card={
            "config": _json(asdict(config)),
            "pairs": len(pairs),
            "held_out_pairs": int(pairs.held_out.sum()),
            "labels": "preferences" if isinstance(pairs, LabelledPairs) else "scores",
            "trained_on": trained_on(frames, pairs.part(held_out=False)),
            "epochs": [_figures(epoch) for epoch in history],
            "quality": quality.as_json(),
            **held_out,
        },
        input_identity=looked.identity,
        encoder=_json(asdict(config.encoder)) if config.network.kind == "encoder" else None,
        temperature=temperature,
    )
    return FittedReward(model, rewards, tuple(history), quality)


def trained_on(frames: Frames, labels: Labels) -> str:
    """The questions that a model is fitted to, by their frames: `question_digests` of all of them, joined."""
    if isinstance(labels, LabelledPairs):
        return "".join(sorted(question_digests(frames, labels.first, labels.second)))
    return "".join(sorted(question_digests(frames, labels.frame)))


def held_out_figures(
    rewards: NDArray[np.floating], labels: Labels, config: RewardConfig
) -> tuple[dict[str, Any], float]:
    """Entries of the card about held-out labels, and the temperature by which `rewards` (members, rows) are
    to be divided."""
    mean, check = rewards.mean(axis=0), labels.part(held_out=True)
    if len(check) == 0:
        if config.calibrate == "temperature":
            raise LabelError("--calibrate temperature needs held-out pairs: give --held-out above 0.")
        return {}, 1.0
    if not isinstance(labels, LabelledPairs) or not isinstance(check, LabelledPairs):
        if config.calibrate == "temperature":
            raise LabelError("--calibrate temperature is about preferences; scores have their own unit.")
        return {"scores": asdict(score_figures(mean, labels.part(held_out=False), check))}, 1.0
    steps = config.network.steps
    difference = mean[steps(check.second)].sum(axis=1) - mean[steps(check.first)].sum(axis=1)
    mistakes, label = config.optimise.mistakes, check.label
    found: dict[str, Any] = {
        "calibration": calibration(answer_chances(difference, mistakes), label).as_json()
    }
    if config.calibrate == "none":
        return found, 1.0
    temperature = best_temperature(difference, label, mistakes)
    scaled = {"temperature": temperature}
    if len(label) >= 2 * FEWEST:
        scaled |= calibration(cross_fitted(difference, label, mistakes), label).as_json()
    return {**found, "calibration_scaled": scaled}, temperature


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


def new_ensemble(
    frames: Frames, config: RewardConfig, device: torch.device, inputs: Inputs | None = None
) -> RewardEnsemble:
    """A fresh ensemble: where to look, what to subtract, random weights of the config's seed, or those of a
    file."""
    network, values = config.network, frames.images if inputs is None else inputs.values
    sample = values[:: max(1, len(values) // SAMPLES)]
    box = None if inputs is None else inputs.box
    if network.of_pictures:
        smallest = network.smallest_side
        box = active_box(sample, smallest) if config.crop == "active" else whole(*values.shape[1:3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        ensemble = RewardEnsemble(network, box, None if network.of_pictures else int(values.shape[1]))
    if network.kind == "resnet" and network.resnet.weights is not None:
        load_backbone(ensemble, network.resnet.weights)
    elif config.centre:
        ensemble.centre(box.crop(sample) if network.of_pictures and box is not None else sample)
    return ensemble.to(device)


def _fit_key(
    pairs: Labels,
    config: RewardConfig,
    start: RewardModel | None,
    identity: str,
    values: NDArray[np.generic],
    ensemble: RewardEnsemble,
) -> str:
    """Of everything that a fit depends on: what the labelled rows of `values` show is part of it, since the
    rows of another camera, or of episodes recorded anew, have the same numbers."""
    digest = hashlib.sha256(json.dumps(_json(asdict(config)), sort_keys=True).encode())
    digest.update(f"{identity} {values.shape} {values.dtype} {ensemble.box}".encode())
    rows = np.concatenate([pairs.first, pairs.second]) if isinstance(pairs, LabelledPairs) else pairs.frame
    for row in np.unique(config.network.steps(rows)):
        digest.update(np.ascontiguousarray(values[row]).tobytes())
    if config.network.resnet.weights is not None and start is None:
        digest.update(config.network.resnet.weights.read_bytes())
    for column in pairs.columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    for value in [] if start is None else start.ensemble.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _figures(epoch: Epoch) -> dict[str, float | None]:
    """Figures of an epoch for JSON, which has no NaN: None where nothing is held out."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(epoch).items()}


def _json(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(value, default=str))
    return found
