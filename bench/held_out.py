"""Quality of a reward on episodes that nothing was fitted to: other goals, the same mix of behaviours.

Figures over the episodes that a reward was fitted on flatter it: a network can know single frames by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.experts import Mix

SEED_OFFSET = 1_000_000
"""Seeds of held-out collections: no seed of a training collection is as large, so no goal is in both."""
PAIRS = 2_000
UNSURE_WITHIN = 0.2
"""Pairs whose true rewards are nearer are not asked about, as the scripted teacher leaves them out."""


def collect(
    data: Path,
    contract: Path,
    *,
    episodes: int,
    seed: int,
    mix: Mix,
    horizon: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Record `episodes` episodes on goals that belong to no training collection."""
    from sim.collect import CollectConfig
    from sim.collect import collect as record

    done = record(
        CollectConfig(
            dataset=data, contract=contract, episodes=episodes, seed=SEED_OFFSET + seed, mix=mix,
            horizon=horizon, workers=workers,
        ),
        progress,
    )  # fmt: skip
    return {"recorded": len(done.recorded), "kept": len(done.kept)}


def measure(
    data: Path,
    model_folder: Path,
    *,
    seed: int,
    progress: Callable[[int, int], None],
    apart: float = UNSURE_WITHIN,
) -> dict[str, Any]:
    """Figures of the reward model in `model_folder` over all episodes of `data`.

    Returns:
        The fields of `reward.quality.Quality`, where `held_out_accuracy` is None, and
        - true_preference_accuracy: share of PAIRS uniform pairs of frames, true rewards at least
          `apart` from each other, that the reward orders as the true reward does;
        - episodes, successful_episodes, success_frames: what the figures rest on.
    """
    from episodes.dataset import Dataset
    from reward.fitting import frame_quality
    from reward.frames import load_frames
    from reward.model import load_model, pick_device

    dataset = Dataset.open(data)
    model = load_model(model_folder, pick_device("auto"))
    frames = load_frames(dataset, model.stream, progress=progress)
    reward = model.rewards(frames.images).mean(axis=0)
    judged, success = frames.judged, frames.success
    count = None if success is None else int(success[judged].sum())
    with_success = None if success is None else len(np.unique(frames.episode[success]))
    return {
        **frame_quality(frames, reward).as_json(),
        "true_preference_accuracy": true_accuracy(
            reward[judged].astype(np.float64),
            frames.truth[judged],
            np.random.default_rng([seed, PAIRS]),
            apart=apart,
        ),
        "episodes": len(frames.episode_ids),
        "successful_episodes": with_success,
        "success_frames": count,
    }


def true_accuracy(
    reward: NDArray[np.float64],
    truth: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    pairs: int = PAIRS,
    apart: float = UNSURE_WITHIN,
) -> float | None:
    """Share of uniform pairs that `reward` (n,) orders as `truth` (n,) does, ties one half.

    Pairs with true rewards less than `apart` apart do not count; None when no pair is left.
    """
    first, second = rng.integers(len(truth), size=(2, pairs))
    true = truth[second] - truth[first]
    clear = np.abs(true) >= apart
    if not clear.any():
        return None
    found = np.sign(reward[second] - reward[first])[clear]
    return float(np.mean(0.5 + 0.5 * found * np.sign(true[clear])))
