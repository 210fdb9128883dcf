"""A tiny robot and prepared files of it, in the robomimic layout, that the tests of learning share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from policy.data import DataConfig
from policy.run import TrainConfig
from policy.training import LoopConfig

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

CONTRACT = """
robot: tiny
rate_hz: 20
reference: state
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [a, b, c], max_age_ms: 50}
  wrench: {topic: wrench, type: std_msgs/msg/Float64MultiArray, names: [fx, fy], max_age_ms: 50}
  front: {topic: camera/image, type: sensor_msgs/msg/Image, shape: [4, 5, 3], max_age_ms: 100}
actions:
  arm: {kind: cartesian_delta, topic: arm, type: std_msgs/msg/Float64MultiArray, names: [dx, dy],
        lower: [-0.1, -0.3], upper: [0.1, 0.7], on_timeout: stop}
simulation: {environment: tiny/home}
"""
LOWER, UPPER = np.array([-0.1, -0.3]), np.array([0.1, 0.7])

Episode = Mapping[str, Any]


@dataclass(frozen=True)
class Tiny:
    """What tests need of the tiny robot: its contract, episodes of it, and prepared files of episodes."""

    contract: str
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    episode: Callable[..., dict[str, NDArray[Any]]]
    with_pictures: Callable[..., dict[str, NDArray[Any]]]
    write: Callable[..., Path]


def random_episode(rng: np.random.Generator, steps: int = 12) -> dict[str, NDArray[Any]]:
    """One episode by a policy that depends on the state, keyed by dataset path."""
    frames = rng.normal(size=(steps + 1, 3))
    frames[:, 2] = 0.25
    wrench = rng.normal(scale=5.0, size=(steps + 1, 2))
    actions = np.tanh(frames[:-1, :2]) * (UPPER - LOWER) / 2 + (UPPER + LOWER) / 2
    ended = np.zeros(steps, np.bool_)
    ended[-1] = True
    return {
        "obs/state": frames[:-1].copy(),
        "next_obs/state": frames[1:].copy(),
        "obs/wrench": wrench[:-1].copy(),
        "next_obs/wrench": wrench[1:].copy(),
        "actions": actions,
        "rewards": frames[1:, 0].copy(),
        "labels/truth": frames[1:, 0].copy(),
        "terminated": np.zeros(steps, np.bool_),
        "truncated": ended,
        "dones": ended.astype(np.int64),
    }


def with_pictures(rng: np.random.Generator, episode: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The episode with pictures of the stream `front`."""
    frames = rng.integers(0, 256, (len(episode["actions"]) + 1, 4, 5, 3), np.uint8)
    return episode | {"obs/front": frames[:-1], "next_obs/front": frames[1:]}


def write_prepared(
    path: Path,
    episodes: list[Episode],
    *,
    masks: Mapping[str, list[int]] | None = None,
    contract: str | None = CONTRACT,
) -> Path:
    """Write `episodes` as a prepared file; an array that is None is left out."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if contract is not None:
            data.attrs["contract"] = contract
        for number, episode in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            for name, values in episode.items():
                if values is not None:
                    demo[name] = values
            # Every other episode is a success, and a single one is: those are the experts.
            demo.attrs["outcome"] = "failure" if number % 2 and len(episodes) > 2 else "success"
        for name, numbers in (masks or {}).items():
            file[f"mask/{name}"] = np.array([f"demo_{n}" for n in numbers], dtype="S16")
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of these sizes run faster on one thread, and other tests may hold the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    return Tiny(CONTRACT, LOWER, UPPER, random_episode, with_pictures, write_prepared)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten episodes, eight of them to train on."""
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng) for _ in range(10)]
    path = tmp_path_factory.mktemp("prepared") / "prepared.h5"
    return write_prepared(path, episodes, masks={"train": list(range(8)), "valid": [8, 9]})


@pytest.fixture(scope="session")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five episodes with pictures, four of them to train on."""
    rng = np.random.default_rng(1)
    episodes = [with_pictures(rng, random_episode(rng)) for _ in range(5)]
    path = tmp_path_factory.mktemp("pictured") / "pictured.h5"
    return write_prepared(path, episodes, masks={"train": list(range(4)), "valid": [4]})


@pytest.fixture
def make_config(prepared: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """A run of a few steps of a tiny network; keywords go to TrainConfig, `data` and `loop` to theirs."""

    def make(
        run: str = "run", data: dict[str, Any] | None = None, loop: dict[str, Any] | None = None, **rest: Any
    ) -> TrainConfig:
        settings: dict[str, Any] = {
            "steps": 30,
            "log_every": 10,
            "evaluate_every": 10,
            "checkpoint_every": 10,
        }
        return TrainConfig(
            run=tmp_path / run,
            data=DataConfig(**({"files": (prepared,)} | (data or {}))),
            loop=LoopConfig(**(settings | {"tensorboard": False} | (loop or {}))),
            **({"batch_size": 16, "num_threads": 1} | rest),
        )

    return make
