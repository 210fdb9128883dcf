"""What an operator sees and presses: a table, and single keys of a plain terminal, over SSH too."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import rich.box
import rich.console
import rich.table
import rich.text

from ros_nodes.recorder.status import FAILED, RECORDING, RecorderStatus, StreamStatus

KEYS = {
    " ": "start",
    "\r": "start",
    "\n": "start",
    "s": "success",
    "f": "failure",
    "d": "discard",
    "r": "rerecord",
    "q": "quit",
}
"""What each key does."""
LEGEND = "space start   s success   f failure   d discard   r re-record   q quit"
_STYLES = {RECORDING: "bold red", FAILED: "bold yellow"}


@contextlib.contextmanager
def single_keys(descriptor: int) -> Iterator[None]:
    """Keys come one by one and are not shown; Ctrl-C stays a signal. Everything is put back at the end."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def pressed(descriptor: int) -> str:
    """The keys that were pressed since the last call, without waiting; "" for none.

    Raises:
        EOFError: the terminal is gone.
    """
    if not select.select([descriptor], [], [], 0)[0]:
        return ""
    try:
        data = os.read(descriptor, 64)
    except OSError as error:
        raise EOFError("the terminal is gone") from error
    if not data:
        raise EOFError("the terminal is gone")
    # An arrow or function key sends several bytes, the letters of which are not meant.
    return "" if data.startswith(b"\x1b") else data.decode(errors="ignore").lower()


def screen(
    status: RecorderStatus | None, said: str, *, age_s: float, waiting: str, warning: str
) -> rich.console.Group:
    """Everything that is shown.

    Args:
        status: what the recorder said last, None before it said anything.
        said: what is to be told the operator: the last answer, a question.
        age_s: how old the status is, s.
        waiting: what is being waited for before the first status.
        warning: what is wrong besides what the recorder says, empty for nothing.
    """
    if status is None:
        return rich.console.Group(rich.text.Text(waiting), rich.text.Text(LEGEND, style="dim"))
    lines: list[rich.console.RenderableType] = [_head(status), _table(status), _foot(status)]
    problems = [f"{s.name}: {s.problem}" for s in status.streams if s.problem]
    if age_s > 2.0:
        problems.insert(0, f"the recorder has said nothing for {age_s:.0f} s")
    lines += [
        rich.text.Text(text, style="yellow") for text in filter(None, [warning, status.error, *problems])
    ]
    lines.append(rich.text.Text(said or status.note or " "))
    lines.append(rich.text.Text(LEGEND, style="dim"))
    return rich.console.Group(*lines)


def _head(status: RecorderStatus) -> rich.text.Text:
    text = rich.text.Text()
    text.append(status.state.upper(), style=_STYLES.get(status.state, "bold green"))
    if status.state == RECORDING:
        text.append(f" {_clock(status.elapsed_s)}  {Path(status.path).name}")
    text.append(f"   {status.robot} → {status.dataset}")
    text.append(f"   episodes {status.in_dataset} ({status.episodes} now)")
    if status.closing:
        text.append(f"   writing out {status.closing}")
    for label, value in (("task", status.task), ("operator", status.operator)):
        if value:
            text.append(f"   {label}: {value}")
    return text


def _table(status: RecorderStatus) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stream")
    for title in ("rate/s", "samples", "lost", "gaps", "longest ms", "age ms"):
        table.add_column(title, justify="right")
    for stream in status.streams:
        table.add_row(*_row(stream))
    return table


def _row(stream: StreamStatus) -> tuple[str | rich.text.Text, ...]:
    age = "none yet" if stream.age_ms is None else f"{stream.age_ms:.0f}"
    late = stream.age_ms is None or stream.age_ms > 1000.0
    return (
        stream.name,
        f"{stream.rate_hz:.1f}",
        str(stream.samples),
        rich.text.Text(str(stream.lost), style="red" if stream.lost else ""),
        str(stream.gaps),
        f"{stream.gap_max_ms:.0f}",
        rich.text.Text(age, style="red" if late else ""),
    )


def _foot(status: RecorderStatus) -> rich.text.Text:
    text = rich.text.Text(f"queue {status.queued} ({status.queued_mib:.1f} of {status.buffer_mib} MiB)")
    text.append(f"   dropped {status.dropped}", style="red" if status.dropped else "")
    text.append(f"   refused {status.undecodable}", style="red" if status.undecodable else "")
    if status.bytes_free is None:
        text.append("   the dataset folder is gone", style="red")
        return text
    text.append(f"   disk {status.bytes_free / (1 << 30):.1f} GiB left")
    if status.bytes_per_s > 0:
        text.append(f", {_clock(status.bytes_free / status.bytes_per_s)} at this rate")
    return text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
