"""Work with paid requests in a process of its own, which outlives a kill of the one that was started.

A request that is in flight when its process is killed is lost, though it is paid. So the questions are asked
in a second process: when the first one is gone, however it ended, the second one sends nothing more,
waits for the answers that are under way, commits them and ends. The next run finds them, or waits for them.
Signals come in twos and threes (a service manager ends every process of a group, people press Ctrl-C again
and close the terminal): after the first one the others change nothing, since what ends the waiting loses what
was paid for. The waiting is bounded by the time-out of one request.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TypeVar

from episodes.errors import ArmchairError

T = TypeVar("T")

INTERRUPTED = 130
MISTAKE = 2
STOPPING = (signal.SIGINT, signal.SIGTERM)


def run_outliving(work: Callable[[T], int], config: T, title: str) -> int:
    """Run `work(config)` in a second process and wait for it.

    Args:
        work: a function of a module, which returns an exit code. KeyboardInterrupt is raised in it when this
            process ends or is interrupted; it finishes what is in flight.
        config: its argument, a plain dataclass.
        title: of the command, for messages.

    Returns:
        The exit code of `work`; 2 when it raised an ArmchairError, which it has printed.

    Raises:
        KeyboardInterrupt: this process was interrupted; the work has finished what was in flight.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_second, args=(work, config, title), daemon=False
    )
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        print(
            "\nfinishing the questions that are in flight: they are paid. Nothing more is sent, so this is "
            "over within the time-out of one request; a further Ctrl-C changes nothing.",
            file=sys.stderr,
            flush=True,
        )
        _interrupt(process)
        while process.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                process.join()
        raise
    if process.exitcode == INTERRUPTED:
        raise KeyboardInterrupt
    return process.exitcode if process.exitcode is not None and process.exitcode >= 0 else 1


def _interrupt(process: SpawnProcess) -> None:
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGINT)


def _second(work: Callable[[T], int], config: T, title: str) -> None:
    # A session of its own: neither Ctrl-C in the terminal nor a kill of the group reaches it.
    os.setsid()
    for number in STOPPING:
        signal.signal(number, _stop_once)
    threading.Thread(target=_watch_first, name="first-process", daemon=True).start()
    code = 1
    try:
        code = work(config)
    except ArmchairError as error:
        print(f"armchair {title}: {error}", file=sys.stderr)
        code = MISTAKE
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise SystemExit(code)


def _stop_once(number: int, frame: FrameType | None) -> None:
    """End the work; whatever signal comes next is for work that is ending already."""
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _watch_first() -> None:
    first = multiprocessing.parent_process()
    if first is None:
        return
    wait([first.sentinel])
    # Whoever read the output may be gone as well, and a broken pipe must not end the work.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    # Without effect where the work is ending already.
    os.kill(os.getpid(), signal.SIGINT)
