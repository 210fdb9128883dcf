"""Verb `up`: run a ROS 2 stack on this machine: simulation, recording, deployment.

The processes are those of `ros_nodes.stacks`; each writes its own log into the run folder. The stack ends
when its session does, when a process fails, or on Ctrl-C, and leaves no process and no shared-memory
segment behind.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import rich.console
import rich.progress
import rich.table
import tyro

from episodes.errors import StackError
from ros_nodes import dds, processes
from ros_nodes.stacks import STACKS, CollectExpert, Deploy, DeploySim, Record, Sim, Stack, launch_folder

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StackResult:
    """What a stack left behind."""

    folder: Path
    """Run folder with logs, parameters and results.json."""
    domain: int
    """ROS domain that it ran in."""
    wall_s: float
    """From the start of the first process to the end of the last, seconds."""
    results: dict[str, Any] | None
    """The session's results.json; None for stacks without a session."""
    notes: tuple[str, ...] = ()
    """What had to give way on this machine."""


def run_stack(
    stack: Stack,
    folder: Path,
    *,
    domain: int | None = None,
    progress: Progress | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> StackResult:
    """Run a stack until it ends by itself.

    Args:
        stack: which, with its options.
        folder: run folder for logs and results; a session goes on where its results.json ends.
        domain: ROS domain; None takes a free one, or the ROS_DOMAIN_ID of the environment.
        progress: called with (episodes done, episodes in all).
        announce: called with a line of text worth telling: the domain, what had to give way.

    Raises:
        MachineError: the domain is in use, or /dev/shm is full.
        StackError: a process failed; the message names it and ends with its last lines.
        KeyboardInterrupt: passed on after every process has closed its files and ended.
    """
    folder = folder.absolute()
    specs = stack.processes(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results_file = folder / "results.json"
    since_s, began_s = time.time() - 1.0, time.monotonic()
    wanted = _environment_domain() if domain is None else domain
    total = getattr(stack, "episodes", 0)
    with dds.hold_domain(wanted, f"armchair up {stack_name(stack)}") as taken:
        profile, note = dds.fitting_profile(launch_folder() / "fastdds.xml", len(specs), folder)
        announce(f"ROS domain {taken}, logs in {folder}")
        if note:
            announce(note)

        def refresh() -> None:
            if progress is not None and (results := _read(results_file)) is not None:
                progress(len(results["episodes"]), total)

        try:
            with processes.running(specs, folder, dds.environment(taken, profile)) as started:
                processes.watch(started, refresh)
        finally:
            dds.clean_segments(since_s, taken)
    return StackResult(
        folder, taken, time.monotonic() - began_s, _read(results_file), (note,) if note else ()
    )


def stack_name(stack: Stack) -> str:
    """The stack's name on the command line."""
    return next((name for name, kind in STACKS.items() if isinstance(stack, kind)), type(stack).__name__)


def _environment_domain() -> int | None:
    text = os.environ.get("ROS_DOMAIN_ID", "")
    return int(text) if text.isdigit() else None


def _read(path: Path) -> dict[str, Any] | None:
    """The session's results; it replaces the file as a whole, so what is there is complete."""
    try:
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StackError(f"{path}: this is no results file of a session ({error}): remove it.") from error


@dataclass(frozen=True)
class UpConfig:
    """Run a ROS 2 stack on this machine: its processes, their logs, and their end."""

    stack: Annotated[
        Annotated[CollectExpert, tyro.conf.subcommand("collect-expert", prefix_name=False)]
        | Annotated[DeploySim, tyro.conf.subcommand("deploy-sim", prefix_name=False)]
        | Annotated[Sim, tyro.conf.subcommand("sim", prefix_name=False)]
        | Annotated[Record, tyro.conf.subcommand("record", prefix_name=False)]
        | Annotated[Deploy, tyro.conf.subcommand("deploy", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]
    """Which stack; each has its own options: armchair up STACK --help."""
    domain: int | None = None
    """ROS domain, 0 to 101; default: ROS_DOMAIN_ID, else the first free one."""
    folder: Path | None = None
    """Run folder for logs and results; default: runs/up/STACK-TIME."""


def main(config: UpConfig) -> int:
    """Run the stack and print what it did."""
    console = rich.console.Console(highlight=False)
    name = stack_name(config.stack)
    folder = config.folder or Path("runs/up") / time.strftime(f"{name}-%Y%m%dT%H%M%SZ", time.gmtime())
    total = getattr(config.stack, "episodes", 0)
    with rich.progress.Progress(
        rich.progress.TextColumn(name),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        console=console,
        disable=not total,
    ) as bar:
        task = bar.add_task(name, total=total or None)
        result = run_stack(
            config.stack,
            folder,
            domain=config.domain,
            progress=lambda done, _: bar.update(task, completed=done),
            announce=bar.console.print,
        )
    if result.results is not None:
        console.print(_table(result.results))
    console.print(f"{name} ended after {result.wall_s:.1f} s; logs and results in {result.folder}")
    return 0


def _table(results: dict[str, Any]) -> rich.table.Table:
    table = rich.table.Table("episode", "success", "at tick", "return", "ticks", "ticks/s", "file")
    for row in results["episodes"]:
        rate = f"{row['ticks'] / row['wall_s']:.0f}" if row["wall_s"] else ""
        table.add_row(
            str(row["episode"]), "yes" if row["success"] else "no", str(row["success_tick"] or ""),
            f"{row['return']:.1f}", str(row["ticks"]), rate,
            Path(row["file"]).name if row["file"] else "",
        )  # fmt: skip
    return table
