"""SoftGym's pickers: spheres that hold one particle each and move it with themselves.

They attach to particles and push nothing: in FleX their spheres are obstacles as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.pbd.body import STEP_S, Body

Vector = NDArray[np.float64]

THRESHOLD_M = 0.005
DELTA_M = 0.01
"""Farthest move of a picker along an axis in one simulator step."""
HOLD = 0.5
"""A flag above this holds."""


@dataclass(frozen=True)
class PickerConfig:
    """Size and room of the pickers."""

    number: int
    radius_m: float
    particle_m: float
    """Radius of a particle as picking counts it."""
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    keep_in_m: float | None = None
    """Where set, a move is ignored that would leave |x|, |z| of pickers or particles beyond it."""
    bounded: bool = True
    """Whether low and high bound the pickers' centres (shrunk by the radius)."""

    @property
    def reach_m(self) -> float:
        """How near a particle must be to be picked."""
        return THRESHOLD_M + self.radius_m + self.particle_m


class Pickers:
    """Pickers over the particles of one body.

    Args:
        config: size and room.
        body: what they pick.
    """

    def __init__(self, config: PickerConfig, body: Body) -> None:
        self.config, self.body = config, body
        self.at = np.zeros((config.number, 3))
        """(number, 3) centres, m."""
        self.held: list[int | None] = [None] * config.number
        """The particle that each one holds."""
        self._low, self._high = np.array(config.low), np.array(config.high)

    def place_around(self, centre: Vector) -> None:
        """Begin on a circle about `centre` (3,), holding nothing; the room moves along with it in x and
        z."""
        config = self.config
        half = (np.array(config.high) - np.array(config.low)) / 2.0
        middle = (np.array(config.high) + np.array(config.low)) / 2.0
        middle[[0, 2]] = centre[[0, 2]]
        self._low, self._high = middle - half, middle + half
        radius = np.sqrt(config.number - 1) * config.radius_m * 2.0
        turn = 2.0 * np.pi * np.arange(config.number) / config.number
        self.at = centre + radius * np.stack([np.sin(turn), np.zeros_like(turn), np.cos(turn)], axis=1)
        self._drop_all()

    def place_on(self, particles: list[int], offset: Vector, low: Vector, high: Vector) -> None:
        """Begin at `offset` (3,) from particles, with room from `low` to `high`, holding nothing."""
        self._low, self._high = np.array(low), np.array(high)
        self.at = self.body.p[:, particles].T + offset
        self._drop_all()

    def grasp(self, particles: list[int]) -> None:
        """Hold one particle each, wherever it is."""
        for picker, particle in enumerate(particles):
            self.held[picker] = particle
            self.body.hold(particle)

    def step(self, move: Vector, flags: Vector) -> None:
        """One simulator step: let go, move, pick, and let the body follow.

        Args:
            move: (number, 3) ways, m.
            flags: (number,) above 0.5 to hold.
        """
        body = self.body
        for i, particle in enumerate(self.held):
            if flags[i] <= HOLD and particle is not None:
                body.release(particle)
                self.held[i] = None
        target = self.at + move
        if self.config.bounded:
            radius = self.config.radius_m
            target = np.clip(target, self._low + radius, self._high - radius)
        for i in range(self.config.number):
            if flags[i] > HOLD and self.held[i] is None:
                self.held[i] = self._nearest(self.at[i])
                if self.held[i] is not None:
                    body.hold(self.held[i])
        if self._kept_in(target):
            for i, particle in enumerate(self.held):
                if particle is not None:
                    body.v[:, particle] = (target[i] - self.at[i]) / STEP_S
            self.at = target
        body.step()

    def save(self) -> Vector:
        """(4 number + 6,) centres, room, and what is held (its number plus 1, or 0)."""
        held = [0.0 if particle is None else particle + 1.0 for particle in self.held]
        return np.concatenate([self.at.ravel(), self._low, self._high, held])

    def restore(self, saved: Vector) -> None:
        """Undo to a `save`, together with the body's state."""
        n = self.config.number
        self._drop_all()
        self.at = saved[: 3 * n].reshape(n, 3).copy()
        self._low, self._high = saved[3 * n : 3 * n + 3].copy(), saved[3 * n + 3 : 3 * n + 6].copy()
        for i, value in enumerate(saved[3 * n + 6 :]):
            if value > 0.0:
                self.held[i] = int(value) - 1
                self.body.hold(int(value) - 1)

    @property
    def saved_size(self) -> int:
        """Length of a `save`."""
        return 4 * self.config.number + 6

    def _drop_all(self) -> None:
        for particle in self.held:
            if particle is not None:
                self.body.release(particle)
        self.held = [None] * self.config.number

    def _nearest(self, centre: Vector) -> int | None:
        distance = np.linalg.norm(self.body.p.T - centre, axis=1)
        distance[[particle for particle in self.held if particle is not None]] = np.inf
        nearest = int(np.argmin(distance))
        return nearest if distance[nearest] <= self.config.reach_m else None

    def _kept_in(self, target: Vector) -> bool:
        limit = self.config.keep_in_m
        if limit is None:
            return True
        held = [(particle, i) for i, particle in enumerate(self.held) if particle is not None]
        ahead = self.body.p[[0, 2]].copy()
        for particle, i in held:
            ahead[:, particle] += (target[i] - self.at[i])[[0, 2]]
        return bool(np.all(np.abs(ahead) <= limit) and np.all(np.abs(target[:, [0, 2]]) <= limit))
