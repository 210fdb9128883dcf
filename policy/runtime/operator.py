"""The operator: a dead-man that must be held, and commands that are followed while it is.

The dead-man is a heartbeat. It engages on the way from released to held only, so that one that is jammed, or
was held before control was enabled, moves nothing. Silence opens it, and then it must be heard released
before it engages again.

A command stands for a short time and is then dropped. Joint positions are not stepped to but gone to in a
straight line over the interval at which commands come: a loop of 200 Hz that is told a pose 20 times a second
would otherwise accelerate and brake 20 times a second. A joint that its limits keep behind what is asked for
follows the operator's own motion, from the last pose to this one: a line from where the joint is would move
faster than the operator does, and the joint would shoot past its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract
from policy.runtime.limits import STOP_IS_ZERO
from policy.runtime.state import Heartbeat

LONGEST_SPAN_NS = 100_000_000
"""Commands that come more seldom are gone to as if they came at this interval."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OperatorCommand:
    """What an operator asks for. Channels that are left out hold (positions, grippers) or are zero."""

    values: Mapping[str, Vector]
    """By action channel, (channel dim,) in the contract's order and unit."""
    issued_ns: int
    """When it was issued."""
    problem: str = ""
    """Why it could not be read, where it could not."""

    def fault(self, contract: Contract) -> str | None:
        """Why it must not be executed, or None: an unknown channel, a wrong size, a non-finite number."""
        if self.problem:
            return self.problem
        if not self.values:
            return "it names no channel"
        for name, values in self.values.items():
            channel = contract.actions.get(name)
            if channel is None:
                return f"there is no channel {name!r}"
            if values.shape != (channel.dim,) or values.dtype.kind != "f":
                return f"{name} is {values.dtype} {list(values.shape)}, the contract expects [{channel.dim}]"
            if not np.isfinite(values).all():
                return f"{name} holds a non-finite number"
        return None


class Change(StrEnum):
    """What has become of the dead-man."""

    NONE = "none"
    ENGAGED = "engaged"
    RELEASED = "released"
    SILENT = "silent"


class DeadMan:
    """Whether the operator holds the dead-man, judged by its heartbeats."""

    def __init__(self, silence_ns: int, skew_ns: int) -> None:
        self._silence_ns, self._skew_ns = silence_ns, skew_ns
        self.restart()

    def restart(self) -> None:
        """Open, until it is heard released and then held."""
        self.engaged = False
        self._was_released = False
        self._heard_ns = 0

    def update(self, now_ns: int, beat: Heartbeat | None) -> Change:
        """Take the newest heartbeat since the last call, None where none has come."""
        was = self.engaged
        if beat is not None:
            self._heard_ns = beat.received_ns
            self._was_released |= not beat.pressed
            self.engaged = beat.pressed and self._was_released
        if self.engaged and not -self._skew_ns <= now_ns - self._heard_ns <= self._silence_ns:
            self.restart()
            return Change.SILENT if was else Change.NONE
        if self.engaged == was:
            return Change.NONE
        return Change.ENGAGED if self.engaged else Change.RELEASED


@dataclass(frozen=True, eq=False)
class _Plan:
    """The way to the newest command."""

    wanted: Vector
    start: Vector
    issued_ns: int
    taken_ns: int
    span_ns: int


class Operator:
    """The command that an engaged operator asks for at any time."""

    def __init__(
        self, contract: Contract, period_ns: int, *, silence_ns: int, max_age_ns: int, skew_ns: int
    ) -> None:
        self._contract, self._period_ns = contract, period_ns
        self._max_age_ns, self._skew_ns = max_age_ns, skew_ns
        self._deadman = DeadMan(silence_ns, skew_ns)
        kinds = [c.kind for c in contract.actions.values() for _ in c.names]
        self._in_line = np.array([kind == "joint_position" for kind in kinds])
        self._stop_is_zero = np.array([kind in STOP_IS_ZERO for kind in kinds])
        self._plan: _Plan | None = None
        self._rest: Vector | None = None
        self._asked: Vector | None = None

    @property
    def engaged(self) -> bool:
        """Whether the dead-man is held: nobody else's commands may be followed."""
        return self._deadman.engaged

    def restart(self) -> None:
        """Forget everything; the dead-man must be released before it engages."""
        self._deadman.restart()
        self._plan = self._rest = self._asked = None

    def update(self, now_ns: int, beat: Heartbeat | None) -> Change:
        """Take the dead-man's newest heartbeat; what has become of it."""
        change = self._deadman.update(now_ns, beat)
        if change is not Change.NONE:
            self._plan = self._rest = self._asked = None
        return change

    def take(self, command: OperatorCommand, now_ns: int, last: Vector, rest: Vector) -> str | None:
        """Take a command (one that `OperatorCommand.fault` finds nothing in) while engaged.

        Args:
            command: the newest one.
            now_ns: the tick's time.
            last: (dim,) the last command that was sent, where the way to this one begins.
            rest: (dim,) where it would come to rest; channels that are not named stay there.

        Returns:
            Why it is of no use: 'stale', 'from_the_future' or 'repeated'; None when it is taken.
        """
        before = self._plan
        if now_ns - command.issued_ns > self._max_age_ns:
            return "stale"
        if now_ns - command.issued_ns < -self._skew_ns:
            return "from_the_future"
        if before is not None and command.issued_ns <= before.issued_ns:
            return "repeated"
        # What was named once and is not any more stays where it was asked to be.
        wanted = rest.copy() if self._rest is None else self._rest
        wanted[self._stop_is_zero] = 0.0
        for name, values in command.values.items():
            wanted[self._contract.action_slices[name]] = values
        self._rest = wanted.copy()
        span_ns = 0 if before is None else min(command.issued_ns - before.issued_ns, LONGEST_SPAN_NS)
        start = last
        if before is not None and self._asked is not None:
            start = np.where(self._asked != last, before.wanted, last)
        self._plan = _Plan(wanted, start, command.issued_ns, now_ns, span_ns)
        return None

    def at(self, now_ns: int) -> Vector | None:
        """The command (dim,) that is due; None when there is none in force."""
        plan = self._plan
        if plan is None or not self.engaged or now_ns - plan.issued_ns > self._max_age_ns:
            self._asked = None  # the arm has stopped: the next command begins where it stands
            return None
        gone_ns = now_ns - plan.taken_ns + self._period_ns
        asked = plan.wanted
        if gone_ns < plan.span_ns:
            between = plan.start + (plan.wanted - plan.start) * (gone_ns / plan.span_ns)
            asked = np.where(self._in_line, between, plan.wanted)
        self._asked = asked
        return asked.copy()
