"""A process of another Python: what it says, however it says it, and how it ends."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from episodes.errors import ConfigError, MachineError
from sim.bridge.frames import HEAD, MAGIC, FrameError, decoded, encoded, lengths
from sim.bridge.process import WORKERS, Worker

ODD = str(Path(__file__).resolve().parent / "odd_worker.py")


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("odd/Task", sys.executable, ODD)
    yield made
    made.close()


def gone(pid: int) -> bool:
    """Whether a process is no more, or waits only for its parent to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until_gone(pid: int) -> bool:
    """`gone`, within a minute."""
    end = time.monotonic() + 60.0
    while not gone(pid) and time.monotonic() < end:
        os.sched_yield()
    return gone(pid)


NUMBERS = st.sampled_from([np.bool_, np.uint8, np.int32, np.int64, np.float32, np.float64, ">f8"])


@settings(max_examples=15)
@given(
    arrays=st.dictionaries(st.text(max_size=4), hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0)), max_size=3)
)
def test_arrays_survive_a_frame_to_the_last_bit(arrays: dict[str, np.ndarray]) -> None:
    data = encoded({"op": "x"}, arrays)
    text, size = lengths(data[: HEAD.size])
    frame = decoded(data[HEAD.size : HEAD.size + text], data[HEAD.size + text :])
    assert len(data) == HEAD.size + text + size
    assert frame.text == {"op": "x"}
    assert frame.arrays.keys() == arrays.keys()
    for name, value in arrays.items():
        assert frame.arrays[name].shape == value.shape
        np.testing.assert_array_equal(frame.arrays[name], value)


@pytest.mark.parametrize(
    ("blob", "data"),
    [
        (b"{}", b""),
        (b"[1]", b""),
        (b"\xff", b""),
        (b'{"arrays": [["x", "<f8", [2]]]}', b"1234"),
        (b'{"arrays": [["x", "O", [1]]]}', b"12345678"),
        (b'{"arrays": [["x", "<f8", [-1]]]}', b"12345678"),
        (b'{"arrays": [["x", "<f8", [9223372036854775807, 4]]]}', b"12345678"),
        (b'{"arrays": [["x", "nonsense", [1]]]}', b"12345678"),
        (b'{"arrays": []}', b"1"),
    ],
)
def test_what_is_no_frame_is_refused(blob: bytes, data: bytes) -> None:
    with pytest.raises(FrameError):
        decoded(blob, data)


def test_a_head_that_announces_too_much_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(FrameError, match="announces"):
        lengths(HEAD.pack(MAGIC, 10, 2**40))


@pytest.mark.parametrize("path", sorted(WORKERS.glob("*.py")), ids=lambda path: path.name)
def test_a_worker_is_python_3_6_and_imports_nothing_of_armchairs(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & {"sim", "episodes", "policy", "__future__"}
        assert not isinstance(node, ast.NamedExpr)


def test_one_process_answers_prints_refuses_and_goes_on(worker: Worker) -> None:
    """What it prints fills no pipe and is in no reply."""
    sent = {"x": np.arange(12.0).reshape(3, 4), "big": np.zeros(300_000)}
    for _ in range(3):
        worker.call("shout", limit_s=60.0)
        reply = worker.call("echo", {"a": [1, "b"]}, sent, limit_s=60.0)
        assert reply.text == {"a": [1, "b"]}
        np.testing.assert_array_equal(reply.arrays["x"], sent["x"])
    with pytest.raises(MachineError, match="odd/Task: there is no GPU"):
        worker.call("refuse", {"kind": "machine"}, limit_s=60.0)
    with pytest.raises(ConfigError, match="there is no GPU"):
        worker.call("refuse", {"kind": "config"}, limit_s=60.0)
    kept = worker.call("pack", arrays={"x": np.arange(3)}, limit_s=60.0)
    assert kept.text == {"same": True, "n": 3.0}
    os.kill(worker.pid, signal.SIGINT)
    assert worker.call("echo", limit_s=60.0).text == {}, "Ctrl-C is for armchair to hear"
    worker.close()
    worker.close()
    assert gone(worker.pid)
    with pytest.raises(RuntimeError, match="make it again"):
        worker.call("echo", limit_s=60.0)


@pytest.mark.parametrize(
    ("op", "told"),
    [
        ("fail", ["ended with status 1, asked to 'fail'", "RuntimeError: the solver is out of memory"]),
        ("stop", ["ended with status 3", "CUDA error: no kernel image"]),
        ("garbage", ["sent what is no reply: it begins with b'loading", "Its last lines"]),
    ],
)
def test_a_process_that_breaks_is_told_of_with_its_last_lines(
    worker: Worker, op: str, told: list[str]
) -> None:
    with pytest.raises(MachineError) as raised:
        worker.call(op, limit_s=60.0)
    assert all(part in str(raised.value) for part in told), raised.value
    assert gone(worker.pid)
    with pytest.raises(RuntimeError, match="odd/Task: its process"):
        worker.call("echo", limit_s=60.0)


def test_a_process_that_hangs_in_c_is_ended_after_its_time(worker: Worker) -> None:
    worker.call("echo", limit_s=60.0)
    with pytest.raises(MachineError, match=r"gave no answer for 0\.1 s"):
        worker.call("hang", limit_s=0.1)
    assert gone(worker.pid)


def test_a_worker_dies_with_whoever_started_it_even_while_it_hangs_in_c() -> None:
    script = (
        "import sys\nfrom sim.bridge.process import Worker\n"
        f"worker = Worker('odd/Task', sys.executable, {ODD!r})\n"
        "worker.call('echo', limit_s=60.0)\nprint(worker.pid, flush=True)\nworker.call('hang', limit_s=600)\n"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root) as armchair:
        assert armchair.stdout is not None
        pid = int(armchair.stdout.readline())
        assert not gone(pid)
        armchair.kill()
        armchair.wait()
        assert until_gone(pid)


def test_an_interpreter_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"nowhere/python cannot be started"):
        Worker("odd/Task", str(tmp_path / "nowhere/python"), ODD)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho Welcome to this shell, which greets everybody\nexec sleep 1000\n")
    script.chmod(0o755)
    worker = Worker("odd/Task", str(script), ODD)
    with pytest.raises(MachineError, match="sent what is no reply: it begins with b'Welcome"):
        worker.call("echo", limit_s=60.0)
    assert gone(worker.pid)
