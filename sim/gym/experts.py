"""Scripted experts of the classic control tasks, as functions of the observation `state`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_GAINS = np.array([0.25, 0.5, 8.0, 1.6])
"""Of position, speed, angle and angular speed: a linear controller keeps cart and pole in the middle."""


def continuous_cart_pole(state: Vector) -> Vector:
    """Share of the force, from the linear controller."""
    return np.clip(_GAINS @ state, -1.0, 1.0)[None]


def cart_pole(state: Vector) -> Vector:
    """Left (0) or right (1), by the sign of the linear controller."""
    return np.array([float(_GAINS @ state > 0.0)])


def mountain_car(state: Vector) -> Vector:
    """Push the way that the car is going, which swings it up."""
    return np.array([1.0 if state[1] >= 0.0 else -1.0])


EXPERTS: dict[str, Callable[[], Callable[[Vector], Vector]]] = {
    "gymnasium/CartPole-v1": lambda: cart_pole,
    "vlmrm/CartPole": lambda: cart_pole,
    "rl-vlm-f/CartPole": lambda: continuous_cart_pole,
    "gymnasium/MountainCarContinuous-v0": lambda: mountain_car,
    "vlmrm/MountainCarContinuous": lambda: mountain_car,
}
