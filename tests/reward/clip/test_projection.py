"""The reward against NumPy written out with the matrix, as the paper has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.errors import ConfigError
from reward.clip import GoalBaseline, goal_baseline


def reference(
    pictures: NDArray[np.float64], targets: NDArray[np.float64], baselines: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """R with the projection built as a matrix, one picture at a time."""
    g = np.mean([t / np.sqrt(t @ t) for t in targets], axis=0)
    b = np.mean([t / np.sqrt(t @ t) for t in baselines], axis=0)
    d = g - b
    projection = alpha * np.outer(d, d) / (d @ d) + (1 - alpha) * np.eye(len(d))
    out = []
    for picture in pictures:
        moved = projection @ (picture / np.sqrt(picture @ picture) - g)
        out.append(1 - 0.5 * (moved @ moved))
    return np.array(out)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0, 1),
    targets=st.integers(1, 4),
    baselines=st.integers(1, 4),
    dim=st.sampled_from([2, 7, 64, 768]),
)
def test_rewards_equal_the_matrix_form_to_1e_6(
    seed: int, alpha: float, targets: int, baselines: int, dim: int
) -> None:
    rng = np.random.default_rng(seed)
    x, t, b = (rng.standard_normal((n, dim)) * rng.uniform(0.01, 100) for n in (9, targets, baselines))
    found = goal_baseline(t.astype(np.float32), b.astype(np.float32), alpha).rewards(x.astype(np.float32))
    wanted = reference(*(part.astype(np.float32).astype(np.float64) for part in (x, t, b)), alpha)
    assert np.abs(found - wanted).max() < 1e-6


def test_without_projection_and_with_one_prompt_the_reward_is_the_cosine() -> None:
    rng = np.random.default_rng(0)
    x, t, b = (rng.standard_normal((n, 32)) for n in (20, 1, 1))
    cosine = (x @ t[0]) / np.linalg.norm(x, axis=1) / np.linalg.norm(t[0])
    assert goal_baseline(t, b, 0.0).rewards(x) == pytest.approx(cosine, abs=1e-6)
    assert goal_baseline(t, None, 0.0).rewards(x) == pytest.approx(cosine, abs=1e-6)


def test_at_full_projection_only_the_part_along_the_line_counts() -> None:
    rng = np.random.default_rng(1)
    x, t, b = (rng.standard_normal((n, 16)) for n in (20, 1, 1))
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (x, t, b)]
    d = units[1][0] - units[2][0]
    along = (units[0] - units[1]) @ d / np.linalg.norm(d)
    assert goal_baseline(t, b, 1.0).rewards(x) == pytest.approx(1 - along**2 / 2, abs=1e-6)


def test_means_of_prompts_are_not_normalised_again() -> None:
    goal = goal_baseline(np.array([[1.0, 0, 0], [0, 3.0, 0]]), None, 0.0)
    assert goal.goal == pytest.approx([0.5, 0.5, 0])
    # 1 − ½‖x − g‖² with ‖g‖² = ½; a mean of length 1 would give √½ here.
    assert goal.rewards(np.array([[1.0, 0, 0]])) == pytest.approx([0.75])


def test_it_is_the_offset_from_the_goal_that_is_projected_so_the_goal_itself_is_best() -> None:
    target, baseline = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    goal = goal_baseline(target, baseline, 1.0)
    beyond = np.array([[1.0, -1.0]])
    assert goal.rewards(target)[0] == pytest.approx(1.0)
    assert goal.rewards(beyond)[0] < 1.0


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_target_equal_to_its_baseline_is_refused(alpha: float) -> None:
    same = np.array([[1.0, 2.0, 3.0]])
    with pytest.raises(ConfigError, match="target and baseline are the same"):
        goal_baseline(same, 2 * same + 1e-7, alpha)


@pytest.mark.parametrize(("alpha", "nearest"), [(-0.1, "is 0"), (1.5, "is 1")])
def test_an_alpha_outside_zero_to_one_is_refused_with_the_nearest(alpha: float, nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest):
        goal_baseline(np.eye(3)[:1], np.eye(3)[1:], alpha)


def test_a_projection_without_a_baseline_is_refused() -> None:
    with pytest.raises(ConfigError, match="without a baseline"):
        goal_baseline(np.eye(3)[:1], None, 0.5)


def test_embeddings_of_another_encoder_or_of_length_zero_are_refused() -> None:
    goal = GoalBaseline(np.array([1.0, 0.0]), None, 0.0)
    with pytest.raises(ConfigError, match="different encoders"):
        goal.rewards(np.ones((2, 3)))
    with pytest.raises(ConfigError, match="length zero"):
        goal.rewards(np.zeros((1, 2)))
