"""Regularisers of the critic against closed forms, scipy and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from episodes.errors import ConfigError
from policy.algorithms.iql import IQLConfig
from policy.critic import TwinQ
from policy.networks import EnsembleMLP
from policy.regularise import Regularisers, dr3_encoder_term, dr3_term, l1_term, vib_divergence
from policy.transitions import Transitions

CPU = torch.device("cpu")


def batch(rows: int = 12) -> Transitions:
    zeros = torch.zeros(rows)
    return Transitions(
        torch.randn(rows, 3),
        torch.rand(rows, 2) * 2 - 1,
        torch.rand(rows),
        torch.randn(rows, 3),
        zeros,
        zeros,
    )


def test_the_bottlenecks_divergence_is_the_kl_to_a_unit_gaussian_by_quadrature() -> None:
    mean, std = 0.7, 0.4
    p, q = scipy.stats.norm(mean, std), scipy.stats.norm(0, 1)
    expected = scipy.integrate.quad(lambda z: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), -5, 5)[0]
    found = vib_divergence(torch.tensor([[mean, mean]]), torch.tensor([[std, std]]).log())
    assert found.item() == pytest.approx(2 * expected, rel=1e-5)


def test_the_bottleneck_draws_while_training_and_passes_its_mean_otherwise() -> None:
    torch.manual_seed(0)
    network = EnsembleMLP(2, 4, (32, 8), 1, bottleneck=3)
    x = torch.randn(20_000, 4)[:1].expand(20_000, 4)
    found = network.full(x)
    # The first layer after the bottleneck is linear in z before its ReLU: look at z through the state itself.
    inner = torch.relu(network.layers[0](x.expand(2, -1, -1)))
    mean, log_std = network.narrow(inner).chunk(2, dim=-1)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.log_std, log_std)
    assert found.out.std() > 0
    network.eval()
    assert torch.equal(network(x[:5]), network(x[:5]))
    h = torch.relu(network.layers[1](mean[:, :5]))
    torch.testing.assert_close(network(x[:5]), network.layers[2](h))


def test_the_l1_term_is_the_sum_over_tensors_of_their_mean_absolute_entry() -> None:
    tensors = [torch.tensor([[1.0, -3.0], [0.0, 4.0]]), torch.tensor([-5.0])]
    assert l1_term(tensors).item() == pytest.approx(2.0 + 5.0)


def test_both_forms_of_dr3_are_mean_dot_products_and_differ_in_their_gradient() -> None:
    phi = torch.randn(2, 6, 4, requires_grad=True)
    ahead = torch.randn(2, 6, 4, requires_grad=True)
    expected = np.einsum("mbi,mbi->", phi.detach().numpy(), ahead.detach().numpy()) / 12
    for term, through in ((dr3_term, True), (dr3_encoder_term, False)):
        loss = term(phi, ahead)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        here, there = torch.autograd.grad(loss, [phi, ahead], allow_unused=True)
        torch.testing.assert_close(here, ahead.detach() / 12)
        assert (there is not None) == through


def test_dr3_reads_the_features_before_the_last_layer_at_both_ends() -> None:
    torch.manual_seed(0)
    q = TwinQ(3, 2, (8, 5), regularise=Regularisers(dr3=0.5))
    data, next_a = batch(), torch.rand(12, 2)
    encoded = q.encode(data.observations)
    values = q.values(encoded, data.actions)
    term = q.penalties(values, encoded, data.next_observations, next_a)["dr3"]

    def features(member: int, s: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        x = torch.cat((s, a), dim=-1)
        for layer in list(q.ensemble.layers)[:-1]:
            x = (x @ layer.weight[member] + layer.bias[member]).relu()
        return x

    dots = [
        (features(m, data.observations, data.actions) * features(m, data.next_observations, next_a)).sum(-1)
        for m in range(2)
    ]
    torch.testing.assert_close(term, 0.5 * torch.stack(dots).mean())


def test_a_residual_critic_is_its_written_out_formula() -> None:
    torch.manual_seed(0)
    network = EnsembleMLP(2, 4, (6, 6, 6), 1, layer_norm=True, residual=True).eval()
    x = torch.randn(5, 4)
    for member in range(2):
        h = x @ network.layers[0].weight[member] + network.layers[0].bias[member]
        for block in (1, 2):
            normed = torch.nn.functional.layer_norm(h, (6,))
            inner = (
                normed @ network.layers[block].weight[member] + network.layers[block].bias[member]
            ).relu()
            h = h + inner @ network.second[block - 1].weight[member] + network.second[block - 1].bias[member]
        h = torch.nn.functional.layer_norm(h, (6,)).relu()
        expected = h @ network.layers[3].weight[member] + network.layers[3].bias[member]
        torch.testing.assert_close(network(x)[member], expected)


@pytest.mark.parametrize("options", [Regularisers(), Regularisers(vib=0.1), Regularisers(residual=True)])
def test_many_actions_of_one_observation_have_the_values_of_one_by_one(options) -> None:
    torch.manual_seed(0)
    q = TwinQ(3, 2, (8, 8), layer_norm=True, regularise=options).eval()
    s, a = torch.randn(5, 3), torch.randn(4, 5, 2)
    together = q.values(q.encode(s), a).q
    assert together.shape == (2, 4, 5)
    for k in range(4):
        torch.testing.assert_close(together[:, k], q(s, a[k]))


@pytest.mark.parametrize(
    "options",
    [
        Regularisers(vib=0.01, vib_dim=4),
        Regularisers(vib_deterministic=True, vib_dim=4),
        Regularisers(dropout=0.2),
        Regularisers(l1=0.1),
        Regularisers(l2=0.01),
        Regularisers(dr3=0.03),
        Regularisers(residual=True, dr3=0.001),
    ],
)
def test_every_regulariser_trains_changes_the_result_and_leaves_the_policy_loss_alone(options) -> None:
    torch.manual_seed(0)
    data = batch()
    plain = IQLConfig(hidden=(8, 8), policy_dropout=0.0).build(3, 2, CPU)
    torch.manual_seed(0)
    learner = IQLConfig(hidden=(8, 8), policy_dropout=0.0, regularise=options).build(3, 2, CPU)
    before = [p.detach().clone() for p in learner.q.parameters()]
    for one in (plain, learner):
        for _ in range(3):
            metrics = one.update(data)
    assert all(torch.isfinite(value).all() for value in metrics.values())
    changed = zip(before, learner.q.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in changed)
    mine, theirs = (torch.cat([p.flatten() for p in one.q.parameters()]) for one in (learner, plain))
    assert mine.shape != theirs.shape or not torch.equal(mine, theirs)


def test_the_penalties_of_a_step_are_weighted_and_logged() -> None:
    torch.manual_seed(0)
    learner = IQLConfig(hidden=(8,), regularise=Regularisers(vib=0.5, vib_dim=4, l1=2.0, dr3=0.1)).build(
        3, 2, CPU
    )
    data = batch()
    total, metrics = learner.losses(data)
    parts = [metrics[f"loss_{name}"] for name in ("v", "q", "policy")]
    penalties = [metrics[f"penalty_{name}"] for name in ("vib", "l1", "dr3")]
    torch.testing.assert_close(total.detach(), sum(parts + penalties))
    torch.testing.assert_close(metrics["penalty_l1"], 2.0 * l1_term(learner.q.parameters()).detach())


def test_weight_decay_acts_on_the_critic_alone() -> None:
    learner = IQLConfig(hidden=(8,), regularise=Regularisers(l2=0.01)).build(3, 2, CPU)
    critic, rest = learner.optimiser.param_groups
    assert (critic["weight_decay"], rest["weight_decay"]) == (0.01, 0)
    assert {id(p) for p in critic["params"]} == {id(p) for p in learner.q.parameters()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vib": -1.0}, "--algo.regularise.vib -1"),
        ({"dropout": 1.0}, "--algo.regularise.dropout"),
        ({"vib_dim": 0}, "--algo.regularise.vib-dim"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Regularisers(**settings)


def test_options_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--algo.hidden \(8, 4\): residual blocks need one width"):
        IQLConfig(hidden=(8, 4), regularise=Regularisers(residual=True))
    with pytest.raises(ConfigError, match="choose one of them"):
        IQLConfig(hidden=(8,), regularise=Regularisers(residual=True, vib=0.1))
    with pytest.raises(ConfigError, match="no picture encoder"):
        IQLConfig(hidden=(8,), regularise=Regularisers(dr3=0.1, dr3_form="encoder")).build(3, 2, CPU)
