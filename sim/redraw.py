"""A data set once more with pictures that were not recorded: another camera, another resolution.

The new data set has the same episodes under the same ids, every stream of theirs as it was, and one picture
stream more, in the episodes and in the contract; so `armchair label` and all that follows take it as it is.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import INDEX, Dataset, write_json
from episodes.edit_log import EDITS
from episodes.errors import ConfigError, EpisodeError, did_you_mean
from episodes.layout import PARTIAL, ExtraStream
from episodes.reader import Episode
from episodes.writer import EpisodeWriter
from sim.env import Split
from sim.gl import RendererName
from sim.render import Quality
from sim.replay import Replay, origin_of
from sim.stock import unlocked
from sim.workers import Work, run_jobs


@dataclass(frozen=True)
class Redraw:
    """What is drawn, and how."""

    source: Path
    """Data set that is read."""
    into: Path
    """Data set that is written."""
    camera: str
    """Camera of the environment."""
    size: tuple[int, int]
    """Height and width in pixels."""
    stream: str = ""
    """Name of the new stream; empty: camera_height."""
    split: Split | None = None
    """Goals, where the recordings do not say it."""
    renderer: RendererName = "auto"
    quality: Quality = "fast"
    image_storage: Literal["lzf", "raw", "jpeg"] = "lzf"

    @property
    def name(self) -> str:
        """Name of the new stream."""
        return self.stream or f"{self.camera}_{self.size[0]}"


def redraw(
    config: Redraw, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> tuple[int, int]:
    """Write every episode that is not there yet.

    Args:
        config: what to draw.
        workers: processes.
        progress: called with (done, total).

    Returns:
        How many episodes were drawn, and how many were there.

    Raises:
        ConfigError: the stream's name is taken, or both folders are one.
        EpisodeError: an episode cannot be simulated again; those before it are whole.
        DatasetError: a folder is no data set, or another process writes the episode.
    """
    source = Dataset.open(config.source)
    if config.into.resolve() == config.source.resolve():
        raise ConfigError(f"--into {config.into} is the data set that is read: write another folder.")
    contract = with_camera(source.contract, config.name, config.camera, config.size)
    target = Dataset.open_or_create(config.into, contract)
    _copy_sidecars(source, target)
    ids = source.ids()
    there = set(target.ids())
    jobs = [number for number, episode_id in enumerate(ids) if episode_id not in there]
    done = len(ids) - len(jobs)

    def tell(_: int, __: object) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(ids))

    if progress is not None:
        progress(done, len(ids))
    run_jobs(_Redrawing(config, tuple(ids)), jobs, workers, tell)
    return len(jobs), len(ids) - len(jobs)


def with_camera(contract: Contract, stream: str, camera: str, size: tuple[int, int]) -> Contract:
    """`contract` with one picture stream more, filled by `camera`. Comments of its text are not kept.

    Raises:
        ConfigError: the name is taken.
    """
    if stream in contract.observations or stream in contract.recorded:
        raise ConfigError(
            f"{contract.source} has a stream {stream!r} already: write another name with --stream."
        )
    document: dict[str, Any] = yaml.safe_load(contract.text)
    document["observations"][stream] = {
        "topic": f"camera/{stream}/image_raw",
        "type": "sensor_msgs/msg/Image",
        "shape": [*size, 3],
        "align": "nearest",
        "max_age_ms": max(100, round(2e-6 * contract.period_ns)),
    }
    simulation = document.setdefault("simulation", {})
    simulation.setdefault("cameras", {})[stream] = camera
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110)
    return parse_contract(text, f"{contract.source}, with {stream}")


@dataclass(frozen=True)
class _Redrawing:
    """What a worker opens: both data sets."""

    config: Redraw
    ids: tuple[str, ...]

    @contextmanager
    def open(self) -> Iterator[Work]:
        source, target = Dataset.open(self.config.source), Dataset.open(self.config.into)

        def work(number: int) -> None:
            with Episode.open(source.file(self.ids[number])) as recorded:
                _write(self.config, recorded, target)

        yield work


def _write(config: Redraw, recorded: Episode, target: Dataset) -> None:
    for partial in (target.path / "episodes").glob(f"*_{recorded.episode_id}{PARTIAL}"):
        with unlocked(partial):
            partial.unlink()
    replay = Replay(
        recorded,
        origin_of(recorded, split=config.split),
        renderer=config.renderer,
        quality=config.quality,
    )
    env = replay.world.env
    if config.camera not in env.spec.cameras:
        hint = did_you_mean(config.camera, env.spec.cameras)
        replay.close()
        raise ConfigError(f"--camera {config.camera}: {env.spec.name} has no such camera; {hint}")
    attrs = recorded.attrs
    observed = recorded.contract.observations
    writer = target.new_writer(
        clock=attrs["clock"],
        started_ns=int(attrs["started_ns"]),
        task=str(attrs["task"]),
        operator=str(attrs["operator"]),
        episode_id=recorded.episode_id,
        image_storage=config.image_storage,
        extra_streams=[_extra(recorded, name) for name in recorded.streams if name not in observed],
    )
    try:
        _copy(recorded, writer)
        for world in replay:
            now_ns = world.stamp_ns
            writer.append(config.name, env.render(config.camera, *config.size), now_ns, now_ns)
        drawn = {"stream": config.name, "camera": config.camera, "by": env.spec.source}
        writer.event("redraw", {**drawn, "renderer": env.renderer.name if env.renderer else ""}, now_ns)
        writer.finish(
            outcome=str(attrs["outcome"]),
            outcome_source=str(attrs["outcome_source"]),
            termination_reason=str(attrs["termination_reason"]),
        )
    except BaseException:
        # A full disk has closed the file already; the error on its way says so.
        with contextlib.suppress(EpisodeError):
            writer.discard()
        raise
    finally:
        replay.close()


def _copy(recorded: Episode, writer: EpisodeWriter) -> None:
    """Every stream, command and event as it was recorded."""
    for name, stream in recorded.streams.items():
        position = 0
        for block in stream.blocks():
            for value in block:
                stamp_ns, recv_ns = int(stream.stamp_ns[position]), int(stream.recv_ns[position])
                writer.append(name, value, stamp_ns, recv_ns)
                position += 1
    commands = recorded.commands
    if commands is not None:
        for i in range(len(commands)):
            stamps = (int(commands.stamp_ns[i]), int(commands.recv_ns[i]), int(commands.observation_ns[i]))
            writer.append_command(commands.values[i], *stamps, Source(int(commands.source[i])))
    for event in recorded.events:
        writer.event(event.name, event.value, event.stamp_ns)


def _extra(recorded: Episode, name: str) -> ExtraStream:
    spec = recorded.streams[name].spec
    return ExtraStream(
        name, spec.shape, spec.dtype, spec.names, spec.encoding, spec.unit, spec.topic, spec.type
    )


def _copy_sidecars(source: Dataset, target: Dataset) -> None:
    """Edits and the division into train and validation hold for the same episodes here."""
    log = source.path / EDITS
    if log.exists() and not (target.path / EDITS).exists():
        shutil.copyfile(log, target.path / EDITS)
    index = json.loads((target.path / INDEX).read_text(encoding="utf-8"))
    if not index["splits"] and source.splits:
        theirs = json.loads((source.path / INDEX).read_text(encoding="utf-8"))
        kept = {key: value for key, value in theirs.items() if key.startswith("split") or "fraction" in key}
        write_json(target.path / INDEX, {**index, **kept})
