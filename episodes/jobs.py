"""The same work on many files, over processes; a file that kills its process is named, not fatal."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many processes can run at once on this machine."""
    return len(os.sched_getaffinity(0))


def for_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    died: Callable[[Item], Result],
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """The result for each item, in the order of `items`, whatever the number of processes.

    Args:
        work: importable, and like its results sendable to another process.
        items: what to work on.
        workers: processes to use at most; with one, the work is done in this process.
        died: the result for an item whose work killed its process.
        progress: called with (done, total) after each item.

    Raises:
        KeyboardInterrupt: after the items under way.
        Exception: the first that `work` raised.
    """
    if min(workers, len(items)) <= 1:
        results = []
        for number, item in enumerate(items, start=1):
            results.append(work(item))
            if progress is not None:
                progress(number, len(items))
        return results
    found: dict[int, Result] = {}

    def note(index: int, result: Result) -> None:
        found[index] = result
        if progress is not None:
            progress(len(found), len(items))

    for index in _in_pool(work, items, list(range(len(items))), workers, note):
        # One of those that were under way or waiting when a process died: alone it tells which it was.
        for lost in _in_pool(work, items, [index], 1, note):
            note(lost, died(items[lost]))
    return [found[index] for index in range(len(items))]


def _in_pool(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    indices: Sequence[int],
    workers: int,
    note: Callable[[int, Result], None],
) -> list[int]:
    """Do the items of `indices`; those that were lost when a process died."""
    lost = []
    # Spawned: a fork would copy the locks of HDF5's and OpenCV's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(indices)), context, _begin) as pool:
        try:
            futures = {pool.submit(work, items[index]): index for index in indices}
            for future in as_completed(futures):
                try:
                    note(futures[future], future.result())
                except BrokenProcessPool:
                    lost.append(futures[future])
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return sorted(lost)


def _begin() -> None:
    """Ctrl-C goes to the parent, which lets the workers finish; pictures are decoded by one thread each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
