"""How long bags take to import, and how much of it is Python.

Each case is imported twice: as it is, and with its pictures shrunk to 8×8 pixels. The second import handles
the same messages, one by one, and next to no bytes, so its time is that of Python; what the first one takes
on top is reading, coding (LZF, JPEG) and writing. The floor does these three alone, in C.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer

from bench.pictures import textured
from episodes.bags import building
from episodes.bags.importer import BagOptions, import_bag
from episodes.contract import Contract, parse_contract
from episodes.dataset import Dataset
from episodes.jpeg import JPEG_QUALITY, encode_jpeg

SIZES = {"full": (720, 1280), "small": (8, 8)}
RATE_HZ = 30
JOINTS_PER_IMAGE = 3
DIFFERENT_PICTURES = 30
CONTRACT = """
robot: bench_arm
rate_hz: 20
reference: front
observations:
  front: {{topic: {topic}, type: sensor_msgs/msg/{kind}, shape: [{height}, {width}, 3], max_age_ms: 100}}
  state: {{topic: joint_states, type: sensor_msgs/msg/JointState, names: [a, b, c, d, e, f, g],
          max_age_ms: 100}}
actions:
  arm: {{kind: joint_position, topic: c, type: std_msgs/msg/Float64MultiArray, names: [a], lower: [-9],
        upper: [9], max_velocity: [9], record_from: next_state, measured_by: state}}
"""


@dataclass(frozen=True)
class Case:
    """One way through an import."""

    storage: Literal["mcap", "sqlite3"]
    kind: Literal["Image", "CompressedImage"]
    coding: Literal["raw", "lzf", "jpeg"]

    @property
    def topic(self) -> str:
        return "front" if self.kind == "Image" else "front/compressed"

    def contract(self, size: tuple[int, int]) -> Contract:
        """The robot with pictures of `size`."""
        text = CONTRACT.format(topic=self.topic, kind=self.kind, height=size[0], width=size[1])
        return parse_contract(text, "bench_arm")


CASES = {
    "mcap_raw_to_raw": Case("mcap", "Image", "raw"),
    "mcap_raw_to_lzf": Case("mcap", "Image", "lzf"),
    "mcap_raw_to_jpeg": Case("mcap", "Image", "jpeg"),
    "sqlite_raw_to_raw": Case("sqlite3", "Image", "raw"),
    "mcap_jpeg_passed_through": Case("mcap", "CompressedImage", "jpeg"),
}


def import_figures(folder: Path, images: int, rounds: int = 3) -> dict[str, float]:
    """Seconds per 1,000 pictures of 1280×720 for each case and for its floor, and Python's share.

    Each bag carries three JointStates per picture besides. The best of `rounds` counts; `…_python_share` is
    the time of the import with 8×8 pictures over that with full ones.
    """
    figures: dict[str, float] = {}
    rng, different = np.random.default_rng(0), min(images, DIFFERENT_PICTURES)
    pictures = {label: textured(rng, different, *size) for label, size in SIZES.items()}
    for name, case in CASES.items():
        print(f"importing: {name}", flush=True)
        took: dict[str, list[float]] = {"full": [], "small": [], "floor": []}
        bags = {
            label: write_bag(folder / f"{name}_{label}", case, pictures[label], images) for label in SIZES
        }
        for number in range(rounds):
            for label, size in SIZES.items():
                target = folder / f"dataset_{label}_{number}"
                dataset = Dataset.create(target, case.contract(size))
                start = time.perf_counter()
                import_bag(bags[label], dataset, BagOptions(image_storage=case.coding))
                took[label].append(time.perf_counter() - start)
                shutil.rmtree(target)
            start = time.perf_counter()
            run_floor(folder / "floor", bags["full"], case, pictures["full"], images)
            took["floor"].append(time.perf_counter() - start)
        for bag in bags.values():
            shutil.rmtree(bag)
        figures[f"{name}_s_per_1000_images"] = min(took["full"]) / images * 1000
        figures[f"{name}_floor_s_per_1000_images"] = min(took["floor"]) / images * 1000
        figures[f"{name}_python_share"] = min(took["small"]) / min(took["full"])
    return figures


def write_bag(path: Path, case: Case, pictures: NDArray[np.uint8], images: int) -> Path:
    """A bag of `images` pictures at 30 Hz and joint states at 90 Hz."""
    plugin = StoragePlugin.MCAP if case.storage == "mcap" else StoragePlugin.SQLITE3
    path.parent.mkdir(parents=True, exist_ok=True)
    names = tuple("abcdefg")
    packed = [encode_jpeg(picture) for picture in pictures] if case.kind == "CompressedImage" else []
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}

        def write(topic: str, stamp_ns: int, message: Any) -> None:
            if topic not in connections:
                kind = message.__msgtype__
                connections[topic] = writer.add_connection(topic, kind, typestore=building.TYPES)
            writer.write(connections[topic], stamp_ns + 2_000_000, building.serialise(message))

        for k in range(images):
            stamp_ns = 1_700_000_000_000_000_000 + k * 1_000_000_000 // RATE_HZ
            if packed:
                message = building.compressed(packed[k % len(packed)], "jpeg", stamp_ns)
            else:
                message = building.image(pictures[k % len(pictures)], stamp_ns)
            write(f"/{case.topic}", stamp_ns, message)
            for j in range(JOINTS_PER_IMAGE):
                at_ns = stamp_ns + j * 1_000_000_000 // RATE_HZ // JOINTS_PER_IMAGE
                joints = {"position": (names, np.full(7, 0.1))}
                write("/joint_states", at_ns, building.joint_state(joints, at_ns))
    return path


def run_floor(path: Path, bag: Path, case: Case, pictures: NDArray[np.uint8], images: int) -> None:
    """Read the bag's bytes, code the pictures, write them, sync; nothing else."""
    for file in bag.iterdir():
        with file.open("rb") as stored:
            while stored.read(1 << 20):
                pass
    if case.coding == "lzf":
        shape = (images, *pictures.shape[1:])
        with h5py.File(path, "w") as out:
            data = out.create_dataset("data", shape, "u1", chunks=(1, *shape[1:]), compression="lzf")
            for k in range(images):
                data[k] = pictures[k % len(pictures)]
    else:
        with path.open("wb") as out:
            for part in _coded(case, pictures, images):
                out.write(part)
    with path.open("rb") as written:
        os.fsync(written.fileno())
    path.unlink()


def _coded(case: Case, pictures: NDArray[np.uint8], images: int) -> Iterator[memoryview]:
    whole = encode_jpeg(pictures[0]).data if case.kind == "CompressedImage" else None
    for k in range(images):
        picture = pictures[k % len(pictures)]
        if whole is not None:
            yield whole
        elif case.coding == "jpeg":
            ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            yield cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].data
        else:
            yield picture.data
