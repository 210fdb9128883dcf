"""Quality figures against independent references, and shaping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, rankdata, spearmanr

from episodes.errors import ConfigError, LabelError
from reward.quality import (
    Quality,
    above_best_decile,
    average_ranks,
    probability_above,
    reward_quality,
    spearman,
)
from reward.shaping import ShapingConfig, scale_of, shape

VALUES = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=40)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_probability_above_is_mann_whitneys_u_over_nm(left: list[float], right: list[float]) -> None:
    a, b = np.array(left), np.array(right)
    u = (
        mannwhitneyu(a, b, method="asymptotic").statistic
        if len(set(left + right)) > 1
        else len(a) * len(b) / 2
    )
    assert probability_above(a, b) == pytest.approx(u / (len(a) * len(b)))


@settings(deadline=None)
@given(VALUES)
def test_ranks_of_ties_are_averaged(values: list[float]) -> None:
    np.testing.assert_allclose(average_ranks(np.array(values)), rankdata(values))


def test_rank_correlation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(10, size=200).astype(float)
    b = a + rng.normal(size=200)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a, np.ones(200)) is None


def test_the_best_decile_is_taken_from_the_others_by_score() -> None:
    others = np.arange(100.0)
    assert above_best_decile(np.array([94.5]), others) == pytest.approx(0.5)
    assert above_best_decile(np.array([200.0]), others) == 1.0
    assert above_best_decile(np.array([50.0]), others) == 0.0
    assert above_best_decile(np.array([1.0]), np.array([])) is None


def test_a_reward_that_pays_for_hovering_is_found_out_although_its_rank_correlation_is_high() -> None:
    """100 episodes approach; 5 of them succeed, and the reward ranks hovering above success."""
    steps = np.tile(np.arange(50.0), 100)
    episode = np.repeat(np.arange(100), 50)
    success = (episode < 5) & (steps >= 45)
    truth = np.where(success, 100.0, steps)
    reward = np.where(success, 44.0, steps)
    quality = reward_quality(reward, episode, success=success, truth=truth)
    assert quality.rank_correlation is not None
    assert quality.rank_correlation > 0.95
    assert quality.success_above_best_decile is not None
    assert quality.success_above_best_decile < 0.05
    assert any("frames of success" in warning for warning in quality.warnings)
    good = reward_quality(truth, episode, success=success, truth=truth)
    assert good.success_above_best_decile == 1.0
    assert good.successful_episode_rank == 1.0
    assert good.warnings == ()


def test_quality_without_ground_truth_says_what_it_can() -> None:
    quality = reward_quality(np.arange(6.0), np.zeros(6, int), held_out=(0.4, 0.8))
    assert quality == Quality(None, None, 0.8, 0.4, None)
    assert Quality.from_json(quality.as_json()) == quality


@settings(deadline=None)
@given(st.floats(0.5, 6.0), st.integers(0, 1000))
def test_shaping_keeps_order_and_fills_the_unit_interval(exponent: float, seed: int) -> None:
    reward = np.random.default_rng(seed).normal(size=500).astype(np.float32)
    config = ShapingConfig(exponent=exponent)
    shaped = shape(reward, scale_of(reward, config), config)
    assert shaped.dtype == np.float32
    assert shaped.min() == 0.0
    assert shaped.max() == 1.0
    assert (np.diff(shaped[np.argsort(reward, kind="stable")]) >= 0).all()


def test_shaping_is_the_documented_formula() -> None:
    reward = np.linspace(-2, 3, 1001)
    config = ShapingConfig(exponent=4.0, low=0.1, high=0.9)
    low, high = np.quantile(reward, [0.1, 0.9])
    expected = np.clip((reward - low) / (high - low), 0, 1) ** 4
    np.testing.assert_allclose(
        shape(reward, scale_of(reward, config), config), expected, rtol=1e-6, atol=1e-7
    )


def test_a_constant_reward_is_refused() -> None:
    with pytest.raises(LabelError, match="every frame"):
        scale_of(np.full(10, 0.3), ShapingConfig())


@pytest.mark.parametrize("settings", [{"low": 0.5, "high": 0.5}, {"exponent": 0.0}, {"high": 1.1}])
def test_impossible_shapings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ShapingConfig(**settings)
