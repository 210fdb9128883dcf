"""What stands between the actuator topics and a simulated driver. Pure; time is told."""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract

Vector = NDArray[np.float64]
_GAPS = 9
_TOGETHER_NS = 10_000_000
"""How long one channel of a command waits for the others."""


class Inbox:
    """The newest message of each channel, as one command once it is whole.

    A channel that was never commanded stays where it is, and a gripper keeps its last command. When another
    one that was commanded falls silent nothing more is handed on, so that the driver holds with all of them:
    what keeps a gripper's topic alive must not keep the arm alive.
    """

    def __init__(self, contract: Contract, timeout_ns: int) -> None:
        self._contract = contract
        self._timeout_ns = timeout_ns
        self._newest: dict[str, tuple[Vector, int]] = {}
        self._fresh: set[str] = set()
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._taken_ns: int | None = None

    def reset(self) -> None:
        """Forget all commands."""
        self._newest.clear()
        self._fresh.clear()
        self._gaps.clear()
        self._taken_ns = None

    def receive(self, channel: str, values: Vector, now_ns: int) -> None:
        """The actuator message of a channel has come, values (channel dim,)."""
        self._newest[channel] = (values, now_ns)
        self._fresh.add(channel)

    def take(self, setpoint: Vector, now_ns: int) -> Vector | None:
        """The command (dim,) in contract order when something new has come, else None.

        Args:
            setpoint: (dim,) where the driver's setpoint is, for channels without a command.
            now_ns: the time now.
        """
        if not self._fresh:
            return None
        for name, (_, received_ns) in self._newest.items():
            if self._contract.actions[name].kind != "gripper" and now_ns - received_ns > self._timeout_ns:
                return None
        if not self._fresh.issuperset(self._newest) and now_ns - self._oldest_fresh_ns() < _TOGETHER_NS:
            return None  # the other channels of the same tick are on their way
        self._fresh.clear()
        command = setpoint.copy()
        for name, (values, _) in self._newest.items():
            command[self._contract.action_slices[name]] = values
        if self._taken_ns is not None:
            self._gaps.append(now_ns - self._taken_ns)
        self._taken_ns = now_ns
        return command

    @property
    def period_ns(self) -> int | None:
        """Median period of the last commands; None before there are some."""
        return round(median(self._gaps)) if len(self._gaps) == _GAPS else None

    def _oldest_fresh_ns(self) -> int:
        return min(self._newest[name][1] for name in self._fresh)


class HoldingDriver:
    """A robot driver's watchdog: the newest command of each channel, or a hold when they stop.

    To hold is to keep a position or a gripper's command, and to command zero velocity, twist or delta.
    """

    def __init__(self, contract: Contract, timeout_ns: int) -> None:
        self._contract = contract
        self._timeout_ns = timeout_ns
        self._newest: dict[str, tuple[Vector, int]] = {}
        self.rest: Vector = np.zeros(contract.action_dim)
        """(dim,) what channels without a command are given, clipped to the contract's box."""
        self.holds = 0
        """Ticks on which a channel that had been commanded was held."""

    def reset(self) -> None:
        """Forget all commands."""
        self._newest.clear()
        self.holds = 0

    def receive(self, channel: str, values: Vector, now_ns: int) -> None:
        """A command (channel dim,) has arrived."""
        self._newest[channel] = (values, now_ns)

    def action(self, now_ns: int) -> Vector:
        """What moves the arm now, (dim,)."""
        contract = self._contract
        action: Vector = np.clip(self.rest, contract.action_lower, contract.action_upper)
        for name, (values, received_ns) in self._newest.items():
            stale = now_ns - received_ns > self._timeout_ns
            self.holds += stale
            if not stale or contract.actions[name].kind in ("joint_position", "gripper"):
                action[contract.action_slices[name]] = values
        return action
