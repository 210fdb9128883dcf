"""Verb `collect`: record episodes of mixed quality in simulation, in process, on several cores.

Each episode is a function of (seed, split, episode, behaviour), and the behaviours of (seed, episodes,
mix): the number of workers, the order and interruptions change nothing in the recorded streams.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from episodes.contract import Contract
from episodes.dataset import Dataset
from episodes.errors import ConfigError
from sim.behaviours import Acts, assigned
from sim.contracts import contract_of
from sim.env import Split
from sim.experts import Mix
from sim.gl import RendererName
from sim.make import horizon_of, make_env
from sim.randomise import Randomisation
from sim.record import TRUTH, episode_id, record_episode
from sim.stock import check_randomisation, take_stock
from sim.workers import Work, run_jobs
from sim.world import EPISODE_START_NS, World

_FLUSH_PERIOD_S = 3600.0
"""An episode that was killed is recorded anew: to save parts of one as it goes would only cost time."""


@dataclass(frozen=True)
class CollectConfig:
    """Collect episodes in simulation. Finished episodes are kept: the same command goes on where it
    stopped."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """Data set folder; made if it is not there."""
    contract: Path | None = None
    """Robot contract: streams, rate and cameras to record. None: the one of the environment's family in
    launch/contracts, or one made for the environment, with its first camera at 84x84."""
    env: str = ""
    """Environment, for example metaworld/drawer-open-v3 or arm6/reach (all: armchair sim list). Empty: the
    one that the contract names."""
    episodes: int = 100
    """Size of the whole collection; who acts in which episode depends on it."""
    seed: int = 0
    """Seed of goals, behaviours and noise."""
    mix: Mix = field(default_factory=Mix)
    """Who acts. Expert episodes come first."""
    first: int = 0
    """Leave out the episodes before this one (recorded elsewhere, through ROS for example)."""
    indices: tuple[int, ...] = ()
    """Record these episodes alone. Empty: all from `first` on."""
    split: Split = "train"
    """Goals to use: training or evaluation goals; the two share none."""
    horizon: int | None = None
    """Steps per episode; a recording has one frame more. None: the environment's own."""
    randomise: Randomisation = field(default_factory=Randomisation)
    """What differs from episode to episode: cameras, light, textures, latency, noise. All off by default."""
    workers: int = 0
    """Processes. 0: one per core."""
    renderer: RendererName = "auto"
    """What draws: EGL, OSMesa or, where no GL is installed, ray casting."""
    image_storage: Literal["lzf", "raw", "jpeg"] = "lzf"
    """How pictures are stored; lzf and raw are lossless."""


@dataclass(frozen=True)
class Collected:
    """What a collection did."""

    recorded: tuple[int, ...]
    """Episodes recorded now."""
    kept: tuple[int, ...]
    """Episodes that were there already."""
    successes: int
    """Among those recorded now, how many succeeded."""
    renderer: str
    """What drew and why; empty when nothing was drawn."""
    seconds: float
    """Wall time."""
    notes: tuple[str, ...]
    """What the user should know, for example which remains of a killed run were removed."""


@dataclass(frozen=True)
class _Done:
    success: bool
    renderer: str


def collect(config: CollectConfig, progress: Callable[[int, int], None] | None = None) -> Collected:
    """Record every episode that is asked for and not there yet.

    Args:
        config: what to record.
        progress: called with (done, total), those that were there already counted in.

    Raises:
        ConfigError: a setting that cannot work.
        ContractError: the contract does not fit the environment or the data set.
        DatasetError: the folder holds other episodes under the same names, or another run is writing them.
        MachineError: a demanded GL library is missing, the disk is full, or a worker died.
        KeyboardInterrupt: Ctrl-C; only whole episodes are left behind.
    """
    began = time.monotonic()
    contract = contract_of(config.env, config.contract)
    behaviours = planned(config, contract)
    dataset = Dataset.open_or_create(config.dataset, contract)
    environment = _environment(config, contract)
    finished, notes = take_stock(dataset, behaviours, environment, _horizon(config, environment))
    if finished:
        first = dataset.file(episode_id(config.seed, min(finished)))
        check_randomisation(first, config.randomise.as_dict())
    jobs = [b.episode for b in behaviours if b.episode not in finished]
    results: dict[int, _Done] = {}

    def done(episode: int, result: object) -> None:
        if isinstance(result, _Done):
            results[episode] = result
        if progress is not None:
            progress(len(finished) + len(results), len(behaviours))

    if progress is not None:
        progress(len(finished), len(behaviours))
    run_jobs(_Recorder(config), jobs, config.workers or os.cpu_count() or 1, done)
    return Collected(
        recorded=tuple(sorted(results)),
        kept=tuple(sorted(finished)),
        successes=sum(r.success for r in results.values()),
        renderer=next((r.renderer for r in results.values() if r.renderer), ""),
        seconds=time.monotonic() - began,
        notes=tuple(notes),
    )


def planned(config: CollectConfig, contract: Contract) -> list[Acts]:
    """The behaviours of the episodes that `config` selects, in order.

    Raises:
        ConfigError: no environment with scripts is named, or an index is out of range.
    """
    if config.workers < 0:
        raise ConfigError(f"--workers {config.workers}: write 0 (one per core) or more.")
    environment = _environment(config, contract)
    horizon = _horizon(config, environment)
    everyone = assigned(environment, config.seed, config.episodes, config.mix, horizon)
    chosen = config.indices or tuple(range(config.first, config.episodes))
    outside = [i for i in chosen if not 0 <= i < config.episodes]
    if outside or len(set(chosen)) != len(chosen):
        raise ConfigError(
            f"--indices {' '.join(map(str, chosen))}: write each at most once, between 0 and "
            f"{config.episodes - 1} (--episodes is the size of the whole collection)."
        )
    return [everyone[i] for i in sorted(chosen)]


def _horizon(config: CollectConfig, environment: str) -> int:
    return horizon_of(environment) if config.horizon is None else config.horizon


def _environment(config: CollectConfig, contract: Contract) -> str:
    named = config.env or (contract.simulation.environment if contract.simulation else "")
    if not named:
        raise ConfigError(
            f"{contract.source} names no environment (key simulation.environment): add it, or write --env."
        )
    return named


@dataclass(frozen=True)
class _Recorder:
    """What a worker opens: data set, environment and the function that records one episode."""

    config: CollectConfig

    @contextmanager
    def open(self) -> Iterator[Work]:
        config = self.config
        contract = contract_of(config.env, config.contract)
        environment = _environment(config, contract)
        behaviours = {b.episode: b for b in planned(config, contract)}
        dataset = Dataset.open(config.dataset)
        env = make_env(
            environment,
            horizon=config.horizon,
            split=config.split,
            renderer=config.renderer,
            randomise=config.randomise,
        )
        world = World(contract, env)

        def record(episode: int) -> _Done:
            behaviour = behaviours[episode]
            writer = dataset.new_writer(
                contract=contract,
                clock="sim",
                started_ns=EPISODE_START_NS,
                task=environment,
                operator=behaviour.label,
                episode_id=episode_id(behaviour.seed, episode),
                image_storage=config.image_storage,
                flush_period_s=_FLUSH_PERIOD_S,
                extra_streams=(TRUTH,),
            )
            _, success = record_episode(world, behaviour, writer, config.split, config.randomise.as_dict())
            choice = env.renderer
            return _Done(success, "" if choice is None else f"{choice.name} ({choice.reason})")

        try:
            yield record
        finally:
            world.close()


def main(config: CollectConfig) -> int:
    """Collect with a progress bar, then say what was done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    counted = [0, 0]
    with Progress(
        TextColumn("collect"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("collect", total=config.episodes)

        def progress(done: int, total: int) -> None:
            counted[:] = [done, total]
            bar.update(task, completed=done, total=total)

        try:
            report = collect(config, progress)
        except KeyboardInterrupt:
            bar.stop()
            console.print(f"{counted[0]} of {counted[1]} episodes are whole in {config.dataset}.")
            raise
    for note in report.notes:
        console.print(note)
    if report.renderer:
        console.print(f"renderer: {report.renderer}")
    console.print(
        f"{len(report.recorded)} episodes recorded in {report.seconds:.1f} s ({report.successes} succeed), "
        f"{len(report.kept)} were there: {config.dataset}"
    )
    return 0
