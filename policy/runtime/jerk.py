"""Position, velocity, acceleration and jerk limits that hold together: `safety`, one order up.

A command stream is integrated as a' = a + u·h, v' = v + a'·h, x' = x + v'·h with |u| ≤ J. From any state
there is the shortest stop: bring the acceleration down at J until what is left of the speed is just what the
release at J sheds, and release. On that last part deceleration and speed obey b = min(A, √(2·J·v)), and with
h known before each step the strongest b' that keeps it is

    b' ≤ 2v / (h + √(h² + 2v/J)),

which is `braking_velocity` with speed in the place of distance and jerk in that of acceleration. A state is
safe when |a| ≤ A, when the speed cannot grow past V while a is brought to zero (V − v ≥ a²/2J), and when the
way D(v, a) of the stop in continuous time, with H·a²/2J on top while the speed still grows, fits before the
position limit on either side. From a safe state each step of the stop leads to a safe one, for any h ≤ H: a
step changes the speed before it is integrated, so no step goes further than the time that it takes. So the
limits never contradict each other, and what lies inside them passes unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from policy.runtime.limits import ROUNDING, Limits, Mask, Vector, braking_velocity

BISECTIONS = 14
"""To a part in 16,000 of what the jerk limit allows in a tick, on the safe side."""


class JerkBound:
    """The rules above for the entries that have a jerk limit; `index` are their places in the action.

    `where` narrows them to one channel.
    """

    def __init__(self, limits: Limits, where: slice = slice(None)) -> None:
        jerk = limits.jerk if limits.jerk is not None else np.full_like(limits.lower, np.inf)
        chosen = np.zeros(len(jerk), dtype=bool)
        chosen[where] = True
        self.index = np.flatnonzero(np.isfinite(jerk) & chosen)
        self._lower, self._upper = limits.lower[self.index], limits.upper[self.index]
        self._v, self._a = limits.velocity[self.index], limits.acceleration[self.index]
        self._j = jerk[self.index]
        self._period_s = limits.period_ns * 1e-9
        self._curve_v = self._a**2 / (2.0 * self._j)
        self._curve_d = self._a**3 / (6.0 * self._j**2)

    def stop(self, v: Vector, a: Vector, h_s: float) -> tuple[Vector, Vector]:
        """Velocity and acceleration after one step of the shortest stop."""
        side = np.where(self._end_velocity(v, a) >= 0.0, 1.0, -1.0)
        s, c = side * v, side * a
        edge = -np.sign(s) * braking_velocity(np.abs(s), self._j, h_s)
        slower = np.maximum(c - self._j * h_s, -self._a)
        after = np.maximum(slower, edge)
        # On the edge the speed is that of the curve; the sum would lose it to rounding near rest.
        speed = np.where(edge >= slower, -np.sign(edge) * edge * edge / (2.0 * self._j), s + after * h_s)
        return side * speed, side * after

    def distance(self, s: Vector, c: Vector) -> Vector:
        """D: how far a stop goes on towards a limit from velocity `s` and acceleration `c` towards it."""
        coming = np.sqrt(np.maximum(c * c + 2.0 * self._j * s, 0.0))
        c = np.where(s < 0.0, np.where(c > 0.0, coming, 0.0), c)
        s = np.maximum(s, 0.0)
        on_curve = c <= -np.minimum(self._a, np.sqrt(2.0 * self._j * s))
        c = np.where(on_curve, 0.0, c)
        peak = np.minimum(np.sqrt(self._j * s + 0.5 * c * c), self._a)
        ramp_s = (c + peak) / self._j
        way = ramp_s * (s + ramp_s * (0.5 * c - self._j * ramp_s / 6.0))
        way = way + self._curve(np.maximum(s + (c * c - peak * peak) / (2.0 * self._j), 0.0))
        margin = self._period_s * np.maximum(c, 0.0) ** 2 / (2.0 * self._j)
        return np.where(on_curve, self._curve(s), way + margin)

    def broken(self, x: Vector, v: Vector, a: Vector, wanted: Vector, h_s: float) -> dict[str, Mask]:
        """Which entries break which rule when the coming step has the acceleration `wanted`.

        What lies on a bound but for the rounding of positions does not break it.
        """
        after = v + wanted * h_s
        noise_v = ROUNDING * (np.abs(x) + np.abs(x + after * h_s)) / h_s
        noise_a = noise_v / h_s
        spare = self._v + noise_v
        velocity, braking = np.abs(after) > spare, np.zeros(len(x), dtype=bool)
        for side, room in ((1.0, self._upper - x), (-1.0, x - self._lower)):
            s, c = side * after, np.maximum(side * wanted - noise_a, -self._a)
            velocity = velocity | (spare - s < np.maximum(c, 0.0) ** 2 / (2.0 * self._j))
            left = np.maximum(room, 0.0) - s * h_s
            reach = self.distance(np.where(s > 0.0, np.maximum(s - noise_v, 0.0), s), c)
            braking = braking | (reach > left + noise_v * h_s)
        return {
            "velocity": velocity,
            "acceleration": np.abs(wanted) > self._a + noise_a,
            "jerk": np.abs(wanted - a) > self._j * h_s + 2.0 * noise_a,
            "braking": braking,
        }

    def towards(self, x: Vector, v: Vector, a: Vector, wanted: Vector, h_s: float) -> tuple[Vector, Vector]:
        """Velocity and acceleration of the coming step: the safe acceleration nearest to `wanted`."""
        stop_v, safe = self.stop(v, a, h_s)
        side = np.where(wanted >= safe, 1.0, -1.0)
        s, c = side * v, side * a
        room = np.maximum(np.where(side > 0.0, self._upper - x, x - self._lower), 0.0)

        def fits(accel: Vector) -> Mask:
            speed = s + accel * h_s
            growing = np.maximum(accel, 0.0) ** 2 / (2.0 * self._j)
            fit: Mask = (self._v - speed >= growing) & (self.distance(speed, accel) <= room - speed * h_s)
            return fit

        highest = np.minimum(side * wanted, np.minimum(self._a, c + self._j * h_s))
        chosen = side * _largest(fits, side * safe, highest)
        return np.where(chosen == safe, stop_v, v + chosen * h_s), chosen

    def approach(self, gap: Vector, v: Vector, a: Vector, target_v: Vector, h_s: float) -> Vector:
        """The acceleration that closes `gap` fastest without shooting past a target that moves at `target_v`.

        In the frame of the target: the relative motion can be stopped on what is left of the gap.
        """
        side = np.where(gap >= 0.0, 1.0, -1.0)
        relative = side * (v - target_v)
        _, slow = self.stop(side * relative, a, h_s)
        room = np.abs(gap) - side * target_v * h_s

        def fits(accel: Vector) -> Mask:
            speed = relative + accel * h_s
            fit: Mask = self.distance(speed, accel) <= room - speed * h_s
            return fit

        return side * _largest(fits, side * slow, np.minimum(self._a, side * a + self._j * h_s))

    def lands_softly(self, v: Vector, a: Vector, target_v: Vector, h_s: float) -> Mask:
        """Whether, on the target with velocity `v` and acceleration `a`, two steps reach its motion."""
        shed = (v - target_v) / h_s
        step = self._j * h_s
        soft: Mask = (np.abs(shed) <= np.minimum(step, self._a)) & (np.abs(shed + a) <= step)
        return soft

    def stop_s(self, v: Vector, a: Vector) -> Vector:
        """How long the stop takes in continuous time, (n,)."""
        _, _, _, peak, ramp_s, steady_s = self._phases(v, a)
        total: Vector = ramp_s + steady_s + peak / self._j
        return total

    def stop_path(self, v: Vector, a: Vector, times: Vector) -> tuple[Vector, Vector]:
        """Way (m, n) and velocity (m, n) of the stop in continuous time, at `times` (m, 1) from its start."""
        side, s, c, peak, ramp_s, steady_s = self._phases(v, a)
        first = np.minimum(times, ramp_s)
        second = np.minimum(np.maximum(times - ramp_s, 0.0), steady_s)
        third = np.minimum(np.maximum(times - ramp_s - steady_s, 0.0), peak / self._j)
        way = first * (s + first * (0.5 * c - self._j * first / 6.0))
        speed = s + first * (c - 0.5 * self._j * first)
        way = way + second * (speed - 0.5 * peak * second)
        speed = speed - peak * second
        way = way + third * (speed - third * (0.5 * peak - self._j * third / 6.0))
        speed = speed - third * (peak - 0.5 * self._j * third)
        return side * way, side * speed

    def _phases(self, v: Vector, a: Vector) -> tuple[Vector, ...]:
        """Side to which the stop goes, speed and acceleration towards it, peak of the deceleration, and how
        long it takes to get there and stays."""
        side = np.where(self._end_velocity(v, a) >= 0.0, 1.0, -1.0)
        s, c = side * v, side * a
        peak = np.minimum(np.sqrt(np.maximum(self._j * s + 0.5 * c * c, 0.0)), self._a)
        ramp_s = np.maximum(c + peak, 0.0) / self._j
        turn_v = s + (c * c - 2.0 * peak * peak) / (2.0 * self._j)
        steady_s = np.maximum(turn_v, 0.0) / np.where(peak > 0.0, peak, np.inf)
        return side, s, c, peak, ramp_s, steady_s

    def _end_velocity(self, v: Vector, a: Vector) -> Vector:
        """The velocity when the acceleration has been brought to zero."""
        end: Vector = v + a * np.abs(a) / (2.0 * self._j)
        return end

    def _curve(self, v: Vector) -> Vector:
        """Way of the stop from a state on the curve: ∫ w / min(A, √(2·J·w)) dw from 0 to v."""
        low = v * np.sqrt(2.0 * self._j * v) / (3.0 * self._j)
        high = self._curve_d + (v * v - self._curve_v**2) / (2.0 * self._a)
        return np.where(v <= self._curve_v, low, high)


def _largest(fits: Callable[[Vector], Mask], low: Vector, high: Vector) -> Vector:
    """The largest value between `low`, which fits, and `high`, by bisection."""
    good = fits(high) | (high <= low)
    if good.all():
        return np.maximum(low, high)
    best, worst = low, high
    for _ in range(BISECTIONS):
        middle = 0.5 * (best + worst)
        ok = fits(middle)
        best, worst = np.where(ok, middle, best), np.where(ok, worst, middle)
    return np.where(good, np.maximum(low, high), best)
