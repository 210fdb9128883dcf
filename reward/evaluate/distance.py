"""How far apart are two rewards, whatever their scale and, for EPIC, whatever their potential shaping?

Gleave et al. (2021), "Quantifying Differences in Reward Functions": EPIC is the Pearson distance between
canonically shaped rewards. What vlmrm prints as EPIC is the Pearson distance alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError

ROUNDING = 1e-12
"""Differences below this share of the rewards are rounding."""

Values = NDArray[np.float64]
RewardFunction = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], Values]
"""R(s, a, s') of n transitions: arrays whose first axis is n → (n,)."""


def pearson(
    left: NDArray[np.floating], right: NDArray[np.floating], weight: Values | None = None
) -> float | None:
    """Pearson's ρ of (n,) and (n,), items weighted by `weight` (n,); None when a side is constant."""
    if len(left) < 2:
        return None
    w = np.ones(len(left)) if weight is None else weight
    w = w / w.sum()
    a, b = left.astype(np.float64), right.astype(np.float64)
    a, b = a - w @ a, b - w @ b
    # A constant column leaves rounding alone after its mean is taken away.
    sizes = [math.sqrt(float(w @ c**2)) for c in (a, b)]
    if any(
        size <= ROUNDING * float(np.abs(raw).max()) for size, raw in zip(sizes, (left, right), strict=True)
    ):
        return None
    return max(-1.0, min(1.0, float(w @ (a * b)) / (sizes[0] * sizes[1])))


def pearson_distance(
    left: NDArray[np.floating], right: NDArray[np.floating], weight: Values | None = None
) -> float | None:
    """D_ρ = √((1 − ρ)/2) = (1/√2)·√(1 − ρ) in [0, 1] (Gleave et al. 2021, section 4): 0 when one is a
    positive multiple of the other plus a constant, 1 when a negative one, 0.707 when uncorrelated; None when
    a side is constant."""
    rho = pearson(left, right, weight)
    return None if rho is None else math.sqrt((1.0 - rho) / 2.0)


def canonical(
    reward: RewardFunction,
    transitions: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    states: NDArray[Any],
    actions: NDArray[Any],
    gamma: float,
) -> Values:
    """The canonically shaped reward of transitions (Gleave et al. 2021, section 4):

        C(R)(s, a, s') = R(s, a, s') + E[γ·R(s', A, S') − R(s, A, S') − γ·R(S, A, S')]

    with S and S' independent from `states` and A from `actions`; the expectations are means over all of
    states × actions, so shaping by γ·Φ(s') − Φ(s) cancels exactly, not only in the limit.

    Args:
        reward: R.
        transitions: s, a, s', each with n rows.
        states: (m, …) sample of D_S.
        actions: (k, …) sample of D_A.
        gamma: discount factor of the shaping, in [0, 1].

    Raises:
        ConfigError: gamma out of range.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ConfigError(f"gamma {gamma}: write a discount factor from 0 to 1.")
    count = len(states) * len(actions)
    after = np.repeat(states, len(actions), axis=0)
    taken = np.concatenate([actions] * len(states))

    def mean_from(state: NDArray[Any]) -> float:
        """E[R(state, A, S')]."""
        return float(reward(np.repeat(state[None], count, axis=0), taken, after).mean())

    before, done, following = transitions
    leaving = np.array([mean_from(state) for state in before])
    going_on = np.array([mean_from(state) for state in following])
    overall = float(np.mean([mean_from(state) for state in states]))
    raw = reward(before, done, following)
    shaped = raw + gamma * going_on - leaving - gamma * overall
    # What is left of a shaping alone is rounding, which would correlate with something.
    return shaped if np.ptp(shaped) > ROUNDING * np.abs(raw).max() else np.full(len(raw), shaped.mean())


def epic_distance(
    left: RewardFunction,
    right: RewardFunction,
    transitions: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    states: NDArray[Any],
    actions: NDArray[Any],
    gamma: float,
) -> float | None:
    """EPIC: the Pearson distance of both canonical rewards over `transitions`, the coverage distribution.

    None when one of them is a constant but for shaping. Arguments as for `canonical`.
    """
    return pearson_distance(
        canonical(left, transitions, states, actions, gamma),
        canonical(right, transitions, states, actions, gamma),
    )


def canonical_frames(
    after: Values, before: Values, states_after: Values, states_before: Values, gamma: float
) -> Values:
    """`canonical` in closed form for R(s, a, s') = f(s') + g(s), which needs no action and no pairing.

    E[R(x, A, S')] = E f + g(x), so g(s) cancels and

        C(R)(s, a, s') = f(s') + γ·g(s') − E f − γ·E g

    A reward that is read from the next frame alone (g = 0, every label file) is only centred: its EPIC is the
    Pearson distance over the coverage. A difference of potentials γ·Φ(s') − Φ(s) vanishes.

    Args:
        after: (n,) f of the state after each transition.
        before: (n,) g of the state after each transition (g(s'), not g(s), which cancels).
        states_after: (m,) f of a sample of D_S.
        states_before: (m,) g of the same sample.
        gamma: discount factor.
    """
    centre = float(states_after.mean()) + gamma * float(states_before.mean())
    return after + gamma * before - centre
