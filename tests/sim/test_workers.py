"""Jobs over processes: every job once, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import DatasetError, MachineError
from sim.workers import Work, run_jobs

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Squares:
    """Writes a file per job into `folder` and returns the square."""

    folder: str
    fail_at: int = -1
    die_at: int = -1

    @contextmanager
    def open(self) -> Iterator[Work]:
        opened = Path(self.folder) / f"open-{os.getpid()}"
        opened.touch()

        def work(job: int) -> int:
            if job == self.fail_at:
                raise DatasetError(f"job {job} is not possible")
            if job == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            (Path(self.folder) / f"job-{job}").touch(exist_ok=False)
            return job * job

        yield work
        opened.rename(Path(self.folder) / f"closed-{os.getpid()}")


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_is_done_once_and_workers_close_what_they_opened(tmp_path: Path, workers: int) -> None:
    results: dict[int, object] = {}
    run_jobs(Squares(str(tmp_path)), range(5, 12), workers, results.__setitem__)
    assert results == {job: job * job for job in range(5, 12)}
    assert len(list(tmp_path.glob("job-*"))) == 7
    assert len(list(tmp_path.glob("closed-*"))) == workers
    assert not list(tmp_path.glob("open-*"))


def test_nothing_to_do_opens_nothing(tmp_path: Path) -> None:
    run_jobs(Squares(str(tmp_path)), [], 4, lambda *_: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_job_arrives_as_it_was_raised(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DatasetError, match="job 3 is not possible"):
        run_jobs(Squares(str(tmp_path), fail_at=3), range(6), workers, lambda *_: None)


def test_a_worker_that_is_killed_is_reported_with_its_job(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"died at job 2 \(exit code -9"):
        run_jobs(Squares(str(tmp_path), die_at=2), range(6), 2, lambda *_: None)


SLOW = """
import sys, time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sim.workers import run_jobs

@dataclass(frozen=True)
class Slow:
    folder: str

    @contextmanager
    def open(self):
        def work(job):
            (Path(self.folder) / f"begun-{job}").touch()
            time.sleep(0.4)
            (Path(self.folder) / f"ended-{job}").touch()
        yield work

if __name__ == "__main__":
    try:
        run_jobs(Slow(sys.argv[1]), range(100), 2, lambda *_: None)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _until(lambda: len(list((tmp_path / "out").glob("begun-*"))) >= 2)
    return process


def _until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.01)


def test_ctrl_c_lets_the_jobs_under_way_finish_and_begins_none(tmp_path: Path) -> None:
    """As a terminal does it: the signal goes to the workers too."""
    process = _start(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == ""
    begun = {p.name.partition("-")[2] for p in (tmp_path / "out").glob("begun-*")}
    ended = {p.name.partition("-")[2] for p in (tmp_path / "out").glob("ended-*")}
    assert begun == ended
    assert 2 <= len(begun) < 10


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    process = _start(tmp_path)
    group = process.pid
    process.kill()
    process.communicate(timeout=20)
    _until(lambda: not _group_alive(group))


def _group_alive(group: int) -> bool:
    """Whether a process of the group runs; zombies that nobody reaps do not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("method", "call"), [("send", 1), ("send", 2), ("send", 4), ("recv", 1), ("recv", 3)]
)
def test_an_interrupt_at_any_moment_ends_the_jobs_and_waits_for_nobody_who_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int, when: str
) -> None:
    real, calls = getattr(Connection, method), 0

    def interrupted(self: Connection, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            raise KeyboardInterrupt
        found = real(self, *arguments)
        if calls == call:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Connection, method, interrupted)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            run_jobs(Squares(str(tmp_path)), range(8), 2, lambda *_: None)
        except KeyboardInterrupt as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert len(ended) == 1, "it waits for a worker that has no job"
