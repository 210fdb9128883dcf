"""Stages that are done once: a stopped job goes on, a changed setting redoes what depends on it.

A stage's key is a hash over its name, its settings and the keys of the stages that it builds on. When the
record on disk carries the same key, the stage is not run again and its result is read from the record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from episodes.errors import MachineError

ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class StageRecord:
    """What is known of a finished stage."""

    name: str
    key: str
    seconds: float
    """Wall seconds of the run that finished it."""
    result: dict[str, Any]
    """JSON-able result, read by later stages and the report."""
    reused: bool
    """True when an earlier run of the same command did the work."""


@dataclass
class Stages:
    """Runs stages in a folder and remembers them in `<folder>/stages/<name>.json`."""

    folder: Path
    console: Console
    records: dict[str, StageRecord] = field(default_factory=dict)

    def run(
        self,
        name: str,
        title: str,
        settings: dict[str, Any],
        work: Callable[[ProgressCallback], dict[str, Any]],
        *,
        after: Sequence[str] = (),
        outputs: Sequence[Path] = (),
    ) -> dict[str, Any]:
        """Run `work(progress)` unless its record stands.

        Args:
            name: file-system name of the stage.
            title: what the user reads beside the bar.
            settings: JSON-able settings that decide the result.
            work: does the stage and returns its JSON-able result; resumes what it finds half done.
            after: names of the stages whose results it uses.
            outputs: files and folders it writes; removed first when they stem from other settings.
        """
        key = self._key(name, settings, after)
        found = self._read(name)
        if found is not None and found["key"] == key and all(path.exists() for path in outputs):
            record = StageRecord(name, key, found["seconds"], found["result"], reused=True)
            self.console.print(f"[green]✓[/] {title:<34} done before ({record.seconds:.0f} s)")
        else:
            if self._started_key(name) != key:
                _remove(outputs)
            self._path(name).parent.mkdir(parents=True, exist_ok=True)
            _write(self._path(name, "started"), {"key": key})
            record = self._work(name, title, key, work)
            _write(self._path(name), {"key": key, "seconds": record.seconds, "result": record.result})
        self.records[name] = record
        return record.result

    def _work(
        self, name: str, title: str, key: str, work: Callable[[ProgressCallback], dict[str, Any]]
    ) -> StageRecord:
        columns = (
            TextColumn("  [bold]{task.description:<34}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        started = time.monotonic()
        hidden = not self.console.is_terminal  # a log file gets the finished line alone
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as bars:
            task = bars.add_task(title, total=None)
            result = work(lambda done, total: bars.update(task, completed=done, total=total))
        seconds = time.monotonic() - started
        self.console.print(f"[green]✓[/] {title:<34} {seconds:.1f} s")
        return StageRecord(name, key, round(seconds, 2), json.loads(json.dumps(result)), reused=False)

    def _key(self, name: str, settings: dict[str, Any], after: Sequence[str]) -> str:
        basis = {"name": name, "settings": settings, "after": [self.records[other].key for other in after]}
        return hashlib.sha256(json.dumps(basis, sort_keys=True, default=str).encode()).hexdigest()

    def _path(self, name: str, suffix: str = "json") -> Path:
        return self.folder / "stages" / f"{name}.{suffix}"

    def _read(self, name: str, suffix: str = "json") -> dict[str, Any] | None:
        try:
            found = json.loads(self._path(name, suffix).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and "key" in found else None

    def _started_key(self, name: str) -> str | None:
        found = self._read(name, "started")
        return None if found is None else found["key"]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is made, until the block ends: two runs of the same stages would mix their files.

    Raises:
        MachineError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MachineError(
                f"{folder}: another run works here: wait for it, or give another --out."
            ) from error
        yield


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, path)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
