"""Which pairs are drawn, and where pictures change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from episodes.errors import DatasetError
from reward.acquisition import disagreement, select_pairs
from reward.pairs import top_rows, uniform_pairs
from reward.regions import Box, active_box

ROWS = np.arange(5, 45)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 1000))
def test_uniform_pairs_are_distinct_in_either_order_and_never_of_one_frame(count: int, seed: int) -> None:
    pairs = uniform_pairs(ROWS, count, np.random.default_rng(seed))
    assert pairs.shape == (count, 2)
    assert len({frozenset(pair) for pair in pairs.tolist()}) == count
    assert np.isin(pairs, ROWS).all()


def test_pairs_that_were_asked_and_pairs_of_equal_pictures_are_left_out() -> None:
    rows = np.arange(6)
    taken = [(1, 0), (2, 3)]
    pairs = uniform_pairs(
        rows, 9, np.random.default_rng(0), same=lambda a, b: {a, b} <= {3, 4, 5}, taken=taken
    )
    found = {tuple(sorted(pair)) for pair in pairs.tolist()}
    assert not found & {(0, 1), (2, 3), (3, 4), (3, 5), (4, 5)}


def test_more_pairs_than_there_are_is_an_error_that_says_so() -> None:
    with pytest.raises(DatasetError, match="only 10 of 11 pairs"):
        uniform_pairs(np.arange(5), 11, np.random.default_rng(0))
    with pytest.raises(DatasetError, match="make no pair"):
        uniform_pairs(np.arange(1), 1, np.random.default_rng(0))


def test_selected_pairs_come_from_the_top_of_the_ensembles_mean() -> None:
    rewards = np.stack([np.arange(50.0), np.arange(50.0) - 3])
    assert top_rows(rewards.mean(axis=0), ROWS, 0.1).tolist() == [41, 42, 43, 44]
    pairs = select_pairs("top", 5, ROWS, np.random.default_rng(0), rewards=rewards, top_fraction=0.1)
    assert set(pairs.ravel().tolist()) <= {41, 42, 43, 44}


def test_disagreement_is_the_spread_of_predicted_preferences() -> None:
    rng = np.random.default_rng(0)
    rewards, pairs = rng.normal(size=(3, 50)), rng.integers(50, size=(20, 2))
    expected = expit(rewards[:, pairs[:, 1]] - rewards[:, pairs[:, 0]]).std(axis=0)
    np.testing.assert_allclose(disagreement(rewards, pairs), expected)
    quiet = np.zeros((3, 50))
    quiet[:, 7] = [-5.0, 0.0, 5.0]
    chosen = select_pairs("disagreement", 4, ROWS, np.random.default_rng(0), rewards=quiet, candidates=80)
    assert (chosen == 7).any(axis=1).all()


def test_a_selection_by_reward_needs_a_reward() -> None:
    with pytest.raises(DatasetError, match="needs a fitted reward model"):
        select_pairs("top", 5, ROWS, np.random.default_rng(0))


def test_the_active_box_holds_what_changes_and_a_margin() -> None:
    images = np.full((20, 60, 80, 3), 90, np.uint8)
    for k in range(20):
        images[k, 30 + k // 4, 40:45, 1] = 200
    box = active_box(images, 12, margin=2)
    assert (box.height, box.width) == (12, 12)
    assert box.top <= 28
    assert box.top + box.height >= 37
    assert box.left <= 38
    assert box.left + box.width >= 47
    wide = active_box(images, 4, margin=2)
    assert (wide.top, wide.left) == (28, 38)
    assert (wide.top + wide.height, wide.left + wide.width) == (37, 47)


@settings(deadline=None)
@given(st.integers(0, 59), st.integers(0, 79), st.integers(1, 60))
def test_the_active_box_stays_inside_and_is_large_enough(row: int, column: int, smallest: int) -> None:
    images = np.zeros((2, 60, 80, 3), np.uint8)
    images[1, row, column] = 255
    box = active_box(images, smallest)
    assert 0 <= box.top <= row < box.top + box.height <= 60
    assert 0 <= box.left <= column < box.left + box.width <= 80
    assert min(box.height, box.width) >= smallest


def test_pictures_in_which_nothing_changes_are_taken_whole_and_small_ones_are_refused() -> None:
    still = np.zeros((3, 20, 30, 3), np.uint8)
    assert active_box(still, 10) == Box(0, 0, 20, 30)
    with pytest.raises(DatasetError, match="20×30"):
        active_box(still, 47)
