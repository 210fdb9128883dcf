"""Carry a glass of water along a line without spilling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.water import Liquid, Water
from sim.softgym.glass import Glass, in_glass
from sim.softgym.scene import Camera, Look
from sim.softgym.task import Actions, Initial, Score

Vector = NDArray[np.float64]

WATER = Liquid(radius_m=0.03, spacing_m=0.015, viscosity=0.1)
BORDER_M = 0.045
TARGET_M = 1.2
FARTHEST_M = 0.011
"""Way of the glass in one simulator step."""
LOW_M, HIGH_M = -0.25, 1.4
SPILL_WEIGHT = 10.0
SUCCESS_REWARD = -0.36
_FREE_M = 0.03
"""From the surface at rest up to the rim."""


def settled(across_x: int, across_z: int, layers: int, liquid: Liquid, glass: Glass) -> tuple[Water, float]:
    """A grid of particles poured into a deep `glass` at x = 0 and at rest, and how high its surface is, m."""
    d = liquid.spacing_m
    k = np.arange(across_x * across_z * layers)
    nx, nz = across_x + 2, across_z + 2
    points = np.stack([
        (k % nx - (nx - 1) / 2.0) * d,
        glass.border_m / 2.0 + 0.01 + k // (nx * nz) * 0.75 * d,
        (k // nx % nz - (nz - 1) / 2.0) * d,
    ])  # fmt: skip
    water = Water(liquid, points)
    boxes = glass.boxes(0.0)
    for step in range(300):
        water.step(boxes, boxes)
        if step % 4 == 3:
            # Only while it is filled: the surface would swing for seconds.
            water.v *= 0.8
    water.v[:] = 0.0
    return water, float(np.sort(water.p[1])[-max(water.count // 50, 1) :].mean())


class PassWater:
    """Reward is minus ten times the spilled share and the distance to x = 1.2 m.

    Args:
        full: RL-VLM-F's amount, about 4,000 particles; else 860 to 2,050.
    """

    name = "PassWater"
    horizon = 75
    variations = 1000
    state_names = (
        "glass_x",
        "glass_length",
        "glass_width",
        "glass_height",
        "water_height",
        "inside",
        "spilled",
    )
    actions = Actions(("glass_dx",), np.array([-FARTHEST_M]), np.array([FARTHEST_M]), 8)

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self._sides = (9, 10) if full else (6, 7, 8)
        self.most_points = max(self._sides) ** 3 * 4
        self.glass = Glass(0.18, 0.18, 0.2, BORDER_M)
        self.x = 0.0
        self._first = -1.0
        self._set_water(np.zeros((3, self.most_points)))

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Fill a glass and wait; see `Task.generate`."""
        rng = np.random.default_rng([59, variation])
        across_x, across_z = (int(side) for side in rng.choice(self._sides, 2))
        layers, d = 4 * min(across_x, across_z), WATER.spacing_m
        # SoftGym's rim follows from the grid of particles; this one is a little over the water at rest.
        length, width = (across_x + 4) * d, (across_z + 4) * d
        deep = Glass(length, width, 2.0 * layers * d, BORDER_M)
        water, surface = settled(across_x, across_z, layers, WATER, deep)
        return {"p": water.p, "glass": np.array([length, width, surface + _FREE_M])}

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        length, width, height = (float(value) for value in initial["glass"])
        self.glass = Glass(length, width, height, BORDER_M)
        self._set_water(initial["p"])
        self.x = 0.0
        self._first = self._performance()[0]

    def act(self, action: Vector) -> None:
        """See `Task.act`."""
        for _ in range(self.actions.steps):
            before, self.x = self.x, float(np.clip(self.x + action[0], LOW_M, HIGH_M))
            self.water.step(self.glass.boxes(before), self.glass.boxes(self.x))

    def state(self) -> Vector:
        """The glass, the highest particle, the shares inside and outside; see `Task.state`."""
        glass, spilled = self.glass, self._spilled()
        return np.array([
            self.x, glass.length_m, glass.width_m, glass.height_m,
            self.water.p[1].max(), 1.0 - spilled, spilled,
        ])  # fmt: skip

    def points(self) -> Vector:
        """See `Task.points`."""
        return self.water.p.T.copy()

    def score(self) -> Score:
        """See `Task.score`."""
        performance, distance, spilled = self._performance()
        normalized = (performance - self._first) / -self._first
        further = {"distance_to_target": distance, "out_water": spilled}
        return Score(performance, performance, normalized, performance > SUCCESS_REWARD, further)

    def save(self) -> Vector:
        """See `Task.save`."""
        return np.concatenate([self.water.p.ravel(), self.water.v.ravel(), [self.x]])

    def restore(self, saved: Vector) -> None:
        """See `Task.restore`."""
        n = self.water.p.size
        self.water.p[:] = saved[:n].reshape(3, -1)
        self.water.v[:] = saved[n : 2 * n].reshape(3, -1)
        self.x = float(saved[-1])

    def look(self) -> Look:
        """See `Task.look`; the red mark is where the glass is to go."""
        return Look(
            {
                "default_camera": Camera((0.53, 2.0, 1.0), 0.0, -np.pi / 3.0),
                "cam_2d": Camera((0.5, 0.7, 3.0), 0.0, -0.1),
            },
            water=self.water.p, water_radius_m=0.012, boxes=self.glass.boxes(self.x),
            mark=np.array([TARGET_M, 0.0, 0.0]),
        )  # fmt: skip

    def _set_water(self, points: Vector) -> None:
        self.water = Water(WATER, points)

    def _spilled(self) -> float:
        inside = in_glass(self.water.p, self.glass.boxes(self.x), self.glass)
        return 1.0 - float(np.count_nonzero(inside)) / self.water.count

    def _performance(self) -> tuple[float, float, float]:
        spilled, distance = self._spilled(), abs(TARGET_M - self.x)
        return -SPILL_WEIGHT * spilled - distance, distance, spilled
