"""The verb as a process: SIGKILL loses nothing that was acknowledged, Ctrl-C ends it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from reward.store import FILE, LabelStore
from tests.reward.review.test_api import ANNA, said

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/[\w-]{32}/")


@contextmanager
def reviewing(data: Dataset) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    command = [sys.executable, "-m", "armchair", "review", str(data.path), "--port", "0", "--pairs", "12"]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        address = said.strip()
        assert ADDRESS.fullmatch(address), said
        with httpx.Client(base_url=address, timeout=280, trust_env=False) as client:
            yield child, client
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def answer_some(client: httpx.Client, count: int, name: str) -> dict[str, Any]:
    found = client.post("api/next", json=ANNA).raise_for_status().json()
    for k in range(count):
        body = {**said(found["items"][0], f"{name}{k}", "second"), **ANNA}
        found = client.post("api/answer", json=body).raise_for_status().json()
    return dict(found)


def test_a_killed_server_loses_no_answer_and_ctrl_c_ends_the_next_one(data: Dataset) -> None:
    with reviewing(data) as (child, client):
        answer_some(client, 5, "a")
        child.send_signal(signal.SIGKILL)
        child.wait()
    with reviewing(data) as (child, client):
        found = answer_some(client, 2, "b")
        assert found["progress"]["answered"] == 7
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=280)
        assert child.returncode == 0, output
        assert "every answer is kept" in output
        assert "Traceback" not in output
    with LabelStore(data.path / FILE) as store:
        assert store.rows("SELECT COUNT(*) FROM acts WHERE undone_by IS NULL") == [(7,)]


def test_a_port_that_is_taken_is_said(data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert armchair(["review", str(data.path), "--port", str(port)]) == 2
    assert "--port 0" in capsys.readouterr().err
