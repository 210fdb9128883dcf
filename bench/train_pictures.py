"""What pictures cost a gradient step: how long it waits for its batch from the prepared file.

A training run as the verb `train` makes it, IQL with the small picture encoder, on textured pictures that no
cache of ours holds.
"""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import torch

from bench.dataset import CONTRACT, record
from episodes.contract import parse_contract
from episodes.errors import DatasetError
from episodes.prepare import prepare
from policy.algorithms.iql import IQLConfig
from policy.data import DataConfig
from policy.encoders import EncoderConfig
from policy.metrics import METRICS_FILE, read_metrics
from policy.pictures import PictureSampler
from policy.run import TrainConfig
from policy.train import load_run_data, train
from policy.training import LoopConfig

EPISODES, STEPS = 8, 100
WARM_UP = 2
"""Steps that are left out: the first one has nothing fetched ahead."""


def picture_figures(folder: Path, side: int, rows: int, steps: int) -> dict[str, float]:
    """Steps per second, the share of a step that waits for its batch, and what fetching takes on its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    contract = parse_contract(CONTRACT.replace("84, 84", f"{side}, {side}"), "bench_arm")
    dataset = record(folder / "raw", contract, EPISODES, STEPS, "raw", side)
    file = prepare(dataset.path, folder / "prepared.h5", ("front", "state")).path
    config = TrainConfig(
        run=folder / "run",
        data=DataConfig(files=(file,), streams=("state", "front"), reward="random"),
        loop=LoopConfig(steps=WARM_UP + steps, log_every=1, tensorboard=False),
        batch_size=rows,
        num_threads=torch.get_num_threads(),
        encoder=EncoderConfig(kind="small"),
        algo=IQLConfig(),
    )
    train(config)
    rows_logged = read_metrics(config.run / METRICS_FILE)
    logged = [row for row in rows_logged if "speed/steps_per_s" in row][WARM_UP:]
    fetching = _fetching_s(config)
    shutil.rmtree(folder)
    return {
        "picture_steps_per_s": statistics.median(row["speed/steps_per_s"] for row in logged),
        "picture_idle_share": statistics.median(row["speed/waiting_share"] for row in logged),
        "picture_fetch_s": fetching,
    }


def _fetching_s(config: TrainConfig) -> float:
    """Seconds that one batch takes to be read and augmented, with nothing beside it."""
    data = load_run_data(config)
    if data.pictures is None:
        raise DatasetError("the bench's own data has no pictures.")
    sampler = PictureSampler(data.train, config.batch_size, 0, data.pictures, config.encoder)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        sampler.sample()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
