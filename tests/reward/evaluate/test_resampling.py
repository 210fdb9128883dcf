"""Intervals over episodes."""

from __future__ import annotations

import numpy as np
import pytest

from reward.evaluate.resampling import Resampling


def test_the_interval_of_a_mean_of_independent_episodes_is_the_known_one() -> None:
    """σ/√n of 100 episodes with one item each: ±0.196 for σ = 1."""
    values = np.random.default_rng(0).normal(size=100)
    found = Resampling(count=2000).figure(lambda k: float(values[k].mean()), np.arange(100))
    assert found.value == pytest.approx(values.mean())
    assert found.low is not None
    assert found.high is not None
    half = 1.96 * values.std() / 10
    assert found.low == pytest.approx(values.mean() - half, abs=0.04)
    assert found.high == pytest.approx(values.mean() + half, abs=0.04)
    assert found.count == 100


def test_copies_within_an_episode_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    once = Resampling().figure(lambda k: float(values[k].mean()), np.arange(30))
    many = np.repeat(values, 50)
    often = Resampling().figure(lambda k: float(many[k].mean()), np.repeat(np.arange(30), 50))
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert often.count == 1500


def test_a_pair_comes_as_often_as_both_its_episodes() -> None:
    seen: list[np.ndarray] = []
    Resampling(count=50).figure(
        lambda k: seen.append(np.bincount(k, minlength=3)) or 0.0, np.array([0, 1, 0]), np.array([0, 1, 1])
    )
    for within, other, across in (counts.tolist() for counts in seen):
        assert across == within * other
        assert within + other == 2 or across == 1


def test_a_figure_that_hangs_on_one_episode_has_no_interval() -> None:
    success = np.arange(10) == 3
    found = Resampling().figure(lambda k: 1.0 if success[k].any() else None, np.arange(10))
    assert (found.value, found.low, found.high) == (1.0, None, None)
    assert Resampling(count=0).figure(lambda k: 1.0, np.arange(4)).low is None
    assert Resampling().figure(lambda k: 1.0, np.zeros(4, int)).low is None
    assert Resampling().figure(lambda k: 1.0, np.zeros(0, int)).value is None
