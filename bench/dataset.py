"""Bench `dataset`: random windows of two pictures with actions per second, beside robomimic, and bag imports.

All readers read the same pictures in the same run and take turns, so that other work on the machine moves
them alike; what counts is the median of the ratios of neighbours. robomimic reads our prepared file through
its own SequenceDataset and a torch DataLoader, in an environment of its own. Ours hands over torch tensors
too. Nothing is loaded first: the file's pages are in the operating system's cache for both sides.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.importing import import_figures
from bench.machine import machine
from bench.peers.environment import ROBOMIMIC, peer_environment_variables, peer_python
from bench.pictures import textured
from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.errors import MachineError
from episodes.prepare import prepare
from episodes.windows import WindowReader

DISK_FACTOR = 5.0
"""At least so many times robomimic's disk modes."""
CACHED_FACTOR = 1.0
"""At least as many as its fully cached mode."""
PYTHON_SHARE = 0.5
"""At most so much of an import's time is Python's; the rest is reading, coding and writing."""

FRAMES = 2
CONTRACT = """
robot: bench_arm
rate_hz: 20
reference: state
observations:
  front: {topic: front, type: sensor_msgs/msg/Image, shape: [84, 84, 3], max_age_ms: 100}
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [a, b, c, d, e, f, g],
          max_age_ms: 100}
actions:
  arm: {kind: cartesian_delta, topic: d, type: std_msgs/msg/Float64MultiArray, names: [x, y, z, grip],
        lower: [-1, -1, -1, -1], upper: [1, 1, 1, 1]}
"""


@dataclass(frozen=True)
class DatasetBenchConfig:
    """Measure reading of random windows beside robomimic, and imports of bags."""

    folder: Path = Path("runs/bench/dataset")
    """Where the measured data goes; made anew each time."""
    peers: Path = Path("runs/peers")
    """Where environments of peers are kept."""
    episodes: int = 30
    """Episodes to read from."""
    steps: int = 150
    """Transitions per episode."""
    batch: int = 64
    """Windows per batch."""
    rounds: int = 7
    """How often the readers take turns."""
    seconds: float = 1.0
    """How long each reads per turn."""
    images: int = 150
    """Pictures of each bag that is imported; 0 leaves the imports out."""


def main(config: DatasetBenchConfig) -> int:
    """Measure, and print one JSON object last."""
    shutil.rmtree(config.folder, ignore_errors=True)
    config.folder.mkdir(parents=True)
    contract = parse_contract(CONTRACT, "bench_arm")
    print(f"recording {config.episodes} episodes of {config.steps} steps", flush=True)
    raw = record(config.folder / "raw", contract, config.episodes, config.steps, "raw")
    packed = {
        storage: record(
            config.folder / storage, contract, max(2, config.episodes // 6), config.steps, storage
        )
        for storage in ("lzf", "jpeg")
    }
    file = prepare(raw.path, config.folder / "prepared.h5", ("front", "state")).path
    figures = reading_figures(config, file, raw, packed)
    bounds: dict[str, dict[str, float]] = {
        "prepared_over_robomimic_none": {"at_least": DISK_FACTOR},
        "prepared_over_robomimic_low_dim": {"at_least": DISK_FACTOR},
        "prepared_over_robomimic_all": {"at_least": CACHED_FACTOR},
        "raw_episodes_over_robomimic_none": {"at_least": DISK_FACTOR},
        "raw_episodes_over_robomimic_low_dim": {"at_least": DISK_FACTOR},
        "raw_episodes_over_robomimic_all": {"at_least": CACHED_FACTOR},
    }
    if config.images:
        imported = import_figures(config.folder / "bags", config.images)
        figures |= imported
        bounds |= {key: {"at_most": PYTHON_SHARE} for key in imported if key.endswith("_python_share")}
    report = {
        "bench": "dataset",
        "figures": {key: round(value, 3) for key, value in figures.items()},
        "bounds": bounds,
        "holds": all(_within(figures[key], bound) for key, bound in bounds.items()),
        "machine": machine() | {"robomimic": "0.3.0"},
    }
    shutil.rmtree(config.folder, ignore_errors=True)
    print(json.dumps(report))
    return 0


def _within(value: float, bound: dict[str, float]) -> bool:
    return value >= bound.get("at_least", -np.inf) and value <= bound.get("at_most", np.inf)


def record(
    folder: Path, contract: Contract, episodes: int, steps: int, storage: str, side: int = 84
) -> Dataset:
    """A dataset of textured, noisy pictures as a lock-step simulation records it."""
    dataset = Dataset.create(folder, contract)
    rng = np.random.default_rng(0)
    for number in range(episodes):
        pictures = textured(rng, steps + 1, side, side)
        with dataset.new_writer(
            clock="sim", started_ns=10**9, episode_id=f"e{number:03d}", image_storage=storage
        ) as writer:
            for k in range(steps + 1):
                t = 10**9 + k * contract.period_ns
                writer.append("front", pictures[k], t, t)
                writer.append("state", rng.normal(size=7), t, t)
                if k < steps:
                    writer.append_command(rng.uniform(-1, 1, 4), t, t, t, Source.SCRIPT)
            writer.finish()
    return dataset


def reading_figures(
    config: DatasetBenchConfig, file: Path, raw: Dataset, packed: dict[str, Dataset]
) -> dict[str, float]:
    """Windows per second of every reader, and ratios to robomimic's."""
    python = peer_python(config.peers / "robomimic", ROBOMIMIC)
    ours = {
        "prepared": WindowReader.open_prepared(file, ("front",), frames=FRAMES),
        "raw_episodes": WindowReader.open_episodes(raw, ("front",), frames=FRAMES),
    }
    ours |= {
        f"{storage}_episodes": WindowReader.open_episodes(dataset, ("front",), frames=FRAMES)
        for storage, dataset in packed.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in ours}
    ratios: dict[str, list[float]] = {}
    with robomimic_reader(python, file, config) as theirs:
        for turn in range(config.rounds + 1):
            print(f"round {turn} of {config.rounds}" + ("" if turn else ", to warm up"), flush=True)
            for mode in ("none", "low_dim", "all"):
                rate = theirs(mode)
                measured = {name: _rate(ours[name], config) for name in ("prepared", "raw_episodes")}
                if not turn:
                    continue
                rates.setdefault(f"robomimic_{mode}", []).append(rate)
                for name, own in measured.items():
                    rates[name].append(own)
                    ratios.setdefault(f"{name}_over_robomimic_{mode}", []).append(own / rate)
            for storage in packed:
                rates[f"{storage}_episodes"].append(_rate(ours[f"{storage}_episodes"], config))
    for reader in ours.values():
        reader.close()
    figures = {f"{name}_windows_per_s": statistics.median(values) for name, values in rates.items()}
    return figures | {name: statistics.median(values) for name, values in ratios.items()}


def _rate(reader: WindowReader, config: DatasetBenchConfig) -> float:
    rng = np.random.default_rng(1)
    windows, start = 0, time.perf_counter()
    while time.perf_counter() - start < config.seconds:
        batch = reader.sample(rng, config.batch)
        torch.from_numpy(batch.observations["front"])
        windows += len(torch.from_numpy(batch.actions))
    return windows / (time.perf_counter() - start)


@contextmanager
def robomimic_reader(
    python: Path, file: Path, config: DatasetBenchConfig
) -> Iterator[Callable[[str], float]]:
    """A process of robomimic's that reads for as long as it is asked to and gives windows per second."""
    script = Path(__file__).with_name("peers") / "robomimic_reading.py"
    process = subprocess.Popen(
        [str(python.absolute()), str(script), str(file.absolute()), "front", str(FRAMES), str(config.batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=peer_environment_variables(),
    )

    def read(mode: str) -> float:
        if process.stdin is None or process.stdout is None:
            raise MachineError("the pipes to robomimic's process are closed.")
        print(mode, config.seconds, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            raise MachineError(
                f"robomimic's process ended with {process.wait()}; run it by hand to see why: "
                f"echo '{mode} 1' | {' '.join(map(str, process.args))}"  # type: ignore[arg-type]
            )
        answer = json.loads(line)
        if answer["shape"] != [config.batch, FRAMES, 84, 84, 3]:
            raise MachineError(f"robomimic gave batches of shape {answer['shape']}.")
        return float(answer["windows_per_s"])

    try:
        yield read
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
