"""Losses of IQL and BC against formulas written out by hand, closed forms and scipy."""

from __future__ import annotations

import dataclasses

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from policy.algorithms import bc, iql
from policy.algorithms.bc import BCConfig
from policy.algorithms.iql import IQL, IQLConfig
from policy.data import Transitions

CPU = torch.device("cpu")
numbers = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-10, 10))


def random_batch(rows: int = 9, width: int = 3, dim: int = 2) -> Transitions:
    ended = (torch.arange(rows) % 3 == 0).double()
    return Transitions(
        torch.randn(rows, width).double(),
        torch.rand(rows, dim).double() * 2 - 1,
        torch.rand(rows).double(),
        torch.randn(rows, width).double(),
        ended,
        1 - ended,
    )


def single(batch: Transitions) -> Transitions:
    return Transitions(*(tensor.float() for tensor in batch[:6]))


@given(numbers, st.floats(0.01, 0.99))
def test_the_expectile_loss_is_its_formula(u, expectile) -> None:
    expected = [abs(expectile - (1.0 if x < 0 else 0.0)) * x * x for x in u]
    found = iql.expectile_loss(torch.from_numpy(u), expectile)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-300)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9, 0.99])
def test_the_value_loss_is_smallest_at_the_expectile(expectile, rng: np.random.Generator) -> None:
    q = rng.gamma(2.0, size=500)
    expected = scipy.stats.expectile(q, expectile)
    slopes = []
    for at in (expected - 1e-3, expected, expected + 1e-3):
        v = torch.tensor(at, requires_grad=True)
        iql.value_loss(torch.from_numpy(q) - v, expectile).backward()
        slopes.append(v.grad.item())
    assert slopes[0] < 0 < slopes[2]
    assert abs(slopes[1]) < 1e-7


def test_the_q_loss_is_the_mean_squared_td_error_of_both_networks() -> None:
    q = np.array([[1.0, 2.0], [3.0, -1.0]])
    rewards, terminated, next_v = np.array([0.5, 1.0]), np.array([0.0, 1.0]), np.array([4.0, 100.0])
    target = np.array([0.5 + 0.9 * 4.0, 1.0])
    expected = np.mean([(target[j] - q[i, j]) ** 2 for i in range(2) for j in range(2)])
    tensors = [torch.from_numpy(x) for x in (q, rewards, terminated, next_v)]
    assert iql.q_loss(*tensors, discount=0.9).item() == pytest.approx(expected)


@given(numbers, st.floats(0, 20))
def test_advantage_weights_are_the_clipped_exponential(advantage, beta) -> None:
    found = iql.advantage_weights(torch.from_numpy(advantage), beta, 100.0).numpy()
    np.testing.assert_allclose(found, np.minimum(np.exp(beta * advantage), 100.0))


def test_advantage_weights_send_no_gradient_into_the_value() -> None:
    advantage = torch.ones(3, requires_grad=True)
    assert not iql.advantage_weights(advantage, 3.0, 100.0).requires_grad


def manual_losses(learner: IQL, batch: Transitions) -> dict[str, Tensor]:
    """Equations 5, 6 and 7 written out row by row, each detached from the networks that it does not train."""
    c = learner.config
    log_std = learner.policy.log_std
    losses: dict[str, list[Tensor]] = {"v": [], "q": [], "policy": []}
    for row in range(len(batch.rewards)):
        s, a, r, s_next, d, _ = (tensor[row : row + 1] for tensor in batch[:6])
        target_q = torch.minimum(*learner.q_target(s, a)).detach()
        u = target_q - learner.v(s)
        losses["v"].append((c.expectile if u.item() >= 0 else 1 - c.expectile) * u**2)
        y = r + c.discount * (1 - d) * learner.v(s_next).detach()
        losses["q"].append((learner.q(s, a)[0] - y) ** 2 / 2 + (learner.q(s, a)[1] - y) ** 2 / 2)
        normal = torch.distributions.Normal(learner.policy.mean(s).tanh(), log_std.exp())
        weight = min(float(np.exp(c.beta * u.item())), c.max_weight)
        losses["policy"].append(-weight * normal.log_prob(a).sum())
    return {name: torch.stack(values).mean() for name, values in losses.items()}


def test_one_backward_pass_gives_each_network_the_gradient_of_its_own_loss() -> None:
    torch.manual_seed(0)
    learner = IQL(IQLConfig(hidden=(8,), beta=5.0), 3, 2, CPU)
    for network in (learner.q, learner.q_target, learner.v, learner.policy):
        network.double()
        for parameter in network.parameters():
            parameter.data.normal_(std=0.5)
    batch = random_batch()
    expected = manual_losses(learner, batch)
    total, metrics = learner.losses(batch)
    for name, loss in expected.items():
        torch.testing.assert_close(metrics[f"loss_{name}"], loss.detach())
    total.backward()
    for name, network in {"v": learner.v, "q": learner.q, "policy": learner.policy}.items():
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(expected[name], parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert all(parameter.grad is None for parameter in learner.q_target.parameters())


def test_the_update_is_adam_on_each_network_and_then_polyak_averaging() -> None:
    torch.manual_seed(0)
    learner = IQL(IQLConfig(hidden=(8,), tau=0.1, lr=1e-2, policy_dropout=0.0), 3, 2, CPU)
    batch = single(random_batch())
    reference = IQL(learner.config, 3, 2, CPU)
    reference.load_state_dict(learner.state_dict())
    expected = manual_losses(reference, batch)
    for name, network in {"v": reference.v, "q": reference.q, "policy": reference.policy}.items():
        adam = torch.optim.Adam(network.parameters(), lr=1e-2, fused=False, foreach=False)
        gradients = torch.autograd.grad(expected[name], list(network.parameters()))
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        adam.step()
    for old, new in zip(reference.q_target.parameters(), reference.q.parameters(), strict=True):
        old.data = 0.9 * old.data + 0.1 * new.data
    learner.update(batch)
    for mine, theirs in zip(_weights(learner), _weights(reference), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_truncation_changes_nothing_in_an_iql_step_and_termination_does() -> None:
    torch.manual_seed(0)
    learner = IQL(IQLConfig(hidden=(8,)), 3, 2, CPU)
    batch = single(random_batch())
    base = learner.losses(batch)[1]["loss_q"]
    cut = learner.losses(batch._replace(truncated=torch.ones(9)))[1]["loss_q"]
    ended = learner.losses(batch._replace(terminated=torch.ones(9)))[1]["loss_q"]
    assert cut == base
    assert ended != base


def test_behaviour_cloning_is_iql_with_beta_zero() -> None:
    imitation = torch.randn(5)
    weights = iql.advantage_weights(torch.randn(5), 0.0, 100.0)
    torch.testing.assert_close(bc.imitation_loss(imitation), iql.policy_loss(weights, imitation))


def test_a_bc_step_is_adam_on_the_mean_negative_log_likelihood() -> None:
    torch.manual_seed(0)
    learner = BCConfig(hidden=(8,), lr=1e-2).build(3, 2, CPU)
    before = {name: p.detach().clone() for name, p in learner.policy.named_parameters()}
    batch = single(random_batch())
    normal = torch.distributions.Normal(learner.policy(batch.observations), learner.policy.log_std.exp())
    loss = -normal.log_prob(batch.actions).sum(dim=-1).mean()
    gradients = torch.autograd.grad(loss, list(learner.policy.parameters()))
    metrics = learner.update(batch)
    torch.testing.assert_close(metrics["loss_policy"], loss.detach())
    for (name, after), gradient in zip(learner.policy.named_parameters(), gradients, strict=True):
        first_adam_step = 1e-2 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(after.detach(), before[name] - first_adam_step, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("algorithm", [IQLConfig, BCConfig])
def test_the_deterministic_variant_minimises_squared_error(algorithm) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(algorithm(hidden=(8,)), policy="deterministic")
    learner = config.build(3, 2, CPU)
    batch = single(random_batch())
    error = ((learner.policy(batch.observations) - batch.actions) ** 2).sum(dim=-1).detach()
    metrics = learner.validate(batch)
    torch.testing.assert_close(metrics["loss_policy"], (metrics.get("weight", 1.0) * error).mean())


def _weights(learner: IQL) -> list[Tensor]:
    networks = (learner.q, learner.q_target, learner.v, learner.policy)
    return [p.detach() for network in networks for p in network.parameters()]
