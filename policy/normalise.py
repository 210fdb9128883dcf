"""Scaling of observations and actions, as modules so that training and the exported graph share them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

STD_FLOOR = 1e-3
"""Smallest standard deviation that an entry is divided by, in the entry's own unit.

Entries that never change in the recordings (most of a MetaWorld observation) have a standard deviation of
zero or of rounding noise. Dividing by it would turn the first small change on a robot into a huge input.
"""


class Normaliser(nn.Module):
    """(x − mean) / max(std, floor) per entry: (..., D) to (..., D), float32."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: NDArray[np.float64], std: NDArray[np.float64], floor: float = STD_FLOOR) -> None:
        """`mean` and `std` (D,) in the observation's units; `floor` > 0."""
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(1.0 / np.maximum(std, floor), dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


class ActionRange(nn.Module):
    """The affine map between a contract's action bounds and [-1, 1].

    The bounds are rounded to float32 towards the inside, so that no action that leaves the graph is outside
    the contract's own float64 bounds and gets clamped on the robot.
    """

    lower: Tensor
    upper: Tensor
    centre: Tensor
    half_range: Tensor

    def __init__(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> None:
        """`lower` and `upper` (dim,) in the contract's units, lower < upper."""
        super().__init__()
        low, high = lower.astype(np.float32), upper.astype(np.float32)
        low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
        high = np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)
        self.register_buffer("lower", torch.as_tensor(low))
        self.register_buffer("upper", torch.as_tensor(high))
        self.register_buffer("centre", torch.as_tensor((upper + lower) / 2, dtype=torch.float32))
        self.register_buffer("half_range", torch.as_tensor((upper - lower) / 2, dtype=torch.float32))

    def to_unit(self, actions: Tensor) -> Tensor:
        """Actions of the contract (..., dim) as numbers in [-1, 1]; what lies outside is clipped."""
        return ((actions - self.centre) / self.half_range).clamp(-1.0, 1.0)

    def forward(self, unit: Tensor) -> Tensor:
        """Numbers in [-1, 1] (..., dim) as actions inside the contract's bounds."""
        return torch.minimum(torch.maximum(self.centre + unit * self.half_range, self.lower), self.upper)
