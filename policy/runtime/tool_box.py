"""Keeps the tool of a joint-position channel in its workspace box, through forward kinematics.

A box in space couples the joints, so no bound per joint can hold it. Instead a command is sent only when the
whole stop that could follow it keeps the tool inside; where it does not, the command is drawn back towards
the stop that is under way, whose path was found inside one tick before. The stop itself is thus always
allowed, and keeps the arm inside whatever comes.

The path depends a little on the length of the ticks in which it is gone: a stop in ticks of h lags behind the
continuous one by up to (v₀ − v)·h/2, in every joint by the same h. Both ends, h = 0 and h = a period, are
looked at. A millimetre of margin covers what lies between the points that are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from episodes.contract import Contract
from episodes.errors import ConfigError
from policy.runtime.jerk import JerkBound
from policy.runtime.kinematics import Chain, Forward
from policy.runtime.limits import Limits, Vector

POINTS = 10
"""Points of a stop's path that are looked at, on both of its ends."""
MOST_TICKS = 24
"""A stop of a jerk-limited arm that takes more ticks than this follows its continuous path closely."""
MARGIN_M = 0.001
BISECTIONS = 5


class ToolBox:
    """The box of one channel, whose entries stand at `where` in the action."""

    def __init__(self, where: slice, forward: Forward, lower: Vector, upper: Vector, limits: Limits) -> None:
        self.where = where
        self._forward = forward
        self._lower, self._upper = lower + MARGIN_M, upper - MARGIN_M
        self._low, self._high = self._lower, self._upper
        self._period_s = limits.period_ns * 1e-9
        self._brake = limits.acceleration[where]
        self._jerk = JerkBound(limits, where)
        self._jerky = self._jerk.index - where.start

    def start(self, pose: Vector) -> None:
        """Begin at rest at `pose` (dim,). A tool found outside may only come back."""
        tool = self._forward(pose[None, self.where])[0]
        self._low, self._high = np.minimum(self._lower, tool), np.maximum(self._upper, tool)

    def bound(self, last: Vector, velocity: Vector, stop: Vector, command: Vector, h_s: float) -> Vector:
        """The command (dim,) nearest to `command`, on the way from `stop`, that keeps the tool in the box.

        Args:
            last: the last command.
            velocity: its velocity (dim,).
            stop: the command of a stop in this tick.
            command: the wanted command, within all other limits.
            h_s: length of the tick.
        """
        at = self.where
        before, base, way = last[at], stop[at], command[at] - stop[at]
        velocity_before = velocity[at]

        def inside(share: float) -> bool:
            wanted = base + share * way if share < 1.0 else command[at]
            after = (wanted - before) / h_s
            tools = self._forward(wanted + self._stop_path(after, (after - velocity_before) / h_s))
            lowest, highest = tools.min(axis=0), tools.max(axis=0)
            if (lowest < self._low).any() or (highest > self._high).any():
                return False
            self._low = np.maximum(self._low, np.minimum(self._lower, lowest))
            self._high = np.minimum(self._high, np.maximum(self._upper, highest))
            return True

        if inside(1.0):
            return command
        good, bad = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = 0.5 * (good + bad)
            good, bad = (middle, bad) if inside(middle) else (good, middle)
        bounded = command.copy()
        bounded[at] = base + good * way
        return bounded

    def _stop_path(self, velocity: Vector, acceleration: Vector) -> Vector:
        """Ways (points, n) of a stop from here: none, then in continuous time, then in ticks of a period."""
        jerky, bound, period_s = self._jerky, self._jerk, self._period_s
        lasts_s = np.abs(velocity) / self._brake
        if len(jerky):
            lasts_s[jerky] = bound.stop_s(velocity[jerky], acceleration[jerky])
        longest_s = float(lasts_s.max())
        times: Vector = np.linspace(0.0, longest_s, POINTS + 1)[1:, None]
        way, speed = self._braked(velocity, lasts_s, times)
        ticks = int(np.ceil(longest_s / period_s)) + 1
        if len(jerky):
            way[:, jerky], speed[:, jerky] = bound.stop_path(velocity[jerky], acceleration[jerky], times)
        if not len(jerky) or ticks > MOST_TICKS:
            late = way - 0.5 * period_s * (velocity - speed) * (lasts_s > 0.0)
        else:
            # Long ticks follow the S-curve only roughly, so they are taken one by one.
            times = period_s * np.arange(1.0, ticks + 1.0)[:, None]
            late, speed = self._braked(velocity, lasts_s, times)
            late -= 0.5 * period_s * (velocity - speed) * (lasts_s > 0.0)
            v, a, gone = velocity[jerky], acceleration[jerky], np.zeros(len(jerky))
            for row in late:
                v, a = bound.stop(v, a, period_s)
                gone = gone + v * period_s
                row[jerky] = gone
        return np.concatenate([np.zeros((1, len(velocity))), way, late])

    def _braked(self, velocity: Vector, lasts_s: Vector, times: Vector) -> tuple[Vector, Vector]:
        """Way and velocity (m, n) at `times` (m, 1) of braking at the limit; no limit stops at once."""
        finite = np.isfinite(self._brake)
        gone = np.minimum(times, lasts_s)
        slower = np.abs(velocity) - np.where(finite, self._brake, 0.0) * gone
        speed = np.where(finite, np.sign(velocity) * np.maximum(slower, 0.0), 0.0)
        return 0.5 * (velocity + speed) * gone, speed


def tool_boxes(contract: Contract, limits: Limits, given: Mapping[str, Forward]) -> tuple[ToolBox, ...]:
    """A box for each joint-position channel with a workspace; `given` comes before the contract's kinematics.

    Raises:
        ConfigError: a channel has a workspace but no kinematics, or kinematics are given for another one.
    """
    boxes = []
    for name, channel in contract.actions.items():
        if channel.kind != "joint_position" or channel.workspace_lower is None:
            continue
        if name not in given and channel.kinematics is None:
            raise ConfigError(
                f"{contract.source}: key 'actions.{name}.kinematics' is missing: the workspace box bounds "
                "the tool, which follows from the joints. Add the chain, or give control 'kinematics'."
            )
        forward = given[name] if name in given else Chain(channel.kinematics or (), channel.names)
        lower, upper = np.array(channel.workspace_lower), np.array(channel.workspace_upper)
        boxes.append(ToolBox(contract.action_slices[name], forward, lower, upper, limits))
    boxed = [n for n, c in contract.actions.items() if c.kind == "joint_position" and c.workspace_lower]
    if unknown := sorted(set(given) - set(boxed)):
        raise ConfigError(
            f"control setting 'kinematics' names {unknown}: {contract.source} has a workspace box on "
            f"{boxed or 'no joint_position channel'}."
        )
    return tuple(boxes)
