"""`armchair episodes import` and `armchair episodes export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import Progress

from episodes.bags.exporter import export_bag
from episodes.bags.importer import BagOptions, import_bag
from episodes.bags.robomimic import RobomimicOptions, export_robomimic, import_robomimic
from episodes.contract import load_contract
from episodes.dataset import Dataset
from episodes.errors import ArmchairError, ConfigError, DatasetError
from episodes.labels import has_labels, labellers, read_labels

_ROBOMIMIC = (".h5", ".hdf5")


@dataclass(frozen=True)
class ImportConfig:
    """Add rosbag2 bags (.mcap, .db3 or folders) and robomimic files (.hdf5, .h5) to a dataset.

    Whatever a bag does not have, or has damaged, is left out and said; the exit code is then 1.
    """

    dataset: tyro.conf.Positional[Path]
    """The dataset folder; made if it is not there, which needs --contract."""
    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Bags and robomimic files."""
    contract: Path | None = None
    """Robot contract; the dataset's own when left out."""
    bags: tyro.conf.OmitArgPrefixes[BagOptions] = field(default_factory=BagOptions)
    keys: tuple[tuple[str, str], ...] = ()
    """For robomimic files: (stream of the contract, key under obs), where they differ; several keys side by
    side with '+'."""
    filter_key: str | None = None
    """For robomimic files: take only the demos of this mask."""


@dataclass(frozen=True)
class ExportConfig:
    """Write episodes as MCAP bags that Foxglove opens, or all of them as one robomimic file."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    out: tyro.conf.Positional[Path]
    """A folder for the bags, or the robomimic file."""
    to: Literal["mcap", "rosbag2", "robomimic"] = "mcap"
    """mcap: one .mcap file per episode; rosbag2: one folder with metadata.yaml per episode, for
    `ros2 bag play`; robomimic: one HDF5 file."""
    episodes: tuple[str, ...] = ()
    """For bags: ids of episodes; all when left out."""
    streams: tuple[str, ...] = ("state",)
    """For robomimic: observation streams to put in."""
    reward: str | None = None
    """For robomimic: what becomes `rewards`, truth or a labeller's name."""


def run_import(config: ImportConfig) -> int:
    """Import every source; 1 when something was missing or a source gave nothing."""
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    if not config.sources:
        raise ConfigError(
            "name at least one bag or robomimic file: armchair episodes import DATASET SOURCE …"
        )
    contract = None if config.contract is None else load_contract(config.contract)
    if contract is None:
        dataset = Dataset.open(config.dataset)
    else:
        dataset = Dataset.open_or_create(config.dataset, contract)
    wrong = 0
    for source in config.sources:
        try:
            with _bar(f"importing {source.name}", console) as progress:
                if source.suffix in _ROBOMIMIC:
                    demos = import_robomimic(source, dataset, _robomimic(config), progress)
                    episodes, already, missing = demos.episodes, demos.already, demos.missing
                else:
                    made = import_bag(source, dataset, config.bags, contract=contract, progress=progress)
                    episodes, already, missing = made.episodes, made.already, made.missing
        except ArmchairError as error:
            wrong += 1
            errors.print(f"[red]not imported:[/red] {error}", highlight=False)
            continue
        for path in episodes:
            console.print(f"{path}", highlight=False)
        if already:
            console.print(f"there already, left as they are: {', '.join(already)}", highlight=False)
        for text in missing:
            errors.print(f"[yellow]missing:[/yellow] {text}", highlight=False)
        wrong += bool(missing)
    return 1 if wrong else 0


def _robomimic(config: ImportConfig) -> RobomimicOptions:
    storage = config.bags.image_storage
    return RobomimicOptions(
        keys=config.keys,
        filter_key=config.filter_key,
        task=config.bags.task,
        image_storage="lzf" if storage == "auto" else storage,
    )


def run_export(config: ExportConfig) -> int:
    """Export; 1 when something had no place in a bag, or robomimic will not like it."""
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    dataset = Dataset.open(config.dataset)
    if config.to == "robomimic":
        if config.episodes:
            raise ConfigError("--episodes: a robomimic file holds all episodes; its masks select from them.")
        with _bar(f"writing {config.out.name}", console) as progress:
            made = export_robomimic(dataset, config.out, config.streams, config.reward, progress)
        done = made.prepared
        console.print(
            f"{done.path}: {done.episodes} episodes, {done.transitions} transitions", highlight=False
        )
        for text in made.warnings:
            errors.print(f"[yellow]note:[/yellow] {text}", highlight=False)
        return 1 if made.warnings else 0
    ids = list(config.episodes) or [info.episode_id for info in dataset.infos()]
    if not ids:
        raise DatasetError(f"{dataset.path}: there is no episode to export.")
    left_out = False
    for episode_id in ids:
        names = [name for name in labellers(dataset) if has_labels(dataset, name, episode_id)]
        labels = {name: read_labels(dataset, name, episode_id) for name in names}
        out = config.out / (f"{episode_id}.mcap" if config.to == "mcap" else episode_id)
        with dataset.read(episode_id) as episode, _bar(f"writing {out.name}", console) as progress:
            bag = export_bag(episode, out, labels, progress)
        console.print(f"{bag.path}: {sum(bag.messages.values())} messages", highlight=False)
        for text in bag.left_out:
            left_out = True
            errors.print(f"[yellow]left out:[/yellow] {text}", highlight=False)
    return 1 if left_out else 0


@contextmanager
def _bar(title: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
