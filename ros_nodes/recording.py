"""An episode being recorded: a bounded buffer, and a thread that writes it, so that no subscription waits
for a disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from episodes.errors import ArmchairError, StackError
from episodes.writer import EpisodeWriter

Item = tuple[Callable[..., None], tuple[Any, ...]]
"""A method of EpisodeWriter and its arguments."""


class Recording:
    """Hands samples to an EpisodeWriter in a thread of its own.

    The buffer is bounded in bytes. When it is full a sample is dropped and counted, or, where `wait` is
    asked for (lock-step, where the simulation waits too), the caller waits. Whatever goes wrong in the
    thread closes the file as a failure and is raised by `put` and by the closing methods.
    """

    def __init__(self, writer: EpisodeWriter, capacity_bytes: int, idle_s: float = 0.5) -> None:
        self.writer = writer
        self.dropped = 0
        """Samples dropped because the disk did not keep up."""
        self.samples = 0
        """Samples handed over."""
        self._capacity = capacity_bytes
        self._idle_s = idle_s
        self._items: deque[tuple[int, Sequence[Item]]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._final: Callable[[EpisodeWriter], None] | None = None
        self._error: ArmchairError | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="episode writer", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """Where the episode stands, or will stand once closed."""
        return self.writer.path

    @property
    def error(self) -> ArmchairError | None:
        """What went wrong; the file is closed as a failure then."""
        return self._error

    def put(self, items: Sequence[Item], nbytes: int, *, stream: str, wait: bool) -> None:
        """Hand over samples that belong together; `stream` is blamed when they are dropped.

        Raises:
            ArmchairError: writing failed earlier; the file is closed as a failure.
        """
        with self._changed:
            while wait and self._bytes + nbytes > self._capacity and self._bytes and not self._ended:
                self._changed.wait()
            self._raise_if_broken()
            if self._bytes + nbytes > self._capacity and self._bytes:
                self.dropped += 1
                self._items.append((0, [(EpisodeWriter.count_drop, (stream,))]))
            else:
                self._items.append((nbytes, items))
                self._bytes += nbytes
                self.samples += 1
            self._changed.notify_all()

    def close(self, final: Callable[[EpisodeWriter], None]) -> Path:
        """Write what waits, then call `final(writer)`, which finishes or discards the episode.

        Raises:
            ArmchairError: writing failed; the file is closed as a failure.
        """
        with self._changed:
            self._final = final
            self._changed.notify_all()
        self._thread.join()
        self._raise_if_broken()
        return self.path

    def _raise_if_broken(self) -> None:
        if self._error is not None:
            raise self._error
        if self._ended and self._final is None:
            raise StackError(f"{self.path}: the thread that writes this episode has died; see the log above.")

    def abort(self, reason: str) -> Path:
        """Write what waits and close the file as a failure with `reason`; never as a success."""

        def fail(writer: EpisodeWriter) -> None:
            raise Interrupted(reason)

        try:
            return self.close(fail)
        except Interrupted:
            return self.path

    def _run(self) -> None:
        try:
            with self.writer as writer:
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
            if not self._items and self._final is None:
                self._changed.wait(self._idle_s)
            if not self._items:
                return None if self._final is not None else ()
            nbytes, batch = self._items.popleft()
            self._bytes -= nbytes
            self._changed.notify_all()
            return batch


class Interrupted(StackError):
    """Ends a recording from inside, so that the writer closes its file as a failure with this reason."""
