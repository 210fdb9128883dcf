"""Zero-shot rewards from a CLIP model as a labeller of `armchair relabel`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.clip import GoalBaseline, goal_baseline
from reward.clip_model import ClipModel, ClipModelConfig, load_clip
from reward.embeddings import FILE, EmbeddingCache, embed
from reward.embeddings_open_clip import EncodingConfig, open_clip_encoders, pick_devices
from reward.frames import Frames
from reward.labellers import Rewarded
from reward.vlmrm import read_vlmrm


@dataclass(frozen=True)
class ClipConfig:
    """Zero-shot rewards from a CLIP model: how near a frame is to what prompts describe."""

    targets: tuple[str, ...] = ()
    """What a frame shows when the task is done, as a caption: "an open drawer". Several are averaged."""
    baselines: tuple[str, ...] = ()
    """What every frame shows, done or not: "a robot arm and a drawer". Several are averaged."""
    alpha: float = 0.0
    """Strength of the projection on the line from baseline to target, 0 to 1; above 0 needs a baseline."""
    doubled: bool = False
    """2·reward − 1, the scale of Offline RL-VLM-F's CLIP baseline."""
    vlmrm: Path | None = None
    """A configuration file of vlmrm: prompts, alpha, model and batch size are taken from it."""
    which: Annotated[ClipModelConfig, tyro.conf.arg(name="")] = field(default_factory=ClipModelConfig)
    """The model."""
    how: Annotated[EncodingConfig, tyro.conf.arg(name="")] = field(default_factory=EncodingConfig)
    """How pictures go through it."""


def clip_rewards(
    dataset: Dataset,
    frames: Frames,
    config: ClipConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Rewarded:
    """Goal-baseline rewards of all frames that belong to a transition.

    Raises:
        ConfigError: no target, an α that cannot work, no such model, or a vlmrm file that is wrong.
        MachineError: the weights cannot be had.
    """
    relaxed: tuple[str, ...] = ()
    if config.vlmrm is not None:
        config, relaxed = with_vlmrm(config)
        for line in relaxed:
            Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
    if not config.targets:
        raise ConfigError(
            "clip.targets: describe what a frame shows when the task is done, as a caption: "
            "--clip.targets 'an open drawer'."
        )
    model = load_clip(config.which)
    goal = prompt_goal(model, config.targets, config.baselines, config.alpha)
    encoders = open_clip_encoders(model, config.how)
    with feature_cache(dataset, config.how.cache) as cache:
        features = embed(
            frames.images,
            encoders,
            batch=config.how.batch,
            cache=cache,
            rows=frames.judged,
            progress=progress,
        )
    similarity = goal.rewards(features)
    basis: dict[str, object] = {
        "encoder": encoders[0].identity,
        "targets": list(config.targets),
        "baselines": list(config.baselines),
        "alpha": config.alpha,
        "doubled": config.doubled,
        "goal": goal_digest(goal),
    }
    if relaxed:
        basis["relaxed"] = list(relaxed)
    return Rewarded(frames.of_judged(2 * similarity - 1 if config.doubled else similarity), basis)


def prompt_goal(
    model: ClipModel, targets: Sequence[str], baselines: Sequence[str], alpha: float
) -> GoalBaseline:
    """g and b from prompts.

    Raises:
        ConfigError: see `goal_baseline`.
    """
    other = model.encode_text(baselines) if baselines else None
    return goal_baseline(model.encode_text(targets), other, alpha)


def goal_digest(goal: GoalBaseline) -> str:
    """sha256 of g and b, so that rewards from another text tower or picture have another basis."""
    digest = hashlib.sha256(goal.goal.astype(np.float32).tobytes())
    if goal.baseline is not None:
        digest.update(goal.baseline.astype(np.float32).tobytes())
    return digest.hexdigest()


def with_vlmrm(config: ClipConfig) -> tuple[ClipConfig, tuple[str, ...]]:
    """`config` with what its vlmrm file says, and what was relaxed, in words.

    vlmrm's batch size is shared by all GPUs, ours is each device's.

    Raises:
        ConfigError: the file is wrong, or prompts are given twice.
    """
    path = config.vlmrm
    if path is None:
        return config, ()
    given = ClipConfig()
    twice = [
        name for name in ("targets", "baselines", "alpha") if getattr(config, name) != getattr(given, name)
    ]
    if twice:
        raise ConfigError(f"clip.vlmrm {path} says {', '.join(twice)} already: give one of both.")
    devices = len(pick_devices(config.how.devices))
    found = read_vlmrm(path, workers=devices)
    # A checkpoint or a model on the command line stands for weights that the file's author downloaded.
    which = config.which
    if which.model == ClipModelConfig().model:
        which = replace(which, model=found.model)
    if which.cache_dir is None and found.cache_dir is not None and found.cache_dir.is_dir():
        which = replace(which, cache_dir=found.cache_dir)
    batch = -(-found.batch // devices) if config.how.batch == EncodingConfig().batch else config.how.batch
    return (
        replace(
            config,
            targets=found.targets,
            baselines=found.baselines,
            alpha=found.alpha,
            which=which,
            how=replace(config.how, batch=batch),
        ),
        found.relaxed,
    )


@contextmanager
def feature_cache(dataset: Dataset, wanted: bool) -> Iterator[EmbeddingCache | None]:
    """The dataset's cache of features, or none."""
    if not wanted:
        yield None
        return
    with EmbeddingCache(dataset.path / ".cache" / FILE) as cache:
        yield cache
