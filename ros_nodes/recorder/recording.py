"""An episode being recorded: a bounded buffer, and a thread that opens, writes and closes the file.

No subscription ever waits for a disk: the file is opened, flushed, synced and closed in that thread, and
samples wait in the buffer meanwhile. Pictures are encoded by a pool of threads on their way through it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.errors import ArmchairError, StackError
from episodes.writer import EpisodeWriter

Item = tuple[Callable[..., None], tuple[Any, ...]]
"""A method of EpisodeWriter and its arguments."""

Work = Callable[[], tuple[Sequence[Item], int]]
"""Makes items and says how many bytes they hold."""


@dataclass
class _Entry:
    """What waits; its items are made by now, or are being made."""

    nbytes: int
    items: Sequence[Item] | Future[tuple[Sequence[Item], int]]


class Recording:
    """Hands samples to an EpisodeWriter in a thread of its own.

    The buffer is bounded in bytes. When it is full a sample is dropped and counted, or, where `wait` is
    asked for (lock-step, where the simulation waits too), the caller waits. Whatever goes wrong in the
    thread closes the file as a failure and is raised by `put` and `result`.
    """

    def __init__(
        self,
        open_writer: Callable[[], EpisodeWriter],
        capacity_bytes: int,
        *,
        pool: Executor | None = None,
        idle_s: float = 0.1,
    ) -> None:
        """`open_writer` is called in the thread; `pool` runs the work of `put_work`."""
        self.dropped = 0
        """Samples dropped because the disk did not keep up."""
        self.samples = 0
        """Samples handed over."""
        self._open_writer = open_writer
        self._writer: EpisodeWriter | None = None
        self._capacity = capacity_bytes
        self._pool = pool
        self._idle_s = idle_s
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._final: Callable[[EpisodeWriter], Any] | None = None
        self._error: ArmchairError | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="episode writer", daemon=True)
        self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether the file is there, or never will be."""
        return self._writer is not None or self._ended

    @property
    def ended(self) -> bool:
        """Whether the thread is done: after `begin_close`, or by an error."""
        return self._ended

    @property
    def path(self) -> Path | None:
        """Where the episode will stand once closed, None before the file is opened."""
        return None if self._writer is None else self._writer.path

    @property
    def error(self) -> ArmchairError | None:
        """What went wrong; the file is closed as a failure then."""
        return self._error

    @property
    def queued(self) -> tuple[int, int]:
        """Samples that wait, and their bytes."""
        return len(self._entries), self._bytes

    def put(self, items: Sequence[Item], nbytes: int, *, stream: str, wait: bool) -> bool:
        """Hand over samples that belong together; `stream` is blamed when they are dropped.

        Events and counts are no samples: they have 0 bytes. Returns whether they were taken.

        Raises:
            ArmchairError: writing failed earlier; the file is closed as a failure.
        """
        with self._changed:
            while wait and self._bytes + nbytes > self._capacity and self._bytes and not self._ended:
                self._changed.wait()
            return self._take(_Entry(nbytes, items), stream)

    def put_work(self, work: Work, nbytes: int, *, stream: str) -> bool:
        """Hand over a sample that is still to be made by `work`, in the pool; until then it has `nbytes`.

        The order of samples is that of the calls. Returns and raises as `put` does.
        """
        if self._pool is None:
            items, size = work()
            return self.put(items, size, stream=stream, wait=False)
        with self._changed:
            if self._refused(nbytes):
                return self._take(_Entry(nbytes, ()), stream)
            future = self._pool.submit(work)
            entry = _Entry(nbytes, future)
            taken = self._take(entry, stream)
        future.add_done_callback(lambda done: self._made(entry, done))
        return taken

    def _made(self, entry: _Entry, future: Future[tuple[Sequence[Item], int]]) -> None:
        """A picture was encoded: from now on it takes less room."""
        if future.cancelled() or future.exception() is not None:
            return
        with self._changed:
            if entry.nbytes:
                size = future.result()[1]
                self._bytes += size - entry.nbytes
                entry.nbytes = size

    def _refused(self, nbytes: int) -> bool:
        return self._bytes > 0 and self._bytes + nbytes > self._capacity

    def _take(self, entry: _Entry, stream: str) -> bool:
        self._raise_if_broken()
        refused = self._refused(entry.nbytes)
        if refused:
            self.dropped += 1
            self._entries.append(_Entry(0, [(EpisodeWriter.count_drop, (stream,))]))
        else:
            self._entries.append(entry)
            self._bytes += entry.nbytes
            self.samples += entry.nbytes > 0
        self._changed.notify_all()
        return not refused

    def begin_close(self, final: Callable[[EpisodeWriter], Any]) -> None:
        """Have what waits written, then `final(writer)` called, which finishes or discards the episode."""
        with self._changed:
            self._final = final
            self._changed.notify_all()

    def result(self) -> Path | None:
        """Wait for the end, and return where the file stands; None when it was closed before it was opened.

        Raises:
            ArmchairError: writing failed; the file is closed as a failure.
        """
        self._thread.join()
        self._raise_if_broken()
        return self.path

    def close(self, final: Callable[[EpisodeWriter], Any]) -> Path | None:
        """`begin_close` and `result`."""
        self.begin_close(final)
        return self.result()

    def begin_abort(self, reason: str) -> None:
        """As `begin_close`, but the file becomes a failure with `reason`; never a success."""

        def fail(writer: EpisodeWriter) -> None:
            raise Interrupted(reason)

        self.begin_close(fail)

    def abort(self, reason: str) -> Path | None:
        """`begin_abort`, and wait for the end."""
        self.begin_abort(reason)
        return self.aborted()

    def aborted(self) -> Path | None:
        """Wait for the end of an abort; raises what went wrong besides."""
        try:
            return self.result()
        except Interrupted:
            return self.path

    def _raise_if_broken(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ended and self._final is None:
            raise StackError(f"{self.path}: the thread that writes this episode has died; see the log above.")

    def _run(self) -> None:
        try:
            self._writer = self._open_writer()
            with self._writer as writer:
                while (batch := self._next()) is not None:
                    for method, arguments in batch:
                        method(writer, *arguments)
                    writer.flush_if_due()
                if self._final is not None:
                    self._final(writer)
        except ArmchairError as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next(self) -> Sequence[Item] | None:
        """What to write; empty when nothing came for a while, None when the end is asked for and all is
        written."""
        with self._changed:
            if not self._entries and self._final is None:
                self._changed.wait(self._idle_s)
            if not self._entries:
                return None if self._final is not None else ()
            entry = self._entries.popleft()
        # Not under the lock: who hands over samples must not wait for an encoder.
        items = entry.items.result()[0] if isinstance(entry.items, Future) else entry.items
        with self._changed:
            self._bytes -= entry.nbytes
            entry.nbytes = 0
            self._changed.notify_all()
        return items


class Interrupted(StackError):
    """Ends a recording from inside, so that the writer closes its file as a failure with this reason."""
