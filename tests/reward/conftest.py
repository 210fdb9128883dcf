"""A dataset whose pictures tell the reward: a bright square travels to the right, and right is good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.writer import ExtraStream
from reward.fitting import RewardConfig
from reward.frames import Frames, load_frames
from reward.networks import NetworkConfig
from reward.optimise import OptimiseConfig

CONTRACT = """
robot: slider
rate_hz: 20
reference: front
observations:
  front: {topic: camera/front/image_raw, type: sensor_msgs/msg/Image, shape: [40, 48, 3], align: nearest,
          max_age_ms: 100}
actions:
  slide: {kind: joint_position, topic: slide/commands, type: std_msgs/msg/Float64MultiArray, names: [x],
          lower: [-1.5], upper: [1.5], max_velocity: [1.0], unit: rad}
simulation: {environment: metaworld/drawer-open-v3, cameras: {front: front}}
"""
TWO = CONTRACT.replace(
    "actions:",
    """  wrist: {topic: camera/wrist/image_raw, type: sensor_msgs/msg/Image, shape: [20, 60, 3],
          align: nearest, max_age_ms: 100}
actions:""",
).replace("{front: front}", "{front: front, wrist: wrist}")
START_NS = 1_000_000_000
STEPS = 15
EPISODES = 8
SUCCESS_FROM = 24


def picture(position: int) -> np.ndarray:
    """A grey wall, a dark lamp that never changes, and the square with its left edge at `position`."""
    image = np.full((40, 48, 3), 120, np.uint8)
    image[2:5, 2:5] = 30
    image[16:24, 8 + position : 14 + position] = (250, 200, 40)
    return image


def positions(episode: int) -> np.ndarray:
    """(STEPS + 1,) where the square is; later episodes get further."""
    rng = np.random.default_rng(episode)
    return np.clip(np.cumsum(rng.integers(-1, 3 + episode % 2, STEPS + 1)), 0, 30)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads that wait for each other at every small convolution crawl on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return parse_contract(CONTRACT)


def record(dataset: Dataset, number: int, *, truth: bool = True) -> None:
    """Record one lock-step episode."""
    extra = (ExtraStream("truth", (2,), "float64", ("reward", "success")),) if truth else ()
    with dataset.new_writer(
        clock="sim", started_ns=START_NS, task="slide", episode_id=f"e{number}", extra_streams=extra
    ) as writer:
        for k, position in enumerate(positions(number).tolist()):
            at = START_NS + k * dataset.contract.period_ns
            writer.append("front", picture(position), at, at)
            if k and truth:
                writer.append("truth", [position / 3, float(position >= SUCCESS_FROM)], at, at)
            if k < STEPS:
                writer.append_command([0.0], at, at, at, Source.SCRIPT)
        writer.finish("unknown", "none", "horizon")


@pytest.fixture
def make_dataset(tmp_path: Path, contract: Contract) -> Callable[..., Dataset]:
    def make(name: str = "slides", *, episodes: int = EPISODES, truth: bool = True) -> Dataset:
        dataset = Dataset.create(tmp_path / name, contract)
        for number in range(episodes):
            record(dataset, number, truth=truth)
        return dataset

    return make


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset()


@pytest.fixture
def two_cameras(tmp_path: Path) -> Dataset:
    dataset = Dataset.create(tmp_path / "two", parse_contract(TWO))
    extra = (ExtraStream("truth", (2,), "float64", ("reward", "success")),)
    for number in range(2):
        with dataset.new_writer(
            clock="sim", started_ns=START_NS, task="slide", episode_id=f"e{number}", extra_streams=extra
        ) as writer:
            for k in range(8):
                at = START_NS + k * dataset.contract.period_ns
                writer.append("front", picture(k), at, at)
                writer.append("wrist", np.full((20, 60, 3), 10 * k, np.uint8), at, at)
                if k:
                    writer.append("truth", [float(k), 0.0], at, at)
                if k < 7:
                    writer.append_command([0.0], at, at, at, Source.SCRIPT)
            writer.finish("unknown", "none", "horizon")
    return dataset


@pytest.fixture
def frames(dataset: Dataset) -> Frames:
    return load_frames(dataset, "front")


@pytest.fixture
def small() -> RewardConfig:
    """A reward model that is fitted within a second."""
    return RewardConfig(
        network=NetworkConfig(kernels=(5, 3), channels=(8, 8), strides=(3, 2), members=2),
        optimise=OptimiseConfig(epochs=4, shift=1, batch_pairs=16),
        device="cpu",
    )
