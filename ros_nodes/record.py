"""Verb `record`: record episodes with a live table and single keys, over SSH too.

It starts the stack `record` (recorder, and cameras where declared), or with --attach it talks to a recorder
that runs already. The keys call the recorder's services, which a pedal or a joystick button may call as well
(`buttons_node`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import rich.console
import tyro

from episodes.errors import ConfigError, MachineError, StackError
from ros_nodes import dds, processes
from ros_nodes.stacks import Record, launch_folder


@dataclass(frozen=True)
class RecordConfig:
    """Record a robot: a live table and single keys for start, success, failure, discard, re-record, quit."""

    contract: Annotated[Path | None, tyro.conf.Positional] = None
    """Robot contract; left out with --attach."""
    dataset: Annotated[Path | None, tyro.conf.Positional] = None
    """Dataset folder; made if it is not there. Left out with --attach."""
    task: str = ""
    """What the robot is to do, stored with each episode."""
    operator: str = ""
    """Who operates it, stored with each episode."""
    params: Path | None = None
    """ROS parameter file for recorder and cameras; none: their defaults."""
    cameras: tuple[str, ...] = ()
    """Cameras to start: names of camera nodes, whose parameters stand in the parameter file."""
    attach: bool = False
    """Talk to a recorder that runs already, and leave it running."""
    recorder: str = "recorder"
    """Name of that recorder, with its namespace: /left/recorder."""
    domain: int | None = None
    """ROS domain of the robot, 0 to 101; default: ROS_DOMAIN_ID, else 0."""
    folder: Path | None = None
    """Run folder for logs; default: runs/record/TIME."""


def main(config: RecordConfig) -> int:
    """Record until q or Ctrl-C."""
    console = rich.console.Console(highlight=False)
    if not sys.stdin.isatty():
        raise MachineError(
            "its keys need a terminal. Without one: armchair up record CONTRACT DATASET, and the services "
            "recorder/start, recorder/success and so on."
        )
    operate = _desk()
    if config.attach:
        with dds.variables(_environment(_domain(config), launch_folder() / "fastdds.xml")):
            operate(config.recorder, console, check=lambda: None, leaves=True)
        return 0
    if config.contract is None or config.dataset is None:
        raise ConfigError(
            "give a contract and a dataset folder, or --attach for a recorder that runs already."
        )
    stack = Record(
        config.contract, config.dataset, config.task, config.operator, config.params, config.cameras
    )
    folder = config.folder or Path("runs/record") / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    with _running(stack, folder.absolute(), _domain(config), console) as started:
        operate("recorder", console, check=lambda: _check(started), leaves=False)
    console.print(f"logs in {folder}; episodes: armchair episodes list {config.dataset}", soft_wrap=True)
    return 0


def _desk() -> Callable[..., None]:
    """What needs ROS, imported only now: --help works without."""
    try:
        from ros_nodes.recorder.desk import operate
    except ImportError as error:
        raise MachineError(
            f"ROS 2 is not installed here ({error}): source /opt/ros/jazzy/setup.bash, or make setup."
        ) from error
    return operate


def _domain(config: RecordConfig) -> int:
    """The robot's: unlike a simulation's it is not ours alone, and the drivers are in it already."""
    if config.domain is not None:
        return config.domain
    text = os.environ.get("ROS_DOMAIN_ID", "")
    return int(text) if text.isdigit() else 0


def _environment(domain: int, profile: Path) -> dict[str, str]:
    if domain not in dds.DOMAINS:
        raise ConfigError(f"ROS domain {domain} is out of range: {dds.DOMAINS[0]} to {dds.DOMAINS[-1]}.")
    return dds.environment(domain, profile)


@contextlib.contextmanager
def _running(
    stack: Record, folder: Path, domain: int, console: rich.console.Console
) -> Iterator[list[processes.Running]]:
    """The stack's processes; all of them are ended when the block is left."""
    specs = stack.processes(folder)
    folder.mkdir(parents=True, exist_ok=True)
    since_s = time.time() - 1.0
    profile, note = dds.fitting_profile(launch_folder() / "fastdds.xml", len(specs) + 1, folder)
    environment = _environment(domain, profile)
    console.print(f"ROS domain {domain}, logs in {folder}", soft_wrap=True)
    if note:
        console.print(note, soft_wrap=True)
    try:
        with dds.variables(environment), processes.running(specs, folder, environment) as started:
            yield started
    finally:
        dds.clean_segments(since_s)


def _check(started: list[processes.Running]) -> None:
    """Raises StackError when a process has ended by itself."""
    for process in started:
        if process.popen.poll() is not None:
            raise StackError(
                f"process {process.spec.name!r} ended with exit code {process.popen.returncode}; "
                f"{process.log} says:\n{process.tail()}"
            )
