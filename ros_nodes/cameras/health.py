"""Whether a stream of frames is sound: gaps, rate, silence, stamps that stand still, frozen pictures. Pure.

Two things are called frozen. A stamp that stands still is a fault: the device hands out one frame again and
again. Identical pixels under new stamps need not be: a sensor's noise makes them impossible, a file of a
still scene does not; so they are counted and warned of, and only who knows whether the arm moved can judge.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """As in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Limits:
    """What is expected of a stream."""

    period_ns: int
    """Between two frames; 0: unknown, then rate and gaps are not judged."""
    gap_factor: float = 1.5
    """A gap is a step of the stamp of more than this many periods."""
    rate_fraction: float = 0.9
    """Below this part of the expected rate the rate has dropped."""
    window_ns: int = 2_000_000_000
    """Over which the rate is measured, and for which a gap is told of."""
    silent_ns: int = 1_000_000_000
    """No frame for this long is a fault."""
    frozen_ns: int = 1_000_000_000
    """The same stamp for this long is a fault, the same pixels for this long a warning."""

    @classmethod
    def at_rate(cls, rate_hz: float) -> Limits:
        """For a stream of `rate_hz` (0: unknown): a slow one is given more time."""
        if rate_hz <= 0:
            return cls(0)
        period_ns = round(1e9 / rate_hz)
        patience_ns = max(cls.silent_ns, 3 * period_ns)
        window_ns = max(cls.window_ns, 20 * period_ns)
        return cls(period_ns, window_ns=window_ns, silent_ns=patience_ns, frozen_ns=patience_ns)


@dataclass(frozen=True)
class Report:
    """The state of a stream."""

    level: Level
    message: str
    """What is wrong, or 'sound'."""
    figures: dict[str, float]
    """Counters since the start, and rate_hz, age_ms of now."""


class StreamHealth:
    """Watches one stream. Stamps are on the source's clock, `now_ns` on CLOCK_MONOTONIC."""

    def __init__(self, limits: Limits, now_ns: int) -> None:
        self.limits = limits
        self._began_ns = now_ns
        self._arrivals: deque[int] = deque()
        self._stamp_ns: int | None = None
        self._number: int | None = None
        self._last_new_ns = now_ns
        self._last_any_ns = now_ns
        self._same_since_ns: int | None = None
        self._last_gap_ns: int | None = None
        self._counts = dict.fromkeys(
            ("frames", "gaps", "missed", "repeated", "identical", "clock_restarts"), 0
        )
        self._gap_max_ns = 0

    def frame(
        self, stamp_ns: int, now_ns: int, *, number: int | None = None, identical: bool = False
    ) -> bool:
        """A frame has come; returns whether it is a new one, which its stamp decides.

        Args:
            number: the device's own count.
            identical: whether its pixels equal those of the frame before.
        """
        self._last_any_ns = now_ns
        before_ns = self._stamp_ns
        if stamp_ns == before_ns:
            self._counts["repeated"] += 1
            return False
        self._stamp_ns, self._last_new_ns = stamp_ns, now_ns
        self._counts["frames"] += 1
        self._arrivals.append(now_ns)
        self._forget(now_ns)
        if before_ns is not None:
            self._step(stamp_ns - before_ns, number, now_ns)
        self._number = number
        if identical:
            self._counts["identical"] += 1
            self._same_since_ns = self._same_since_ns or now_ns
        else:
            self._same_since_ns = None
        return True

    def _step(self, step_ns: int, number: int | None, now_ns: int) -> None:
        if step_ns < 0:
            self._counts["clock_restarts"] += 1
            return
        self._gap_max_ns = max(self._gap_max_ns, step_ns)
        period_ns = self.limits.period_ns
        if self._number is not None and number is not None and number > self._number:
            missed = number - self._number - 1
        elif period_ns and step_ns > self.limits.gap_factor * period_ns:
            missed = max(1, round(step_ns / period_ns) - 1)
        else:
            missed = 0
        if missed:
            self._counts["gaps"] += 1
            self._counts["missed"] += missed
            self._last_gap_ns = now_ns

    def reopened(self, limits: Limits, now_ns: int) -> None:
        """The device was opened again: its stamps and numbers begin anew, and the break is not a gap."""
        self.limits = limits
        self._stamp_ns = self._number = self._same_since_ns = None
        self._arrivals.clear()
        self._began_ns = self._last_new_ns = self._last_any_ns = now_ns

    def rate_hz(self, now_ns: int) -> float:
        """Frames per second of the last window, or since the beginning when that is shorter."""
        self._forget(now_ns)
        span_ns = min(self.limits.window_ns, now_ns - self._began_ns)
        return len(self._arrivals) * 1e9 / span_ns if span_ns > 0 else 0.0

    def report(self, now_ns: int) -> Report:
        """The state at `now_ns`."""
        limits, rate_hz = self.limits, self.rate_hz(now_ns)
        age_ns = now_ns - self._last_new_ns
        faults, warnings = [], []
        if age_ns > limits.silent_ns and now_ns - self._last_any_ns > limits.silent_ns:
            faults.append(f"no frame for {age_ns / 1e9:.1f} s")
        elif age_ns > limits.frozen_ns:
            faults.append(f"frozen: the stamp has stood still for {age_ns / 1e9:.1f} s")
        if self._same_since_ns is not None and now_ns - self._same_since_ns > limits.frozen_ns:
            warnings.append(f"frozen: identical pixels for {(now_ns - self._same_since_ns) / 1e9:.1f} s")
        if limits.period_ns and now_ns - self._began_ns >= limits.window_ns:
            expected_hz = 1e9 / limits.period_ns
            if rate_hz < limits.rate_fraction * expected_hz:
                warnings.append(f"rate has dropped to {rate_hz:.1f} of {expected_hz:.1f} Hz")
        if self._last_gap_ns is not None and now_ns - self._last_gap_ns <= limits.window_ns:
            warnings.append(f"gap: {self._counts['missed']} frames missed so far")
        level = Level.ERROR if faults else Level.WARN if warnings else Level.OK
        figures = {"rate_hz": rate_hz, "expected_hz": 1e9 / limits.period_ns if limits.period_ns else 0.0}
        figures |= {"age_ms": age_ns / 1e6, "gap_max_ms": self._gap_max_ns / 1e6} | dict(self._counts)
        return Report(level, "; ".join([*faults, *warnings]) or "sound", figures)

    def _forget(self, now_ns: int) -> None:
        while self._arrivals and now_ns - self._arrivals[0] > self.limits.window_ns:
            self._arrivals.popleft()
