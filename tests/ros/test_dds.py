"""Domains, shared memory, and the processes of a stack."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from episodes.errors import ConfigError, MachineError, StackError
from ros_nodes import dds, processes
from ros_nodes.processes import Running
from ros_nodes.stacks import Process

from .conftest import ROOT, NodeProcess


def test_a_busy_domain_is_one_clear_message_that_names_its_holder(domain: int) -> None:
    said = rf"domain {domain} is in use on this machine by test, process {os.getpid()}.*choose another domain"
    with pytest.raises(MachineError, match=said), dds.hold_domain(domain, "second"):
        pass


def test_a_domain_that_any_other_ros_process_uses_is_busy(domain: int) -> None:
    other = next(d for d in dds.DOMAINS[60:] if d != domain and dds._heard(d) is None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 7400 + 250 * other + 10))
        with (
            pytest.raises(MachineError, match="ROS process that holds UDP port"),
            dds.hold_domain(other, "x"),
        ):
            pass


def test_a_domain_is_free_again_once_it_is_let_go(domain: int) -> None:
    with dds.hold_domain(None, "first") as first:
        assert first != domain
    with dds.hold_domain(first, "second") as second:
        assert second == first


def test_a_domain_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 101"), dds.hold_domain(102, "x"):
        pass


@pytest.mark.parametrize(("free_mib", "segment"), [(10_000, 64), (200, 30), (8, 1)])
def test_segments_shrink_to_what_dev_shm_holds_and_it_is_said(
    tmp_path: Path, free_mib: int, segment: int
) -> None:
    shipped = ROOT / "launch/fastdds.xml"
    profile, note = dds.fitting_profile(shipped, 5, tmp_path, free_bytes=free_mib << 20)
    if segment == 64:
        assert (profile, note) == (shipped, None)
    else:
        assert f"{segment} MiB instead of 64" in (note or "")
        text = profile.read_text()
        size = int(text.split("<segment_size>")[1].split("<")[0])
        assert size >> 20 == segment
        assert int(text.split("<maxMessageSize>")[1].split("<")[0]) <= size


def test_a_dev_shm_that_is_full_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="--shm-size=1g"):
        dds.fitting_profile(ROOT / "launch/fastdds.xml", 5, tmp_path, free_bytes=1 << 20)


def test_shared_memory_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(domain: int) -> None:
    code = "import rclpy, sys; rclpy.init(); n = rclpy.create_node('n'); print('up', flush=True); input()"
    since_s = time.time() - 1.0
    living, killed = (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    )
    try:
        for process in (living, killed):
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
        killed.kill()
        killed.wait()
        before = {p.name for p in dds.SHARED_MEMORY.glob("fastrtps_*_el")}
        assert dds.clean_segments(since_s) > 0
        after = {p.name for p in dds.SHARED_MEMORY.glob("fastrtps_*_el")}
        assert after < before
        assert living.poll() is None
    finally:
        living.communicate(b"\n", timeout=20)
        killed.communicate(timeout=20)
        dds.clean_segments(since_s, domain)  # a port of the killed one that the living one had open


def environment() -> dict[str, str]:
    return dict(os.environ)


def script(folder: Path, name: str, text: str, **more: object) -> Process:
    """A process that is no ROS node; `text` runs once its signal handlers stand."""
    path = folder / "scripts" / f"{name}_script.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return Process(name, f"{name}_script", {}, {"PYTHONPATH": str(path.parent)}, **more)  # type: ignore[arg-type]


WAITS = "import signal, pathlib\npathlib.Path(r'{}').touch()\nsignal.pause()\n"


def start_scripts(folder: Path, *specs: Process) -> AbstractContextManager[list[Running]]:
    variables = {**environment(), "PYTHONPATH": str(folder / "scripts")}
    return processes.running(specs, folder, variables)


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 20.0
    while not path.exists():
        assert time.monotonic() < deadline_s, f"{path} did not come"
        time.sleep(0.01)


def test_a_process_that_fails_ends_the_stack_and_is_named_with_its_last_lines(tmp_path: Path) -> None:
    waits = script(tmp_path, "waits", WAITS.format(tmp_path / "up"))
    fails = script(tmp_path, "fails", "raise SystemExit('the arm is on fire')")
    with (
        pytest.raises(StackError, match=r"'fails' ended with exit code 1[\s\S]*the arm is on fire"),
        start_scripts(tmp_path, waits, fails) as started,
    ):
        processes.watch(started)
    assert all(p.popen.poll() is not None for p in started)


def test_a_process_that_ends_too_early_is_a_failure_even_with_exit_code_0(tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match="'early' ended with exit code 0"),
        start_scripts(tmp_path, script(tmp_path, "early", "")) as started,
    ):
        processes.watch(started)


def test_a_process_that_ignores_sigint_and_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [(number, 0.2 if number != signal.SIGKILL else 5.0) for number, _ in processes.ESCALATION]
    monkeypatch.setattr(processes, "ESCALATION", steps)
    deaf = "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n" + WAITS.format(
        tmp_path / "up"
    )
    kept: list[Running] = []
    with (
        pytest.raises(StackError, match="signal SIGKILL while the stack was ended"),
        start_scripts(tmp_path, script(tmp_path, "deaf", deaf)) as started,
    ):
        kept += started
        wait_for(tmp_path / "up")
    assert kept[0].popen.returncode == -signal.SIGKILL


def test_a_node_whose_launcher_is_killed_ends_by_itself(tmp_path: Path, domain: int) -> None:
    launcher = (
        "import os, subprocess, sys, time\n"
        "os.environ['ARMCHAIR_PARENT_PID'] = str(os.getpid())\n"
        "p = subprocess.Popen([sys.executable, '-m', 'ros_nodes.session_node'])\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", launcher], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    node = os.pidfd_open(int(process.stdout.readline()))
    try:
        process.kill()
        process.communicate(timeout=20)
        deadline_s = time.monotonic() + 20.0
        assert select.select([node], [], [], deadline_s - time.monotonic())[0], "the node lives on"
    finally:
        os.close(node)


def test_a_node_process_says_what_is_wrong_with_its_parameters(start: object) -> None:
    node: NodeProcess = start("sim_node", contract="missing.yaml", colour="red")  # type: ignore[operator]
    code, text = node.finish()
    assert code == 1
    assert "unknown parameters ['colour']" in text
