"""What the networks of a reward model look at, row by row: pictures, vectors, or features of an encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import DatasetError, LabelError
from reward.clip_labeller import feature_cache
from reward.embeddings import embed
from reward.frames import Frames
from reward.goal_image import ImageEncoderConfig, make_encoders
from reward.model import RewardModel
from reward.networks import NetworkConfig
from reward.objectives import Labels
from reward.pairs import LabelledPairs
from reward.regions import Box, active_box, whole
from reward.state_action import load_vectors
from reward.stored import rebuild

SAMPLES = 1500
"""Frames that decide where the picture changes."""
SMALLEST = 32
"""Pixels a side of what an encoder is shown at least."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rows of what a kind of network looks at."""

    values: NDArray[np.generic]
    """(rows, height, width, 3) uint8, or (rows, d) float32."""
    identity: str = ""
    """What the entries of vectors mean; empty for pictures."""
    box: Box | None = None
    """Part of the picture that an encoder was shown."""


def load_inputs(
    network: NetworkConfig,
    dataset: Dataset | None,
    frames: Frames,
    progress: Callable[[int, int], None] | None = None,
    *,
    encoder: ImageEncoderConfig | None = None,
    crop: Literal["active", "none"] | Box = "none",
) -> Inputs:
    """What `network` looks at, for every row of `frames`.

    Args:
        network: its kind says what.
        dataset: of which the frames are; None where there are only pictures (cached labels).
        frames: rows.
        progress: called with (done, total).
        encoder: for kind encoder.
        crop: what the encoder is shown: the box, the part of the pictures in which anything changes, or all.

    Raises:
        DatasetError: the dataset does not hold what the network looks at.
        ConfigError: no such encoder.
    """
    if network.of_pictures:
        return Inputs(frames.images)
    if dataset is None:
        raise DatasetError(
            f"--network.kind {network.kind} looks at recordings, and cached labels hold pictures alone: take "
            "cnn or resnet."
        )
    if network.kind == "encoder":
        return _features(dataset, frames, encoder or ImageEncoderConfig(), crop, progress)
    return Inputs(*load_vectors(dataset, frames, network.state_action, progress))


def model_rewards(
    model: RewardModel,
    dataset: Dataset,
    frames: Frames,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Rewards r̂ of every row of `frames` by a fitted model of any kind, before shaping → (members, rows).

    Raises:
        DatasetError: the dataset does not hold what the model was fitted on.
    """
    return model.rewards(model_inputs(model, dataset, frames, progress), progress)


def model_inputs(
    model: RewardModel,
    dataset: Dataset,
    frames: Frames,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.generic]:
    """What a fitted model looks at, for every row of `frames`.

    Raises:
        DatasetError: the dataset does not hold what the model was fitted on.
    """
    encoder = None if model.encoder is None else rebuild(ImageEncoderConfig, model.encoder)
    crop = model.ensemble.box
    found = load_inputs(model.ensemble.config, dataset, frames, progress, encoder=encoder, crop=crop)
    if found.identity != model.input_identity:
        raise DatasetError(
            f"the reward model was fitted on {model.input_identity or 'pictures'}, here are "
            f"{found.identity or 'pictures'}: fit one on this dataset."
        )
    return found.values


def _features(
    dataset: Dataset,
    frames: Frames,
    encoder: ImageEncoderConfig,
    crop: Literal["active", "none"] | Box,
    progress: Callable[[int, int], None] | None,
) -> Inputs:
    """Features of an encoder, kept on disk by content; equal pictures are encoded once."""
    height, width = frames.images.shape[1:3]
    if isinstance(crop, Box):
        box = crop
    elif crop == "active":
        box = active_box(frames.images[:: max(1, len(frames) // SAMPLES)], min(SMALLEST, height, width))
    else:
        box = whole(height, width)
    encoders = make_encoders(encoder)
    with feature_cache(dataset, encoder.how.cache) as cache:
        images = box.crop(frames.images)
        values = embed(images, encoders, batch=encoder.how.batch, cache=cache, progress=progress)
    return Inputs(values, encoders[0].identity, box)


def refuse_short_segments(network: NetworkConfig, frames: Frames, labels: Labels) -> None:
    """Refuse labels whose segment would reach back behind its episode's first transition.

    Raises:
        LabelError: some do.
    """
    if network.segment == 1:
        return
    rows = (
        np.concatenate([labels.first, labels.second]) if isinstance(labels, LabelledPairs) else labels.frame
    )
    begins = network.steps(rows)[:, 0] - frames.starts[frames.episode[rows]]
    short = int((begins < 1).sum())
    if short:
        raise LabelError(
            f"{short} of {len(rows)} labelled frames have fewer than {network.segment} transitions before "
            f"them (--network.segment {network.segment}, --network.stride {network.stride}): show the judge "
            f"clips as long, armchair label --show.frames {network.segment} --show.stride {network.stride}."
        )
