"""Recordings of a real robot, sound ones and such with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.checks.findings import Finding, Level
from episodes.checks.run import Report, check
from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.writer import EpisodeWriter, ExtraStream

CONTRACT = """
robot: arm2
rate_hz: 20
reference: front
observations:
  front: {topic: camera/front/image_raw, type: sensor_msgs/msg/Image, shape: [12, 16, 3], align: nearest,
          max_age_ms: 120}
  depth: {topic: camera/depth/image_raw, type: sensor_msgs/msg/Image, shape: [6, 8, 1], dtype: uint16,
          align: nearest, max_age_ms: 200}
  joints: {topic: joint_states, type: sensor_msgs/msg/JointState, field: position, names: [j0, j1, j2],
           align: linear, max_age_ms: 100, unit: rad}
  pose: {topic: pose, type: std_msgs/msg/Float64MultiArray, names: [x, y], align: linear, max_age_ms: 100}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: std_msgs/msg/Float64MultiArray, names: [j0, j1],
        lower: [-1.5, -1.5], upper: [1.5, 1.5], max_velocity: [2.0, 2.0], measured_by: joints, unit: rad}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [grip],
            lower: [0.0], upper: [1.0]}
"""
EXTRA = ExtraStream("temperature", (1,), "float64", ("motor",))
STARTED_NS = 1_700_000_000_000_000_000
DELAY_NS = 3_000_000
LAG_NS = 100_000_000
"""How long after the commands the arm answers."""


def path_of(times_ns: np.ndarray, seed: int) -> np.ndarray:
    """Where both joints are asked to be, (N, 2): a smooth way that never repeats."""
    t = (times_ns - STARTED_NS) / 1e9 + 10.0 * seed
    return np.stack([np.sin(1.1 * t) + 0.2 * np.sin(2.7 * t), 0.8 * np.cos(0.9 * t)], axis=1)


@dataclass
class Take:
    """Everything that is recorded of one episode, as arrays that a test may spoil before it is written."""

    contract: Contract
    stamps: dict[str, np.ndarray]
    """Source stamps per stream, and of "commands"."""
    values: dict[str, np.ndarray]
    delays: dict[str, int] = field(default_factory=dict)
    """ns from source stamp to receipt; DELAY_NS where not given."""
    dropped: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    ending: tuple[str, str, str] | None = ("success", "operator", "operator")
    """None to fail inside the writer."""

    @classmethod
    def sound(cls, contract: Contract, seconds: float = 8.0, seed: int = 0) -> Take:
        rng = np.random.default_rng(seed)
        stamps = {
            name: STARTED_NS + np.arange(round(seconds * rate), dtype=np.int64) * round(1e9 / rate)
            for name, rate in (("front", 20), ("depth", 10), ("joints", 50), ("pose", 50), ("commands", 20))
        }
        stamps["temperature"] = STARTED_NS + np.arange(round(seconds), dtype=np.int64) * 10**9
        joints = path_of(stamps["joints"] - LAG_NS, seed)
        asked = path_of(stamps["commands"], seed)
        values = {
            "front": rng.integers(30, 200, (len(stamps["front"]), 12, 16, 3), dtype=np.uint8),
            "depth": rng.integers(300, 900, (len(stamps["depth"]), 6, 8, 1), dtype=np.uint16),
            "joints": np.concatenate([joints, np.full((len(joints), 1), 0.3)], axis=1),
            "pose": np.cumsum(rng.normal(0, 1e-3, (len(joints), 2)), axis=0),
            "temperature": np.full((len(stamps["temperature"]), 1), 40.0),
            "commands": np.concatenate([asked, rng.integers(0, 2, (len(asked), 1))], axis=1),
        }
        return cls(contract, stamps, values)

    def keep(self, name: str, rows: Any) -> None:
        """Keep only some samples of a stream."""
        self.stamps[name], self.values[name] = self.stamps[name][rows], self.values[name][rows]

    def between(self, name: str, start_s: float, end_s: float) -> np.ndarray:
        """Which samples of a stream lie between two moments."""
        seconds = (self.stamps[name] - STARTED_NS) / 1e9
        return np.asarray((seconds >= start_s) & (seconds < end_s))

    def write(self, folder: Path, episode_id: str = "a") -> Path:
        base: dict[str, Any] = {
            "clock": "ros",
            "started_ns": STARTED_NS,
            "task": "reach the cube",
            "image_storage": "raw",
            "extra_streams": (EXTRA,),
            "flush_period_s": 60.0,
        }
        samples = []
        for name, stamps in self.stamps.items():
            delay = self.delays.get(name, DELAY_NS)
            # Arrival in the order of the arrays, whatever the stamps.
            samples += [(int(t) + delay, n, name, int(t)) for n, t in enumerate(stamps)]
        if "arrival" not in self.settings:
            samples.sort(key=lambda sample: (sample[0], sample[2], sample[1]))
        settings = {key: value for key, value in self.settings.items() if key != "arrival"}
        try:
            with EpisodeWriter(folder, self.contract, episode_id=episode_id, **(base | settings)) as writer:
                for recv, n, name, stamp in samples:
                    value = self.values[name][n]
                    if name == "commands":
                        writer.append_command(value, stamp, recv, 0, Source.TELEOP)
                    else:
                        writer.append(name, value, stamp, recv)
                writer.event("start", 1, STARTED_NS)
                for name, count in self.dropped.items():
                    writer.count_drop(name, count)
                if self.ending is None:
                    raise RuntimeError("the arm fell off")
                writer.finish(*self.ending)  # type: ignore[arg-type]
        except RuntimeError:
            assert self.ending is None
        return writer.path


@pytest.fixture(scope="session")
def arm() -> Contract:
    return parse_contract(CONTRACT, "arm2.yaml")


@pytest.fixture
def sound(arm: Contract) -> Callable[..., Take]:
    """A recording with nothing wrong: sound(seconds, seed)."""

    def make(seconds: float = 8.0, seed: int = 0) -> Take:
        return Take.sound(arm, seconds, seed)

    return make


@pytest.fixture
def folder(tmp_path: Path, arm: Contract) -> Path:
    """An empty dataset."""
    Dataset.create(tmp_path / "data", arm)
    return tmp_path / "data"


def worst(report: Report, name: str, stream: str | None = None) -> Finding:
    """The worst finding of a check, of one stream where it is given."""
    found = [f for f in report.findings if f.check == name and stream in (None, f.stream)]
    assert found, f"no finding of {name} {stream}: {sorted({(f.check, f.stream) for f in report.findings})}"
    return max(found, key=lambda f: f.level)


@pytest.fixture
def judged(folder: Path) -> Callable[..., Report]:
    """Write a recording into the dataset and check it."""

    def make(take: Take, **settings: Any) -> Report:
        take.write(folder)
        return check([folder], **settings)

    return make


@pytest.fixture
def worst_of() -> Callable[..., Finding]:
    return worst


@pytest.fixture
def not_passed() -> Callable[[Report], set[tuple[str, str, str]]]:
    """(check, stream, level) of everything that did not pass."""

    def make(report: Report) -> set[tuple[str, str, str]]:
        return {(f.check, f.stream, f.level.name) for f in report.findings if f.level is not Level.PASS}

    return make
