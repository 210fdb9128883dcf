"""Held-out figures of preferences and scores, against NumPy and SciPy written out separately."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import kendalltau

from episodes.errors import LabelError
from reward.calibration import (
    HOTTEST,
    answer_chances,
    best_temperature,
    calibration,
    cross_entropy,
    cross_fitted,
)
from reward.clients.protocol import Kind
from reward.scores import LabelledScores, score_figures, targets


def drawn(seed: int, count: int, heat: float, mistakes: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Differences that are `heat` times the log-odds of the answers, and the answers."""
    rng = np.random.default_rng(seed)
    odds = 2 * rng.normal(size=count)
    second = (1 - mistakes) * expit(odds) + mistakes * expit(-odds)
    return heat * odds, (rng.random(count) < second).astype(np.float64)


def expected_error(chance: np.ndarray, label: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 3, pair by pair and bin by bin."""
    total, edges = 0.0, np.linspace(0.5, 1.0, bins + 1)
    sure = [(p, y) if p >= 0.5 else (1 - p, 1 - y) for p, y in zip(chance, label, strict=True)]
    for k in range(bins):
        last = k == bins - 1
        inside = [(p, y) for p, y in sure if edges[k] <= p and (p < edges[k + 1] or last)]
        if inside:
            total += abs(sum(y for _, y in inside) - sum(p for p, _ in inside))
    return total / len(label)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.sampled_from([1, 5, 10]))
def test_the_expected_calibration_error_is_that_of_guo(seed: int, count: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    chance, label = rng.random(count), rng.choice([0.0, 0.5, 1.0], count)
    found = calibration(chance, label, bins)
    assert found.expected_error == pytest.approx(expected_error(chance, label, bins), abs=1e-9)
    assert sum(each.pairs for each in found.bins) == found.pairs == count
    right = np.where(label == 0.5, 0.5, (chance > 0.5) == (label > 0.5))
    assert found.accuracy == pytest.approx(right.mean())
    assert found.loss == pytest.approx(-np.mean(label * np.log(chance) + (1 - label) * np.log(1 - chance)))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_naming_the_frames_the_other_way_round_changes_nothing(seed: int) -> None:
    difference, label = drawn(seed, 60, 1.0)
    there = calibration(answer_chances(difference, 0.1), label)
    back = calibration(answer_chances(-difference, 0.1), 1 - label)
    assert there.expected_error == pytest.approx(back.expected_error)
    assert there.accuracy == pytest.approx(back.accuracy)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.3, 1.0, 4.0]), st.sampled_from([0.0, 0.1]))
def test_the_temperature_is_where_the_slope_of_the_likelihood_vanishes(
    seed: int, heat: float, mistakes: float
) -> None:
    difference, label = drawn(seed, 400, heat, mistakes)

    def slope(log_t: float) -> float:
        d = difference * np.exp(-log_t)
        second, first = ((1 - mistakes) * expit(e) + mistakes * expit(-e) for e in (d, -d))
        change = (1 - 2 * mistakes) * expit(d) * expit(-d) * d
        return float(np.mean((label / second - (1 - label) / first) * change))

    root = np.exp(brentq(slope, -2.0, np.log(HOTTEST)))
    assert best_temperature(difference, label, mistakes) == pytest.approx(root, rel=1e-3)


def test_scaling_undoes_overconfidence_on_answers_that_it_never_saw() -> None:
    difference, label = drawn(0, 2000, 4.0)
    before = calibration(answer_chances(difference, 0.0), label)
    after = calibration(cross_fitted(difference, label), label)
    assert best_temperature(difference, label) == pytest.approx(4.0, rel=0.15)
    assert before.expected_error > 0.1
    assert after.expected_error < 0.04
    assert after.accuracy == before.accuracy
    fresh, answers = drawn(1, 2000, 4.0)
    scaled = answer_chances(fresh / best_temperature(difference, label), 0.0)
    assert cross_entropy(scaled, answers) < cross_entropy(answer_chances(fresh, 0.0), answers)


def test_a_judge_who_errs_is_in_the_prediction() -> None:
    difference, label = drawn(3, 5000, 1.0, mistakes=0.2)
    assert calibration(answer_chances(difference, 0.2), label).expected_error < 0.03
    assert calibration(answer_chances(difference, 0.0), label).expected_error > 0.08


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(LabelError, match="19 held-out pairs are too few"):
        best_temperature(np.zeros(19), np.zeros(19))
    with pytest.raises(LabelError, match="no held-out pair"):
        calibration(np.empty(0), np.empty(0))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (Kind.SCORE, [0.0, 0.25, 1.0], [-1.0, -0.5, 1.0]),
        (Kind.PROGRESS, [1.0, 3.0, 5.0], [-1.0, 0.0, 1.0]),
        (Kind.SUCCESS, [0.0, 1.0], [-1.0, 1.0]),
    ],
)
def test_targets_are_twice_the_score_less_one(kind: Kind, values: list[float], expected: list[float]) -> None:
    assert targets(np.array(values), kind).tolist() == expected


def test_answers_outside_their_scale_are_no_targets() -> None:
    for kind, value in ((Kind.SCORE, 1.5), (Kind.PROGRESS, 0.0), (Kind.SUCCESS, float("nan"))):
        with pytest.raises(LabelError, match="outside"):
            targets(np.array([0.5, value]) if kind is Kind.SCORE else np.array([1.0, value]), kind)
    with pytest.raises(LabelError, match="compares pictures"):
        targets(np.array([0.5]), Kind.PREFERENCE)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_figures_of_scores_are_those_of_numpy_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=50)
    rows, target = rng.permutation(50)[:30], rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], 30)
    scores = LabelledScores(rows, target.astype(np.float32), np.arange(30) % 3 == 0)
    found = score_figures(reward, scores.part(held_out=False), scores.part(held_out=True))
    held = np.arange(30) % 3 == 0
    assert found.frames == 10
    assert found.squared_error == pytest.approx(np.mean((reward[rows[held]] - target[held]) ** 2), rel=1e-6)
    assert found.constant_error == pytest.approx(
        np.mean((target[~held].mean() - target[held]) ** 2), rel=1e-6
    )
    expected = kendalltau(target[held], reward[rows[held]]).statistic
    assert found.rank_agreement == pytest.approx(expected)
