"""Networks against written-out references."""

from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from policy.critic import TwinQ
from policy.networks import MLP, EnsembleMLP
from policy.policies import DeterministicPolicy, GaussianPolicy


def test_an_ensemble_computes_what_its_members_compute_alone() -> None:
    ensemble = EnsembleMLP(3, 5, (8, 6), 2)
    x = torch.randn(7, 5)
    together = ensemble(x)
    assert together.shape == (3, 7, 2)
    for member in range(3):
        alone = MLP(5, (8, 6), 2)
        linears = [layer for layer in alone if isinstance(layer, torch.nn.Linear)]
        for linear, layer in zip(linears, ensemble.layers, strict=True):
            linear.weight.data = layer.weight[member].T.clone()
            linear.bias.data = layer.bias[member, 0].clone()
        torch.testing.assert_close(together[member], alone(x))


def test_ensemble_members_start_differently_and_within_the_bounds_of_a_linear_layer() -> None:
    ensemble = EnsembleMLP(2, 16, (64,), 1)
    first = ensemble.layers[0].weight
    assert not torch.equal(first[0], first[1])
    assert first.abs().max() <= 0.25
    assert scipy.stats.kstest(first.detach().numpy().ravel(), "uniform", (-0.25, 0.5)).pvalue > 1e-3


def test_twin_q_gives_two_values_per_row() -> None:
    assert TwinQ(3, 2, (4,))(torch.zeros(5, 3), torch.zeros(5, 2)).shape == (2, 5)


def test_the_gaussian_policy_has_the_density_of_independent_normals() -> None:
    policy = GaussianPolicy(3, 2, (8,))
    policy.log_std.data = torch.tensor([-0.7, 0.4])
    s, a = torch.randn(6, 3), torch.rand(6, 2) * 2 - 1
    mean = policy(s).detach().numpy()
    expected = -scipy.stats.norm.logpdf(a.numpy(), mean, np.exp([-0.7, 0.4])).sum(axis=1)
    np.testing.assert_allclose(policy.imitation_loss(s, a).detach().numpy(), expected, rtol=1e-5)
    assert (np.abs(mean) <= 1).all()


def test_the_log_std_of_a_gaussian_policy_is_bounded() -> None:
    policy = GaussianPolicy(1, 1, ())
    s = a = torch.zeros(1, 1)
    policy.log_std.data.fill_(50.0)
    wide = policy.imitation_loss(s, a)
    policy.log_std.data.fill_(2.0)
    torch.testing.assert_close(wide, policy.imitation_loss(s, a))


def test_the_deterministic_policy_is_imitated_by_squared_error() -> None:
    policy = DeterministicPolicy(3, 2, (8,))
    s, a = torch.randn(6, 3), torch.rand(6, 2)
    expected = ((policy(s).detach().numpy() - a.numpy()) ** 2).sum(axis=1)
    np.testing.assert_allclose(policy.imitation_loss(s, a).detach().numpy(), expected, rtol=1e-5)


def test_a_network_without_hidden_layers_is_linear() -> None:
    network = MLP(4, (), 3)
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    zero = network(torch.zeros(1, 4))
    torch.testing.assert_close(network(x + y) - zero, network(x) - zero + network(y) - zero)


def test_an_ensemble_with_layer_norm_equals_its_members_alone() -> None:
    torch.manual_seed(0)
    ensemble = EnsembleMLP(2, 5, (8, 6), 1, layer_norm=True)
    for norm in ensemble.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = torch.randn(7, 5)
    for member in range(2):
        alone = MLP(5, (8, 6), 1, layer_norm=True)
        linears = [layer for layer in alone if isinstance(layer, torch.nn.Linear)]
        norms = [layer for layer in alone if isinstance(layer, torch.nn.LayerNorm)]
        with torch.no_grad():
            for linear, source in zip(linears, ensemble.layers, strict=True):
                linear.weight.copy_(source.weight[member].T)
                linear.bias.copy_(source.bias[member, 0])
            for norm, source in zip(norms, ensemble.norms, strict=True):
                norm.weight.copy_(source.weight[member, 0])
                norm.bias.copy_(source.bias[member, 0])
        torch.testing.assert_close(ensemble(x)[member], alone(x))


def test_dropout_acts_while_training_and_never_at_deployment() -> None:
    torch.manual_seed(0)
    policy = GaussianPolicy(4, 2, (64,), dropout=0.5)
    x = torch.randn(3, 4)
    assert not torch.equal(policy(x), policy(x))
    policy.eval()
    assert torch.equal(policy(x), policy(x))
