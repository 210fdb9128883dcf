"""A small robot, and recordings of it whose every sample follows from its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.writer import EpisodeWriter, ExtraStream

CONTRACT = """
robot: arm2
rate_hz: 20
reference: front
observations:
  front: {topic: camera/front/image_raw, type: sensor_msgs/msg/Image, shape: [6, 8, 3], align: nearest,
          max_age_ms: 100}
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, field: position, names: [j0, j1, j2],
          align: linear, max_age_ms: 50, unit: rad}
  pose: {topic: pose, type: std_msgs/msg/Float64MultiArray, names: [qx, qy, qz, qw], align: slerp,
         max_age_ms: 80}
  mode: {topic: mode, type: std_msgs/msg/Float64MultiArray, names: [mode], align: hold, max_age_ms: 60000}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: std_msgs/msg/Float64MultiArray, names: [j0, j1],
        lower: [-1.5, -1.5], upper: [1.5, 1.5], max_velocity: [1.0, 1.0], unit: rad}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [grip],
            lower: [0.0], upper: [1.0]}
simulation: {environment: none/arm2, cameras: {front: front}}
"""
TRUTH = ExtraStream("truth", (2,), "float64", ("reward", "success"))
START_NS = 1_000_000_000


@dataclass(frozen=True)
class Robot:
    """Samples as functions of their number."""

    contract: Contract

    def stamp_ns(self, k: int) -> int:
        return START_NS + k * self.contract.period_ns

    def front(self, k: int) -> np.ndarray:
        return np.random.default_rng(k).integers(0, 256, (6, 8, 3), dtype=np.uint8)

    def state(self, k: int) -> np.ndarray:
        return np.array([k, -k, k / 7], dtype=np.float64)

    def pose(self, k: int) -> np.ndarray:
        return np.array([0.0, 0.0, np.sin(k / 9), np.cos(k / 9)])

    def action(self, k: int) -> np.ndarray:
        return np.array([k / 1000, -k / 1000, k % 2], dtype=np.float64)

    def frame(self, writer: EpisodeWriter, k: int) -> None:
        """Record everything that is seen at step k of a lock-step simulation."""
        at = self.stamp_ns(k)
        writer.append("front", self.front(k), at, at)
        writer.append("state", self.state(k), at, at)
        writer.append("pose", self.pose(k), at, at)
        writer.append("mode", [1.0], at, at)
        if k:
            writer.append("truth", [k / 10, float(k > 5)], at, at)

    def command(self, writer: EpisodeWriter, k: int) -> None:
        at = self.stamp_ns(k)
        writer.append_command(self.action(k), at, at, at, Source.SCRIPT)

    def record(self, writer: EpisodeWriter, steps: int) -> None:
        """T+1 frames and T commands."""
        for k in range(steps):
            self.frame(writer, k)
            self.command(writer, k)
        self.frame(writer, steps)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return parse_contract(CONTRACT, "arm2.yaml")


@pytest.fixture(scope="session")
def contract_text() -> str:
    return CONTRACT


@pytest.fixture(scope="session")
def robot(contract: Contract) -> Robot:
    return Robot(contract)


@pytest.fixture
def new_writer(tmp_path: Path, contract: Contract) -> Callable[..., EpisodeWriter]:
    """A writer into tmp_path with the simulation's clock and truth."""

    def make(episode_id: str = "a", **settings: Any) -> EpisodeWriter:
        base: dict[str, Any] = {"clock": "sim", "started_ns": START_NS, "extra_streams": (TRUTH,)}
        return EpisodeWriter(tmp_path, contract, episode_id=episode_id, **(base | settings))

    return make


@pytest.fixture
def record(robot: Robot, new_writer: Callable[..., EpisodeWriter]) -> Callable[..., Path]:
    """Record a whole simulated episode and return its file."""

    def make(episode_id: str = "a", steps: int = 12, **settings: Any) -> Path:
        with new_writer(episode_id, **settings) as writer:
            robot.record(writer, steps)
            return writer.finish("success", "sim")

    return make


@pytest.fixture
def dataset(tmp_path: Path, contract: Contract, record: Callable[..., Path]) -> Dataset:
    """Three simulated episodes: e0, e1, e2."""
    made = Dataset.create(tmp_path, contract)
    for k in range(3):
        record(f"e{k}", steps=10 + k)
    return made
