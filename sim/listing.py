"""Verb `sim list`: every environment by family with a line each, and a picture of each if wanted."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from episodes.errors import ConfigError
from episodes.screen import print_table, progress_bar, screen
from sim.catalogue import ADAPTERS, families
from sim.gl import RendererName
from sim.make import make_env
from sim.picture import default_camera, play, who_acts
from sim.render import Quality
from sim.video import write_filmstrip
from sim.workers import Work, run_jobs

_SHOWN_AFTER = {"metaworld": 0.35, "arm6": 0.35, "softgym-equivalent": 0.3}
"""Share of the horizon that the expert (or chance) has acted before the picture."""


@dataclass(frozen=True)
class ListConfig:
    """List the environments by family, with a line each."""

    only: str = "*"
    """Names to list, with * and ?: for example metaworld/* or *drawer*."""
    pictures: Path | None = None
    """Write a PNG of each into this folder: what its scripted expert, or chance, has made of it."""
    size: int = 320
    """Height and width of the pictures."""
    workers: int = 0
    """Processes that draw. 0: one per core."""
    renderer: RendererName = "auto"
    """What draws: EGL, OSMesa or, where no GL is installed, ray casting."""
    quality: Quality = "fast"
    """fast, or default: MuJoCo's shadows and multi-sampling, which cost seconds a picture in software."""


def main(config: ListConfig) -> int:
    """Print the table; draw the pictures.

    Raises:
        ConfigError: nothing has such a name.
    """
    names = chosen(config.only)
    console = screen()
    for family in families():
        shown = [name for name in family.environments if name in names]
        if not shown:
            continue
        console.print(f"{family.name}: {family.what}")
        table = Table(box=None, show_header=False, pad_edge=False)
        for name in shown:
            table.add_row(f"  {name}", family.tasks[name.partition("/")[2]])
        print_table(console, table)
        console.print()
    for family in ADAPTERS:
        if config.only == "*" and family.note():
            console.print(f"{family.name}: {family.what}; {family.note()}")
    if config.pictures is not None:
        draw(config, names)
        console.print(f"{len(names)} pictures in {config.pictures}")
    return 0


def chosen(only: str) -> tuple[str, ...]:
    """Names that fit the pattern, in the order of the catalogue.

    Raises:
        ConfigError: there is none.
    """
    everything = [name for family in families() for name in family.environments]
    names = tuple(name for name in everything if fnmatch.fnmatchcase(name, only))
    if not names:
        raise ConfigError(f"--only {only}: no environment has such a name; armchair sim list shows all.")
    return names


def picture_file(folder: Path, environment: str) -> Path:
    """Where the picture of an environment lies."""
    return folder / f"{environment.replace('/', '-')}.png"


def draw(config: ListConfig, names: tuple[str, ...]) -> None:
    """Write the pictures of `names`."""
    with progress_bar("draw") as progress:
        done = 0

        def tell(_: int, __: object) -> None:
            nonlocal done
            done += 1
            progress(done, len(names))

        workers = config.workers or os.cpu_count() or 1
        run_jobs(_Artist(config, names), range(len(names)), workers, tell)


@dataclass(frozen=True)
class _Artist:
    """Draws environments by their number."""

    config: ListConfig
    names: tuple[str, ...]

    @contextmanager
    def open(self) -> Iterator[Work]:
        yield self._draw

    def _draw(self, number: int) -> None:
        config, name = self.config, self.names[number]
        env = make_env(name, renderer=config.renderer, quality=config.quality)
        try:
            share = _SHOWN_AFTER.get(name.partition("/")[0], 0.0)
            steps = max(round(share * env.spec.horizon), 1 if env.spec.horizon == 1 else 0)
            for _ in play(env, who_acts(name), steps, 0, 0):
                pass
            picture = env.render(default_camera(env), config.size, config.size)
        finally:
            env.close()
        assert config.pictures is not None
        write_filmstrip([picture], picture_file(config.pictures, name), count=1)
