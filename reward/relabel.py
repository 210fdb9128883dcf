"""The verb `relabel`: a reward label file for every episode.

r_t is the reward of frame t+1. Recordings are never changed: every labeller has a folder of its own beside
them, and `--list` shows all of them side by side.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from episodes.dataset import Dataset
from episodes.errors import DatasetError
from episodes.labels import has_labels, read_labels, write_labels
from reward.clip_labeller import ClipConfig, clip_rewards
from reward.fit import say_quality
from reward.fitting import frame_quality
from reward.frames import Frames, image_stream, load_frames
from reward.goal_image import GoalImageConfig, goal_image_rewards
from reward.inputs import model_rewards
from reward.labellers import (
    AverageConfig,
    ConstantConfig,
    RandomConfig,
    Report,
    Rewarded,
    TruthConfig,
    average_rewards,
    constant_rewards,
    random_rewards,
    true_rewards,
)
from reward.labellers_rated import RatedConfig, SuccessConfig, rated_rewards, success_rewards
from reward.listing import show
from reward.matching import MatchingConfig, matching_rewards
from reward.model import RewardModel, load_model, model_hash, pick_device
from reward.quality import Quality
from reward.shaping import ShapingConfig, shape

Kind = Literal[
    "model", "rated", "success", "clip", "goal-image", "matching", "truth", "random", "constant", "average"
]


@dataclass(frozen=True)
class RelabelConfig:
    """Write a reward label file for every episode; recordings are never changed."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    kind: Kind = "model"
    """model: the fitted reward. rated: progress or score answers of a label set. success: 1 in frames of
    success, 0 elsewhere. clip: how near a frame is to what prompts describe, to a CLIP model. goal-image: how
    near it is to pictures of the goal. matching: how well it matches a text, to BLIP-2. truth: the
    simulation's reward, scaled to [0, 1]. To see what a policy does with a reward that means nothing: random,
    uniform in [0, 1); constant; average, the mean of another reward."""
    stream: str = ""
    """Image stream to look at; a fitted model's own, else the contract's reference or only camera, when left
    out."""
    reward: Path | None = None
    """Folder of the reward model; DATASET/rewards/NAME when there is only one."""
    name: str = ""
    """Name of the labeller; "learned", "true-scaled", "random-uniform" and so on when left out."""
    exponent: float | None = None
    """Power after scaling to [0, 1]; the reward model's own, and 1 for the true reward, when left out."""
    seed: int = 0
    """Seed of the random reward."""
    device: str = "auto"
    """auto, cpu or cuda."""
    constant: ConstantConfig = field(default_factory=ConstantConfig)
    """The constant reward."""
    average: AverageConfig = field(default_factory=AverageConfig)
    """The average reward."""
    rated: RatedConfig = field(default_factory=RatedConfig)
    """Progress or score answers as rewards."""
    success: SuccessConfig = field(default_factory=SuccessConfig)
    """The sparse reward."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Zero-shot rewards from prompts."""
    goal_image: GoalImageConfig = field(default_factory=GoalImageConfig)
    """Similarity to pictures of the goal."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    """Image-text matching."""
    list: bool = False
    """Only show the labellers that there are, side by side; the same as `armchair reward list`."""


DEFAULT_NAMES: dict[Kind, str] = {
    "model": "learned",
    "truth": "true-scaled",
    "random": "random-uniform",
    "constant": "constant-reward",
    "average": "average-reward",
    "rated": "rated",
    "success": "sparse-success",
    "clip": "clip",
    "goal-image": "goal-image",
    "matching": "matching",
}
"""Names that no reward made while training has (`episodes.labels.RESERVED`)."""


@dataclass(frozen=True)
class Relabelled:
    """What `relabel` did."""

    labeller: str
    episodes: int
    written: int
    """Label files that were not there before or stemmed from other settings."""
    quality: Quality
    """Of the rewards that a policy gets."""


def relabel(config: RelabelConfig, progress: Report = None, *, now_ns: int | None = None) -> Relabelled:
    """Give every episode rewards; files that stem from the same settings are left as they are.

    Args:
        config: which rewards.
        progress: called with (done, total) while frames are read and judged, then while files are written.
        now_ns: time that new files remember, ns since 1970; left out, they remember none.

    Raises:
        DatasetError: no episodes, no reward model, or no true reward.
    """
    dataset = Dataset.open(config.dataset)
    frames, made = _make(config, dataset, progress)
    made.basis["kind"] = config.kind
    return _write(dataset, frames, config.name or DEFAULT_NAMES[config.kind], made, progress, now_ns)


def _make(config: RelabelConfig, dataset: Dataset, progress: Report) -> tuple[Frames, Rewarded]:
    """The frames, and the rewards of the kind that is asked for."""
    if config.kind == "model":
        folder = config.reward or _only_model(dataset)
        model = load_model(folder, pick_device(config.device))
        frames = _pictures(dataset, model.stream, progress)
        return frames, _learned(dataset, frames, model, model_hash(folder), config.exponent)
    looks = config.kind in ("clip", "goal-image", "matching")
    frames = (
        _pictures(dataset, config.stream, progress)
        if looks
        else load_frames(dataset, None, progress=progress)
    )
    match config.kind:
        case "clip":
            return frames, clip_rewards(dataset, frames, config.clip, progress)
        case "goal-image":
            return frames, goal_image_rewards(dataset, frames, config.goal_image, progress)
        case "matching":
            return frames, matching_rewards(dataset, frames, config.matching, progress)
        case "truth":
            exponent = 1.0 if config.exponent is None else config.exponent
            return frames, true_rewards(dataset, frames, TruthConfig(exponent), progress)
        case "random":
            return frames, random_rewards(dataset, frames, RandomConfig(config.seed), progress)
        case "constant":
            return frames, constant_rewards(dataset, frames, config.constant, progress)
        case "average":
            return frames, average_rewards(dataset, frames, config.average, progress)
        case "rated":
            return frames, rated_rewards(dataset, frames, config.rated, progress)
        case "success":
            return frames, success_rewards(dataset, frames, config.success, progress)


def _pictures(dataset: Dataset, stream: str, progress: Report) -> Frames:
    spill = dataset.path / ".cache" / "frames.npy"
    return load_frames(dataset, image_stream(dataset, stream), spill=spill, progress=progress)


def _learned(
    dataset: Dataset, frames: Frames, model: RewardModel, content: str, exponent: float | None
) -> Rewarded:
    shaping = model.shaping
    if exponent is not None:
        shaping = ShapingConfig(exponent=exponent, low=shaping.low, high=shaping.high)
    rewards = shape(model_rewards(model, dataset, frames).mean(axis=0), model.scale, shaping)
    return Rewarded(rewards, {"model": content, "shaping": asdict(shaping)})


def _write(
    dataset: Dataset, frames: Frames, labeller: str, made: Rewarded, progress: Report, now_ns: int | None
) -> Relabelled:
    text = json.dumps(made.basis, sort_keys=True)
    attrs: dict[str, str | int] = {"basis": text}
    if now_ns is not None:
        attrs["written_ns"] = now_ns
    valid = np.ones(len(frames), np.bool_) if made.valid is None else made.valid
    written = 0
    for number, episode_id in enumerate(frames.episode_ids):
        rows = frames.rows_of(number)
        if not _stands(dataset, labeller, episode_id, text, made.rewards[rows], valid[rows]):
            write_labels(dataset, labeller, episode_id, made.rewards[rows], valid[rows], attrs)
            written += 1
        if progress is not None:
            progress(number + 1, len(frames.episode_ids))
    quality = frame_quality(frames, made.rewards, valid=valid)
    return Relabelled(labeller, len(frames.episode_ids), written, quality)


def _stands(
    dataset: Dataset,
    labeller: str,
    episode_id: str,
    basis: str,
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> bool:
    if not has_labels(dataset, labeller, episode_id):
        return False
    found = read_labels(dataset, labeller, episode_id)
    same = np.array_equal(found.reward, values) and np.array_equal(found.valid, valid)
    return found.attrs.get("basis") == basis and same


def _only_model(dataset: Dataset) -> Path:
    folders = sorted(path.parent for path in (dataset.path / "rewards").glob("*/reward.json"))
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise DatasetError(
            f"{dataset.path}: there is no fitted reward model. Fit one: armchair fit {dataset.path}"
        )
    raise DatasetError(
        f"{dataset.path}: give --reward, one of {', '.join(str(folder) for folder in folders)}."
    )


def main(config: RelabelConfig) -> int:
    """Relabel with a progress bar, and say how good the rewards are."""
    if config.list:
        show(Dataset.open(config.dataset))
        return 0
    console = Console()
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task("episodes", total=None)
        done = relabel(
            config, lambda n, total: bar.update(task, completed=n, total=total), now_ns=time.time_ns()
        )
    say_quality(console, done.quality)
    console.print(f"labeller {done.labeller!r}: {done.episodes} episodes, {done.written} label files written")
    return 0
