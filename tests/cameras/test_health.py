"""Gaps, dropped rates, silence and frozen pictures are seen; a sound stream raises nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ros_nodes.cameras.health import Level, Limits, StreamHealth

PERIOD = 33_333_333
S = 1_000_000_000


def played(stamps: list[int], **rest: object) -> StreamHealth:
    health = StreamHealth(Limits(PERIOD), 0)
    for stamp in stamps:
        health.frame(stamp, stamp + 5_000_000, **rest)  # type: ignore[arg-type]
    return health


def test_a_steady_stream_is_sound_and_its_rate_is_measured() -> None:
    health = played([k * PERIOD for k in range(300)])
    report = health.report(300 * PERIOD)
    assert (report.level, report.message) == (Level.OK, "sound")
    assert abs(report.figures["rate_hz"] - 30.0) < 0.6
    assert report.figures["frames"] == 300
    assert report.figures["gaps"] == report.figures["missed"] == report.figures["repeated"] == 0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=100), st.integers(-PERIOD // 5, PERIOD // 5))
def test_missed_frames_are_counted_from_the_stamps_whatever_is_missed(holes: list[int], jitter: int) -> None:
    stamps, k = [0], 0
    for position, hole in enumerate(holes):
        k += 1 + hole
        stamps.append(k * PERIOD + (jitter if position % 2 else 0))
    figures = played(stamps).report(stamps[-1]).figures
    assert figures["missed"] == sum(holes)
    assert figures["gaps"] == sum(hole > 0 for hole in holes)


def test_the_device_s_own_count_wins_over_stamps_that_arrive_late_but_complete() -> None:
    health = StreamHealth(Limits(PERIOD), 0)
    for number, stamp in ((1, 0), (2, 4 * PERIOD), (5, 5 * PERIOD)):
        health.frame(stamp, stamp, number=number)
    figures = health.report(5 * PERIOD).figures
    assert (figures["gaps"], figures["missed"]) == (1, 2)


def test_a_gap_is_told_of_for_a_while_and_counted_for_ever() -> None:
    health = played([0, PERIOD, 6 * PERIOD])
    early, late = health.report(7 * PERIOD), health.report(6 * PERIOD + 10 * S)
    assert early.level is Level.WARN
    assert "gap: 4 frames missed" in early.message
    assert "gap" not in late.message
    assert late.figures["missed"] == 4
    assert round(late.figures["gap_max_ms"]) == 167


def test_a_camera_at_half_its_rate_is_warned_of_once_a_whole_window_says_so() -> None:
    health = StreamHealth(Limits(PERIOD, gap_factor=3.0), 0)
    for k in range(90):
        health.frame(2 * k * PERIOD, 2 * k * PERIOD)
        if k == 5:
            assert health.report(2 * k * PERIOD).level is Level.OK, "too early to tell"
    report = health.report(180 * PERIOD)
    assert report.level is Level.WARN
    assert "rate has dropped to 15.0 of 30.0 Hz" in report.message


def test_silence_is_a_fault() -> None:
    report = played([k * PERIOD for k in range(30)]).report(29 * PERIOD + 3 * S)
    assert report.level is Level.ERROR
    assert "no frame for 3.0 s" in report.message


def test_a_stamp_that_stands_still_is_a_fault_and_its_frames_are_not_new() -> None:
    health = StreamHealth(Limits(PERIOD), 0)
    assert health.frame(0, 0)
    assert not any(health.frame(0, k * PERIOD) for k in range(1, 60))
    report = health.report(60 * PERIOD)
    assert report.level is Level.ERROR
    assert "frozen: the stamp has stood still for 2.0 s" in report.message
    assert report.figures["repeated"] == 59


def test_identical_pixels_are_warned_of_after_a_second_and_forgiven_when_they_change() -> None:
    health = StreamHealth(Limits(PERIOD), 0)
    for k in range(1, 20):
        health.frame(k * PERIOD, k * PERIOD, identical=True)
    assert health.report(20 * PERIOD).level is Level.OK
    for k in range(20, 60):
        health.frame(k * PERIOD, k * PERIOD, identical=True)
    report = health.report(60 * PERIOD)
    assert report.level is Level.WARN
    assert "frozen: identical pixels" in report.message
    assert report.figures["identical"] == 59
    health.frame(60 * PERIOD, 60 * PERIOD, identical=False)
    assert health.report(61 * PERIOD).level is Level.OK


def test_a_device_clock_that_goes_back_is_counted_and_is_no_gap() -> None:
    figures = played([10 * S, 10 * S + PERIOD, PERIOD, 2 * PERIOD]).report(11 * S).figures
    assert (figures["clock_restarts"], figures["gaps"]) == (1, 0)


def test_after_a_reconnect_the_break_is_no_gap_and_the_rate_is_measured_anew() -> None:
    health = played([k * PERIOD for k in range(60)])
    health.reopened(Limits(PERIOD), 60 * S)
    for k in range(60):
        health.frame(k * PERIOD, 60 * S + k * PERIOD)
    report = health.report(62 * S)
    assert report.level is Level.OK, report.message
    assert report.figures["gaps"] == report.figures["clock_restarts"] == 0


def test_a_slow_camera_is_given_the_time_that_it_needs() -> None:
    health = StreamHealth(Limits.at_rate(0.5), 0)
    for k in range(30):
        health.frame(2 * k * S, 2 * k * S)
        assert health.report(2 * k * S + 1_900_000_000).level is Level.OK
    assert health.report(70 * S).level is Level.ERROR
    assert Limits.at_rate(30.0) == Limits(PERIOD)
    assert Limits.at_rate(0.0) == Limits(0)


def test_where_no_rate_is_known_neither_rate_nor_gaps_are_judged() -> None:
    health = StreamHealth(Limits(0), 0)
    for stamp in (0, S // 2, 3 * S, 3 * S + 1):
        health.frame(stamp, stamp)
    assert health.report(3 * S + 1).level is Level.OK
