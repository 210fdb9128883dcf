"""A worker in another Python: started, asked, and ended with whoever asked for it."""

from __future__ import annotations

import collections
import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError
from sim.bridge.frames import HEAD, Frame, FrameError, decoded, encoded, lengths

WORKERS = Path(__file__).resolve().parent / "worker"
TAIL_LINES = 15
_LONGEST_LINE = 400
_CHUNK = 2**20
_FAREWELL_S = 5.0
_CLEAN_UP_S = 2.0
_SLICE_S = 0.5


class Worker:
    """A process that answers requests, one at a time. None outlives this one, however this one ends.

    Args:
        name: what messages call it, an environment's name.
        python: interpreter that runs the script.
        script: file name in `sim/bridge/worker`.
        variables: environment variables to set; None takes one away.

    Raises:
        MachineError: the interpreter cannot be started.
    """

    def __init__(
        self, name: str, python: str, script: str, variables: Mapping[str, str | None] | None = None
    ) -> None:
        self.name = name
        environment = dict(os.environ)
        for variable, value in {"PYTHONHOME": None, **(variables or {})}.items():
            environment.pop(variable, None)
            if value is not None:
                environment[variable] = value
        theirs, ours = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [python, str(WORKERS / script), str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(theirs,),
                env=environment,
            )
        except OSError as error:
            os.close(ours)
            raise MachineError(
                f"{name}: the interpreter {python} cannot be started ({error}). Name the Python of the "
                "environment that has it installed."
            ) from error
        finally:
            os.close(theirs)
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._heard_s = [time.monotonic()]
        self._reader = threading.Thread(
            target=_listen, args=(self._popen.stderr, self._tail, self._heard_s), daemon=True
        )
        self._reader.start()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._over = ""
        self._end = weakref.finalize(self, _end, self._popen, ours, self._reader)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._popen.pid

    @property
    def tail(self) -> str:
        """The last lines that it printed, indented."""
        return "\n".join(f"    {line}" for line in tuple(self._tail)) or "    (nothing was printed)"

    def call(
        self,
        op: str,
        text: Mapping[str, Any] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        *,
        limit_s: float,
        patient: bool = False,
    ) -> Frame:
        """Send a request and take the reply.

        Args:
            op: what to do.
            text: its settings, as JSON takes them.
            arrays: its arrays.
            limit_s: seconds to wait for the reply; the process is ended where none comes.
            patient: count them from the last line that the process printed.

        Raises:
            ConfigError: the worker refuses a setting.
            MachineError: the worker misses something, died, hangs, or sent what is no reply.
            RuntimeError: after `close`.
        """
        if not self._end.alive:
            raise RuntimeError(self._over or f"{self.name} is closed: make it again")
        self._heard_s[0] = begun = time.monotonic()
        line = _Line(self, op, begun, limit_s, patient)
        line.write(encoded({**(text or {}), "op": op}, arrays or {}))
        try:
            text_length, data_length = lengths(line.read(HEAD.size))
            frame = decoded(line.read(text_length), line.read(data_length))
        except FrameError as error:
            self.fail(op, f"sent what is no reply: {error}")
        trouble = frame.text.get("trouble")
        if trouble is not None:
            kind = ConfigError if trouble == "config" else MachineError
            raise kind(f"{self.name}: {frame.text.get('text')}")
        return frame

    def close(self) -> None:
        """End the process and wait for it. May be called twice."""
        self._end()

    def fail(self, op: str, what: str) -> NoReturn:
        """End the process at once, and raise MachineError with its last lines."""
        self._popen.kill()
        self._end()
        self._over = f"{self.name}: its process {what}, asked to {op!r}"
        raise MachineError(f"{self._over}. Its last lines:\n{self.tail}")

    def _died(self, op: str) -> NoReturn:
        """Raise what says how the process ended, once its pipe is closed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_FAREWELL_S)
        code = self._popen.returncode
        if code is None:
            self.fail(op, "closed its pipe")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        self.fail(op, how)


class _Line:
    """One request's use of the pipes, inside its time."""

    def __init__(self, worker: Worker, op: str, begun_s: float, limit_s: float, patient: bool) -> None:
        self._worker, self._op, self._limit_s, self._patient = worker, op, limit_s, patient
        self._begun_s = begun_s

    def write(self, data: bytes) -> None:
        pipe = self._worker._popen.stdin
        assert pipe is not None
        view = memoryview(data)
        while view:
            self._wait(pipe.fileno(), selectors.EVENT_WRITE)
            try:
                view = view[os.write(pipe.fileno(), view[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self._worker._died(self._op)

    def read(self, count: int) -> bytes:
        pipe = self._worker._popen.stdout
        assert pipe is not None
        data = bytearray()
        while len(data) < count:
            self._wait(pipe.fileno(), selectors.EVENT_READ)
            try:
                got = os.read(pipe.fileno(), min(count - len(data), _CHUNK))
            except BlockingIOError:
                continue
            if not got:
                self._worker._died(self._op)
            data += got
        return bytes(data)

    def _wait(self, descriptor: int, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            while not selector.select(_SLICE_S):
                since = self._worker._heard_s[0] if self._patient else self._begun_s
                if time.monotonic() - since > self._limit_s:
                    self._worker.fail(self._op, f"gave no answer for {self._limit_s:g} s")


def _listen(pipe: Any, tail: collections.deque[str], heard_s: list[float]) -> None:
    """Keep the last lines of a pipe until it is closed, so that it never fills."""
    rest = b""
    while True:
        got = os.read(pipe.fileno(), 65_536)
        heard_s[0] = time.monotonic()
        *lines, rest = (rest + got).split(b"\n")
        tail.extend(line.decode(errors="replace")[:_LONGEST_LINE] for line in lines)
        rest = rest[:_LONGEST_LINE]
        if not got:
            break
    if rest:
        tail.append(rest.decode(errors="replace"))


def _end(popen: subprocess.Popen[bytes], lifeline: int, reader: threading.Thread) -> None:
    """Close the pipes, which ends the worker, then the lifeline, which ends one that is stuck."""
    for pipe in (popen.stdin, popen.stdout):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        popen.wait(_CLEAN_UP_S)
    os.close(lifeline)
    try:
        popen.wait(_FAREWELL_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
    # A child of the worker may hold the pipe open: then the thread, a daemon, is left to read it.
    reader.join(1.0)
    if not reader.is_alive() and popen.stderr is not None:
        popen.stderr.close()
