"""Bench `clip`: what the reward path costs beside the bare forward of open_clip, and what the defaults gain.

Weights are random: they multiply as fast as trained ones. Three ways take turns, batch by batch, so that a
busy machine slows all alike: the bare `encode_image` of open_clip in fp32, the same in the precision that
armchair picks here, and the whole reward path in that precision, from frames as recorded (84×84) to rewards:
hash, resize, tower, projection. A ratio is the median over turns of the ratio within one turn. Features are
not kept on disk here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.machine import machine
from bench.pictures import textured
from reward.clip import GoalBaseline, goal_baseline, unit
from reward.clip_model import ClipModel, random_clip
from reward.embeddings import embed
from reward.embeddings_open_clip import (
    EncodingConfig,
    TowerEncoder,
    lower,
    open_clip_encoders,
    pick_devices,
    pick_precision,
)

SHARE_OF_BARE = 0.95
OVER_FP32 = 1.5
PROJECTION_ERROR = 1e-6
ALPHA = 0.5


@dataclass(frozen=True)
class ClipBenchConfig:
    """Measure zero-shot rewards: frames per second, and the projection against NumPy."""

    model: str = "ViT-B-32"
    """open_clip's architecture; weights are random."""
    batch: int = 32
    """Frames in a batch."""
    turns: int = 9
    """Batches that each way gets."""
    height: int = 84
    """Of the frames."""
    width: int = 84
    """Of the frames."""
    seed: int = 0
    """Of frames and weights."""


def main(config: ClipBenchConfig) -> int:
    """Measure, and print one JSON object last."""
    device = pick_devices(("auto",))[0]
    precision = pick_precision("auto", (device,))
    print(f"{config.model}, random weights, on {device.type}: fp32 against {precision}", flush=True)
    model = random_clip(config.model, config.seed)
    how = EncodingConfig(devices=(str(device),), batch=config.batch)
    (encoder,) = open_clip_encoders(model, how)
    (plain,) = open_clip_encoders(model, replace(how, precision="fp32"))
    rng = np.random.default_rng(config.seed)
    count = config.batch * (config.turns + 1)
    frames = textured(rng, count, config.height, config.width)
    goal = goal_baseline(model.encode_text(["an open drawer"]), model.encode_text(["a drawer"]), ALPHA)
    took = _take_turns(config, model, encoder, plain, frames, goal, device)
    speed = {way: config.batch * len(times) / sum(times) for way, times in took.items()}
    over = {
        way: [slow / fast for slow, fast in zip(took[way], took["reward"], strict=True)]
        for way in ("bare", "bare_fp32")
    }
    features = {name: one.encode(frames[:64]) for name, one in (("used", encoder), ("fp32", plain))}
    figures = {
        "bare_fp32_hz": speed["bare_fp32"],
        "bare_hz": speed["bare"],
        "reward_hz": speed["reward"],
        "reward_over_bare": float(np.median(over["bare"])),
        "reward_over_fp32": float(np.median(over["bare_fp32"])),
        "projection_error": projection_error(features["fp32"], goal),
        "feature_cosine_to_fp32": float((unit(features["used"]) * unit(features["fp32"])).sum(axis=1).min()),
    }
    bounds: dict[str, dict[str, float]] = {
        "reward_over_bare": {"at_least": SHARE_OF_BARE},
        "reward_over_fp32": {"at_least": OVER_FP32},
        "projection_error": {"at_most": PROJECTION_ERROR},
    }
    report = {
        "bench": "clip",
        "model": f"{config.model}, random weights",
        "precision": precision,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "figures": {key: float(f"{value:.4g}") for key, value in figures.items()},
        "reward_over_bare_by_turn": [round(ratio, 3) for ratio in over["bare"]],
        "bounds": bounds,
        "holds": all(
            figures[key] >= bound.get("at_least", -1) and figures[key] <= bound.get("at_most", float("inf"))
            for key, bound in bounds.items()
        ),
        "machine": machine(),
    }
    print(json.dumps(report))
    return 0


def _take_turns(
    config: ClipBenchConfig,
    model: ClipModel,
    encoder: TowerEncoder,
    plain: TowerEncoder,
    frames: NDArray[np.uint8],
    goal: GoalBaseline,
    device: torch.device,
) -> dict[str, list[float]]:
    """Seconds of every turn of every way; the first turn warms up and does not count."""
    ready = encoder.rule.tensors(frames[: config.batch], device)
    wide: Any = model.module.to(device)
    bare_fp32 = _bare(wide.encode_image, ready)
    low: Any = lower(random_clip(config.model, config.seed).module, encoder_precision(encoder)).to(device)
    bare = _bare(low.encode_image, ready.to(next(low.visual.parameters()).dtype))
    took: dict[str, list[float]] = {"bare_fp32": [], "bare": [], "reward": []}
    for turn in range(config.turns + 1):
        batch = frames[turn * config.batch : (turn + 1) * config.batch]

        def reward(batch: NDArray[np.uint8] = batch) -> None:
            goal.rewards(embed(batch, [encoder], batch=config.batch))

        for way, work in (("bare_fp32", bare_fp32), ("bare", bare), ("reward", reward)):
            seconds = _seconds(work, device)
            if turn:
                took[way].append(seconds)
    return took


def encoder_precision(encoder: TowerEncoder) -> Any:
    """Precision that an encoder works in."""
    return encoder.identity.rpartition(" ")[2]


def _bare(encode_image: Callable[[torch.Tensor], torch.Tensor], ready: torch.Tensor) -> Callable[[], None]:
    def work() -> None:
        with torch.inference_mode():
            encode_image(ready)

    return work


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def projection_error(features: NDArray[np.float32], goal: GoalBaseline) -> float:
    """Largest difference between armchair's rewards and NumPy's with the projection built as a matrix."""
    if goal.baseline is None:
        raise ValueError("the bench compares a projection, which needs a baseline")
    d = goal.goal - goal.baseline
    projection = goal.alpha * np.outer(d, d) / (d @ d) + (1 - goal.alpha) * np.eye(len(d))
    x = features.astype(np.float64)
    x /= np.sqrt((x**2).sum(axis=1, keepdims=True))
    wanted = 1 - 0.5 * np.square((x - goal.goal) @ projection.T).sum(axis=1)
    return float(np.abs(goal.rewards(features) - wanted).max())
