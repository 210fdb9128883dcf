"""Intervals against scipy and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError
from sim.statistics import paired_bootstrap, wilson


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.68, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    ours = wilson(successes, trials, confidence)
    theirs = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert ours.lower == pytest.approx(theirs.low, abs=1e-9)
    assert ours.upper == pytest.approx(theirs.high, abs=1e-9)
    assert 0.0 <= ours.lower <= ours.estimate <= ours.upper <= 1.0


def test_impossible_counts_are_refused() -> None:
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ConfigError, match="no proportion"):
            wilson(successes, trials)
    with pytest.raises(ConfigError, match="confidence"):
        wilson(1, 2, 1.0)


def test_a_shared_difficulty_of_goals_drops_out_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0.0, 10.0, size=200)
    first, second = hard + rng.normal(0.5, 0.1, size=200), hard + rng.normal(0.0, 0.1, size=200)
    interval = paired_bootstrap(first, second)
    assert interval.lower < 0.5 < interval.upper
    assert interval.upper - interval.lower < 0.1


def test_the_interval_is_the_bootstrap_of_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.random(50) < 0.7).astype(float), (rng.random(50) < 0.3).astype(float)
    ours = paired_bootstrap(first, second)
    theirs = scipy.stats.bootstrap(
        (first - second,), np.mean, method="percentile", n_resamples=10_000, random_state=3
    ).confidence_interval
    assert ours.estimate == pytest.approx((first - second).mean())
    assert ours.lower == pytest.approx(theirs.low, abs=0.03)
    assert ours.upper == pytest.approx(theirs.high, abs=0.03)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        first, second = rng.normal(0.3, 1.0, 40), rng.normal(0.0, 1.0, 40)
        interval = paired_bootstrap(first, second, confidence=0.9, resamples=500, seed=trial)
        covered += interval.lower <= 0.3 <= interval.upper
    assert 165 <= covered <= 195


def test_several_seeds_narrow_the_interval_and_keep_the_mean() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((3, 50)) < 0.8, rng.random((3, 50)) < 0.4
    together = paired_bootstrap(first, second)
    alone = paired_bootstrap(first[0], second[0])
    assert together.estimate == pytest.approx((first.astype(float) - second).mean())
    assert together.upper - together.lower < alone.upper - alone.lower
    assert paired_bootstrap(first, second) == together


def test_results_on_different_goals_are_refused() -> None:
    with pytest.raises(ConfigError, match="same goals"):
        paired_bootstrap([1.0, 0.0], [1.0])
    with pytest.raises(ConfigError, match="same goals"):
        paired_bootstrap([], [])
