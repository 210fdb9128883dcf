"""The Bradley-Terry loss against closed forms, and the fit against an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, xlogy

from reward.preference import preference_loss, soften

DIFFERENCES = st.lists(st.floats(-30, 30), min_size=1, max_size=20)


def reference(difference: np.ndarray, label: np.ndarray, mistakes: float) -> np.ndarray:
    """−y·log p − (1 − y)·log(1 − p) with p of a judge who errs, in float64 and without any of our code."""
    second = (1 - mistakes) * expit(difference) + mistakes * expit(-difference)
    first = (1 - mistakes) * expit(-difference) + mistakes * expit(difference)
    return -(xlogy(label, second) + xlogy(1 - label, first))


@settings(deadline=None)
@given(DIFFERENCES, st.sampled_from([0.0, 0.5, 1.0, 0.25]), st.sampled_from([0.0, 0.1, 0.4]))
def test_the_loss_agrees_with_scipy(differences: list[float], label: float, mistakes: float) -> None:
    difference = np.array(differences)
    ours = preference_loss(torch.tensor(difference), torch.full((len(difference),), label).double(), mistakes)
    expected = reference(difference, np.full(len(difference), label), mistakes)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(DIFFERENCES, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.1]))
def test_its_gradient_is_the_closed_form(differences: list[float], label: float, mistakes: float) -> None:
    """d/dd of −log((1−ε)σ(d) + εσ(−d)) is −(1−2ε)·σ(d)·σ(−d) / P, and mirrored for the other label."""
    d = torch.tensor(differences, dtype=torch.float64, requires_grad=True)
    preference_loss(d, torch.full_like(d, label), mistakes).sum().backward()
    x = np.array(differences)
    slope = (1 - 2 * mistakes) * expit(x) * expit(-x)
    second = (1 - mistakes) * expit(x) + mistakes * expit(-x)
    first = (1 - mistakes) * expit(-x) + mistakes * expit(x)
    expected = -label * slope / second + (1 - label) * slope / first
    assert d.grad is not None
    np.testing.assert_allclose(d.grad.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_without_mistakes_it_is_softmax_cross_entropy_over_the_two_rewards() -> None:
    rewards = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    label = torch.randint(2, (50,), generator=torch.Generator().manual_seed(1))
    ours = preference_loss(rewards[:, 1] - rewards[:, 0], label.float())
    expected = torch.nn.functional.cross_entropy(rewards, label, reduction="none")
    torch.testing.assert_close(ours, expected)


def test_a_contradicted_pair_costs_at_most_minus_log_of_the_rate_of_mistakes() -> None:
    sure = torch.tensor([1e4])
    assert float(preference_loss(sure, torch.zeros(1), 0.1)) == pytest.approx(-np.log(0.1), rel=1e-6)
    assert float(preference_loss(sure, torch.ones(1), 0.1)) == pytest.approx(-np.log(0.9), rel=1e-5)
    assert torch.isfinite(preference_loss(torch.tensor([1e4, -1e4]), torch.tensor([0.0, 1.0]))).all()


def test_a_tie_is_cheapest_at_equal_rewards() -> None:
    d = torch.linspace(-3, 3, 61)
    for mistakes in (0.0, 0.1):
        losses = preference_loss(d, torch.full_like(d, 0.5), mistakes)
        assert int(losses.argmin()) == 30


def test_label_smoothing_is_that_of_b_pref() -> None:
    torch.testing.assert_close(soften(torch.tensor([0.0, 0.5, 1.0]), 0.1), torch.tensor([0.1, 0.5, 0.9]))


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 100))
def test_rewards_fitted_with_the_loss_are_the_maximum_likelihood_ones(seed: int) -> None:
    """Rewards of six items, pairs of which are compared by a judge who errs: Newton steps on our gradient
    end where scipy's optimiser of the reference likelihood ends."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(6, size=(2, 200))
    truth = rng.normal(size=6)
    label = rng.random(200) < 0.9 * expit(truth[second] - truth[first]) + 0.1 * expit(
        truth[first] - truth[second]
    )

    def loss(r: np.ndarray) -> float:
        return float(reference(r[second] - r[first], label.astype(float), 0.1).sum() + 0.05 * (r @ r))

    expected = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-7}).x
    r = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([r], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        total = preference_loss(r[second] - r[first], torch.tensor(label).double(), 0.1).sum() + 0.05 * (
            r @ r
        )
        total.backward()
        return total

    optimiser.step(closure)
    np.testing.assert_allclose(r.detach().numpy(), expected, atol=2e-3)
