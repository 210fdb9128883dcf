"""Stamps of a camera's own clock to this host's clock. Pure: every time is passed in.

A frame arrives later than it was taken, by a delay that varies but is never below some minimum. The smallest
difference between host and device time is therefore the best there is to know (E. Olson, "A passive solution
to the sensor synchronization problem", IROS 2010). Both clocks drift, by a bounded rate: an old minimum is
worth less the older it is, and is raised at that rate.
"""

from __future__ import annotations

import math

MAX_DRIFT = 500e-6
"""Crystals are good to 100 ppm; a host whose clock is being disciplined is slewed by up to 500 ppm."""
JUMP_NS = 1_000_000_000


class DeviceClock:
    """Maps stamps of a device to CLOCK_MONOTONIC of the host.

    For every stamp: never later than its arrival; never earlier than it was taken plus the smallest delay, as
    long as the clocks drift by no more than `max_drift`; later than that by no more than the smallest
    (delay - smallest delay) + 2·max_drift·age among all arrivals so far. Increasing stamps stay increasing.
    """

    def __init__(self, max_drift: float = MAX_DRIFT, jump_ns: int = JUMP_NS) -> None:
        self._max_drift = max_drift
        self._jump_ns = jump_ns
        self._offset_ns: int | None = None
        self._device_ns = 0
        self._mapped_ns = 0
        self._late_since_ns: int | None = None
        self.restarts = 0
        """How often the device's clock was seen to jump: set back, or standing still while frames came."""

    def map(self, device_ns: int, host_ns: int) -> int:
        """When a frame was taken, ns of CLOCK_MONOTONIC, plus the smallest delay.

        Args:
            device_ns: the frame's stamp, on the device's clock.
            host_ns: when it arrived, CLOCK_MONOTONIC; increasing from call to call.
        """
        arrival_ns = host_ns - device_ns
        step_ns = device_ns - self._device_ns
        if self._offset_ns is None:
            self._offset_ns, self._mapped_ns = arrival_ns, host_ns - 1
        elif step_ns == 0:
            return self._mapped_ns
        elif step_ns < 0 or self._is_late(arrival_ns - self._offset_ns, host_ns):
            self.restarts += 1
            self._offset_ns, self._late_since_ns = arrival_ns, None
        else:
            raised_ns = self._offset_ns + math.ceil(step_ns * self._max_drift)
            self._offset_ns = min(raised_ns, arrival_ns)
        self._device_ns = device_ns
        # A first frame with a long delay maps late; the next ones must not go back behind it.
        self._mapped_ns = max(device_ns + self._offset_ns, self._mapped_ns + 1)
        return self._mapped_ns

    def _is_late(self, excess_ns: int, host_ns: int) -> bool:
        """Whether frames have come later than a jump for longer than a jump: no delay lasts that long."""
        if excess_ns <= self._jump_ns:
            self._late_since_ns = None
            return False
        if self._late_since_ns is None:
            self._late_since_ns = host_ns
        return host_ns - self._late_since_ns > self._jump_ns


class WallClock:
    """Keeps the difference between wall clock and CLOCK_MONOTONIC, which changes only when somebody sets it.

    Both are slewed alike, so the difference is constant but for the noise of reading two clocks one after the
    other, which must not get into stamps.
    """

    def __init__(self, noise_ns: int = 200_000) -> None:
        self._noise_ns = noise_ns
        self._difference_ns: int | None = None

    def difference(self, before_ns: int, wall_ns: int, after_ns: int) -> int:
        """Wall clock minus CLOCK_MONOTONIC, ns, from a reading between two others of CLOCK_MONOTONIC."""
        candidate_ns = wall_ns - (before_ns + after_ns) // 2
        known_ns = self._difference_ns
        if known_ns is None or abs(candidate_ns - known_ns) > self._noise_ns + (after_ns - before_ns):
            self._difference_ns = known_ns = candidate_ns
        return known_ns
