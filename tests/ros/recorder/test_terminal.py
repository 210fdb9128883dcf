"""`armchair record` on a real pseudo-terminal, with real keys and a real recorder behind it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import rich.console

from bench.record_stand import Stand
from episodes.dataset import Dataset
from ros_nodes.recorder.status import RECORDING, RecorderStatus, StreamStatus
from ros_nodes.recorder.terminal import LEGEND, screen

from ..conftest import ROOT
from ..test_failures import wait_for
from .conftest import Puppet, joint_state, recorder_of
from .screens import Terminal, terminal

Bare = Callable[..., AbstractContextManager[Stand]]


class Session:
    """`armchair record` on a terminal, beside a robot that goes on publishing."""

    def __init__(self, made: Stand, shown: Terminal) -> None:
        self._made, self.terminal = made, shown

    def see(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows what a pattern fits."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            self._made.loop.spin_once(20_000_000)
            match = re.search(pattern, self.terminal.read(), re.DOTALL)
            found.extend([match] if match else [])
            ended = self.terminal.process.poll() is not None
            assert match or not ended, f"it ended before {pattern!r}:\n{self.terminal.screen.text}"
            return match is not None

        try:
            wait_for(seen, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen shows:\n{self.terminal.screen.text}") from None
        return found[-1]

    def press(self, keys: str, pattern: str) -> re.Match[str]:
        """Type, and wait for what it does."""
        self.terminal.press(keys)
        return self.see(pattern)

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        wait_for(lambda: (self.terminal.read(), self.terminal.process.poll())[1] is not None, "the end")
        return int(self.terminal.process.returncode)


@contextmanager
def session(
    made: Stand, *words: str, columns: int = 100, rows: int = 30, **environment: str
) -> Iterator[Session]:
    """`armchair record` in the stand's domain."""
    command = [sys.executable, str(ROOT / "armchair.py"), "record", *words]
    command += ["--domain", made.environment["ROS_DOMAIN_ID"]]
    # What a runner of tests says of its own screen is not true of this one.
    inherited = {key: value for key, value in made.environment.items() if key not in ("COLUMNS", "LINES")}
    variables: Mapping[str, str] = {**inherited, "TERM": "xterm-256color", **environment}
    with terminal(command, variables, columns=columns, rows=rows) as shown:
        yield Session(made, shown)


def of(made: Stand) -> tuple[str, ...]:
    """What to record, and where logs go."""
    files = (str(made.folder / "contract.yaml"), str(made.folder / "dataset"))
    return (*files, "--folder", str(made.folder / "run"), "--task", "draw", "--operator", "Ada")


def outcomes(made: Stand) -> list[tuple[str, str]]:
    """(outcome, reason) of the episodes, in the order of their recording."""
    infos = sorted(
        Dataset.open(made.folder / "dataset").infos(), key=lambda info: int(info.attrs["started_ns"])
    )
    return [(info.outcome, str(info.attrs["termination_reason"])) for info in infos]


def test_every_key_does_what_the_legend_says_and_the_table_tells_the_state(bare: Bare) -> None:
    with bare() as made, session(made, *of(made), columns=160) as operator:
        before = operator.terminal.settings
        Puppet(made, {"joint_states": joint_state})
        operator.see(re.escape(LEGEND))
        operator.see(r"IDLE   arm → \S+dataset.*episodes\s+0 \(0 now\)   task: draw   operator: Ada")
        operator.see(r"stream +rate/s +samples +lost +gaps +longest ms +age ms")
        operator.see(r"\n *state +[1-9]\d\.\d +\d+ +\d+ +\d+ +\d+ +\d+\n")
        operator.see(r"queue \d+ \(0\.0 of 256 MiB\)   dropped 0   refused 0   disk \d+\.\d GiB left")
        operator.terminal.press("\x1b[Ax1")  # an arrow and keys that mean nothing
        operator.press("s", r"success: nothing is being recorded: call ~/start first")

        name = operator.press(" ", r"recording (\S+\.h5)")[1]
        operator.see(rf"RECORDING 00:0[1-9]  {re.escape(name)}")
        operator.press(" ", r"is being recorded: close or discard it first")
        operator.press("S", rf"kept as a success: {re.escape(name)}")
        operator.see(r"IDLE .*episodes 1 \(1 now\)")
        name = operator.press("\r", rf"recording (?!{re.escape(name)})(\S+\.h5)")[1]
        operator.press("f", rf"kept as a failure: {re.escape(name)}")
        thrown = operator.press("\n", rf"recording (?!{re.escape(name)})(\S+\.h5)")[1]
        operator.press("d", r"\ndiscarded\n")
        again = operator.press(" ", rf"recording (?!{re.escape(thrown)})(\S+\.h5)")[1]
        last = operator.press("r", rf"recording (?!{re.escape(again)})(\S+\.h5)")[1]
        operator.see(rf"RECORDING 00:0\d  {re.escape(last)}")
        operator.press("q", "q again keeps it as a failure")
        assert operator.terminal.process.poll() is None
        operator.terminal.press("q")
        assert operator.end() == 0, operator.terminal.screen.text
        assert "episodes: armchair episodes list" in operator.terminal.screen.text
        assert operator.terminal.settings == before, "echo and line mode are back"
        assert operator.terminal.screen.cursor_shown
        assert outcomes(made) == [
            ("success", "operator"), ("failure", "operator"), ("failure", "Interrupted: SIGINT"),
        ]  # fmt: skip
        assert not Dataset.open(made.folder / "dataset").partials()


@pytest.mark.parametrize("term", ["vt100", pytest.param("linux", marks=pytest.mark.long)])
def test_a_small_terminal_shows_what_matters_and_is_put_back_by_sigterm(bare: Bare, term: str) -> None:
    with bare() as made, session(made, *of(made), columns=42, rows=14, TERM=term) as operator:
        before = operator.terminal.settings
        Puppet(made, {"joint_states": joint_state})
        operator.see(r"stream +rate/s +lost +gaps +age ms\n")
        operator.see(r"\n *state +\d+\.\d +0 +0 +\d+\n")
        operator.press(" ", r"RECORDING 00:0\d")
        operator.see(r"q quit")
        assert operator.terminal.settings != before
        operator.terminal.process.send_signal(signal.SIGTERM)
        assert operator.end() == 0
        assert "an episode under way is kept as a failure" in operator.terminal.screen.text.replace("\n", " ")
        assert operator.terminal.settings == before
        assert operator.terminal.screen.cursor_shown
        assert outcomes(made) == [("failure", "Interrupted: SIGINT")]


@pytest.mark.long
def test_a_plain_terminal_gets_lines_and_a_cut_connection_leaves_the_recorder_alone(bare: Bare) -> None:
    with bare() as made, recorder_of(made) as running:
        Puppet(made, {"joint_states": joint_state})
        running.ready()
        with session(made, "--attach", TERM="dumb") as operator:
            operator.see(re.escape(LEGEND))
            operator.see(r"IDLE   arm → .*state \d+\.\d/s.*disk \d+\.\d GiB left")
            operator.press(" ", r"recording \S+\.h5")
            operator.press("q", r"")
            assert operator.end() == 0, "the recorder goes on, so nothing is asked"
        running.until(lambda status: status.state == RECORDING)
        with session(made, "--attach") as operator:
            operator.see(r"RECORDING 00:\d\d")
            operator.terminal.hang_up()
            wait_for(lambda: operator.terminal.process.poll() is not None, "the end")
            assert operator.terminal.process.returncode == 0
        running.until(lambda status: status.state == RECORDING and status.elapsed_s > 1.0)
        assert Path(running.call("success")).exists()


@pytest.mark.long
def test_a_cut_connection_ends_a_recording_of_its_own_as_a_failure(bare: Bare) -> None:
    with bare() as made, session(made, *of(made)) as operator:
        Puppet(made, {"joint_states": joint_state})
        operator.see(r"\n *state +\d")
        operator.press(" ", r"RECORDING 00:0\d")
        operator.terminal.hang_up()
        wait_for(lambda: operator.terminal.process.poll() is not None, "the end")
        assert outcomes(made) == [("failure", "Interrupted: SIGINT")]


def test_what_wants_attention_is_shown_first_where_there_is_no_room_for_all() -> None:
    streams = [StreamStatus(f"s{n}", 10, 30.0, 0, 0, 40.0, 10.0) for n in range(20)]
    streams[13] = StreamStatus("bad", 10, 30.0, 7, 1, 99.0, 10.0)
    streams[17] = StreamStatus("late", 10, 30.0, 0, 0, 40.0, 5000.0)
    status = RecorderStatus(
        state="idle", robot="arm", dataset="/data", bytes_free=1 << 30, streams=tuple(streams)
    )
    with open(os.devnull, "w") as nowhere:
        console = rich.console.Console(width=80, height=16, file=nowhere, force_terminal=True)
        group = screen(status, "said", console, age_s=0.1, waiting="", warning="")
        lines = ["".join(part.text for part in line).rstrip() for line in console.render_lines(group)]
    assert len(lines) <= 16
    names = [line.split()[0] for line in lines if line]
    assert names.index("stream") < names.index("bad") < names.index("late")
    assert any(re.fullmatch(r" *… and 1\d more", line) for line in lines)
    assert lines[-2:] == ["said", LEGEND]


def test_without_a_terminal_it_says_what_to_use_instead(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "armchair.py"), "record", "c.yaml", str(tmp_path / "d")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "its keys need a terminal. Without one: armchair up record" in done.stderr
