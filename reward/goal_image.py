"""Goal-image similarity as a labeller of `armchair relabel`: how near a frame is to pictures of the goal.

Any frozen image encoder serves: a CLIP model's image tower, timm, an ONNX file. With x the unit feature of a
frame and g the mean of the goals' unit features the reward is vlmrm's, with pictures in place of prompts
(`reward.clip`): for one goal and α = 0 the cosine similarity; pictures of the scene before the task as
baselines, and α above 0, take out what all frames share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import ConfigError, did_you_mean
from reward.clip import goal_baseline
from reward.clip_labeller import feature_cache, goal_digest
from reward.clip_model import ClipModelConfig, load_clip
from reward.embeddings import EmbeddingCache, embed
from reward.embeddings_onnx import OnnxConfig, OnnxEncoder
from reward.embeddings_open_clip import EncodingConfig, open_clip_encoders
from reward.embeddings_timm import TimmConfig, timm_encoders
from reward.encoders import ImageEncoder
from reward.frames import FrameId, Frames
from reward.labellers import Rewarded
from reward.regions import active_box

SUCCESS = "success"


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Any image encoder."""

    encoder: Literal["open-clip", "timm", "onnx"] = "open-clip"
    """open-clip: the image tower of a CLIP model. timm: a model of timm. onnx: an ONNX file."""
    open_clip: ClipModelConfig = field(default_factory=ClipModelConfig)
    """The CLIP model."""
    timm: TimmConfig = field(default_factory=TimmConfig)
    """The model of timm."""
    onnx: OnnxConfig = field(default_factory=OnnxConfig)
    """The ONNX file."""
    how: Annotated[EncodingConfig, tyro.conf.arg(name="")] = field(default_factory=EncodingConfig)
    """How pictures go through it."""


@dataclass(frozen=True)
class GoalImageConfig:
    """Rewards from the similarity of frames to pictures of the goal."""

    goals: tuple[str, ...] = ()
    """Pictures of the task done: files, EPISODE or EPISODE:FRAME (the last frame when left out), or
    "success": the first frame of success of every episode that has one."""
    baselines: tuple[str, ...] = ()
    """Pictures of the task not done, as above; "first" stands for the first frame of every episode."""
    alpha: float = 0.0
    """Strength of the projection on the line from baseline to goal, 0 to 1; above 0 needs baselines."""
    to: Literal["mean", "nearest"] = "mean"
    """Of several goals, what a frame is compared with: their mean, or the nearest one."""
    region: Literal["whole", "active"] = "whole"
    """active: only the part of the picture where pixels change among the frames; for still cameras."""
    what: Annotated[ImageEncoderConfig, tyro.conf.arg(name="")] = field(default_factory=ImageEncoderConfig)
    """The encoder."""


def make_encoders(config: ImageEncoderConfig) -> Sequence[ImageEncoder]:
    """The encoder, once per device; an ONNX file once.

    Raises:
        ConfigError: a model, file or device that is not there.
        MachineError: weights that cannot be had.
    """
    if config.encoder == "open-clip":
        return open_clip_encoders(load_clip(config.open_clip), config.how)
    if config.encoder == "timm":
        return timm_encoders(config.timm, config.how)
    return (OnnxEncoder(config.onnx, config.how),)


def goal_image_rewards(
    dataset: Dataset,
    frames: Frames,
    config: GoalImageConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Rewarded:
    """Similarity of all frames of transitions to the goal.

    Raises:
        ConfigError: no goal, a picture or frame that is not there, no such encoder.
        DatasetError: frames too small for the region.
    """
    if not config.goals:
        raise ConfigError(
            "goal-image.goals: give pictures of the task done: files, EPISODE:FRAME, or success for the "
            "frames "
            "where the simulation saw success."
        )
    images, box = frames.images, None
    if config.region == "active":
        box = active_box(_sample(images), smallest=8)
        images = box.crop(images)
    goals = _pictures(frames, config.goals, "goals")
    baselines = _pictures(frames, config.baselines, "baselines")
    if box is not None:
        goals, baselines = (
            [box.crop(picture) if picture.shape == frames.images.shape[1:] else picture for picture in part]
            for part in (goals, baselines)
        )
    encoders = make_encoders(config.what)
    batch = config.what.how.batch
    with feature_cache(dataset, config.what.how.cache) as cache:
        wanted, unwanted = (_features(part, encoders, cache) for part in (goals, baselines))
        features = embed(images, encoders, batch=batch, cache=cache, rows=frames.judged, progress=progress)
    sides = [wanted] if config.to == "mean" else [goal[None] for goal in wanted]
    targets = [goal_baseline(side, unwanted, config.alpha) for side in sides]
    nearest = np.max([target.rewards(features) for target in targets], axis=0)
    return Rewarded(
        frames.of_judged(nearest),
        {
            "encoder": encoders[0].identity,
            "goals": list(config.goals),
            "baselines": list(config.baselines),
            "alpha": config.alpha,
            "to": config.to,
            "region": config.region if box is None else asdict(box),
            "goal": [goal_digest(target) for target in targets],
        },
    )


def _features(
    pictures: Sequence[NDArray[np.uint8]], encoders: Sequence[ImageEncoder], cache: EmbeddingCache | None
) -> NDArray[np.float32]:
    """Features (n, dim) of pictures of any sizes."""
    if not pictures:
        return np.zeros((0, encoders[0].dim), np.float32)
    return np.concatenate([embed(one[None], encoders[:1], batch=1, cache=cache) for one in pictures])


def _sample(images: NDArray[np.uint8], most: int = 500) -> NDArray[np.uint8]:
    """Frames spread over all."""
    return images[:: max(1, len(images) // most)]


def _pictures(frames: Frames, names: Sequence[str], key: str) -> list[NDArray[np.uint8]]:
    out: list[NDArray[np.uint8]] = []
    for name in names:
        if name == SUCCESS:
            out += [frames.images[row] for row in success_rows(frames)]
        elif name == "first":
            out += [frames.images[row] for row in frames.starts[:-1]]
        elif Path(name).is_file():
            out.append(_read(Path(name), key))
        else:
            out.append(frames.images[_row(frames, name, key)])
    return out


def success_rows(frames: Frames) -> NDArray[np.int64]:
    """First row of success of each episode that has one.

    Raises:
        ConfigError: nothing is known of success, or there is none.
    """
    success = np.zeros(len(frames), np.bool_) if frames.success is None else frames.success
    hits = ((frames.rows_of(k).start, success[frames.rows_of(k)]) for k in range(len(frames.episode_ids)))
    rows = [start + int(found.argmax()) for start, found in hits if found.any()]
    if not rows:
        raise ConfigError(
            "goal-image: no frame of these recordings is known as success (the simulation says so in stream "
            "'truth'): name goals as files or EPISODE:FRAME."
        )
    return np.array(rows, np.int64)


def _row(frames: Frames, name: str, key: str) -> int:
    episode, _, index = name.partition(":")
    if episode not in frames.episode_ids:
        hint = did_you_mean(episode, [*frames.episode_ids[:20], SUCCESS, "first"])
        raise ConfigError(f"goal-image.{key} {name!r}: no such file and no such episode; {hint}")
    number = frames.episode_ids.index(episode)
    length = int(frames.starts[number + 1] - frames.starts[number])
    try:
        frame = int(index) if index else length - 1
    except ValueError as error:
        raise ConfigError(f"goal-image.{key} {name!r}: write EPISODE:FRAME with a number.") from error
    frame = frame + length if frame < 0 else frame
    if not 0 <= frame < length:
        raise ConfigError(f"goal-image.{key} {name!r}: the episode has frames 0 to {length - 1}.")
    return frames.row(FrameId(episode, frame))


def _read(path: Path, key: str) -> NDArray[np.uint8]:
    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if found is None:
        raise ConfigError(f"goal-image.{key} {path}: is no picture that OpenCV reads (PNG, JPEG …).")
    picture: NDArray[np.uint8] = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return picture
