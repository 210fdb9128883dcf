"""robomimic HDF5 files to episodes and back.

A robomimic file holds aligned frames without stamps. An import gives frame k the stamp 1 s + k periods of the
contract's rate, on the clock of a simulation in lock-step, so that alignment gives back the same frames and
actions. A file that `armchair prepare` wrote comes back with its sources, its truth and its labels; the
rewards of any other file become labels of the labeller `robomimic`.

An export is what `armchair prepare` writes, read back and held against what robomimic reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.aligned import TRUTH
from episodes.bags.demos import DemoFrames, demos, stream_keys
from episodes.contract import Source
from episodes.dataset import Dataset
from episodes.errors import DatasetError, EpisodeError
from episodes.labels import write_labels
from episodes.layout import DAMAGE, OUTCOMES
from episodes.prepare import Prepared, prepare
from episodes.writer import HORIZON, TERMINATED, EpisodeWriter, ExtraStream

LABELLER = "robomimic"
"""Labeller under whose name the rewards of a foreign file are kept."""

_START_NS = 1_000_000_000
_TRUTH = ExtraStream(TRUTH, (2,), "float64", ("reward", "success"))


@dataclass(frozen=True)
class RobomimicOptions:
    """How a robomimic file is imported."""

    keys: tuple[tuple[str, str], ...] = ()
    """(stream of the contract, key under obs), where they differ; with '+' several keys side by side."""
    filter_key: str | None = None
    """Take only the demos of this mask."""
    task: str = ""
    """What the robot was to do; the file's own when left out."""
    image_storage: Literal["lzf", "raw", "jpeg"] = "lzf"
    """How pictures are stored."""


@dataclass(frozen=True)
class ImportedDemos:
    """What came of a robomimic file."""

    episodes: tuple[Path, ...]
    already: tuple[str, ...]
    """Ids of episodes that were there already and were left as they are."""
    missing: tuple[str, ...]
    """One sentence for everything that the file does not hold."""


def import_robomimic(
    path: Path | str,
    dataset: Dataset,
    options: RobomimicOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportedDemos:
    """Add the demos of a robomimic file to a dataset, one episode each, called after the file and the demo.

    Args:
        path: the file.
        dataset: where the episodes go; its contract says which streams count.
        options: how.
        progress: called with (done, total) after each demo.

    Raises:
        DatasetError: it is no robomimic file, or its shapes do not fit the contract.
        EpisodeError: an episode cannot be written; it is removed, finished ones stay.
    """
    path, options = Path(path), options or RobomimicOptions()
    episodes: list[Path] = []
    already: list[str] = []
    missing: list[str] = []
    try:
        with h5py.File(path, "r", locking=False) as file:
            names = demos(file, options.filter_key)
            keys = stream_keys(file["data"][names[0]], dataset.contract, dict(options.keys), path, missing)
            for number, name in enumerate(names):
                episode_id = f"{path.name.split('.')[0]}-{name}"
                demo = file["data"][name]
                if episode_id in dataset.ids():
                    already.append(episode_id)
                else:
                    frames = DemoFrames(path, demo, dataset.contract, keys)
                    episodes.append(_write(dataset, episode_id, frames, options))
                    _write_labels(dataset, episode_id, demo, len(frames), path)
                if progress is not None:
                    progress(number + 1, len(names))
    except (DatasetError, EpisodeError):
        raise
    except DAMAGE as error:
        raise DatasetError(
            f"{path}: cannot be read as a robomimic file ({' '.join(str(error).split())}). It has "
            "data/demo_0/obs/…, data/demo_0/actions and so on; copy it again from its source if it had them."
        ) from error
    return ImportedDemos(tuple(episodes), tuple(already), tuple(dict.fromkeys(missing)))


def _write(dataset: Dataset, episode_id: str, frames: DemoFrames, options: RobomimicOptions) -> Path:
    contract, attrs = dataset.contract, frames.demo.attrs
    truth = _truth(frames)
    sources = frames.column("sources")
    stamps = _START_NS + contract.period_ns * np.arange(len(frames) + 1)
    writer = EpisodeWriter(
        dataset.path,
        contract,
        clock="sim",
        started_ns=_START_NS,
        task=options.task or str(attrs.get("task", "")),
        episode_id=episode_id,
        image_storage=options.image_storage,
        extra_streams=() if truth is None else (_TRUTH,),
    )
    try:
        values = {name: frames.read(name) for name in frames.keys}
        for k, stamp_ns in enumerate(stamps.tolist()):
            for name, rows in values.items():
                writer.append(name, rows[k], stamp_ns, stamp_ns)
            if truth is not None and k:
                writer.append(TRUTH, truth[k - 1], stamp_ns, stamp_ns)
            if k < len(frames):
                source = Source.TELEOP if sources is None else Source(int(sources[k]))
                writer.append_command(frames.actions[k], stamp_ns, stamp_ns, stamp_ns, source)
        outcome = str(attrs.get("outcome", "unknown"))
        if outcome not in OUTCOMES:
            outcome = "unknown"
        by = "none" if outcome == "unknown" else "sim" if truth is not None else "operator"
        ended = frames.column("terminated")
        reason = TERMINATED if ended is not None and bool(ended[-1]) else HORIZON
        return writer.finish(outcome, by, reason)  # type: ignore[arg-type]
    except BaseException:
        with suppress(EpisodeError):
            writer.discard()
        writer.partial.unlink(missing_ok=True)
        raise


def _truth(frames: DemoFrames) -> NDArray[np.float64] | None:
    """Reward and success, (T, 2), where the file says both: it was made by `armchair prepare`."""
    reward, success = frames.column("labels/truth"), frames.column("success")
    return (
        None if reward is None or success is None else np.stack([reward, success], axis=1).astype(np.float64)
    )


def _write_labels(dataset: Dataset, episode_id: str, demo: Any, length: int, path: Path) -> None:
    """Labels of a file of ours under their own names, the rewards of another one as `robomimic`'s."""
    if "labels" in demo:
        for labeller in demo["labels"]:
            if str(labeller) == "truth":
                continue
            valid = demo.get(f"label_valid/{labeller}")
            mask = None if valid is None else np.asarray(valid[:length], dtype=np.bool_)
            write_labels(dataset, str(labeller), episode_id, demo[f"labels/{labeller}"][:length], mask)
        return
    if "rewards" not in demo:
        return
    rewards = np.asarray(demo["rewards"][:length], dtype=np.float32)
    write_labels(dataset, LABELLER, episode_id, rewards, np.isfinite(rewards), {"file": path.name})


@dataclass(frozen=True)
class Verified:
    """A robomimic file that was written and read back."""

    prepared: Prepared
    warnings: tuple[str, ...]
    """What robomimic can read but its algorithms will not like."""


def export_robomimic(
    dataset: Dataset,
    out: Path | str,
    streams: Sequence[str] = ("state",),
    reward: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Write a robomimic file, which is what `prepare` writes, and check that robomimic can read it.

    Raises:
        DatasetError: `prepare` refuses, or the file is not what robomimic reads.
    """
    prepared = prepare(dataset.path, out, streams, reward, progress)
    return Verified(prepared, verify_robomimic(prepared.path))


def verify_robomimic(path: Path | str) -> tuple[str, ...]:
    """Read a file the way robomimic's SequenceDataset and file_utils do; what its algorithms will not like.

    Raises:
        DatasetError: something that robomimic reads is missing or does not fit.
    """
    path, warnings = Path(path), []
    try:
        with h5py.File(path, "r", swmr=True, libver="latest") as file:
            env = json.loads(file["data"].attrs["env_args"])
            if not {"env_name", "type", "env_kwargs"} <= env.keys():
                raise ValueError(f"env_args holds {sorted(env)}")
            names = demos(file, None)
            lengths = {demo: _check_demo(file["data"][demo]) for demo in names}
            if sum(lengths.values()) != int(file["data"].attrs["total"]):
                raise ValueError("total is not the sum of num_samples")
            for mask in file.get("mask", ()):
                strange = {name.decode("utf-8") for name in file[f"mask/{mask}"][:]} - set(names)
                if strange:
                    raise ValueError(f"mask {mask!r} names {sorted(strange)}")
            if any("rewards" not in file["data"][demo] for demo in names):
                warnings.append(
                    "there are no rewards: robomimic puts zeros, which only imitation can do with"
                )
            largest = max(float(np.abs(file["data"][demo]["actions"][:]).max()) for demo in names)
            if largest > 1.0:
                warnings.append(
                    f"actions reach {largest:g}: robomimic's policies give them from -1 to 1, so scale them"
                )
    except DatasetError:
        raise
    except DAMAGE as error:
        raise DatasetError(
            f"{path}: robomimic cannot read this file ({' '.join(str(error).split())}). Prepare it anew."
        ) from error
    return tuple(warnings)


def _check_demo(demo: Any) -> int:
    length = int(demo.attrs["num_samples"])
    columns = {"actions": demo["actions"], "dones": demo["dones"]}
    columns |= {f"{group}/{key}": demo[group][key] for group in ("obs", "next_obs") for key in demo[group]}
    for name, column in columns.items():
        if column.shape[:1] != (length,):
            raise ValueError(f"{demo.name}/{name} is {column.shape}, not {length} long")
    if set(demo["obs"]) != set(demo["next_obs"]):
        raise ValueError(f"{demo.name}: obs and next_obs hold different keys")
    return length
