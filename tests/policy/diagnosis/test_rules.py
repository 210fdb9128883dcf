"""The verdict over a log: when it is called over- or underfitting, sound, or not said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError
from policy.diagnosis.rules import Rules, compared, judge
from policy.diagnosis.series import Series, noise, series, smoothed
from tests.policy.diagnosis.curves import hump, log_of, settling

RULES = Rules()


def verdict(rows, rules: Rules = RULES, *, implicit: bool = False):
    return judge(rows, rules, implicit=implicit)


def test_dataset_q_that_rises_and_then_falls_is_overfitting_with_its_peak() -> None:
    found = verdict(log_of(hump, noise=0.2))
    assert found.verdict == "overfitting"
    assert abs(found.peak_step - 0.4 * 4000) <= 300
    assert "falls by" in found.because


def test_dataset_q_that_rises_and_stays_with_low_losses_is_sound() -> None:
    assert verdict(log_of(settling, noise=0.2)).verdict == "sound"


def test_a_dip_in_the_middle_is_no_fall() -> None:
    def dipping(x):
        return settling(x) - 5 * np.exp(-(((x - 0.5) / 0.08) ** 2))

    assert verdict(log_of(dipping)).verdict == "sound"


def test_a_settling_overshoot_of_less_than_the_share_is_no_fall_and_the_share_is_a_setting() -> None:
    rows = log_of(lambda x: np.where(x < 0.4, 25 * x, 10 - 2.5 * (x - 0.4)))
    assert verdict(rows).verdict == "sound"
    assert verdict(rows, Rules(fall=0.1)).verdict == "overfitting"


def test_a_fall_from_the_first_point_on_is_not_decided() -> None:
    found = verdict(log_of(lambda x: 10 - 8 * x))
    assert (found.verdict, found.missing) == ("undecided", "start")


def test_a_fall_from_the_first_point_below_what_any_policy_is_worth_is_overfitting() -> None:
    rows = log_of(lambda x: 0.5 - 8 * x)
    found = judge(rows, RULES, implicit=False, floor=0.0)
    assert (found.verdict, found.peak_step) == ("overfitting", 100)
    assert judge(rows, RULES, implicit=False, floor=-100.0).verdict == "undecided"


def test_few_points_are_too_short_to_say() -> None:
    found = verdict(log_of(hump(np.linspace(0, 1, 9))))
    assert (found.verdict, found.missing) == ("undecided", "points")
    assert verdict([]).missing == "points"


def test_batches_of_the_log_stand_in_where_evaluations_are_few() -> None:
    rows = [{"step": 10 * (k + 1), "train/q": q} for k, q in enumerate(hump(np.linspace(0, 1, 40)))]
    assert verdict(rows).verdict == "overfitting"
    rows = [{"step": 10 * (k + 1), "train/q": q} for k, q in enumerate(settling(np.linspace(0, 1, 40)))]
    assert (verdict(rows).verdict, verdict(rows).missing) == ("undecided", "points")


def test_dataset_q_that_still_rises_is_too_short_to_say() -> None:
    found = verdict(log_of(lambda x: 10 * x))
    assert (found.verdict, found.missing) == ("undecided", "steps")


def test_td_errors_that_stay_high_are_underfitting() -> None:
    found = verdict(log_of(settling, unexplained=0.5))
    assert (found.verdict, found.high, found.confirmed) == ("underfitting", ("td_unexplained",), None)
    assert found.figures["td_unexplained"] == pytest.approx(0.5)


def test_a_cql_term_that_stays_where_actions_cannot_be_told_apart_is_underfitting() -> None:
    assert verdict(log_of(settling, separation=0.02)).high == ("separation",)
    assert verdict(log_of(settling, separation=0.5)).verdict == "sound"


def test_high_losses_that_still_fall_are_too_short_to_say() -> None:
    found = verdict(log_of(settling, unexplained=lambda x: 0.95 - 0.6 * x))
    assert (found.verdict, found.missing) == ("undecided", "steps")


def test_a_fall_counts_before_high_losses() -> None:
    assert verdict(log_of(hump, unexplained=0.6)).verdict == "overfitting"


def test_a_larger_model_that_lowers_the_losses_confirms_underfitting() -> None:
    small = verdict(log_of(settling, unexplained=0.5))
    better, same = (verdict(log_of(settling, unexplained=u)) for u in (0.2, 0.48))
    assert compared(small, better, RULES).confirmed is True
    assert compared(small, better, RULES).verdict == "underfitting"
    assert compared(small, same, RULES).verdict == "sound"
    assert compared(small, same, RULES).confirmed is False
    sound = verdict(log_of(settling))
    assert compared(sound, better, RULES) is sound


def test_a_larger_model_that_separates_actions_confirms_underfitting() -> None:
    small = verdict(log_of(settling, separation=0.02))
    assert compared(small, verdict(log_of(settling, separation=0.6)), RULES).confirmed is True
    assert compared(small, verdict(log_of(settling, separation=0.05)), RULES).confirmed is False


def test_held_out_errors_that_grow_are_overfitting_for_implicit_algorithms_alone() -> None:
    rows = log_of(settling, unexplained=0.02, held_out=lambda x: 0.1 + 0.6 * abs(x - 0.3))
    found = verdict(rows, implicit=True)
    assert found.verdict == "overfitting"
    assert abs(found.peak_step - 0.3 * 4000) <= 200
    assert verdict(rows, implicit=False).verdict == "sound"
    assert verdict(rows, replace(RULES, validation="always")).verdict == "overfitting"
    assert verdict(rows, replace(RULES, validation="never"), implicit=True).verdict == "sound"


def test_held_out_errors_that_are_merely_higher_are_not_overfitting() -> None:
    assert verdict(log_of(settling, held_out=0.5), implicit=True).verdict == "sound"


@given(st.floats(0.01, 1e4), st.floats(-1e3, 1e3), st.sampled_from([hump, settling]))
def test_the_scale_and_the_zero_of_rewards_change_no_verdict(scale, shift, shape) -> None:
    found = verdict(log_of(lambda x: scale * shape(x) + shift * scale, noise=0.2 * scale))
    assert found.verdict == verdict(log_of(shape, noise=0.2)).verdict


@given(st.integers(0, 200))
def test_noise_about_a_level_is_never_a_fall(seed) -> None:
    rows = log_of(np.zeros(60), noise=1.0, seed=seed)
    assert verdict(rows).verdict != "overfitting"


def test_smoothing_keeps_straight_lines_and_averages_noise() -> None:
    line = np.arange(30.0)
    np.testing.assert_allclose(smoothed(line, 7), line)
    assert smoothed(np.array([0.0, 3.0, 0.0]), 3).tolist() == [0.0, 1.0, 0.0]
    assert smoothed(line, 1).tolist() == line.tolist()


def test_noise_is_measured_about_the_curve() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 4000)
    assert noise(100 * x**2 + rng.normal(scale=0.3, size=4000)) == pytest.approx(0.3, rel=0.1)
    assert noise(np.array([1.0, 2.0])) == 0.0


def test_a_series_leaves_out_rows_without_the_figure_and_numbers_that_are_none() -> None:
    rows = [{"step": 1, "a": 1.0}, {"step": 2}, {"step": 3, "a": float("nan")}, {"step": 4, "a": 2.0}]
    found = series(rows, "a")
    assert (found.steps.tolist(), found.values.tolist()) == ([1, 4], [1.0, 2.0])
    assert len(found.from_step(2)) == 1
    assert isinstance(found, Series)


def test_rules_that_cannot_work_are_refused() -> None:
    for wrong in ({"min_points": 2}, {"tail": 0.0}, {"window": 1.5}, {"fall": -1.0}):
        with pytest.raises(ConfigError):
            Rules(**wrong)
