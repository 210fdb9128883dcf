"""A labelling process that is killed: no answer that had arrived is lost, and no question is sent twice."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from episodes.dataset import Dataset
from reward.asking import ask_pairs
from reward.clients.gemini import Gemini, GeminiConfig
from reward.drawing import DrawConfig, draw_pairs
from reward.frames import load_frames
from reward.store import FILE, LabelStore
from tests.reward.gemini_server import Asked, GeminiServer, Reply, said

ROOT = Path(__file__).resolve().parents[2]
KEY = "AIza-secret-51c0"
PAIRS = 20
IN_FLIGHT = 2
HELD = 17
"""The server answers so many requests and then waits until the client is dead."""


def content(asked: Asked) -> str:
    """What a request is about, for counting."""
    digest = hashlib.sha256("".join(asked.texts).encode())
    for image in asked.images:
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def test_a_kill_loses_no_answer_and_repeats_no_request(dataset: Dataset) -> None:
    counted: Counter[str] = Counter()
    answered = 0
    lock, holding, dead = threading.Lock(), threading.Semaphore(0), threading.Event()

    def respond(asked: Asked) -> Reply:
        nonlocal answered
        with lock:
            counted[content(asked)] += 1
            hold = sum(counted.values()) > HELD and not dead.is_set()
        if hold:
            holding.release()
            assert dead.wait(60)
        with lock:
            answered += 1
        if asked.images:
            return said(f"description {content(asked)[:12]}")
        return said('{"answer": "0"}')

    with GeminiServer(respond).running() as server:
        command = [
            *(sys.executable, "-m", "armchair", "label", str(dataset.path), "--judge", "gemini"),
            *("--pairs", str(PAIRS), "--gemini.base-url", server.url),
            *("--gemini.concurrency", str(IN_FLIGHT), "--gemini.attempts", "1"),
        ]
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "GEMINI_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for _ in range(IN_FLIGHT):
                assert holding.acquire(timeout=120), child.stdout.read() if child.stdout else ""
            child.send_signal(signal.SIGKILL)
        finally:
            child.kill()
            output, _ = child.communicate()
        dead.set()
        assert KEY not in output
        with LabelStore(dataset.path / FILE) as store:
            frames = load_frames(dataset, "front")
            judge = Gemini(
                replace(GeminiConfig(), base_url=server.url, concurrency=IN_FLIGHT, attempts=1),
                "to open the drawer",
                key=KEY,
            )
            pairs = draw_pairs(store, "gemini-2.5-flash", frames, judge, DrawConfig(pairs=PAIRS))
            keys = {pair.key for pair in pairs}
            done, doubtful = set(store.outcomes(keys)), store.in_doubt(keys)
            assert len(doubtful) == IN_FLIGHT
            described = sum(store.recall(key, "describe") is not None for key in doubtful)
            assert 2 * len(done) + described == HELD, "every answer that was sent before the kill is kept"
            assert store.spending().calls == 2 * (len(done) + len(doubtful))

            summary = ask_pairs(store, frames, judge, pairs)
            assert (summary.in_doubt, summary.usable) == (IN_FLIGHT, len(pairs) - IN_FLIGHT)
            assert max(counted.values()) == 1, "nothing was asked twice"

            steps_before = sum(counted.values())
            summary = ask_pairs(store, frames, judge, pairs, again=True)
            assert (summary.in_doubt, summary.usable) == (0, len(pairs))
            assert sum(counted.values()) - steps_before == 2 * IN_FLIGHT - described
    for file in dataset.path.glob("labels.sqlite*"):
        assert KEY.encode() not in file.read_bytes()
