"""Verb `sim list`: every environment by family with a line each, and a picture of each if wanted."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from episodes.errors import ConfigError
from episodes.screen import print_table, progress_bar, screen
from sim.catalogue import ADAPTERS, families
from sim.gl import RendererName
from sim.make import make_env
from sim.picture import default_camera, play, who_acts
from sim.render import Quality
from sim.sheet import check_sheet, sheet, write_sheet
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
    sheet: Path | None = None
    """Write all pictures on one sheet (.png, or the smaller .jpg), with the names."""
    columns: int = 10
    """Pictures in a row of the sheet."""
    camera: str = ""
    """Camera of the environments that have it. Empty, and of the others: the one that shows them best."""
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
        ConfigError: nothing has such a name, or the sheet has no columns or is no file of pictures.
    """
    names = chosen(config.only)
    if config.sheet is not None:
        check_sheet(config.sheet, config.columns)
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
    if config.pictures is not None or config.sheet is not None:
        drawn = draw(config, names)
        if config.pictures is not None:
            console.print(f"{len(names)} pictures in {config.pictures}")
        if config.sheet is not None:
            titles = [_title(name, names) for name in names]
            write_sheet(sheet([drawn[name] for name in names], titles, config.columns), config.sheet)
            console.print(f"{config.sheet}: {len(names)} pictures")
    return 0


def _title(name: str, names: tuple[str, ...]) -> str:
    """Without the family where all are of one."""
    one = len({other.partition("/")[0] for other in names}) == 1
    return name.partition("/")[2] if one else name


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


def draw(config: ListConfig, names: tuple[str, ...]) -> dict[str, NDArray[np.uint8]]:
    """The pictures (size, size, 3) of `names`, written into the folder where there is one."""
    drawn: dict[str, NDArray[np.uint8]] = {}
    with progress_bar("draw") as progress:

        def tell(number: int, picture: object) -> None:
            drawn[names[number]] = np.asarray(picture)
            progress(len(drawn), len(names))

        workers = config.workers or os.cpu_count() or 1
        run_jobs(_Artist(config, names), range(len(names)), workers, tell)
    return drawn


@dataclass(frozen=True)
class _Artist:
    """Draws environments by their number."""

    config: ListConfig
    names: tuple[str, ...]

    @contextmanager
    def open(self) -> Iterator[Work]:
        yield self._draw

    def _draw(self, number: int) -> NDArray[np.uint8]:
        config, name = self.config, self.names[number]
        env = make_env(name, renderer=config.renderer, quality=config.quality)
        try:
            share = _SHOWN_AFTER.get(name.partition("/")[0], 0.0)
            steps = max(round(share * env.spec.horizon), 1 if env.spec.horizon == 1 else 0)
            for _ in play(env, who_acts(name), steps, 0, 0):
                pass
            camera = config.camera if config.camera in env.spec.cameras else default_camera(env)
            # Without multi-sampling edges are steps: drawn twice as large, and averaged.
            large = env.render(camera, 2 * config.size, 2 * config.size)
            picture = np.asarray(cv2.resize(large, (config.size, config.size), interpolation=cv2.INTER_AREA))
        finally:
            env.close()
        if config.pictures is not None:
            write_filmstrip([picture], picture_file(config.pictures, name), count=1)
        return picture
