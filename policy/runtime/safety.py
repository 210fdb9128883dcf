"""Limits on the command stream that hold together, whatever is asked for and whenever.

A channel's command x has a box, a largest velocity and a largest acceleration (contract, per entry; for
deltas and velocities they bound the command itself). Clamping to box, velocity and acceleration one after the
other does not keep all three: an arm that is let up to full speed beside its limit can no longer stop before
it. So the velocity is also bounded by what can still be braked away on the remaining distance d:

    v² / (2a) + v·h ≤ d,   that is   v ≤ 2d / (h + √(h² + 2d/a))

with h the time since the last command. It is a little stricter than the bound for evenly spaced ticks,
v ≤ a·h·(−½ + √(¼ + 2d/(a·h²))), which a tick that comes early breaks, and which in the last tick before rest
allows a·h²/8 too much. With it max(0, v − a·h) is always an allowed next velocity, for any next h
(v²/(2a) shrinks by more than the way that such a step takes), so the bounds never contradict each other.
"""

from __future__ import annotations

import numpy as np

from policy.runtime.limits import Limits, Mask, Vector

__all__ = ["RULES", "Limiter", "Limits", "Mask", "Vector", "braking_velocity"]

RULES = ("box", "workspace", "velocity", "acceleration", "braking", "deviation", "approach")
ROUNDING = 1e-14
"""Relative slack when a command is compared with a bound: one that lies on it must pass unchanged."""
STALLED_PERIODS = 2
"""A setpoint that stood for longer than this many periods is at rest: the next one starts from velocity 0."""
SAME_TICK = 100
"""Ticks closer than a period divided by this are one tick: differences over less would be rounding only."""


def braking_velocity(distance: Vector, acceleration: Vector, h_s: float) -> Vector:
    """Largest velocity towards a limit `distance` away from which the limit is never passed; 0 beyond it.

    The equation of the module's docstring, in the form that loses no digits near the limit.
    """
    room = np.maximum(distance, 0.0)
    return 2.0 * room / (h_s + np.sqrt(h_s * h_s + 2.0 * room / acceleration))


class Limiter:
    """Turns wanted commands into allowed ones, each from the last command that was sent.

    What lies inside all limits passes bit for bit. A command outside its box (a robot found beyond a limit)
    may only move inwards. However late a tick comes, no command moves further than one period allows.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._last = np.zeros_like(limits.lower)
        self._velocity = np.zeros_like(limits.lower)
        self._target = np.zeros_like(limits.lower)
        self._wanted = np.zeros_like(limits.lower)
        self._lags = np.zeros_like(limits.stop_is_zero)
        self._sent_ns = 0
        bounded = np.isfinite(limits.workspace_lower) | np.isfinite(limits.deviation)
        self._integrates = bool((bounded & limits.is_delta).any())
        self._slew_ratio = limits.velocity * limits.period_ns * 1e-9

    @property
    def last(self) -> Vector:
        """The last command, a copy."""
        return self._last.copy()

    @property
    def at_rest(self) -> bool:
        """Whether a further stop would change nothing."""
        moving = np.where(self.limits.stop_is_zero, self._last, self._velocity)
        return not moving.any()

    def start(self, now_ns: int, pose: Vector) -> None:
        """Begin at rest at `pose` (dim,); of deltas it is the point (m) that they start from."""
        self._last = np.where(self.limits.stop_is_zero, 0.0, pose)
        self._target = np.where(self.limits.is_delta, pose, 0.0)
        self._velocity = np.zeros_like(self._last)
        self._wanted, self._lags = self._last, np.zeros_like(self._lags)
        self._sent_ns = now_ns - self.limits.period_ns

    def rebase(self, now_ns: int) -> None:
        """Go on from the last command and its velocity on a clock that has jumped back to `now_ns`."""
        self._sent_ns = now_ns - self.limits.period_ns

    def step(
        self, now_ns: int, wanted: Vector, measured: Vector | None = None
    ) -> tuple[Vector, dict[str, Mask]]:
        """The allowed command nearest to `wanted` (dim,), which is finite, and what each rule clamped.

        `measured` (dim,) is where the robot is, NaN where that is not known.
        """
        elapsed_ns = now_ns - self._sent_ns
        if elapsed_ns * SAME_TICK < self.limits.period_ns:
            return self._last.copy(), {}
        lim, last = self.limits, self._last
        clamped: dict[str, Mask] = {}
        target = np.minimum(np.maximum(wanted, lim.lower), lim.upper)
        _note(clamped, "box", target != wanted)
        if self._integrates:
            target = self._bound_integral(target, measured, clamped, braking=True)
        if measured is not None:
            near = np.minimum(np.maximum(target, measured - lim.deviation), measured + lim.deviation)
            near = np.where(np.isnan(near) | lim.is_delta, target, near)
            _note(clamped, "deviation", near != target)
            target = near
        lowest, highest = self._reach(target, elapsed_ns, clamped)
        command = self._approach(target, lowest, highest, self._step_s(elapsed_ns), clamped)
        if self._integrates:
            command = self._bound_integral(command, None, {}, braking=False)
        # Never beyond the box, nor beyond the last command where that is outside already.
        command = np.minimum(np.maximum(command, np.minimum(lim.lower, last)), np.maximum(lim.upper, last))
        self._commit(command, now_ns)
        self._wanted, self._lags = target, command != target
        return command.copy(), clamped

    def stop(self, now_ns: int) -> Vector:
        """The next command of a stop: decelerate within the limits and hold, or go to zero, by kind."""
        elapsed_ns = now_ns - self._sent_ns
        if elapsed_ns * SAME_TICK < self.limits.period_ns:
            return self._last.copy()
        lim, last = self.limits, self._last
        velocity = self._velocity_now(elapsed_ns)
        h_s = self._step_s(elapsed_ns)
        slower = np.sign(velocity) * np.maximum(np.abs(velocity) - lim.acceleration * h_s, 0.0)
        target = np.where(lim.stop_is_zero, 0.0, last + slower * h_s)
        self._wanted, self._lags = target, lim.stop_is_zero
        lowest, highest = self._reach(target, elapsed_ns, {})
        command = self._approach(target, lowest, highest, h_s, {})
        if self._integrates:
            command = self._bound_integral(command, None, {}, braking=False)
        self._commit(command, now_ns)
        self._wanted, self._lags = command, np.zeros_like(self._lags)
        return command.copy()

    def _step_s(self, elapsed_ns: int) -> float:
        return min(elapsed_ns, self.limits.period_ns) * 1e-9

    def _velocity_now(self, elapsed_ns: int) -> Vector:
        stalled = elapsed_ns > STALLED_PERIODS * self.limits.period_ns
        return np.zeros_like(self._velocity) if stalled else self._velocity

    def _reach(self, target: Vector, elapsed_ns: int, clamped: dict[str, Mask]) -> tuple[Vector, Vector]:
        """Lowest and highest command that velocity, acceleration and braking allow.

        Where `target` lies on a bound but for rounding, the bound is `target` itself.
        """
        lim, last, h_s = self.limits, self._last, self._step_s(elapsed_ns)
        velocity, gain = self._velocity_now(elapsed_ns), lim.acceleration * h_s
        up = braking_velocity(lim.upper - last, lim.acceleration, h_s)
        down = braking_velocity(last - lim.lower, lim.acceleration, h_s)
        above = last + h_s * np.stack([lim.velocity, gain + velocity, up])
        below = last - h_s * np.stack([lim.velocity, gain - velocity, down])
        slack = ROUNDING * (np.abs(last) + np.abs(target))
        beyond = (target > above + slack) | (target < below - slack)
        for rule, mask in zip(("velocity", "acceleration", "braking"), beyond, strict=True):
            _note(clamped, rule, mask)
        passes = ~beyond.any(axis=0)
        lowest, highest = below.max(axis=0), above.min(axis=0)
        lowest = np.where(passes, np.minimum(lowest, target), lowest)
        return lowest, np.where(passes, np.maximum(highest, target), highest)

    def _approach(
        self, target: Vector, lowest: Vector, highest: Vector, h_s: float, clamped: dict[str, Mask]
    ) -> Vector:
        """`target` where it is in reach, else the way towards it.

        On the way the command is not faster, beyond the target's own motion, than can be braked away before
        the target, and lands with no more speed than can be shed in one tick. At full speed towards a wanted
        pose far off an arm would shoot past it by v²/(2a). A stream that keeps within the limits never lags
        and is not concerned.
        """
        short = target - self._last
        side = np.sign(short)
        ahead = np.maximum(side * (target - self._wanted), 0.0)
        behind = np.abs(short) - ahead
        step = ahead + h_s * braking_velocity(behind, self.limits.acceleration, h_s)
        onwards = self._last + side * np.minimum(step, np.abs(short))
        reached = (target >= lowest) & (target <= highest)
        soft = behind <= self.limits.acceleration * h_s * h_s
        rushed = reached & self._lags & ~soft
        _note(clamped, "approach", rushed)
        return np.minimum(np.maximum(np.where(reached & ~rushed, target, onwards), lowest), highest)

    def _bound_integral(
        self, delta: Vector, measured: Vector | None, clamped: dict[str, Mask], *, braking: bool
    ) -> Vector:
        """The delta whose integrated target stays in the workspace, and near what is measured.

        With `braking` the delta also keeps the room in which it can come down to zero at its own largest
        rate of change. A target that is outside may only come back.
        """
        lim, at = self.limits, self._target
        bounds = [("workspace", lim.workspace_lower, lim.workspace_upper)]
        if measured is not None:
            known = np.where(np.isnan(measured), at, measured)
            reach = np.where(np.isnan(measured) | ~lim.is_delta, np.inf, lim.deviation)
            bounds.append(("deviation", known - reach, known + reach))
        for rule, lowest, highest in bounds:
            up = np.maximum(highest - at, 0.0) / lim.metres
            down = np.maximum(at - lowest, 0.0) / lim.metres
            if braking:
                up = np.where(np.isfinite(up), self._brakeable(up), np.inf)
                down = np.where(np.isfinite(down), self._brakeable(down), np.inf)
            bounded = np.minimum(np.maximum(delta, -down), up)
            _note(clamped, rule, bounded != delta)
            delta = bounded
        return delta

    def _brakeable(self, room: Vector) -> Vector:
        finite = np.where(np.isfinite(room), room, 0.0)
        return 2.0 * finite / (1.0 + np.sqrt(1.0 + 2.0 * finite / self._slew_ratio))

    def _commit(self, command: Vector, now_ns: int) -> None:
        self._velocity = (command - self._last) / self._step_s(now_ns - self._sent_ns)
        self._last = command
        self._sent_ns = now_ns
        if self._integrates:
            self._target = np.where(
                self.limits.is_delta, self._target + self.limits.metres * command, self._target
            )


def _note(clamped: dict[str, Mask], rule: str, mask: Mask) -> None:
    if mask.any():
        clamped[rule] = clamped[rule] | mask if rule in clamped else mask
