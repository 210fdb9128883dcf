"""The verb `relabel`: a reward label file for every episode.

r_t is the reward of frame t+1. Besides the fitted model there are two references: the simulation's reward
on the same scale, and one that means nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from reward.fit import say_quality
from reward.fitting import frame_quality
from reward.frames import Frames, image_stream, load_frames
from reward.model import RewardModel, load_model, model_hash, pick_device
from reward.quality import Quality
from reward.shaping import ShapingConfig, scale_of, shape

Kind = Literal["model", "truth", "random"]


@dataclass(frozen=True)
class RelabelConfig:
    """Write a reward label file for every episode; recordings are never changed."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    kind: Kind = "model"
    """model: the fitted reward. truth: the simulation's reward, scaled to [0, 1]. random: uniform in [0,
    1), to see what a policy does with a reward that means nothing."""
    reward: Path | None = None
    """Folder of the reward model; DATASET/rewards/NAME when there is only one."""
    name: str = ""
    """Name of the labeller; "learned", "true-scaled" or "random-uniform" when left out."""
    exponent: float | None = None
    """Power after scaling to [0, 1]; the reward model's own, and 1 for the true reward, when left out."""
    seed: int = 0
    """Seed of the random reward."""
    device: str = "auto"
    """auto, cpu or cuda."""


DEFAULT_NAMES: dict[Kind, str] = {"model": "learned", "truth": "true-scaled", "random": "random-uniform"}


@dataclass(frozen=True)
class Relabelled:
    """What `relabel` did."""

    labeller: str
    episodes: int
    written: int
    """Label files that were not there before or stemmed from other settings."""
    quality: Quality
    """Of the rewards that a policy gets."""


def relabel(config: RelabelConfig, progress: Callable[[int, int], None] | None = None) -> Relabelled:
    """Give every episode rewards; files that stem from the same settings are left as they are.

    Args:
        config: which rewards.
        progress: called with (done, total) while frames are read and judged, then while files are written.

    Raises:
        DatasetError: no episodes, no reward model, or no true reward.
    """
    dataset = Dataset.open(config.dataset)
    labeller = config.name or DEFAULT_NAMES[config.kind]
    if config.kind == "model":
        folder = config.reward or _only_model(dataset)
        model = load_model(folder, pick_device(config.device))
        frames = load_frames(
            dataset, model.stream, spill=dataset.path / ".cache" / "frames.npy", progress=progress
        )
        rewards = _learned(frames, model, config.exponent)
        basis: dict[str, object] = {
            "model": model_hash(folder),
            "shaping": asdict(_shaping(model, config.exponent)),
        }
    else:
        frames = load_frames(dataset, image_stream(dataset), progress=progress)
        exponent = 1.0 if config.exponent is None else config.exponent
        if config.kind == "truth":
            rewards = _true(dataset, frames, ShapingConfig(exponent=exponent))
            basis = {"exponent": exponent}
        else:
            rewards = _random(frames, config.seed)
            basis = {"seed": config.seed}
    return _write(dataset, frames, labeller, rewards, {"kind": config.kind, **basis}, progress)


def _learned(frames: Frames, model: RewardModel, exponent: float | None) -> NDArray[np.float32]:
    mean = model.rewards(frames.images).mean(axis=0)
    return shape(mean, model.scale, _shaping(model, exponent))


def _shaping(model: RewardModel, exponent: float | None) -> ShapingConfig:
    if exponent is None:
        return model.shaping
    return ShapingConfig(exponent=exponent, low=model.shaping.low, high=model.shaping.high)


def _true(dataset: Dataset, frames: Frames, shaping: ShapingConfig) -> NDArray[np.float32]:
    known = frames.truth[frames.judged]
    if np.isnan(known).any():
        raise DatasetError(f"{dataset.path}: not every episode has the simulation's reward (stream 'truth').")
    out = np.zeros(len(frames), np.float32)
    out[frames.judged] = shape(known, scale_of(known, shaping), shaping)
    return out


def _random(frames: Frames, seed: int) -> NDArray[np.float32]:
    """Uniform in [0, 1) per frame; an episode's numbers depend on seed and id alone."""
    out = np.zeros(len(frames), np.float32)
    for number, episode_id in enumerate(frames.episode_ids):
        rows = frames.rows_of(number)
        digest = int.from_bytes(hashlib.sha256(episode_id.encode()).digest()[:8], "little")
        out[rows] = np.random.default_rng([seed, digest]).random(rows.stop - rows.start, np.float32)
    return out


def _write(
    dataset: Dataset,
    frames: Frames,
    labeller: str,
    rewards: NDArray[np.float32],
    basis: dict[str, object],
    progress: Callable[[int, int], None] | None,
) -> Relabelled:
    text = json.dumps(basis, sort_keys=True)
    written = 0
    for number, episode_id in enumerate(frames.episode_ids):
        values = rewards[frames.rows_of(number)]
        if not _stands(dataset, labeller, episode_id, text, values):
            write_labels(dataset, labeller, episode_id, values, attrs={"basis": text})
            written += 1
        if progress is not None:
            progress(number + 1, len(frames.episode_ids))
    return Relabelled(labeller, len(frames.episode_ids), written, frame_quality(frames, rewards))


def _stands(
    dataset: Dataset, labeller: str, episode_id: str, basis: str, values: NDArray[np.float32]
) -> bool:
    if not has_labels(dataset, labeller, episode_id):
        return False
    found = read_labels(dataset, labeller, episode_id)
    return found.attrs.get("basis") == basis and np.array_equal(found.reward, values)


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
    console = Console()
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task("episodes", total=None)
        done = relabel(config, lambda n, total: bar.update(task, completed=n, total=total))
    say_quality(console, done.quality)
    console.print(f"labeller {done.labeller!r}: {done.episodes} episodes, {done.written} label files written")
    return 0
