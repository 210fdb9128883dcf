"""Figures of `reward eval` against their definitions, written out, and against scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import kendalltau, pearsonr, spearmanr

from reward.evaluate.agreement import preference_accuracy, same_share
from reward.evaluate.decisions import best_threshold, confusion, detect
from reward.evaluate.distance import pearson, pearson_distance
from reward.evaluate.order import along_episodes, kendall_tau, value_order_correlation
from reward.evaluate.reliability import fitted_slope, reliability

VALUES = st.lists(st.integers(-4, 4), min_size=3, max_size=30)


def tau_by_definition(a: np.ndarray, b: np.ndarray) -> float | None:
    concordant = discordant = left = right = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
        concordant += x * y > 0
        discordant += x * y < 0
        left += x == 0 and y != 0
        right += y == 0 and x != 0
    untied = (concordant + discordant + left) * (concordant + discordant + right)
    return (concordant - discordant) / math.sqrt(untied) if untied else None


@settings(deadline=None, max_examples=20)
@given(VALUES, st.integers(0, 1000))
def test_kendalls_tau_counts_concordant_and_discordant_pairs(values: list[int], seed: int) -> None:
    a = np.array(values, float)
    b = np.random.default_rng(seed).integers(-4, 5, len(a)).astype(float)
    expected = tau_by_definition(a, b)
    found = kendall_tau(a, b)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(expected)
        assert found == pytest.approx(kendalltau(a, b).statistic)


def test_voc_is_one_for_rising_rewards_and_minus_one_for_falling_ones() -> None:
    rising = np.arange(10.0) ** 3
    assert value_order_correlation(rising) == pytest.approx(1.0)
    assert value_order_correlation(-rising) == pytest.approx(-1.0)
    assert value_order_correlation(np.ones(5)) is None
    noisy = rising + np.random.default_rng(0).normal(size=10) * 200
    assert value_order_correlation(noisy) == pytest.approx(spearmanr(noisy, np.arange(10)).statistic)


def test_order_is_told_per_episode() -> None:
    reward = np.array([0.0, 1, 2, 3, 3, 2, 1, 0, 5, 5, 5, 5])
    episode = np.repeat([4, 7, 9], 4)
    order = along_episodes(reward, episode, truth=reward[::-1].copy())
    assert order.episode.tolist() == [4, 7, 9]
    np.testing.assert_allclose(order.voc, [1, -1, np.nan])
    np.testing.assert_allclose(order.tau_time, [1, -1, np.nan])
    assert np.isnan(order.tau_truth[0])
    assert np.isnan(along_episodes(reward, episode, None).tau_truth).all()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=30), st.integers(0, 1000))
def test_pearson_agrees_with_scipy_and_the_distance_is_its_formula(values: list[float], seed: int) -> None:
    a = np.array(values)
    b = np.random.default_rng(seed).normal(size=len(a))
    if np.ptp(a) < 1e-3:
        return
    rho = pearsonr(a, b).statistic
    assert pearson(a, b) == pytest.approx(rho, abs=1e-9)
    assert pearson_distance(a, b) == pytest.approx(math.sqrt(1 - rho) / math.sqrt(2), abs=1e-6)


def test_the_pearson_distance_has_its_ends() -> None:
    a = np.random.default_rng(1).normal(size=50)
    assert pearson_distance(a, 3 * a + 2) == pytest.approx(0.0, abs=1e-7)
    assert pearson_distance(a, -0.1 * a) == pytest.approx(1.0)
    assert pearson_distance(a, np.full(50, 0.1)) is None


def test_weights_of_the_pearson_distance_count_items_several_times() -> None:
    rng = np.random.default_rng(2)
    a, b, times = rng.normal(size=20), rng.normal(size=20), rng.integers(1, 4, 20)
    expected = pearson_distance(np.repeat(a, times), np.repeat(b, times))
    assert pearson_distance(a, b, times.astype(float)) == pytest.approx(expected)


def test_self_agreement_is_that_of_two_votes() -> None:
    for votes in (["a", "a", "b"], ["a", "b", "c"], ["a", "a"]):
        pairs = [x == y for x, y in itertools.combinations(votes, 2)]
        assert same_share(votes) == pytest.approx(np.mean(pairs))
    assert same_share(["a"]) is None


def test_preference_accuracy_gives_half_a_point_for_equal_rewards() -> None:
    first, second = np.array([0.0, 1.0, 0.5, 0.0]), np.array([1.0, 0.0, 0.5, 1.0])
    assert preference_accuracy(first, second, np.array([1.0, 1.0, 1.0, 0.5])) == pytest.approx(0.5)
    assert preference_accuracy(first, second, np.full(4, 0.5)) is None


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_the_threshold_is_the_one_of_highest_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reward, success = rng.integers(0, 8, 30).astype(float), rng.random(30) < 0.3
    found = best_threshold(reward, success)
    if not success.any():
        assert found is None
        return
    assert found is not None

    def f1(threshold: float) -> float:
        return confusion(reward >= threshold, success).f1 or 0.0

    assert f1(found) == pytest.approx(max(f1(t) for t in np.unique(reward)))


def test_detection_judges_each_half_of_the_episodes_by_the_other() -> None:
    steps, episode = np.tile(np.arange(10.0), 8), np.repeat(np.arange(8), 10)
    success = (episode < 4) & (steps >= 8)
    reward = np.where(success, 100.0, steps)
    found = detect(reward, episode, success)
    assert found is not None
    assert found.frames == confusion(success, success)
    assert (found.episodes.true_positives, found.episodes.true_negatives) == (4, 4)
    blind = detect(np.zeros(80), episode, success)
    assert blind is not None
    assert blind.frames.precision == pytest.approx(0.1)
    assert detect(reward, episode, success & (episode == 0)) is None


def test_the_slope_solves_the_likelihood_equation() -> None:
    rng = np.random.default_rng(3)
    d = rng.normal(size=4000)
    y = (rng.random(4000) < expit(2.5 * d)).astype(float)
    exact = brentq(lambda k: float((d * (y - expit(k * d))).sum()), 0.01, 50.0)
    assert fitted_slope(d, y) == pytest.approx(exact, rel=1e-3)
    assert exact == pytest.approx(2.5, abs=0.2)
    assert fitted_slope(np.zeros(3), np.ones(3)) is None


def test_a_reward_that_follows_bradley_terry_is_calibrated_and_one_too_sure_is_not() -> None:
    rng = np.random.default_rng(4)
    d = rng.normal(size=20_000)
    y = (rng.random(20_000) < expit(2.0 * d)).astype(float)
    good, sure = reliability(d, y, 2.0), reliability(d, y, 20.0)
    assert good is not None
    assert sure is not None
    assert good.curve.expected_error < 0.015
    assert sure.curve.expected_error > 0.15
    assert good.curve.pairs == 20_000
    p = expit(2.0 * d)
    assert good.brier == pytest.approx(np.mean((p - y) ** 2))
    assert good.curve.loss == pytest.approx(-np.mean(np.log(np.where(y > 0, p, 1 - p))))
    assert sure.curve.loss > good.curve.loss


def test_calibration_does_not_depend_on_which_frame_comes_first() -> None:
    rng = np.random.default_rng(5)
    d, y = rng.normal(size=300), rng.choice([0.0, 0.5, 1.0], size=300)
    turned = np.where(np.arange(300) % 2 == 0, -1, 1)
    one = reliability(d, y, 1.5)
    other = reliability(d * turned, np.where(turned > 0, y, 1 - y), 1.5)
    assert one is not None
    assert other is not None
    assert [part.observed for part in one.curve.bins] == pytest.approx(
        [part.observed for part in other.curve.bins]
    )
    assert one.curve.expected_error == pytest.approx(other.curve.expected_error)
    assert reliability(d[:0], y[:0], 1.0) is None
