"""From the model's reward to the reward that a policy learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, LabelError


@dataclass(frozen=True)
class ShapingConfig:
    """r = clip((r̂ − q_low) / (q_high − q_low), 0, 1) ^ exponent, quantiles over all frames of the dataset.

    Bradley-Terry rewards have neither zero nor unit. The quantiles fix both without being led by a few
    outliers. A power above 1 leaves order alone and widens gaps at the top: a reward that ranks hovering over
    the handle too near to the open drawer needs it, since a sum of discounted rewards then pays for hovering.
    """

    exponent: float = 1.0
    """Power after scaling to [0, 1]. 1 suits a reward that is right at the top; 4 helped weaker ones
    (docs/reward-recipe.md)."""
    low: float = 0.001
    """Quantile that becomes 0."""
    high: float = 0.999
    """Quantile that becomes 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ConfigError(f"quantiles low {self.low} and high {self.high}: need 0 <= low < high <= 1.")
        if not self.exponent > 0:
            raise ConfigError(f"exponent {self.exponent} is out of range: greater than 0.")


def scale_of(reward: NDArray[np.floating], config: ShapingConfig) -> tuple[float, float]:
    """The values (q_low, q_high) of finite `reward` (n,) that become 0 and 1.

    Raises:
        LabelError: the reward is the same for all frames.
    """
    low, high = np.quantile(reward.astype(np.float64), [config.low, config.high])
    if not high > low:
        raise LabelError(
            f"the reward is {low:.6g} for every frame, so nothing can be learned from it: the model was "
            "not fitted, or "
            "its labels say nothing."
        )
    return float(low), float(high)


def shape(
    reward: NDArray[np.floating], scale: tuple[float, float], config: ShapingConfig
) -> NDArray[np.float32]:
    """Rewards (n,) in [0, 1]; see ShapingConfig."""
    low, high = scale
    unit = np.clip((reward.astype(np.float64) - low) / (high - low), 0, 1)
    return (unit**config.exponent).astype(np.float32)
