"""What is watched of each topic while it is recorded: rate, age, gaps, losses, silence; and the clock.

Pure: times come in as int ns. Ages are of the monotonic clock, which never jumps; rates and gaps are of the
source stamps, which do not depend on how busy the recorder is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

RATE_SAMPLES = 64
GAP_FACTOR = 2.5
"""A gap is this much longer than the usual time between two samples."""
TORN_SHARE = 4
"""Two clocks that were read further apart than this share of the limit tell nothing about each other."""
SKEW_JUMP_NS = 1_000_000_000
"""A source's clock that moves by this much against ours between two samples has jumped."""


@dataclass
class StreamWatch:
    """One topic."""

    samples: int = 0
    """Messages that came since `restart_counts`."""
    lost: int = 0
    """Messages that were published and never came, by the numbers that the middleware gives them."""
    gaps: int = 0
    gap_max_ns: int = 0
    """Longest time between the stamps of two samples in a row, ns."""
    last_ns: int | None = None
    """When the last one came, monotonic ns."""
    bytes_per_sample: float = 0.0
    """Mean size of the latest messages."""
    _stamps: deque[int] = field(default_factory=lambda: deque(maxlen=RATE_SAMPLES))
    _typical_ns: float = 0.0
    _seen: int = 0
    _sequence: int | None = None
    _skew_ns: int | None = None

    def note(self, at_ns: int, stamp_ns: int, nbytes: int, sequence: int | None, silent_ns: int) -> int:
        """A message came; returns how many before it were lost.

        Args:
            at_ns: now, of the monotonic clock.
            stamp_ns: its source stamp.
            nbytes: its size.
            sequence: the number that its publisher gave it, where the middleware tells and there is one
                publisher.
            silent_ns: after so long a silence a number tells nothing: the publisher may be another one.
        """
        lost = 0
        if self._sequence is not None and sequence is not None and sequence > self._sequence:
            silent = self.last_ns is not None and at_ns - self.last_ns > silent_ns
            lost = 0 if silent else sequence - self._sequence - 1
        self._sequence = sequence
        if self._stamps:
            self._interval(stamp_ns - self._stamps[-1])
        self._stamps.append(stamp_ns)
        self._seen += 1
        self.samples += 1
        self.lost += lost
        self.last_ns = at_ns
        share = 1.0 / min(self._seen, 30)
        self.bytes_per_sample += share * (nbytes - self.bytes_per_sample)
        return lost

    def _interval(self, interval_ns: int) -> None:
        if interval_ns < 0:
            self._stamps.clear()
            return
        typical = self._typical_ns
        if self._seen > RATE_SAMPLES // 4 and interval_ns > GAP_FACTOR * typical:
            self.gaps += 1
        self.gap_max_ns = max(self.gap_max_ns, interval_ns)
        # A gap must not become what is usual, nor a burst at the beginning stay it.
        bounded = min(float(interval_ns), 3.0 * typical) if typical else float(interval_ns)
        self._typical_ns += 0.2 * (bounded - typical) if typical else bounded

    def jump_of_source_ns(self, stamp_ns: int, recv_ns: int) -> int:
        """By how much the source's clock jumped against ours since its last sample, 0 for not at all."""
        before, self._skew_ns = self._skew_ns, stamp_ns - recv_ns
        jump = 0 if before is None else self._skew_ns - before
        return jump if abs(jump) > SKEW_JUMP_NS else 0

    def restart_counts(self) -> None:
        """Count anew from here, as at the beginning of an episode."""
        self.samples = self.lost = self.gaps = self.gap_max_ns = 0

    def age_ns(self, now_ns: int) -> int | None:
        """Time since the last message, None before the first."""
        return None if self.last_ns is None else now_ns - self.last_ns

    def silent_for_ns(self, now_ns: int, silent_ns: int) -> int:
        """Its age once that is a silence: longer than `silent_ns` and than five usual periods; else 0."""
        age = self.age_ns(now_ns)
        return age if age is not None and age > max(silent_ns, 5 * self._typical_ns) else 0

    def rate_hz(self, now_ns: int) -> float:
        """Mean rate of the latest samples; falls towards 0 while nothing comes."""
        if len(self._stamps) < 2 or self.last_ns is None:
            return 0.0
        late_ns = max(0.0, now_ns - self.last_ns - 2 * self._typical_ns)
        span_ns = self._stamps[-1] - self._stamps[0] + late_ns
        return (len(self._stamps) - 1) * 1e9 / span_ns if span_ns > 0 else 0.0

    def bytes_per_s(self, now_ns: int) -> float:
        """Size of what comes in a second."""
        return self.rate_hz(now_ns) * self.bytes_per_sample


class ClockWatch:
    """Notices when the clock that stamps are made with is set, instead of going on."""

    def __init__(self, limit_ns: int, *, simulated: bool) -> None:
        """`limit_ns` is how far it may move against the monotonic clock between two looks.

        A simulated clock may stand still and run at any speed, so for it only a step back and a step forward
        by more than ten times the time that passed are jumps.
        """
        self._limit_ns = limit_ns
        self._simulated = simulated
        self._before: tuple[int, int] | None = None

    def restart(self) -> None:
        """Forget what was seen."""
        self._before = None

    def jump_ns(self, time_ns: int, monotonic_ns: int, apart_ns: int = 0) -> int:
        """By how much the clock jumped since the last look, 0 for not at all.

        `apart_ns` is how much time may have passed between the readings of the two clocks. A process that is
        not run in between would take its own pause for a jump: such a pair tells nothing.
        """
        if apart_ns * TORN_SHARE > self._limit_ns:
            return 0
        before, self._before = self._before, (time_ns, monotonic_ns)
        if before is None:
            return 0
        moved, passed = time_ns - before[0], monotonic_ns - before[1]
        if self._simulated:
            jumped = moved < 0 or moved > self._limit_ns + 10 * passed
        else:
            jumped = abs(moved - passed) > self._limit_ns
        return moved - passed if jumped else 0
