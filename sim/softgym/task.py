"""What a soft task is to its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.softgym.scene import Look

Vector = NDArray[np.float64]
Initial = Mapping[str, NDArray[np.float64]]
"""What begins an episode: named arrays, as they are cached."""

PREFIX = "softgym-equivalent/"
"""What the names of these environments begin with."""
STEP_S = 0.01
"""One step of the simulator, s."""


@dataclass(frozen=True)
class Actions:
    """A task's own action, which [-1, 1] is mapped onto, entry by entry."""

    names: tuple[str, ...]
    lower: Vector
    upper: Vector
    steps: int
    """Simulator steps of one environment step."""


@dataclass(frozen=True)
class Score:
    """How well a state does. `performance` and `normalized` are SoftGym's."""

    reward: float
    performance: float
    normalized: float
    success: bool
    further: Mapping[str, float]
    """The task's own figures, named as in SoftGym's info."""


class Task(Protocol):
    """A task between resets. y is up; metres, seconds; one simulator step is 10 ms."""

    name: str
    """As in SoftGym's registry."""
    horizon: int
    """Steps of an episode in SoftGym."""
    variations: int
    """How many initial states there are; 1 where all episodes begin alike."""
    actions: Actions
    state_names: tuple[str, ...]
    """Names of the key point observation."""
    most_points: int
    """Particles of the point cloud, the missing ones zero."""

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Make initial state number `variation`, a function of the number alone; may take seconds."""
        ...

    def begin(self, initial: Initial) -> None:
        """Set the scene to an initial state."""
        ...

    def act(self, action: Vector) -> None:
        """Take one environment step; `action` lies inside the bounds of `actions`."""
        ...

    def state(self) -> Vector:
        """(len(state_names),) the key point observation."""
        ...

    def points(self) -> Vector:
        """(n, 3) all particles, m."""
        ...

    def score(self) -> Score:
        """How well the present state does."""
        ...

    def save(self) -> Vector:
        """All that changes between `begin` and the present, flat."""
        ...

    def restore(self, saved: Vector) -> None:
        """Undo to a `save`, after `begin` with the same initial state."""
        ...

    def look(self) -> Look:
        """What there is to draw at present."""
        ...


def point_names(points: int, of: str = "point") -> tuple[str, ...]:
    """x, y and z of each of `points` points."""
    return tuple(f"{of}{i}_{axis}" for i in range(points) for axis in "xyz")
