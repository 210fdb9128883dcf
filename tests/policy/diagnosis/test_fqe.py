"""Fitted Q evaluation against values known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from episodes.errors import ConfigError
from policy.diagnosis.fqe import FqeConfig, Recorded, bootstrap_weights, fitted_q_evaluation

STATES, GAMMA = 4, 0.8
QUICK = FqeConfig(members=4, hidden=(32,), steps=400, batch_size=128, lr=5e-3, tau=0.05)


def chain(rng: np.random.Generator, episodes: int = 60, length: int = 12, *, terminal: bool = False):
    """Episodes of a chain of STATES states under a uniform behaviour: action ±1 moves along it with
    probability 0.8 (else against), the last state pays 1 and, where `terminal`, ends the task.

    Returns:
        The transitions, and the transition matrices (2, S, S) of action −1 and +1.
    """
    move = np.zeros((2, STATES, STATES))
    for number, way in enumerate((-1, 1)):
        for s in range(STATES):
            for chance, step in ((0.8, way), (0.2, -way)):
                move[number, s, np.clip(s + step, 0, STATES - 1)] += chance
    rows, starts = [], []
    for episode in range(episodes):
        s = int(rng.integers(STATES - 1))
        starts.append(len(rows))
        for _ in range(length):
            a = int(rng.integers(2))
            after = int(rng.choice(STATES, p=move[a, s]))
            paid = float(after == STATES - 1)
            rows.append((s, 2 * a - 1, paid, after, paid if terminal else 0.0, episode))
            s = after
            if terminal and paid:
                break
    s, a, r, after, d, e = (np.array(column) for column in zip(*rows, strict=True))
    eye = torch.eye(STATES)
    data = Recorded(
        eye[s], torch.from_numpy(a).float()[:, None], torch.from_numpy(r).float(), eye[after],
        torch.from_numpy(d).float(), torch.from_numpy(e), torch.tensor(starts),
    )  # fmt: skip
    return data, move


def solved(move: np.ndarray, policy: np.ndarray, *, terminal: bool) -> np.ndarray:
    """V of a deterministic policy (S,) of 0 and 1 by linear algebra: V = P (e + γ (1 − d) V)."""
    p = move[policy, np.arange(STATES)]
    paid = np.eye(STATES)[-1]
    go_on = GAMMA * (1 - paid if terminal else np.ones(STATES))
    return np.linalg.solve(np.eye(STATES) - p * go_on, p @ paid)


def estimate(data: Recorded, policy: np.ndarray, config: FqeConfig = QUICK):
    acts = torch.from_numpy(2.0 * policy - 1).float()
    where = data.next_states.argmax(dim=1)
    first = data.states[data.starts].argmax(dim=1)
    return fitted_q_evaluation(data, acts[where][:, None], acts[first][:, None], GAMMA, config)


@pytest.mark.parametrize(
    ("terminal", "policy"), [(False, np.ones(STATES, int)), (True, np.array([0, 1, 0, 1]))]
)
def test_the_value_of_a_policy_other_than_the_behaviour_is_that_of_linear_algebra(terminal, policy) -> None:
    data, move = chain(np.random.default_rng(0), episodes=120, terminal=terminal)
    first = data.states[data.starts].argmax(dim=1).numpy()
    true = float(solved(move, policy, terminal=terminal)[first].mean())
    found = estimate(data, policy)
    assert found.value == pytest.approx(true, abs=0.1 * max(true, 1.0))
    assert found.low - 0.1 <= true <= found.high + 0.1
    assert found.low <= found.value <= found.high
    assert found.episodes == 120


@pytest.mark.long
def test_policies_are_ranked_as_they_are_worth() -> None:
    data, move = chain(np.random.default_rng(1))
    policies = [np.zeros(STATES, int), np.array([1, 0, 1, 1]), np.ones(STATES, int)]
    first = data.states[data.starts].argmax(dim=1).numpy()
    true = [solved(move, policy, terminal=False)[first].mean() for policy in policies]
    found = [estimate(data, policy).value for policy in policies]
    assert np.argsort(found).tolist() == np.argsort(true).tolist()


@pytest.mark.long
def test_more_episodes_make_a_narrower_interval() -> None:
    policy = np.ones(STATES, int)
    few, many = (estimate(chain(np.random.default_rng(2), episodes=n)[0], policy) for n in (8, 120))
    assert many.high - many.low < few.high - few.low


def test_the_same_seed_gives_the_same_estimate_and_the_global_noise_is_left_alone() -> None:
    data, _ = chain(np.random.default_rng(3), episodes=6)
    short = FqeConfig(members=2, hidden=(8,), steps=20)
    before = torch.get_rng_state()
    first = estimate(data, np.ones(STATES, int), short)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(4)
    assert estimate(data, np.ones(STATES, int), short) == first


def test_values_stay_within_what_the_rewards_can_add_up_to() -> None:
    data, _ = chain(np.random.default_rng(4), episodes=4)
    wild = FqeConfig(members=2, hidden=(8,), steps=200, lr=0.3)
    found = estimate(data, np.ones(STATES, int), wild)
    assert -1.0 <= found.value <= 1 / (1 - GAMMA) + 1.0


def test_each_bootstrap_draw_has_as_many_episodes_and_the_first_row_has_each_once() -> None:
    weights = bootstrap_weights(7, 500, torch.Generator().manual_seed(0))
    assert weights[0].tolist() == [1.0] * 7
    assert (weights.sum(dim=1) == 7).all()
    np.testing.assert_allclose(weights[1:].mean(dim=0), np.ones(7), atol=0.15)
    assert weights[1:].var().item() == pytest.approx(6 / 7, rel=0.1)


def test_without_discounting_there_is_no_value_to_find() -> None:
    data, _ = chain(np.random.default_rng(5), episodes=2)
    with pytest.raises(ConfigError, match="below 1"):
        fitted_q_evaluation(data, data.actions, data.actions[data.starts], 1.0, QUICK)
