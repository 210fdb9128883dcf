"""A window that shows an environment while somebody acts in it; tkinter, so it needs a display."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import MachineError

Frame = NDArray[np.uint8]


def need_display(environ: Mapping[str, str] = os.environ) -> None:
    """Raises MachineError, which says what to do instead, where no window can be opened."""
    if sys.platform.startswith("linux") and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        raise MachineError(
            "there is no display here (DISPLAY is not set), so no window can be opened: write --film "
            "FILE.mp4 to get a film, or log in with ssh -X."
        )


def show(
    frames: Iterator[Frame], period_s: float, title: str, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Show frames (H, W, 3) uint8 RGB at their pace until they end or the window is closed.

    Args:
        frames: the pictures, drawn as they are taken.
        period_s: time from one to the next.
        title: of the window.
        sleep: waits so many seconds.

    Returns:
        How many were shown.

    Raises:
        MachineError: there is no display, no tkinter, or the display lets nobody in.
    """
    need_display()
    try:
        import tkinter
    except ModuleNotFoundError as error:
        raise MachineError(
            "this Python has no tkinter (Debian's package python3-tk), so no window can be opened: write "
            "--film FILE.mp4."
        ) from error
    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        raise MachineError(f"no window can be opened ({error}): write --film FILE.mp4.") from error
    open_ = [True]
    root.title(title)
    root.protocol("WM_DELETE_WINDOW", lambda: open_.__setitem__(0, False))
    label: Any = tkinter.Label(root)
    label.pack()
    shown, due_s = 0, time.monotonic()
    for frame in frames:
        if not open_[0]:
            break
        photo = tkinter.PhotoImage(data=ppm(frame), format="PPM")
        label.configure(image=photo)
        root.update()
        shown += 1
        due_s += period_s
        if (left_s := due_s - time.monotonic()) > 0.0:
            sleep(left_s)
        else:
            due_s = time.monotonic()
    root.destroy()
    return shown


def ppm(frame: Frame) -> bytes:
    """A frame (H, W, 3) uint8 RGB as a binary PPM, which tkinter reads without further libraries."""
    height, width = frame.shape[:2]
    return f"P6 {width} {height} 255\n".encode() + np.ascontiguousarray(frame).tobytes()
