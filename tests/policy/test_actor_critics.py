"""Losses of CQL and BRAC against formulas written out by hand, scipy, quadrature and autograd."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch

from episodes.errors import ConfigError
from policy.algorithms import cql
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.critic import TwinQ, frozen
from policy.encoders import EncoderConfig
from policy.observations import Observations, ObservationSpace
from policy.policies import TanhGaussianPolicy
from policy.transitions import Transitions

CPU = torch.device("cpu")


def batch(rows: int = 12, dim: int = 2) -> Transitions:
    ended = (torch.arange(rows) % 3 == 0).float()
    return Transitions(
        torch.randn(rows, 3), torch.rand(rows, dim) * 2 - 1, torch.rand(rows), torch.randn(rows, 3), ended,
        1 - ended,
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_conservative_gap_is_the_corrected_log_sum_exp_minus_the_datas_value(temperature) -> None:
    rng = np.random.default_rng(0)
    q, log_mu, data = rng.normal(size=(2, 6, 5)), rng.normal(size=(6, 5)), rng.normal(size=(2, 5))
    z = temperature * scipy.special.logsumexp((q - log_mu) / temperature, axis=1)
    expected = (z - data).mean(axis=1)
    found = cql.conservative_gap(*(torch.from_numpy(x) for x in (q, log_mu, data)), temperature)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_with_importance_weights_z_is_the_log_of_an_integral_over_all_actions() -> None:
    """log ∫ exp Q(a) da, estimated from 3N samples of three densities, is Z − log 3N: by importance
    sampling."""
    torch.manual_seed(0)

    def q(a: torch.Tensor) -> torch.Tensor:
        return 2.0 * a - 3.0 * (a - 0.2) ** 2

    integral = scipy.integrate.quad(lambda a: math.exp(2 * a - 3 * (a - 0.2) ** 2), -1, 1)[0]
    policy = TanhGaussianPolicy(1, 1, ())
    policy.mean[-1].weight.data.zero_()
    policy.mean[-1].bias.data = torch.tensor([0.3, -0.2])
    rows, count = 400, 200
    s = torch.zeros(rows, 1)
    with torch.no_grad():
        actions, log_mu = policy.sample(s, count)
        uniform = torch.rand(count, rows, 1) * 2 - 1
        every = torch.cat((uniform, actions))
        logs = torch.cat((torch.full((count, rows), math.log(0.5)), log_mu))
        values = q(every.squeeze(-1))
        gap = cql.conservative_gap(values.expand(2, -1, -1), logs, torch.zeros(2, rows), 1.0)
    np.testing.assert_allclose((gap - math.log(2 * count)).numpy(), math.log(integral), atol=0.01)


def test_the_proposals_of_cql_are_uniform_next_and_current_with_their_own_densities() -> None:
    torch.manual_seed(0)
    learner = CQLConfig(hidden=(8,), samples=4).build(3, 2, CPU)
    data = batch()
    actions, log_mu = learner.proposals(data)
    assert actions.shape == (12, 12, 2)
    torch.testing.assert_close(log_mu[:4], torch.full((4, 12), 2 * math.log(0.5)))
    for kind, seen in ((4, data.next_observations), (8, data.observations)):
        for k in range(4):
            expected = learner.policy.log_prob(seen, actions[kind + k]).detach()
            torch.testing.assert_close(log_mu[kind + k], expected, rtol=1e-3, atol=1e-3)
    unweighted = dataclasses.replace(learner.config, importance=False).build(3, 2, CPU)
    assert not unweighted.proposals(data)[1].any()


def manual_critic_loss(learner: cql.CQL, data: Transitions, proposals, next_a, alpha: float) -> torch.Tensor:
    """TD error and conservative term row by row; `next_a` and its log density are what the policy drew."""
    c, (actions, log_mu), (a_next, log_next) = learner.config, proposals, next_a
    total = 0.0
    for row in range(len(data.rewards)):
        s, a, r, s_next, d, _ = (x[row : row + 1] for x in data[:6])
        value = learner.q_target(s_next, a_next[row : row + 1]).min(dim=0).values
        if c.backup == "entropy":
            value = value - alpha * log_next[row]
        y = (r + c.discount * (1 - d) * value).detach()
        for member in range(2):
            q = learner.q(s, a)[member]
            others = [learner.q(s, x[row : row + 1])[member] - log_mu[i, row] for i, x in enumerate(actions)]
            z = torch.logsumexp(torch.stack(others), dim=0)
            total = total + (y - q) ** 2 + c.weight * (z - q)
    return total.mean() / len(data.rewards)


@pytest.mark.parametrize("backup", ["deterministic", "entropy"])
def test_a_cql_critic_step_has_the_gradient_of_the_written_out_loss(backup, monkeypatch) -> None:
    torch.manual_seed(0)
    learner = CQLConfig(hidden=(8,), samples=2, weight=3.0, backup=backup).build(3, 2, CPU)
    data, alpha = batch(6), torch.tensor(0.7)
    proposals = learner.proposals(data)
    with torch.no_grad():
        drawn = learner.policy.sample(data.next_observations)
    monkeypatch.setattr(learner, "proposals", lambda _: proposals)
    monkeypatch.setattr(learner.policy, "sample", lambda *_: drawn)
    loss, gap, _ = learner.critic_loss(data, alpha)
    expected = manual_critic_loss(learner, data, proposals, drawn, 0.7)
    torch.testing.assert_close(loss, expected)
    assert gap.shape == (2,)
    parameters = list(learner.q.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_max_q_backup_takes_the_best_action_of_each_q_and_then_the_smaller_q(monkeypatch) -> None:
    torch.manual_seed(0)
    learner = CQLConfig(hidden=(8,), samples=5, max_q_backup=True).build(3, 2, CPU)
    s = torch.randn(4, 3)
    with torch.no_grad():
        drawn = learner.policy.sample(s, 5)
    monkeypatch.setattr(learner.policy, "sample", lambda *_: drawn)
    each = torch.stack([learner.q_target(s, a) for a in drawn[0]])
    expected = each.max(dim=0).values.min(dim=0).values
    torch.testing.assert_close(learner.next_value(s, torch.tensor(1.0)), expected)


def test_the_policy_of_cql_imitates_first_and_then_follows_the_smaller_q() -> None:
    torch.manual_seed(0)
    learner = CQLConfig(hidden=(8,), bc_steps=2, samples=2).build(3, 2, CPU)
    data, alpha = batch(), torch.tensor(0.5)

    def policy_gradient(value) -> list[torch.Tensor]:
        torch.manual_seed(3)
        actions, log_prob = learner.policy.sample(data.observations)
        loss = (0.5 * log_prob - value(actions)).mean()
        return torch.autograd.grad(loss, list(learner.policy.parameters()))

    def found() -> list[torch.Tensor]:
        torch.manual_seed(3)
        with frozen(learner.q):
            loss = learner.actor_loss(data, alpha, learner.log_alpha, learner.imitating)[0]
        to_q = torch.autograd.grad(loss, list(learner.q.parameters()), retain_graph=True, allow_unused=True)
        assert to_q == (None,) * len(to_q)
        return torch.autograd.grad(loss, list(learner.policy.parameters()))

    for value in (
        lambda _: learner.policy.log_prob(data.observations, data.actions),
        lambda actions: torch.minimum(*learner.q(data.observations, actions)),
    ):
        torch.testing.assert_close(found(), policy_gradient(value))
        learner.steps = 2


def test_temperature_and_multiplier_move_towards_their_targets() -> None:
    log_alpha = torch.zeros((), requires_grad=True)
    cql.temperature_loss(log_alpha, torch.tensor([1.0, 3.0]), -1.0).backward()
    assert log_alpha.grad.item() == pytest.approx(-1.0)  # −(mean log π + H̄): too little entropy, α rises
    log_multiplier = torch.tensor(0.3, requires_grad=True)
    gap = torch.tensor([7.0, 9.0], requires_grad=True)
    cql.multiplier_loss(log_multiplier, gap, 5.0).backward()
    assert log_multiplier.grad.item() == pytest.approx(-math.exp(0.3) * 3.0)
    assert gap.grad is None
    assert cql.multiplier(torch.tensor(50.0)).item() == 1e6


def test_the_lagrange_form_weighs_the_gap_beyond_the_threshold(monkeypatch) -> None:
    torch.manual_seed(0)
    plain = CQLConfig(hidden=(8,), samples=2).build(3, 2, CPU)
    learner = dataclasses.replace(plain.config, lagrange=True, threshold=2.0).build(3, 2, CPU)
    learner.load_state_dict(plain.state_dict())
    learner.log_multiplier.data.fill_(math.log(4.0))
    data, alpha = batch(), torch.tensor(1.0)
    losses = []
    for one in (plain, learner):
        torch.manual_seed(1)
        loss, gap, metrics = one.critic_loss(data, alpha)
        losses.append(loss)
    expected = metrics["loss_td"].sum() + 4.0 * (gap - 2.0).sum()
    torch.testing.assert_close(losses[1], expected)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("entropy", ["beta", "learned"])
def test_the_divergence_of_brac_is_the_sampled_kl(entropy) -> None:
    torch.manual_seed(0)
    learner = BRACConfig(hidden=(8,), beta=0.5, entropy=entropy).build(3, 1, CPU)
    learner.log_alpha.data.fill_(math.log(0.2))
    for policy in (learner.policy, learner.behaviour):
        for parameter in policy.parameters():
            parameter.data.normal_(std=0.3)
    s = torch.randn(1, 3)
    (m, ls), (mb, lsb) = (x.parameters_of(s) for x in (learner.policy, learner.behaviour))
    p, q = (torch.distributions.Normal(a, b.exp()) for a, b in ((m, ls), (mb, lsb)))
    # KL does not change under the same squashing of both.
    kl = torch.distributions.kl_divergence(p, q).item()
    with torch.no_grad():
        _, log_prob, penalty = learner.penalised(s.expand(100_000, 3))
    entropy_weight = 0.5 if entropy == "beta" else 0.2
    expected = 0.5 * kl + (entropy_weight - 0.5) * log_prob.mean().item()
    assert penalty.mean().item() == pytest.approx(expected, abs=0.01)


def test_the_divergence_of_brac_is_exact_where_actions_round_to_one() -> None:
    """π = N(9, e⁻²) and π_β = N(8.9, 1) before the squashing: nearly all actions are 1 in float32."""
    torch.manual_seed(0)
    learner = BRACConfig(hidden=()).build(1, 1, CPU)
    sizes = ((9.0, -1.0), (8.9, 0.0))
    for policy, values in zip((learner.policy, learner.behaviour), sizes, strict=True):
        policy.mean[-1].weight.data.zero_()
        policy.mean[-1].bias.data = torch.tensor(values)
    p, q = (torch.distributions.Normal(m, math.exp(s)) for m, s in sizes)
    actions, _, penalty = learner.penalised(torch.zeros(20_000, 1))
    assert actions.eq(1).double().mean() > 0.4
    assert penalty.mean().item() == pytest.approx(torch.distributions.kl_divergence(p, q).item(), abs=0.02)


@pytest.mark.parametrize(("value_penalty", "policy_penalty"), [(True, True), (False, True), (True, False)])
def test_the_penalties_of_brac_stand_in_target_and_policy_loss(
    value_penalty, policy_penalty, monkeypatch
) -> None:
    torch.manual_seed(0)
    config = BRACConfig(hidden=(8,), value_penalty=value_penalty, policy_penalty=policy_penalty)
    learner = config.build(3, 2, CPU)
    data = batch()
    drawn = learner.penalised(data.next_observations)
    monkeypatch.setattr(learner, "penalised", lambda _: drawn)
    next_value = torch.minimum(*learner.q_target(data.next_observations, drawn[0]))
    y = data.rewards + 0.99 * (1 - data.terminated) * (next_value - (drawn[2] if value_penalty else 0.0))
    q = learner.q(data.observations, data.actions)
    loss = learner.critic_loss(data)[0]
    torch.testing.assert_close(loss, ((y - q) ** 2).mean(dim=1).sum())
    here = torch.minimum(*learner.q(data.observations, drawn[0]))
    expected = ((drawn[2] if policy_penalty else 0.0) - here).mean()
    torch.testing.assert_close(learner.actor_loss(data)[0], expected)


@pytest.mark.parametrize("entropy", ["beta", "learned"])
@pytest.mark.parametrize("policy_penalty", [True, False])
def test_a_brac_policy_step_has_the_gradient_of_the_written_out_loss(policy_penalty, entropy) -> None:
    """α log π − β log π_β − min Q at reparametrised actions, with densities by torch.distributions; without
    the penalty the entropy's term is left where α is learned, and nothing where it is β."""
    torch.manual_seed(0)
    config = BRACConfig(hidden=(8,), beta=0.7, entropy=entropy, policy_penalty=policy_penalty)
    learner = config.build(3, 2, CPU)
    learner.log_alpha.data.fill_(math.log(0.3))
    networks = (learner.policy, learner.behaviour, learner.q)
    for network in networks:
        network.double()
        for parameter in network.parameters():
            parameter.data.normal_(std=0.15)
    s = torch.randn(12, 3).double()
    data = batch()._replace(observations=s)

    def density(policy: TanhGaussianPolicy) -> torch.distributions.Distribution:
        mean, log_std = policy.mean(s).chunk(2, dim=-1)
        squash = torch.distributions.TanhTransform(cache_size=1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        return torch.distributions.TransformedDistribution(normal, [squash])

    mean, log_std = learner.policy.mean(s).chunk(2, dim=-1)
    torch.manual_seed(3)
    actions = (mean + log_std.exp() * torch.randn_like(mean)).tanh()
    log_prob, log_behaviour = (
        density(p).log_prob(actions).sum(dim=-1) for p in (learner.policy, learner.behaviour)
    )
    alpha = {"beta": 0.7 if policy_penalty else 0.0, "learned": 0.3}[entropy]
    value = torch.minimum(*learner.q(s, actions))
    expected = (alpha * log_prob - (0.7 if policy_penalty else 0.0) * log_behaviour - value).mean()
    torch.manual_seed(3)
    loss, loss_alpha, _ = learner.actor_loss(data)
    torch.testing.assert_close(loss.item(), expected.item(), rtol=1e-6, atol=0)
    parameters = list(learner.policy.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(loss, parameters, retain_graph=True),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
    slope = torch.autograd.grad(loss_alpha, learner.log_alpha)[0].item()
    assert slope == pytest.approx(-(log_prob.mean().item() - 2.0))


def test_brac_trains_the_behaviour_first_and_starts_as_its_copy() -> None:
    torch.manual_seed(0)
    learner = BRACConfig(hidden=(8,), behaviour_steps=3).build(3, 2, CPU)
    q = [p.detach().clone() for p in learner.q.parameters()]
    data = batch()
    for _ in range(3):
        assert set(learner.update(data)) == {"loss_behaviour"}
    assert all(map(torch.equal, q, learner.q.parameters()))
    behaviour = [p.detach().clone() for p in learner.behaviour.parameters()]
    assert all(map(torch.equal, behaviour, learner.policy.parameters()))
    learner.update(data)
    assert all(map(torch.equal, behaviour, learner.behaviour.parameters()))
    assert not all(map(torch.equal, behaviour, learner.policy.parameters()))
    assert not all(map(torch.equal, q, learner.q.parameters()))
    assert learner.behaviour.imitation_loss(data.observations, data.actions).shape == (12,)


@pytest.mark.parametrize(
    "config", [CQLConfig(hidden=(8,), samples=2, bc_steps=1), BRACConfig(hidden=(8,), behaviour_steps=1)],
    ids=lambda config: config.name,
)  # fmt: skip
def test_dropout_acts_in_the_network_that_a_loss_trains_and_nowhere_else(config) -> None:
    torch.manual_seed(0)
    space = ObservationSpace(3, ((8, 8, 3),), EncoderConfig(kind="workflow-small", dropout=0.5))
    learner = config.build(space, 2, CPU)

    def seen(vector: torch.Tensor) -> Observations:
        pictures = torch.randint(0, 256, (len(vector), 8, 8, 3), dtype=torch.uint8)
        return Observations(vector, (pictures,))

    data = batch()
    data = data._replace(observations=seen(data.observations), next_observations=seen(data.next_observations))
    names = [name for name in ("policy", "behaviour", "q", "q_target") if hasattr(learner, name)]
    calls: list[tuple[str, bool, bool]] = []

    def note(name: str) -> None:
        eyes = getattr(learner, name).eyes
        for one in eyes if isinstance(eyes, torch.nn.ModuleList) else [eyes]:
            one.register_forward_pre_hook(
                lambda eye, _: calls.append((name, eye.training, torch.is_grad_enabled()))
            )

    def assert_whole() -> None:
        assert not any(getattr(learner, name).training for name in names)
        first, second = (learner.policy(data.observations) for _ in range(2))
        assert torch.equal(first, second)

    for name in names:
        note(name)
    assert_whole()
    for phase in ("first", "second"):
        calls.clear()
        learner.update(data)
        with_dropout = {name for name, training, _ in calls if training}
        trained = {"behaviour"} if (config.name, phase) == ("brac", "first") else {"policy", "q"}
        assert with_dropout == trained
        # A policy draws for targets and proposals without gradients, and is whole there.
        assert all(training == gradients for name, training, gradients in calls if name == "policy")
        assert_whole()
    calls.clear()
    learner.validate(data)
    assert not any(training for _, training, _ in calls)


@pytest.mark.parametrize(("config", "key"), [
    (CQLConfig, {"weight": -1.0}), (CQLConfig, {"samples": 0}), (CQLConfig, {"temperature": 0.0}),
    (CQLConfig, {"bc_steps": -1}), (CQLConfig, {"discount": 2.0}), (CQLConfig, {"policy_lr": 0.0}),
    (BRACConfig, {"beta": -1.0}), (BRACConfig, {"behaviour_steps": 0}), (BRACConfig, {"tau": 0.0}),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_by_name(config, key) -> None:
    with pytest.raises(ConfigError, match=f"--algo.{next(iter(key)).replace('_', '-')}"):
        config(**key)


def test_gradients_pass_a_frozen_network_and_leave_it_as_it_was() -> None:
    from policy.critic import frozen

    q = TwinQ(3, 2, (4,))
    a = torch.rand(5, 2, requires_grad=True)
    with frozen(q):
        q(torch.randn(5, 3), a).sum().backward()
    assert a.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in q.parameters())
