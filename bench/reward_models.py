"""Bench `reward-models`: what each part of the reward recipe does, on one dataset with a scripted teacher.

Each row changes one thing and fits anew from the same answers: network, loss, stop, or which pairs were asked
about. The teacher errs in 10 % of its answers. Rows of selections spend the last third of the answers on
pairs that they chose by a model fitted to the first two thirds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from bench.machine import machine
from episodes.dataset import Dataset
from episodes.errors import DatasetError
from reward.acquisition import Selection
from reward.asking import ask_pairs
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.drawing import DrawConfig, draw_pairs, labelled_pairs
from reward.fitting import FittedReward, RewardConfig, fit_reward
from reward.forms import paper_config
from reward.frames import Frames, image_stream, load_frames
from reward.inputs import load_inputs
from reward.model import pick_device
from reward.networks import NetworkConfig
from reward.objectives import Labels
from reward.quality import average_ranks
from reward.scores import LabelledScores
from reward.store import FILE, LabelStore

RECIPE = RewardConfig()


def _with(**changes: Any) -> RewardConfig:
    return replace(RECIPE, optimise=replace(RECIPE.optimise, **changes))


FORMS: dict[str, RewardConfig] = {
    "recipe": RECIPE,
    "paper": paper_config(),
    "tanh head": replace(RECIPE, network=NetworkConfig(head="tanh")),
    "no mistake rate": _with(mistakes=0.0),
    "no mistake rate, label margin 0.1": _with(mistakes=0.0, margin=0.1),
    "no shift": _with(shift=0),
    "no early stop": _with(early_stop="none"),
    "stop at 0.97 training accuracy": _with(early_stop="accuracy"),
    "whole picture, not centred": replace(RECIPE, crop="none", centre=False),
    "state-action": replace(RECIPE, network=NetworkConfig(kind="state-action")),
    "state-action, paper": paper_config(kind="state-action"),
    "resnet": replace(RECIPE, network=NetworkConfig(kind="resnet")),
}
SELECTIONS: tuple[Selection, ...] = (
    "uniform",
    "top",
    "disagreement",
    "entropy",
    "k-centre",
    "k-centre+disagreement",
    "k-centre+entropy",
)
SCORES = "score regression"


@dataclass(frozen=True)
class RewardModelsConfig:
    """Fit rewards that differ in one thing each, and judge them by the simulation's success."""

    dataset: tyro.conf.Positional[Path]
    """Simulated recordings: armchair collect."""
    answers: int = 900
    """Questions to the teacher, for every row."""
    seeds: tuple[int, ...] = (0,)
    """Of pairs, mistakes, weights and batches."""
    rows: tuple[str, ...] = ()
    """Rows to make; all but resnet, which takes a GPU or patience, when left out."""
    epochs: int = 30
    """Most passes of a fit."""


def main(config: RewardModelsConfig) -> int:
    """Fit all rows, print them, and one JSON object last."""
    dataset = Dataset.open(config.dataset)
    stream = image_stream(dataset)
    frames = load_frames(dataset, stream)
    if frames.success is None or np.isnan(frames.truth[frames.judged]).any():
        raise DatasetError(f"{dataset.path}: the bench needs recordings of a simulation, with its reward.")
    known = [*FORMS, SCORES, *SELECTIONS]
    wanted = config.rows or tuple(name for name in known if name != "resnet")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise DatasetError(f"--rows {unknown[0]}: there is no such row; {', '.join(known)}.")
    figures: dict[str, dict[str, dict[str, float | None]]] = {}
    for name in wanted:
        for seed in config.seeds:
            began = time.monotonic()
            found = _row(name, seed, config, dataset, frames, stream)
            row = {**_judge(frames, found), "fit_s": round(time.monotonic() - began, 1)}
            figures.setdefault(name, {})[str(seed)] = row
            shown = " ".join(f"{k} {'–' if v is None else f'{v:.3f}'}" for k, v in row.items())
            print(f"{name}, seed {seed}: {shown}", flush=True)
    success = float(frames.success[frames.judged].mean())
    result = {
        "bench": "reward-models",
        "figures": {"rows": figures, "answers": config.answers, "share_of_success_frames": success},
        "bounds": {},
        "holds": True,
        "machine": machine(),
    }
    print(json.dumps(result))
    return 0


def _row(
    name: str, seed: int, config: RewardModelsConfig, dataset: Dataset, frames: Frames, stream: str
) -> FittedReward:
    form = FORMS.get(name, RECIPE)
    form = replace(form, seed=seed, optimise=replace(form.optimise, epochs=config.epochs))
    device = pick_device("auto")
    inputs = load_inputs(form.network, dataset, frames)

    def fit(labels: Labels) -> FittedReward:
        return fit_reward(frames, labels, form, device, stream=stream, inputs=inputs)

    if name == SCORES:
        return fit(_scores(frames, config.answers, seed))
    if name not in SELECTIONS:
        return fit(_answers(frames, seed, (DrawConfig(pairs=config.answers, seed=seed),), None))
    third = config.answers // 3
    plain = DrawConfig(pairs=config.answers - third, seed=seed)
    before = fit(_answers(frames, seed, (plain,), None))
    later = DrawConfig(pairs=third, selection=name, share=1.0, seed=seed)  # type: ignore[arg-type]
    return fit(_answers(frames, seed, (plain, later), before))


def _answers(frames: Frames, seed: int, draws: tuple[DrawConfig, ...], model: FittedReward | None) -> Labels:
    """What the teacher says about the pairs of `draws`, the selected ones by `model`."""
    teacher = ScriptedTeacher(ScriptedConfig(seed=seed))
    features: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    if model is not None:
        known = model.model
        features = lambda rows: known.features(frames.images, rows)  # noqa: E731
    with (
        tempfile.TemporaryDirectory(prefix="armchair-reward-") as folder,
        LabelStore(Path(folder) / FILE) as store,
    ):
        for draw in draws:
            rewards = None if model is None else model.rewards
            pairs = draw_pairs(store, "bench", frames, teacher, draw, rewards=rewards, features=features)
            ask_pairs(store, frames, teacher, pairs)
        return labelled_pairs(store, store.drawn("bench"), frames, RECIPE.held_out)


def _scores(frames: Frames, count: int, seed: int) -> LabelledScores:
    """Scores in steps of a quarter, as of a 1-to-5 rubric, by the quantile-scaled true reward; one in ten is
    drawn at random."""
    rng = np.random.default_rng([seed, count])
    rows = rng.choice(frames.judged, count, replace=False)
    low, high = np.quantile(frames.truth[frames.judged], [0.001, 0.999])
    score = np.round(4 * np.clip((frames.truth[rows] - low) / (high - low), 0, 1)) / 4
    score = np.where(rng.random(count) < 0.1, rng.integers(5, size=count) / 4, score)
    held_out = rng.random(count) < RECIPE.held_out
    return LabelledScores(rows, (2 * score - 1).astype(np.float32), held_out)


def _judge(frames: Frames, found: FittedReward) -> dict[str, float | None]:
    """Figures against the simulation, of all frames of transitions."""
    judged = frames.judged
    reward, truth = found.rewards.mean(axis=0)[judged], frames.truth[judged]
    success = np.zeros(0, bool) if frames.success is None else frames.success[judged]
    best = np.argsort(-reward, kind="stable")
    top = best[: max(2, len(best) // 10)]
    a, b = average_ranks(reward[top]), average_ranks(truth[top])
    count = int(success.sum())
    calibrated = found.model.card.get("calibration", {})
    return {
        "above_best_decile": found.quality.success_above_best_decile,
        "precision": float(success[best[:count]].mean()) if count else None,
        "top_rank": float(np.corrcoef(a, b)[0, 1]),
        "episode_rank": found.quality.successful_episode_rank,
        "held_out_accuracy": calibrated.get("accuracy"),
        "calibration_error": calibrated.get("expected_error"),
        "epochs": float(len(found.history)),
    }
