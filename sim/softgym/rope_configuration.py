"""Lay a rope into the shape of a letter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sim.softgym.letters import LETTERS, letter
from sim.softgym.rope import KEY_POINTS, RADIUS_M, SEGMENTS, SPACING_M, RopeFlatten
from sim.softgym.scene import Look
from sim.softgym.task import Initial, Score, point_names

Vector = NDArray[np.float64]


class RopeConfiguration(RopeFlatten):
    """Reward is minus the mean distance of ten key points to those of the goal, best matched.

    SoftGym holds the letter M with a longer rope; here all letters are as long as the one rope.
    """

    name = "RopeConfiguration"
    horizon = 100
    state_names = (
        point_names(len(KEY_POINTS)) + point_names(len(KEY_POINTS), "goal") + point_names(2, "picker")
    )

    def __init__(self) -> None:
        super().__init__()
        self._goal = np.zeros((3, SEGMENTS + 1))
        self._first = 1.0

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """A crumpled rope and a letter; see `Task.generate`."""
        rng = np.random.default_rng([41, variation, 1])
        name = LETTERS[int(rng.integers(len(LETTERS)))]
        goal = letter(name, SEGMENTS + 1, SPACING_M, RADIUS_M)
        return {**super().generate(variation), "goal": goal}

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        super().begin(initial)
        self._goal = np.array(initial["goal"])
        self._first = self._distance_m()

    def state(self) -> Vector:
        """Ten key points, those of the goal, and the pickers; see `Task.state`."""
        own = super().state()
        split = 3 * len(KEY_POINTS)
        return np.concatenate([own[:split], self._goal[:, KEY_POINTS].T.ravel(), own[split:]])

    def score(self) -> Score:
        """See `Task.score`. SoftGym declares no success; nine tenths of the way count as one."""
        performance = -self._distance_m()
        normalized = (performance + self._first) / self._first
        return Score(performance, performance, normalized, normalized >= 0.9, {})

    def look(self) -> Look:
        """See `Task.look`."""
        return replace(super().look(), goal=self._goal)

    def _distance_m(self) -> float:
        points, goals = self.body.p[:, KEY_POINTS].T, self._goal[:, KEY_POINTS].T
        cost = np.linalg.norm(points[:, None] - goals[None], axis=2)
        rows, columns = linear_sum_assignment(cost)
        return float(cost[rows, columns].mean())
