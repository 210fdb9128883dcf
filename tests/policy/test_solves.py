"""Every algorithm on small problems whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import torch

from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQL, IQLConfig
from policy.data import Transitions
from policy.training import BatchSampler

CPU = torch.device("cpu")
STATES = 4
LEFT, RIGHT = -1.0, 1.0


def chain(discount: float, expectile: float) -> tuple[Transitions, np.ndarray, np.ndarray]:
    """A corridor of states with an exit worth 1 at its right end, and IQL's own fixed point on it.

    Every state saw LEFT and RIGHT once. The expectile of two equally likely values is τ max + (1 − τ) min, so
    V = τ max Q + (1 − τ) min Q and Q = r + γ (1 − d) V(s′) have one solution, found here by iteration.
    """
    rows, q = [], np.zeros((STATES, 2))
    eye = np.eye(STATES, dtype=np.float32)
    for _ in range(1000):
        v = expectile * q.max(axis=1) + (1 - expectile) * q.min(axis=1)
        for state in range(STATES):
            q[state, 0] = discount * v[max(state - 1, 0)]
            q[state, 1] = 1.0 if state == STATES - 1 else discount * v[state + 1]
    for state in range(STATES):
        rows.append((eye[state], LEFT, 0.0, eye[max(state - 1, 0)], 0.0, 1.0))
        done = float(state == STATES - 1)
        rows.append((eye[state], RIGHT, done, eye[min(state + 1, STATES - 1)], done, 0.0))
    s, a, r, s_next, terminated, truncated = (
        torch.tensor(np.array(c), dtype=torch.float32) for c in zip(*rows, strict=True)
    )
    return Transitions(s, a.unsqueeze(1), r, s_next, terminated, truncated), q, v


def fit(learner, rows: Transitions, steps: int) -> None:
    sampler = BatchSampler(rows, 64, seed=0)
    for _ in range(steps):
        learner.update(sampler.sample())


@pytest.mark.parametrize("expectile", [pytest.param(0.5, marks=pytest.mark.long), 0.9])
def test_iql_finds_the_values_and_the_policy_of_a_corridor_to_within_0_02(expectile: float) -> None:
    torch.manual_seed(0)
    rows, q, v = chain(discount=0.9, expectile=expectile)
    config = IQLConfig(expectile=expectile, beta=10.0, discount=0.9, tau=0.05, lr=3e-3, hidden=(32,))
    learner = config.build(STATES, 1, CPU)
    assert isinstance(learner, IQL)
    for _ in range(2500):
        learner.update(rows)
    states = torch.eye(STATES)
    with torch.no_grad():
        found_v = learner.v(states).numpy()
        found_q = torch.stack(
            [learner.q(states, torch.full((STATES, 1), a)).mean(0) for a in (LEFT, RIGHT)], 1
        )
        action = learner.policy(states).squeeze(-1).numpy()
    np.testing.assert_allclose(found_v, v, atol=0.02)
    np.testing.assert_allclose(found_q.numpy(), q, atol=0.02)
    # With equally many LEFT and RIGHT, the weighted Gaussian's mean is tanh(β (Q_right − Q_left) / 2).
    np.testing.assert_allclose(action, np.tanh(config.beta * (q[:, 1] - q[:, 0]) / 2), atol=0.02)
    assert (action > 0).all()


@pytest.mark.parametrize(("terminated", "value"), [(0.0, 5.0), (1.0, 1.0)])
def test_a_cut_off_episode_keeps_its_future_and_an_ended_one_has_none(
    terminated: float, value: float
) -> None:
    """One state, reward 1 for ever: V = 1 / (1 − γ) = 5 where the recording stops, 1 where the task stops."""
    torch.manual_seed(0)
    one = torch.ones(8, 1)
    rows = Transitions(one, torch.zeros(8, 1), one[:, 0], one, one[:, 0] * terminated, one[:, 0])
    learner = IQLConfig(discount=0.8, tau=0.1, lr=1e-2, hidden=(8,)).build(1, 1, CPU)
    fit(learner, rows, 800)
    assert learner.v(torch.ones(1, 1)).item() == pytest.approx(value, abs=0.1)


def test_iql_picks_the_better_arm_of_a_bandit_and_bc_their_mean() -> None:
    torch.manual_seed(0)
    actions = torch.tensor([[-0.6], [0.5]]).repeat(32, 1)
    rewards = (actions[:, 0] > 0).float()
    state = torch.zeros(64, 2)
    rows = Transitions(state, actions, rewards, state, torch.ones(64), torch.zeros(64))
    learners = [
        c.build(2, 1, CPU) for c in (IQLConfig(lr=3e-3, hidden=(16,)), BCConfig(lr=3e-3, hidden=(16,)))
    ]
    for learner in learners:
        fit(learner, rows, 800)
    iql, bc = (learner.policy(state[:1]).item() for learner in learners)
    assert iql == pytest.approx(0.5, abs=0.05)
    assert bc == pytest.approx(-0.05, abs=0.05)


def test_bc_recovers_a_noisy_linear_expert_and_how_noisy_it_is() -> None:
    torch.manual_seed(0)
    s = torch.randn(4000, 3)
    gain = torch.tensor([[0.25, -0.1], [0.0, 0.2], [0.1, 0.1]])
    mean = (s @ gain).tanh()
    noise = torch.tensor([0.05, 0.2])
    zeros = torch.zeros(len(s))
    rows = Transitions(s, mean + noise * torch.randn(len(s), 2), zeros, s, zeros, zeros)
    learner = BCConfig(lr=3e-3, hidden=(32,)).build(3, 2, CPU)
    fit(learner, rows, 1500)
    held_out = torch.randn(500, 3)
    error = (learner.policy(held_out) - (held_out @ gain).tanh()).abs().mean()
    assert error < 0.03
    np.testing.assert_allclose(learner.policy.log_std.exp().detach().numpy(), noise.numpy(), rtol=0.15)


def bandit(actions: torch.Tensor, rewards: torch.Tensor) -> Transitions:
    """One state, every transition ends the task: Q is the reward."""
    state, count = torch.zeros(len(actions), 1), len(actions)
    return Transitions(state, actions, rewards, state, torch.ones(count), torch.zeros(count))


def test_an_unregularised_cql_finds_the_best_arm_of_a_bandit_to_within_0_1() -> None:
    """Rewards 1 − 4 (a − 0.3)² at actions from all over: with w = 0 it is a plain actor-critic."""
    torch.manual_seed(0)
    actions = torch.rand(512, 1) * 2 - 1
    rows = bandit(actions, 1 - 4 * (actions[:, 0] - 0.3) ** 2)
    config = CQLConfig(weight=0.0, samples=1, bc_steps=0, lr=1e-2, policy_lr=3e-2, hidden=(32,))
    learner = config.build(1, 1, CPU)
    fit(learner, rows, 300)
    assert learner.policy(torch.zeros(1, 1)).item() == pytest.approx(0.3, abs=0.1)


def conservative_fixed_point(rewards: np.ndarray, actions: np.ndarray, weight: float) -> np.ndarray:
    """Q where E_μ[(Q − r)²] + w (log ∫ exp Q − E_μ[Q]) is smallest, for μ uniform over `actions` (K,): its
    derivative is 0 where Q = r − w/2 (p_Q/μ − 1), p_Q ∝ exp Q. Found by iteration."""
    q = rewards.copy()
    for _ in range(2000):
        p = np.exp(q) / scipy.integrate.trapezoid(np.exp(q), actions)
        q = 0.9 * q + 0.1 * (rewards - weight / 2 * (p * np.ptp(actions) - 1))
    return q


def test_cql_finds_the_fixed_point_of_its_loss_on_a_bandit_to_within_0_15() -> None:
    """Q is up to 0.84 away from the reward there: lower where exp Q has more mass than the data."""
    torch.manual_seed(0)
    actions = torch.rand(4096, 1) * 2 - 1
    rows = bandit(actions, 1 - 2 * (actions[:, 0] - 0.3) ** 2)
    config = CQLConfig(weight=2.0, bc_steps=0, lr=1e-2, policy_lr=1e-2, tau=0.02, hidden=(32,))
    learner = config.build(1, 1, CPU)
    sampler = BatchSampler(rows, 128, seed=0)
    for _ in range(300):
        learner.update(sampler.sample())
    grid = np.linspace(-1, 1, 201)
    rewards = 1 - 2 * (grid - 0.3) ** 2
    expected = conservative_fixed_point(rewards, grid, config.weight)
    assert np.abs(expected - rewards).max() == pytest.approx(0.84, abs=0.01)
    # The slow copy averages out the noise of the sampled log-sum-exp.
    a = torch.tensor(grid, dtype=torch.float32)[:, None]
    found = learner.q_target(torch.zeros(201, 1), a).mean(dim=0).numpy()
    assert np.sqrt(np.square(found - expected).mean()) < 0.15
    assert np.sqrt(np.square(found - rewards).mean()) > 0.35


def test_cql_promises_less_where_nobody_has_been_and_stays_there() -> None:
    """The data ends at a = 0.2, the reward rises up to there: a plain critic goes on rising beyond, CQL's
    does not, and its policy stays among the actions of the data."""
    torch.manual_seed(0)
    actions = torch.rand(512, 1) * 0.8 - 0.6
    rows = bandit(actions, actions[:, 0])
    beyond, inside = torch.tensor([[0.9]]), torch.tensor([[0.1]])
    state = torch.zeros(1, 1)
    found = {}
    for weight in (0.0, 5.0):
        config = CQLConfig(weight=weight, samples=4, bc_steps=0, lr=3e-3, policy_lr=3e-3, hidden=(32,))
        learner = config.build(1, 1, CPU)
        fit(learner, rows, 600)
        gap = (learner.q(state, beyond) - learner.q(state, inside)).mean().item()
        found[weight] = gap, learner.policy(state).item()
    assert found[0.0][0] > 0.3
    assert found[0.0][1] > 0.5
    assert found[5.0][0] < 0
    assert -0.6 <= found[5.0][1] <= 0.3


def test_brac_moves_from_the_behaviour_by_as_much_as_the_kl_allows_to_within_0_15() -> None:
    """Behaviour N(m, σ²) before the squashing and reward k·artanh(a): the best π for weight β is
    N(m + k σ²/β, σ²), since it is proportional to π_β exp(Q/β)."""
    torch.manual_seed(0)
    mean, std, slope, beta = -0.2, 0.4, 0.5, 0.2
    u = mean + std * torch.randn(2048, 1)
    rows = bandit(u.tanh(), slope * u[:, 0])
    config = BRACConfig(
        beta=beta, behaviour_steps=300, behaviour_lr=1e-2, lr=3e-3, policy_lr=1e-2, hidden=(32,)
    )
    learner = config.build(1, 1, CPU)
    fit(learner, rows, 900)
    state = torch.zeros(1, 1)
    m, log_std = (x.item() for x in learner.behaviour.parameters_of(state))
    assert (m, log_std) == pytest.approx((mean, np.log(std)), abs=0.15)
    found = [x.item() for x in learner.policy.parameters_of(state)]
    assert found == pytest.approx([m + slope * np.exp(2 * log_std) / beta, log_std], abs=0.15)
