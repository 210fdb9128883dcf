"""The tanh-Gaussian policy against scipy and quadrature."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from policy.policies import EDGE, TanhGaussianPolicy, squash_log_slope


@pytest.fixture
def policy() -> TanhGaussianPolicy:
    torch.manual_seed(0)
    policy = TanhGaussianPolicy(3, 1, (8,)).double()
    for parameter in policy.parameters():
        parameter.data.normal_(std=0.2)
    return policy


def test_the_density_integrates_to_the_share_of_the_normal_that_falls_there(policy) -> None:
    s = torch.randn(1, 3).double()

    mean, log_std = (x.item() for x in policy.parameters_of(s))
    ends = np.arctanh([-0.99, 0.99])
    inside = np.diff(scipy.stats.norm(mean, np.exp(log_std)).cdf(ends)).item()
    a = torch.linspace(-0.99, 0.99, 100_001).double()[:, None]
    density = policy.log_prob(s.expand(len(a), 3), a).exp().detach().numpy()
    assert scipy.integrate.trapezoid(density, a[:, 0].numpy()) == pytest.approx(inside, rel=1e-4)


def test_the_density_is_that_of_the_normal_divided_by_the_slope_of_tanh(policy) -> None:
    s, a = torch.randn(9, 3).double(), torch.rand(9, 1).double() * 1.9 - 0.95
    mean, log_std = (x.detach().numpy() for x in policy.parameters_of(s))
    normal = scipy.stats.norm.logpdf(np.arctanh(a.numpy()), mean, np.exp(log_std))
    expected = (normal - np.log(1 - a.numpy() ** 2)).sum(axis=1)
    np.testing.assert_allclose(policy.log_prob(s, a).detach().numpy(), expected, rtol=1e-6)


def test_a_sample_carries_the_density_that_log_prob_gives_it(policy) -> None:
    s = torch.randn(50, 3).double()
    actions, log_density = policy.sample(s)
    torch.testing.assert_close(log_density, policy.log_prob(s, actions), rtol=1e-4, atol=1e-4)
    many, densities = policy.sample(s, 7)
    assert many.shape == (7, 50, 1)
    assert densities.shape == (7, 50)
    torch.testing.assert_close(densities[3], policy.log_prob(s, many[3]), rtol=1e-4, atol=1e-4)
    assert many.std(dim=0).min() > 0


def test_actions_at_the_bounds_have_a_finite_density_and_gradient(policy) -> None:
    policy = policy.float()
    s = torch.randn(4, 3)
    a = torch.tensor([[-1.0], [1.0], [EDGE], [0.0]])
    loss = policy.imitation_loss(s, a)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters())
    u = torch.linspace(-40, 40, 81).double()
    assert torch.isfinite(squash_log_slope(u)).all()
    inside = u.abs() < 5
    torch.testing.assert_close(squash_log_slope(u)[inside], (1 - u[inside].tanh() ** 2).log())


def test_a_draw_is_a_sample_before_the_squashing_and_its_density_is_exact_at_the_bounds(policy) -> None:
    s = torch.randn(40, 3).double()
    torch.manual_seed(1)
    u, log_density = policy.draw(s)
    torch.manual_seed(1)
    actions, again = policy.sample(s)
    assert torch.equal(u.tanh(), actions)
    assert torch.equal(log_density, again)
    torch.testing.assert_close(-policy.drawn_losses(s, u).sum(dim=-1), log_density)
    mean, log_std = (x.detach().numpy() for x in policy.parameters_of(s))
    far = torch.full((40, 1), 15.0)
    # log(1 − tanh²(u)) = −2 log cosh(u), and cosh(15) is no trouble in double precision.
    expected = scipy.stats.norm.logpdf(15.0, mean, np.exp(log_std)) + 2 * np.log(np.cosh(15.0))
    found = -policy.float().drawn_losses(s.float(), far)
    assert far.tanh().eq(1).all()
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4)


def test_the_spread_is_bounded() -> None:
    policy = TanhGaussianPolicy(1, 1, ())
    policy.mean[-1].bias.data = torch.tensor([0.0, 50.0])
    policy.mean[-1].weight.data.zero_()
    assert policy.parameters_of(torch.zeros(1, 1))[1].item() == 2.0
    policy.mean[-1].bias.data[1] = -50.0
    assert policy.parameters_of(torch.zeros(1, 1))[1].item() == -5.0
