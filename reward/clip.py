"""The reward of vlmrm: how far a picture's embedding is from the goal's, along the line from a baseline.

Rocamonde et al., "Vision-Language Models are Zero-Shot Reward Models for Reinforcement Learning"
(arXiv 2310.12921), goal-baseline regularisation. With g and b the means of the unit embeddings of the target
and baseline prompts (the means are not normalised again), d = g − b and x the unit embedding of a picture,

    P_α  = α · d dᵀ / ‖d‖² + (1 − α) · I
    R(x) = 1 − ½ · ‖P_α (x − g)‖²

It is x − g that is projected, not x, so R is largest at the goal and not at the far end of the line. With
α = 0 and one prompt R is the cosine similarity. Everything here is NumPy in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError

SAME = 1e-5
"""Goal and baseline nearer than this are one: rounding of the text encoder moves equal prompts that far."""


@dataclass(frozen=True, eq=False)
class GoalBaseline:
    """A goal, and what it is told apart from."""

    goal: NDArray[np.float64]
    """g (d,), mean of unit embeddings."""
    baseline: NDArray[np.float64] | None
    """b (d,), None when α is 0 and nothing else is given."""
    alpha: float
    """α, strength of the projection: 0 leaves x − g as it is, 1 keeps only its part along g − b."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(
                f"alpha {self.alpha:g}: between 0 and 1; the nearest is {min(max(self.alpha, 0.0), 1.0):g}."
            )
        if self.baseline is None:
            if self.alpha > 0:
                raise ConfigError(
                    f"alpha {self.alpha:g} without a baseline: describe the scene without the goal, such as "
                    "'a robot arm and a drawer', or take alpha 0."
                )
        elif float(np.linalg.norm(self.goal - self.baseline)) < SAME:
            raise ConfigError(
                "target and baseline are the same to the encoder, so there is no direction from one to the "
                "other: describe the goal in the target, and the scene without it in the baseline."
            )

    def rewards(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """R of embeddings (n, d), which need not have unit length → (n,), at most 1.

        Without building P_α: with c = (x − g)·d/‖d‖, P_α shrinks the part across d by 1 − α and leaves the
        part along it, so ‖P_α (x − g)‖² = (1 − α)² (‖x − g‖² − c²) + c².

        Raises:
            ConfigError: embeddings of another length, or one of length zero.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != len(self.goal):
            raise ConfigError(
                f"embeddings of shape {embeddings.shape} where (n, {len(self.goal)}) belongs: pictures and "
                "goal come from different encoders."
            )
        offset = unit(embeddings) - self.goal
        whole = np.einsum("nd,nd->n", offset, offset)
        if self.baseline is None:
            return (1.0 - whole / 2).astype(np.float32)
        direction = self.goal - self.baseline
        along = (offset @ (direction / np.linalg.norm(direction))) ** 2
        shrink = (1.0 - self.alpha) ** 2
        return (1.0 - (shrink * whole + (1.0 - shrink) * along) / 2).astype(np.float32)


def goal_baseline(
    targets: NDArray[np.floating], baselines: NDArray[np.floating] | None, alpha: float
) -> GoalBaseline:
    """Average unit embeddings of targets (k, d) and baselines (m, d); k and m need not be equal.

    Raises:
        ConfigError: no target, an α outside [0, 1], or a baseline that is missing or equal to the target.
    """
    if len(targets) == 0:
        raise ConfigError("there is no target: describe what the picture shows when the task is done.")
    other = None if baselines is None or len(baselines) == 0 else unit(baselines).mean(axis=0)
    return GoalBaseline(unit(targets).mean(axis=0), other, alpha)


def unit(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Embeddings (n, d) at length 1, float64.

    Raises:
        ConfigError: one has length zero.
    """
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ConfigError("an embedding has length zero: the encoder's weights are damaged.")
    return wide / lengths
