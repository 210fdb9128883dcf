"""EPIC against the canonical form written out over all states, and its invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import ConfigError
from reward.evaluate.distance import (
    RewardFunction,
    canonical,
    canonical_frames,
    epic_distance,
    pearson_distance,
)

STATES, ACTIONS = 5, 3


def table_reward(table: np.ndarray) -> RewardFunction:
    """R(s, a, s') of numbered states and actions."""
    return lambda s, a, after: table[s, a, after]


def transitions(rng: np.random.Generator, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        rng.integers(STATES, size=count),
        rng.integers(ACTIONS, size=count),
        rng.integers(STATES, size=count),
    )


def shaped(table: np.ndarray, potential: np.ndarray, gamma: float) -> np.ndarray:
    return table + gamma * potential[None, None, :] - potential[:, None, None]


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.floats(0.0, 1.0))
def test_the_canonical_form_is_the_papers_sum_over_all_states_and_actions(seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(STATES, ACTIONS, STATES))
    states, actions = rng.integers(STATES, size=7), np.arange(ACTIONS)
    s, a, after = transitions(rng)
    expected = []
    for x, u, y in zip(s, a, after, strict=True):
        leave = [table[x, b, z] for b in actions for z in states]
        go_on = [table[y, b, z] for b in actions for z in states]
        both = [table[w, b, z] for w in states for b in actions for z in states]
        expected.append(
            table[x, u, y] + np.mean([gamma * g for g in go_on]) - np.mean(leave) - gamma * np.mean(both)
        )
    found = canonical(table_reward(table), (s, a, after), states, actions, gamma)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.floats(0.1, 50.0))
def test_epic_does_not_see_scale_nor_potential_shaping(seed: int, gamma: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    table, potential = rng.normal(size=(STATES, ACTIONS, STATES)), 10 * rng.normal(size=STATES)
    same = table_reward(scale * shaped(table, potential, gamma) + 4.0)
    where = transitions(rng), rng.integers(STATES, size=6), np.arange(ACTIONS)
    assert epic_distance(table_reward(table), same, *where, gamma) == pytest.approx(0.0, abs=1e-6)
    opposite = table_reward(-shaped(table, potential, gamma))
    assert epic_distance(table_reward(table), opposite, *where, gamma) == pytest.approx(1.0)
    s, a, after = where[0]
    naive = pearson_distance(table[s, a, after], shaped(table, potential, gamma)[s, a, after])
    assert naive is not None
    assert naive > 0.05, "without canonicalisation the shaping counts as a difference"


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_epic_is_symmetric_and_keeps_the_triangle_inequality(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = [table_reward(rng.normal(size=(STATES, ACTIONS, STATES))) for _ in range(3)]
    where = transitions(rng), np.arange(STATES), np.arange(ACTIONS)

    def epic(i: int, j: int) -> float:
        found = epic_distance(rewards[i], rewards[j], *where, 0.9)
        assert found is not None
        return found

    assert epic(0, 1) == pytest.approx(epic(1, 0))
    assert epic(0, 2) <= epic(0, 1) + epic(1, 2) + 1e-12


def test_epic_of_a_shaping_alone_is_not_defined() -> None:
    rng = np.random.default_rng(0)
    nothing = table_reward(shaped(np.zeros((STATES, ACTIONS, STATES)), rng.normal(size=STATES), 0.9))
    other = table_reward(rng.normal(size=(STATES, ACTIONS, STATES)))
    where = transitions(rng), np.arange(STATES), np.arange(ACTIONS)
    assert epic_distance(nothing, other, *where, 0.9) is None


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.floats(0.0, 1.0))
def test_the_closed_form_for_frames_is_the_general_one(seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=STATES), rng.normal(size=STATES)
    table = np.broadcast_to(f[None, None, :] + g[:, None, None], (STATES, ACTIONS, STATES))
    states = rng.integers(STATES, size=9)
    where = transitions(rng)
    general = canonical(table_reward(table), where, states, np.arange(ACTIONS), gamma)
    closed = canonical_frames(f[where[2]], g[where[2]], f[states], g[states], gamma)
    np.testing.assert_allclose(closed, general, atol=1e-12)


def test_a_reward_of_the_next_frame_is_only_centred_so_its_epic_is_the_pearson_distance() -> None:
    rng = np.random.default_rng(1)
    f, h = rng.normal(size=200), rng.normal(size=200)
    zero = np.zeros(200)
    canonical_f = canonical_frames(f, zero, f, zero, 0.99)
    np.testing.assert_allclose(canonical_f, f - f.mean())
    canonical_h = canonical_frames(h, zero, h, zero, 0.99)
    epic, plain = pearson_distance(canonical_f, canonical_h), pearson_distance(f, h)
    assert epic is not None
    assert epic == pytest.approx(plain)
    assert not math.isclose(epic, 0.0)


def test_a_discount_outside_zero_and_one_is_refused() -> None:
    zero = table_reward(np.zeros((STATES, ACTIONS, STATES)))
    s = np.zeros(1, int)
    with pytest.raises(ConfigError, match="gamma"):
        canonical(zero, (s, s, s), s, s, 1.1)
