"""Numbered jobs over processes: the parent hands out one number at a time, so nothing depends on how many
work.

Workers are spawned, not forked, since GL contexts do not survive a fork. They ignore Ctrl-C: the parent
gets it, hands out nothing more and waits until each has finished the job that it is at. A worker whose
parent died finds the pipe closed and ends.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from episodes import errors
from episodes.errors import ArmchairError, MachineError

Work = Callable[[int], object]


class Opener(Protocol):
    """Opens what a worker needs (an environment, a data set) and gives the function that does one job.

    It is sent to the workers, so it must be importable and hold plain values; what a job returns is sent
    back.
    """

    def open(self) -> AbstractContextManager[Work]:
        """Open in the process that works."""
        ...


def run_jobs(opener: Opener, jobs: Sequence[int], workers: int, done: Callable[[int, object], None]) -> None:
    """Do every job once, in this process when one worker is enough.

    Args:
        opener: what each worker opens.
        jobs: numbers of the jobs, in the order in which they are begun.
        workers: processes to use at most.
        done: called in this process after each job, with its number and result, in the order of finishing.

    Raises:
        ArmchairError: the first that a job raised; the jobs that others were at are finished before.
        MachineError: a worker died.
        KeyboardInterrupt: Ctrl-C, after the jobs under way.
    """
    if min(workers, len(jobs)) <= 1:
        if jobs:
            with opener.open() as work:
                for job in jobs:
                    done(job, work(job))
        return
    pool = _Pool(opener, min(workers, len(jobs)))
    try:
        pool.run(jobs, done)
    except (KeyboardInterrupt, ArmchairError):
        pool.drain(done)
        raise
    finally:
        pool.close()


class _Pool:
    def __init__(self, opener: Opener, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, BaseProcess] = {}
        self._busy: dict[Connection, int] = {}
        with _ignoring_interrupts():
            for number in range(workers):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(opener, theirs), name=f"worker {number}", daemon=True
                )
                process.start()
                theirs.close()
                self._workers[ours] = process

    def run(self, jobs: Sequence[int], done: Callable[[int, object], None]) -> None:
        waiting = list(reversed(jobs))
        for connection in self._workers:
            self._give(connection, waiting)
        while self._busy:
            for connection in self._finished(done):
                self._give(connection, waiting)

    def drain(self, done: Callable[[int, object], None]) -> None:
        """Wait for the jobs that are under way; the error that led here is the one to report."""
        while self._busy:
            with suppress(ArmchairError):
                self._finished(done)

    def close(self) -> None:
        for connection, process in self._workers.items():
            connection.close()
            process.join(timeout=None if connection not in self._busy else 0)
            if process.is_alive():
                process.terminate()
                process.join()

    def _give(self, connection: Connection, waiting: list[int]) -> None:
        # An interrupt may come between any two lines, and who is marked busy is waited for: so a worker is
        # marked once it surely has a job. One that has it and is not marked ends when the pipe is closed.
        if waiting:
            job = waiting.pop()
            connection.send(job)
            self._busy[connection] = job

    def _finished(self, done: Callable[[int, object], None]) -> list[Connection]:
        ready = [c for c in wait(list(self._busy)) if isinstance(c, Connection)]
        for connection in ready:
            job = self._busy.pop(connection)  # before the answer is taken: none comes twice to wait for
            try:
                kind, value = connection.recv()
            except EOFError:
                process = self._workers[connection]
                process.join()
                raise MachineError(
                    f"{process.name} died at job {job} (exit code {process.exitcode}; -9 means killed, "
                    "often for memory). What was finished is kept: run the same command again, with fewer "
                    "workers if it was memory."
                ) from None
            if kind == "done":
                done(job, value)
            else:
                name, message = value
                raise getattr(errors, name, ArmchairError)(message)
        return ready


def _work(opener: Opener, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with opener.open() as work:
            while (job := _next(connection)) is not None:
                connection.send(("done", work(job)))
    except ArmchairError as error:
        connection.send(("error", (type(error).__name__, str(error))))
    except (BrokenPipeError, ConnectionResetError):
        # The parent died while this worker was at a job, which is done all the same.
        return


def _next(connection: Connection) -> int | None:
    """The next job; None when the parent has closed its end, by intent or by dying."""
    try:
        job: int = connection.recv()
    except EOFError:
        return None
    return job


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignored signals stay ignored in the children from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
