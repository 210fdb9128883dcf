"""Device stamps on the host's clock: never in the future, never going back, wrong by no more than delays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ros_nodes.cameras.clock import JUMP_NS, MAX_DRIFT, DeviceClock, WallClock

MS = 1_000_000


@dataclass(frozen=True)
class Run:
    """A simulated camera: when each frame was taken (host time), its device stamp, and when it arrived."""

    taken_ns: list[int]
    device_ns: list[int]
    arrived_ns: list[int]
    smallest_delay_ns: int


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Frames 1 to 200 ms apart, delays of 2 to 300 ms, a drift of up to 90 % of what is allowed for."""
    steps = draw(st.lists(st.integers(1 * MS, 200 * MS), min_size=2, max_size=60))
    delays = draw(st.lists(st.integers(2 * MS, 300 * MS), min_size=len(steps), max_size=len(steps)))
    drift = draw(st.floats(-0.9 * MAX_DRIFT, 0.9 * MAX_DRIFT))
    origin = draw(st.integers(0, 10**15))
    taken = np.cumsum(np.array(steps, dtype=np.int64))
    device = np.round(taken * (1.0 + drift)).astype(np.int64) + origin
    device = device[0] + np.cumsum(np.maximum(np.diff(device, prepend=device[0]), 1))
    arrived: list[int] = []
    for time_ns, delay_ns in zip(taken.tolist(), delays, strict=True):
        arrived.append(max(time_ns + delay_ns, arrived[-1] + 1 if arrived else 0))
    smallest = min(a - t for a, t in zip(arrived, taken.tolist(), strict=True))
    return Run(taken.tolist(), device.tolist(), arrived, smallest)


@given(runs())
def test_mapped_stamps_increase_and_are_never_later_than_the_arrival(run: Run) -> None:
    clock = DeviceClock()
    mapped = [clock.map(d, a) for d, a in zip(run.device_ns, run.arrived_ns, strict=True)]
    assert all(later > earlier for earlier, later in pairwise(mapped))
    assert all(m <= a for m, a in zip(mapped, run.arrived_ns, strict=True))
    assert clock.restarts == 0


@given(runs())
def test_the_error_is_bounded_by_the_best_delay_so_far_and_the_drift_since(run: Run) -> None:
    clock = DeviceClock()
    mapped: list[int] = []
    excess: list[tuple[int, int]] = []  # (device stamp, delay above the smallest)
    rounding_ns = 2 * len(run.device_ns) + 2
    for taken, device, arrived in zip(run.taken_ns, run.device_ns, run.arrived_ns, strict=True):
        mapped.append(clock.map(device, arrived))
        excess.append((device, arrived - taken - run.smallest_delay_ns))
        error = mapped[-1] - (taken + run.smallest_delay_ns)
        assert error >= -rounding_ns
        bound = min(late + 2 * MAX_DRIFT * (device - then) for then, late in excess)
        # Where going back would be right, standing still is all that increasing stamps allow.
        catching_up = mapped[-2] + 1 - (taken + run.smallest_delay_ns) if len(mapped) > 1 else 0
        assert error <= max(bound, catching_up) + rounding_ns


def test_jitter_is_taken_out_of_stamps_once_one_frame_came_promptly() -> None:
    rng = np.random.default_rng(0)
    period_ns, clock = 33_333_333, DeviceClock()
    errors = []
    for k in range(300):
        taken = k * period_ns
        delay = 5 * MS + int(rng.exponential(8 * MS))
        errors.append(clock.map(10**12 + taken, taken + delay) - taken - 5 * MS)
    assert max(errors[30:]) < 2 * MS, "arrival stamps would be wrong by 8 ms on average, 40 ms at worst"
    assert float(np.mean(errors[30:])) < 0.5 * MS


def test_a_device_whose_clock_restarts_is_followed_at_once_and_stamps_still_increase() -> None:
    clock = DeviceClock()
    before = clock.map(5_000 * MS, 100 * MS)
    assert clock.map(20 * MS, 200 * MS) == 200 * MS > before
    assert clock.restarts == 1


def test_a_device_clock_that_stood_still_is_given_up_after_a_jump_that_no_delay_explains() -> None:
    clock, period_ns = DeviceClock(), 33 * MS
    host = device = 0
    for _ in range(30):
        host, device = host + period_ns, device + period_ns
        clock.map(device, host)
    host += 5 * JUMP_NS  # the device's clock did not count this time
    lags = []
    for _ in range(60):
        host, device = host + period_ns, device + period_ns
        lags.append(host - clock.map(device, host))
    assert lags[0] > 4 * JUMP_NS
    assert lags[-1] == 0
    assert clock.restarts == 1


def test_the_same_stamp_again_is_mapped_to_the_same_time() -> None:
    clock = DeviceClock()
    assert clock.map(7, 1000) == clock.map(7, 5000)


def test_noise_of_reading_two_clocks_stays_out_of_stamps_and_a_set_clock_gets_in() -> None:
    wall = WallClock()
    assert wall.difference(1_000, 1_000_500, 1_200) == 999_400
    assert wall.difference(2_000, 1_001_500, 90_000) == 999_400, "interrupted between two readings"
    assert wall.difference(3_000, 5_000_003_000, 3_000) == 5_000_000_000, "somebody set the clock"
