"""The pace of a simulation in real time: which steps are due, how late, and what could not be kept."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np


class Pacing(Protocol):
    """Says when steps are due; all times are monotonic ns."""

    step_ns: int
    speed: float
    slipped_ns: int

    def begin(self, now_ns: int) -> None:
        """Time begins to go on."""
        ...

    def forget(self) -> None:
        """Begin to count anew."""
        ...

    @property
    def next_ns(self) -> int:
        """When the next step is due."""
        ...

    def due(self, now_ns: int) -> list[int]:
        """The deadlines of the steps to take now; they count as taken."""
        ...

    def figures(self) -> dict[str, float]:
        """What there is to tell since `forget`."""
        ...


class Unpaced:
    """One step after the other, each due when it is taken: nothing is ever late or left out.

    Args:
        step_ns: simulated time of one step.
    """

    speed = float("inf")
    slipped_ns = 0

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.forget()

    def begin(self, now_ns: int) -> None:
        """See Pacing."""
        self._since_ns = now_ns

    def forget(self) -> None:
        """See Pacing."""
        self.steps = 0
        self._wall_ns = 0
        self._since_ns: int | None = None

    @property
    def next_ns(self) -> int:
        """A moment after the last step began: what waits in the loop has its turn between two steps."""
        return (self._since_ns or 0) + 1

    def due(self, now_ns: int) -> list[int]:
        """See Pacing."""
        if self._since_ns is not None:
            self._wall_ns += now_ns - self._since_ns
        self._since_ns = now_ns
        self.steps += 1
        return [now_ns]

    def figures(self) -> dict[str, float]:
        """Steps, and simulated over wall time while it ran."""
        factor = self.steps * self.step_ns / self._wall_ns if self._wall_ns else 0.0
        return {"steps": float(self.steps), "slipped_s": 0.0, "real_time_factor": factor}


class Pace:
    """Steps of simulated time against the monotonic clock. Pure.

    Steps that are a little late are caught up with, so that simulated time keeps to the wall clock. A machine
    that is too slow for that would race ever further behind; there the time is left out instead, and counted:
    the simulated robot has stood still for it.

    Args:
        step_ns: simulated time of one step.
        speed: simulated seconds per second.
        catch_up_steps: how many steps may be made up for at once; beyond it all but one are left out.
        window: steps that the percentiles look back on.
    """

    def __init__(self, step_ns: int, speed: float, catch_up_steps: int, window: int = 2048) -> None:
        self.step_ns = step_ns
        self.speed = speed
        self._wall_ns = step_ns / speed
        self._catch_up = catch_up_steps
        self._lateness = np.zeros(window, dtype=np.int64)
        self._base_ns = 0
        self._done = 0
        self.forget()
        self.begin(0)

    def begin(self, now_ns: int) -> None:
        """It is `now_ns` on the monotonic clock and nothing is due: the first step is one step from here."""
        self._base_ns, self._done = now_ns, 0

    def forget(self) -> None:
        """Begin to count anew."""
        self.steps = 0
        self.slips = 0
        """How often time was left out."""
        self.slipped_ns = 0
        """Simulated time that was left out in all."""
        self.late_worst_ns = 0

    @property
    def next_ns(self) -> int:
        """When the next step is due, monotonic ns."""
        return self._at(self._done + 1)

    def due(self, now_ns: int) -> list[int]:
        """The deadlines (monotonic ns, oldest first) of the steps to take now; they count as taken."""
        count = max(0, int((now_ns - self._base_ns) / self._wall_ns) - self._done)
        count += self._at(self._done + count + 1) <= now_ns  # deadlines are rounded to ns, this ratio is not
        count -= count > 0 and self._at(self._done + count) > now_ns
        if count > 1 + self._catch_up:
            left_out = count - 1
            self._base_ns += round(left_out * self._wall_ns)
            self.slips += 1
            self.slipped_ns += left_out * self.step_ns
            self.late_worst_ns = max(self.late_worst_ns, round(left_out * self._wall_ns))
            count = 1
        deadlines = [self._at(self._done + k) for k in range(1, count + 1)]
        for deadline_ns in deadlines:
            late_ns = max(0, now_ns - deadline_ns)
            self._lateness[self.steps % len(self._lateness)] = late_ns
            self.late_worst_ns = max(self.late_worst_ns, late_ns)
            self.steps += 1
        self._done += count
        return deadlines

    def figures(self) -> dict[str, float]:
        """Lateness of the last steps in ms, and the time left out in s, since `forget`."""
        seen = self._lateness[: min(self.steps, len(self._lateness))] / 1e6
        p50, p99 = np.percentile(seen, (50, 99)) if len(seen) else (0.0, 0.0)
        return {
            "steps": float(self.steps),
            "late_p50_ms": float(p50),
            "late_p99_ms": float(p99),
            "late_worst_ms": self.late_worst_ns / 1e6,
            "slips": float(self.slips),
            "slipped_s": self.slipped_ns / 1e9,
        }

    def _at(self, step: int) -> int:
        return self._base_ns + round(step * self._wall_ns)


def go_first(priority: int) -> str:
    """Give the calling thread SCHED_FIFO where that is permitted, and no thread that it starts; what came of
    it, as text.

    A robot's driver has a processor of its own. One that waits for its turn on a busy machine takes several
    commands as one, which no real arm would see.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (PermissionError, ValueError) as error:
        return f"no SCHED_FIFO ({error}; allow it with an rtprio limit or CAP_SYS_NICE)"
    return f"SCHED_FIFO {priority}"
