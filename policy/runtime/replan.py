"""Planning anew while the old plan is being executed: what a policy is told that can continue a plan.

Real-time chunking (Black, Galliker, Levine 2025, arXiv 2506.07339): the actions that are due before the new
plan can be there will be executed whatever it says, so the policy keeps them (frozen) and fills in the rest,
guided by what is left of the old plan. A policy that cannot is simply spliced (`chunks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from policy.runtime.chunks import Chunk


@dataclass(frozen=True, eq=False)
class PlanRequest:
    """Asks for a chunk that begins with the actions already decided."""

    observation_ns: int
    """Time of the observation to plan from."""
    start_ns: int
    """When the first action of the new chunk is due."""
    period_ns: int
    prefix: NDArray[np.float64]
    """(n, dim) The old plan from `start_ns` on, in contract order; n = 0 when there is none."""
    frozen: int
    """How many of them will be executed before the new plan is there."""

    def weights(self, length: int) -> NDArray[np.float64]:
        """(length,) How strongly each action of the new chunk is held to the old plan.

        Equation 5 of the paper: 1 while frozen, falling to 0 at the end of the old plan.
        """
        left = len(self.prefix) - np.arange(length)
        share = np.clip(left / (len(self.prefix) - self.frozen + 1), 0.0, 1.0)
        soft = share * np.expm1(share) / np.expm1(1.0)
        return np.where(np.arange(length) < self.frozen, 1.0, soft)


class ContinuesPlans(Protocol):
    """A policy that can be held to the beginning of its plan (flow matching, diffusion: by inpainting)."""

    def continue_plan(self, observation: Mapping[str, NDArray[Any]], request: PlanRequest) -> Chunk:
        """A chunk that starts at `request.start_ns`, whose first `request.frozen` actions are those of
        `request.prefix` and which says so (`Chunk.frozen`)."""
        ...
