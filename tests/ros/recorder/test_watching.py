"""Rates, gaps, losses and silences out of stamps; clocks that are set. No ROS in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_nodes.recorder.watching import ClockWatch, StreamWatch

PERIOD_NS = 33_333_333
SECOND_NS = 1_000_000_000


def watched(intervals: list[int], sequences: list[int] | None = None) -> tuple[StreamWatch, int]:
    """A watch that saw samples with these intervals, and the time of the last one."""
    watch, now_ns = StreamWatch(), SECOND_NS
    for number, interval in enumerate([0, *intervals]):
        now_ns += interval
        sequence = sequences[number] if sequences else None
        watch.note(now_ns, now_ns, 100, sequence, SECOND_NS)
    return watch, now_ns


def test_the_rate_is_that_of_the_stamps_and_falls_when_nothing_comes() -> None:
    watch, now_ns = watched([PERIOD_NS] * 60)
    assert watch.rate_hz(now_ns) == pytest.approx(30.0, rel=1e-3)
    assert watch.bytes_per_s(now_ns) == pytest.approx(3000.0, rel=1e-2)
    assert watch.rate_hz(now_ns + 10 * SECOND_NS) < 6.0
    assert watch.age_ns(now_ns + 5) == 5
    assert StreamWatch().rate_hz(5) == 0.0
    assert StreamWatch().age_ns(5) is None


def test_a_gap_is_counted_once_and_does_not_become_usual() -> None:
    watch, _ = watched([PERIOD_NS] * 40 + [5 * PERIOD_NS] + [PERIOD_NS] * 40)
    assert (watch.gaps, watch.gap_max_ns) == (1, 5 * PERIOD_NS)
    watch.restart_counts()
    assert (watch.gaps, watch.gap_max_ns, watch.samples, watch.lost) == (0, 0, 0, 0)


def test_jitter_is_no_gap() -> None:
    rng = np.random.default_rng(0)
    watch, _ = watched([int(i) for i in PERIOD_NS * rng.uniform(0.5, 1.5, 300)])
    assert watch.gaps == 0


@given(st.lists(st.integers(1, 5), min_size=2, max_size=60))
def test_numbers_that_are_skipped_are_losses(steps: list[int]) -> None:
    sequences = [7, *(7 + int(s) for s in np.cumsum(steps))]
    watch, _ = watched([PERIOD_NS] * len(steps), sequences)
    assert watch.lost == sum(step - 1 for step in steps)


def test_a_publisher_that_begins_anew_has_lost_nothing() -> None:
    assert watched([PERIOD_NS] * 3, [50, 51, 1, 2])[0].lost == 0, "it counts from 1 again"
    assert watched([PERIOD_NS, 2 * SECOND_NS, PERIOD_NS], [3, 4, 15, 16])[0].lost == 0, "after a silence"


def test_silence_is_longer_than_the_limit_and_than_what_is_usual() -> None:
    watch, now_ns = watched([PERIOD_NS] * 40)
    assert watch.silent_for_ns(now_ns + SECOND_NS // 2, SECOND_NS) == 0
    assert watch.silent_for_ns(now_ns + 2 * SECOND_NS, SECOND_NS) == 2 * SECOND_NS
    slow, now_ns = watched([SECOND_NS] * 10)
    assert slow.silent_for_ns(now_ns + 3 * SECOND_NS, SECOND_NS) == 0, "it comes once a second"
    assert StreamWatch().silent_for_ns(now_ns, SECOND_NS) == 0, "nothing ever came"


def test_a_source_whose_clock_jumps_is_noticed_and_one_that_drifts_is_not() -> None:
    watch = StreamWatch()
    assert watch.jump_of_source_ns(5, 5) == 0
    assert watch.jump_of_source_ns(PERIOD_NS + 1000, PERIOD_NS) == 0
    assert watch.jump_of_source_ns(3 * SECOND_NS, 2 * PERIOD_NS) == 3 * SECOND_NS - 2 * PERIOD_NS - 1000


@pytest.mark.parametrize("by_ns", [3600 * SECOND_NS, SECOND_NS // 5, -SECOND_NS // 5, -3600 * SECOND_NS])
def test_a_clock_that_is_set_is_noticed_both_ways(by_ns: int) -> None:
    clock = ClockWatch(SECOND_NS // 10, simulated=False)
    times = [clock.jump_ns(10**18 + k * PERIOD_NS, k * PERIOD_NS) for k in range(5)]
    assert times == [0] * 5
    assert clock.jump_ns(10**18 + 5 * PERIOD_NS + by_ns, 5 * PERIOD_NS) == by_ns
    assert clock.jump_ns(10**18 + 6 * PERIOD_NS + by_ns, 6 * PERIOD_NS) == 0, "it goes on from there"


def test_a_pause_between_the_readings_of_two_clocks_is_no_jump_and_a_real_one_is_found_after_it() -> None:
    clock = ClockWatch(SECOND_NS // 10, simulated=False)
    assert clock.jump_ns(10**18, 0) == 0
    paused_ns = SECOND_NS // 5
    assert clock.jump_ns(10**18 + PERIOD_NS, PERIOD_NS + paused_ns, paused_ns) == 0
    assert clock.jump_ns(10**18 + 2 * PERIOD_NS + paused_ns, 2 * PERIOD_NS + paused_ns, 5) == 0
    assert clock.jump_ns(10**18 + 3 * PERIOD_NS, 3 * PERIOD_NS + paused_ns, 5) == -paused_ns


def test_a_simulated_clock_may_stand_still_and_run_fast_but_neither_go_back_nor_leap() -> None:
    clock = ClockWatch(SECOND_NS // 10, simulated=True)
    assert clock.jump_ns(5 * SECOND_NS, 0) == 0
    assert clock.jump_ns(5 * SECOND_NS, 10 * SECOND_NS) == 0, "paused"
    assert clock.jump_ns(6 * SECOND_NS, 10 * SECOND_NS + SECOND_NS // 5) == 0, "five times as fast"
    assert clock.jump_ns(4 * SECOND_NS, 10 * SECOND_NS + SECOND_NS // 5) < 0
    assert clock.jump_ns(40 * SECOND_NS, 10 * SECOND_NS + SECOND_NS // 4) > 0
