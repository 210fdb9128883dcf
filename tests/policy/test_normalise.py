"""Scaling of observations and actions."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy.normalise import STD_FLOOR, ActionRange, Normaliser

finite = st.floats(-1e3, 1e3)


def test_normalised_data_has_zero_mean_and_unit_deviation(rng: np.random.Generator) -> None:
    x = rng.normal(3.0, 0.2, size=(1000, 4))
    normaliser = Normaliser(x.mean(axis=0), x.std(axis=0))
    y = normaliser(torch.as_tensor(x, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-5)


def test_an_entry_that_never_changed_is_divided_by_the_floor() -> None:
    normaliser = Normaliser(np.array([5.0, 5.0]), np.array([0.0, 1e-9]))
    y = normaliser(torch.tensor([[5.0, 5.002]]))
    np.testing.assert_allclose(y.numpy(), [[0.0, 0.002 / STD_FLOOR]], rtol=1e-3)


@given(hnp.arrays(np.float64, 3, elements=finite), hnp.arrays(np.float64, 3, elements=st.floats(0.01, 1e3)))
def test_no_action_leaves_the_graph_outside_the_contracts_own_bounds(lower, width) -> None:
    upper = lower + width
    unit = torch.tensor([[-1.0] * 3, [1.0] * 3, [-1.5] * 3, [1.5] * 3])
    actions = ActionRange(lower, upper)(unit).numpy().astype(np.float64)
    assert (actions >= lower).all()
    assert (actions <= upper).all()


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(0, 1)))
def test_scaling_actions_to_unit_range_and_back_returns_them(share) -> None:
    lower, upper = np.array([-2.0, 0.5]), np.array([1.0, 0.75])
    action_range = ActionRange(lower, upper)
    actions = torch.as_tensor(lower + share * (upper - lower), dtype=torch.float32)
    unit = action_range.to_unit(actions)
    assert (unit.abs() <= 1).all()
    torch.testing.assert_close(action_range(unit), actions, rtol=0, atol=1e-6)


def test_actions_in_the_unit_box_keep_their_bits() -> None:
    action_range = ActionRange(np.full(4, -1.0), np.full(4, 1.0))
    actions = torch.rand(100, 4) * 2 - 1
    assert torch.equal(action_range.to_unit(actions), actions)
    assert torch.equal(action_range(actions), actions)
