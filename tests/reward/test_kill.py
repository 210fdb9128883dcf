"""A labelling command that is killed: no answer is lost, and no question is sent twice."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from episodes.dataset import Dataset
from reward.asking import _Asking, ask_pairs
from reward.clients.protocol import Errand, FreeJudge, Outcome, Question, Task, Verdict
from reward.clients.sending import SendConfig
from reward.clients.vlm import VlmJudge
from reward.drawing import DrawConfig, draw_pairs
from reward.frames import Frames, load_frames
from reward.records import DrawnPair
from reward.showing import Showing
from reward.store import FILE, LabelStore
from tests.reward.wire import GEMINI, Asked, Reply, WireServer

ROOT = Path(__file__).resolve().parents[2]
KEY = "AIza-secret-51c0"
PAIRS = 20
IN_FLIGHT = 2
HELD = 17
"""The server answers so many requests and then waits until it is told to go on."""


class Holding:
    """A server's script that counts what it is asked and holds the answers after the first ones."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.held, self.go_on = threading.Semaphore(0), threading.Event()
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Reply:
        digest = hashlib.sha256("".join(asked.texts).encode())
        for image in asked.images:
            digest.update(np.ascontiguousarray(image).tobytes())
        with self._lock:
            self.counted[digest.hexdigest()] += 1
            hold = sum(self.counted.values()) > HELD and not self.go_on.is_set()
        if hold:
            self.held.release()
            assert self.go_on.wait(280)
        if asked.images:
            return GEMINI.said(f"description {digest.hexdigest()[:12]}")
        return GEMINI.said('{"answer": "0"}')


def processes_of(pid: int) -> list[int]:
    """The children of a process, theirs included."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *processes_of(int(child))]
    return found


@contextmanager
def labelling(dataset: Dataset, server: WireServer) -> Iterator[subprocess.Popen[str]]:
    command = [
        *(sys.executable, "-m", "armchair", "label", str(dataset.path), "--judge", "gemini"),
        *("--pairs", str(PAIRS), "--gemini.base-url", server.url),
        *("--send.concurrency", str(IN_FLIGHT), "--send.attempts", "1"),
    ]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, GEMINI.key_variable: KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def ended(pid: int) -> bool:
    """Gone, or dead and not yet reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition: Callable[[], bool], what: str, seconds: float = 280.0) -> None:
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def drawn(
    dataset: Dataset, store: LabelStore, server: WireServer
) -> tuple[VlmJudge, tuple[DrawnPair, ...], Showing]:
    send = SendConfig(concurrency=IN_FLIGHT, attempts=1)
    judge = GEMINI.judge(server.url, Task("to open the drawer"), None, send, key=KEY)
    show = Showing(load_frames(dataset, "front"), stream="front")
    pairs = draw_pairs(store, judge.name, show, judge, DrawConfig(pairs=PAIRS))
    return judge, pairs, show


def all_kept(dataset: Dataset) -> bool:
    """Every answer that the server sent before it held the others has been committed."""
    with LabelStore(dataset.path / FILE) as store:
        ((steps,),) = store.rows("SELECT COUNT(*) FROM steps")
        ((answers,),) = store.rows("SELECT COUNT(*) FROM answers WHERE state='answered'")
    return steps + answers == HELD


def assert_no_key_is_stored(dataset: Dataset) -> None:
    for file in dataset.path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_killed_command_loses_nothing_and_asks_nothing_twice(dataset: Dataset) -> None:
    script = Holding()
    with WireServer(GEMINI, script).running() as server:
        with labelling(dataset, server) as child:
            for _ in range(IN_FLIGHT):
                assert script.held.acquire(timeout=280), child.stdout and child.stdout.read()
            (second,) = [pid for pid in processes_of(child.pid) if "spawn_main" in _command(pid)]
            child.send_signal(signal.SIGKILL)
            child.wait()
        with LabelStore(dataset.path / FILE) as store:
            judge, pairs, show = drawn(dataset, store, server)
            keys = {pair.key for pair in pairs}
            assert len(store.in_flight(keys)) >= IN_FLIGHT
            assert store.in_doubt(keys) == set()
            script.go_on.set()
            until(lambda: ended(second), "the second process ends")
            sent = sum(script.counted.values())
            assert store.in_doubt(keys) == set(), "all that was in flight was answered and kept"
            steps = sum(store.recall(key, "describe") is not None for key in keys)
            assert steps + len(store.outcomes(keys)) == sent
            summary = ask_pairs(store, show, judge, pairs)
            assert (summary.in_doubt, summary.usable) == (0, PAIRS)
            assert summary.calls == 2 * PAIRS
        assert set(script.counted.values()) == {1}
        assert sum(script.counted.values()) == 2 * PAIRS
    assert_no_key_is_stored(dataset)


def test_when_everything_is_killed_what_was_in_flight_is_in_doubt(dataset: Dataset) -> None:
    script = Holding()
    with WireServer(GEMINI, script).running() as server:
        with labelling(dataset, server) as child:
            for _ in range(IN_FLIGHT):
                assert script.held.acquire(timeout=280), child.stdout and child.stdout.read()
            until(lambda: all_kept(dataset), "what was answered is committed")
            everyone = [child.pid, *processes_of(child.pid)]
            for pid in everyone:
                os.kill(pid, signal.SIGKILL)
            output, _ = child.communicate()
        assert KEY not in output
        script.go_on.set()
        with LabelStore(dataset.path / FILE) as store:
            judge, pairs, show = drawn(dataset, store, server)
            keys = {pair.key for pair in pairs}
            until(lambda: not store.in_flight(keys), "the dead process holds no lock")
            done, doubtful = set(store.outcomes(keys)), store.in_doubt(keys)
            assert len(doubtful) == IN_FLIGHT
            described = sum(store.recall(key, "describe") is not None for key in keys)
            assert len(done) + described == HELD, "every answer that was sent before the kill is kept"

            summary = ask_pairs(store, show, judge, pairs)
            assert (summary.in_doubt, summary.usable) == (IN_FLIGHT, PAIRS - IN_FLIGHT)
            assert max(script.counted.values()) == 1, "nothing was asked twice"

            unfinished = sum(store.recall(key, "describe") is None for key in doubtful)
            before = sum(script.counted.values())
            summary = ask_pairs(store, show, judge, pairs, again=True)
            assert (summary.in_doubt, summary.usable) == (0, PAIRS)
            assert sum(script.counted.values()) - before == IN_FLIGHT + unfinished
    assert_no_key_is_stored(dataset)


def test_an_interrupt_finishes_what_is_in_flight(dataset: Dataset) -> None:
    script = Holding()
    with WireServer(GEMINI, script).running() as server:
        with labelling(dataset, server) as child:
            for _ in range(IN_FLIGHT):
                assert script.held.acquire(timeout=280), child.stdout and child.stdout.read()
            child.send_signal(signal.SIGINT)
            assert child.stdout is not None
            until(lambda: "in flight" in child.stdout.readline(), "the command says what it does")
            script.go_on.set()
            output, _ = child.communicate(timeout=280)
            assert child.returncode == 130, output
        with LabelStore(dataset.path / FILE) as store:
            _, pairs, _ = drawn(dataset, store, server)
            keys = {pair.key for pair in pairs}
            assert store.in_flight(keys) | store.in_doubt(keys) == set()
            steps = sum(store.recall(key, "describe") is not None for key in keys)
            assert steps + len(store.outcomes(keys)) == sum(script.counted.values())


def test_no_number_of_signals_loses_an_answer_that_is_under_way(dataset: Dataset) -> None:
    """Ctrl-C twice, a service manager that ends both processes, and a terminal that is closed."""
    script = Holding()
    with WireServer(GEMINI, script).running() as server:
        with labelling(dataset, server) as child:
            for _ in range(IN_FLIGHT):
                assert script.held.acquire(timeout=280), child.stdout and child.stdout.read()
            (second,) = [pid for pid in processes_of(child.pid) if "spawn_main" in _command(pid)]
            os.kill(second, signal.SIGTERM)
            child.send_signal(signal.SIGINT)
            assert child.stdout is not None
            until(lambda: "in flight" in child.stdout.readline(), "the command says what it does")
            until(lambda: _ignores(second, signal.SIGINT), "the second process is ending")
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(second, number)
            child.send_signal(signal.SIGINT)
            assert child.poll() is None
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert not ended(second)
            script.go_on.set()
            until(lambda: ended(second), "the second process ends")
        with LabelStore(dataset.path / FILE) as store:
            _, pairs, _ = drawn(dataset, store, server)
            keys = {pair.key for pair in pairs}
            assert store.in_flight(keys) | store.in_doubt(keys) == set()
            steps = sum(store.recall(key, "describe") is not None for key in keys)
            assert steps + len(store.outcomes(keys)) == sum(script.counted.values())


def test_two_interrupts_of_a_run_in_this_process_keep_what_arrives(frames: Frames, tmp_path: Path) -> None:
    class Slow(FreeJudge):
        name, prompt_version, settings = "slow", "p", {}
        paid, threads = True, 3

        def ask(self, question: Question, errand: Errand) -> Verdict:
            errand.claim()
            sent.release()
            assert go_on.wait(280)
            errand.bill.calls += 1
            return errand.bill.verdict(Outcome.FIRST, "seen")

    def interrupt() -> None:
        for _ in range(Slow.threads):
            sent.acquire()
        for number in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            # The first one is being handled when nothing more is sent; the others hit the waiting.
            until(lambda: bool(stopped) or number > 0, "the run is ending")  # noqa: B023
        go_on.set()

    sent, go_on, stopped = threading.Semaphore(0), threading.Event(), []
    drain = _Asking._drain

    def draining(asking: _Asking, pool: ThreadPoolExecutor) -> None:
        stopped.append(1)
        drain(asking, pool)

    with LabelStore(tmp_path / "l.sqlite") as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Asking, "_drain", draining)
        judge = Slow()
        pairs = draw_pairs(store, "s", Showing(frames), judge, DrawConfig(pairs=8))
        other = threading.Thread(target=interrupt)
        other.start()
        with pytest.raises(KeyboardInterrupt):
            ask_pairs(store, frames, judge, pairs)
        other.join()
        assert len(store.outcomes({pair.key for pair in pairs})) == Slow.threads


def _ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("SigIgn")]
    return bool(int(line.split()[1], 16) & 1 << number - 1)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--judge", "openai"), "OPENAI_API_KEY"),
        (("--judge", "gemini", "--votes", "3"), "temperature"),
        (("--judge", "gemini", "--stream", "wrist"), "wrist"),
        (("--judge", "gemini", "--show.cameras", "wrist"), "wrist"),
        (("--judge", "gemini", "--vlm.prompt", "score-1"), "score-1"),
        (("--judge", "replay"), "--replay.source"),
        (("--judge", "scripted", "--question", "success"), "scripted"),
    ],
)
def test_mistakes_of_the_command_get_one_message(
    dataset: Dataset,
    words: tuple[str, ...],
    message: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from armchair import main

    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["label", str(dataset.path), *words]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said
