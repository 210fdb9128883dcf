"""One configuration trained with several seeds, and what they come to together."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from policy.run import TrainConfig
from policy.settings import require
from policy.training import LoopResult

SUMMARY_FILE = "seeds.json"
SCHEMA = "armchair/seeds/1"
CONFIDENCE = 0.95
SUMMED_UP = ("evaluate/", "valid/")
"""Figures of evaluations; those of training are of single batches."""


def runs_of(config: TrainConfig) -> list[TrainConfig]:
    """The configuration of each seed, in folders `seed-<n>` of the run's.

    Raises:
        ConfigError: a seed is given twice.
    """
    seeds = config.seeds
    require(len(set(seeds)) == len(seeds), "seeds", " ".join(map(str, seeds)), "give each seed once")
    return [replace(config, run=config.run / f"seed-{seed}", seed=seed, seeds=()) for seed in seeds]


def train_seeds(config: TrainConfig, train_one: Callable[[TrainConfig], LoopResult]) -> dict[str, Any]:
    """Train the seeds one after the other, and write `seeds.json` into the run's folder.

    Each is a run of its own: taken up where it stood, and passed over where it is finished. One after the
    other, because a second process on the same cores takes from the first what it gains.

    Returns:
        The summary: `figures` has, of the last evaluation, `mean`, `interval` and the `values` of the seeds.

    Raises:
        What `train_one` raises, such as TrainingInterrupted; seeds that are finished are kept.
    """
    results = {one.seed: train_one(one) for one in runs_of(config)}
    summary = summarise({seed: result.metrics for seed, result in results.items()})
    summary |= {"steps": config.loop.steps, "runs": [str(one.run) for one in runs_of(config)]}
    _write(config.run / SUMMARY_FILE, summary)
    return summary


def summarise(metrics: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """Mean and Student's t interval over seeds of every figure of an evaluation that all of them have.

    Args:
        metrics: seed to the newest value of each figure.

    Returns:
        `seeds`, `confidence` and `figures`; the interval of a single seed is None.
    """
    names = set.intersection(*(set(values) for values in metrics.values()))
    figures = {}
    for name in sorted(name for name in names if name.startswith(SUMMED_UP)):
        values = [values[name] for values in metrics.values()]
        figures[name] = {"mean": float(np.mean(values)), "interval": _interval(values), "values": values}
    return {"schema": SCHEMA, "seeds": list(metrics), "confidence": CONFIDENCE, "figures": figures}


def _interval(values: Sequence[float]) -> list[float] | None:
    if len(values) < 2:
        return None
    from scipy import stats  # a second of importing, which a single run need not wait for

    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1)
    reach /= math.sqrt(len(values))
    return [float(np.mean(values) - reach), float(np.mean(values) + reach)]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
