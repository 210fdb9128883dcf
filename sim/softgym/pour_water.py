"""Pour a glass of water into another one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.water import Liquid, Water
from sim.softgym.glass import Glass, in_glass
from sim.softgym.pass_water import BORDER_M, settled
from sim.softgym.scene import Camera, Look
from sim.softgym.task import Actions, Initial, Score

Vector = NDArray[np.float64]

WATER = Liquid(radius_m=0.033, spacing_m=0.033 * 0.55, viscosity=0.7, cohesion=0.05)
TARGET_BORDER_M = 0.03
_WIDER_M, _TARGET_WIDER_M = 0.1, 0.07
"""How much wider the glasses' floors are than the water's grid."""
_FREE_M = 0.03


class PourWater:
    """Reward is the share of the water that is in the other glass.

    The action moves the glass's floor (m per simulator step) and turns the glass about it (rad). A move into
    the other glass or into the ground does nothing.

    Args:
        full: SoftGym's amounts, 4 to 13 particles along a side; else 5 to 7.
    """

    name = "PourWater"
    horizon = 100
    variations = 1000
    state_names = (
        "glass_x", "glass_y", "glass_turn", "glass_length", "glass_width", "glass_height", "target_x",
        "target_height", "target_length", "target_width", "water_height", "in_target", "in_glass",
    )  # fmt: skip
    actions = Actions(
        ("glass_dx", "glass_dy", "glass_turn"),
        np.array([-0.01, -0.01, -0.015]), np.array([0.01, 0.01, 0.015]), 8,
    )  # fmt: skip

    def __init__(self, *, full: bool = False) -> None:
        self._least, self._most = (4, 13) if full else (5, 7)
        self.most_points = 4 * self._most**3
        self.glass = Glass(0.2, 0.2, 0.2, BORDER_M)
        self.target = Glass(0.2, 0.2, 0.2, TARGET_BORDER_M)
        self.target_x = 0.5
        self.pose = np.zeros(3)
        """x and y of the glass's floor (m), and its turn about -z (rad)."""
        self.water = Water(WATER, np.zeros((3, self.most_points)))
        self._first = 0.0

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Fill a glass, wait, and place another one; see `Task.generate`."""
        rng = np.random.default_rng([61, variation])
        across_x, across_z = (int(side) for side in rng.integers(self._least, self._most + 1, 2))
        least, d = min(across_x, across_z), WATER.spacing_m
        layers = 4 * least if rng.random() < 0.5 else int(3.5 * least)
        length, width = across_x * d + _WIDER_M, across_z * d + _WIDER_M
        water, surface = settled(
            across_x, across_z, layers, WATER, Glass(length, width, 2.0 * layers * d, BORDER_M)
        )
        height = surface + _FREE_M
        target_height = height + rng.uniform(0.0, 0.1)
        target_x = rng.uniform(0.05, 0.09) * least + (across_x + 4) * d / 2.0
        shape = [length, width, height, across_x * d + _TARGET_WIDER_M, across_z * d + _TARGET_WIDER_M]
        return {"p": water.p, "glasses": np.array([*shape, target_height, target_x])}

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        length, width, height, its_length, its_width, its_height, at = (float(v) for v in initial["glasses"])
        self.glass = Glass(length, width, height, BORDER_M)
        self.target = Glass(its_length, its_width, its_height, TARGET_BORDER_M)
        self.target_x, self.pose = at, np.zeros(3)
        self.water = Water(WATER, initial["p"])
        self._first = self._shares()[0]

    def act(self, action: Vector) -> None:
        """See `Task.act`."""
        still = self.target.boxes(self.target_x)
        for _ in range(self.actions.steps):
            before = self.glass.boxes(*self.pose)
            wanted = self.pose + action
            if self._free(wanted):
                self.pose = wanted
            after = self.glass.boxes(*self.pose)
            self.water.step(np.concatenate([before, still]), np.concatenate([after, still]))

    def state(self) -> Vector:
        """Both glasses, the highest particle, and where the water is; see `Task.state`."""
        glass, target = self.glass, self.target
        return np.array([
            *self.pose, glass.length_m, glass.width_m, glass.height_m, self.target_x, target.height_m,
            target.length_m, target.width_m, self.water.p[1].max(), *self._shares(),
        ])  # fmt: skip

    def points(self) -> Vector:
        """See `Task.points`."""
        return self.water.p.T.copy()

    def score(self) -> Score:
        """See `Task.score`. SoftGym declares no success; 0.9 of the way counts as one."""
        performance, remaining = self._poured(), self._shares()[1]
        normalized = (performance - self._first) / (1.0 - self._first)
        return Score(performance, performance, normalized, normalized >= 0.9, {"in_glass": remaining})

    def save(self) -> Vector:
        """See `Task.save`."""
        return np.concatenate([self.water.p.ravel(), self.water.v.ravel(), self.pose])

    def restore(self, saved: Vector) -> None:
        """See `Task.restore`."""
        n = self.water.p.size
        self.water.p[:] = saved[:n].reshape(3, -1)
        self.water.v[:] = saved[n : 2 * n].reshape(3, -1)
        self.pose = saved[-3:].copy()

    def look(self) -> Look:
        """See `Task.look`."""
        boxes = np.concatenate([self.glass.boxes(*self.pose), self.target.boxes(self.target_x)])
        return Look(
            {
                "default_camera": Camera((1.4, 1.5, 0.1), 0.45 * np.pi, -np.pi / 3.0),
                "cam_2d": Camera((0.3, 0.6, 2.2), 0.0, -0.15),
            },
            water=self.water.p, water_radius_m=0.014, boxes=boxes,
        )  # fmt: skip

    def _shares(self) -> tuple[float, float]:
        """Of the water in the other glass and in the one that moves."""
        p, count = self.water.p, self.water.count
        in_target = in_glass(p, self.target.boxes(self.target_x), self.target)
        in_own = in_glass(p, self.glass.boxes(*self.pose), self.glass)
        return float(np.count_nonzero(in_target)) / count, float(np.count_nonzero(in_own)) / count

    def _poured(self) -> float:
        p = self.water.p
        in_target = in_glass(p, self.target.boxes(self.target_x), self.target)
        in_own = in_glass(p, self.glass.boxes(*self.pose), self.glass)
        return float(np.count_nonzero(in_target & ~in_own)) / self.water.count

    def _free(self, pose: Vector) -> bool:
        """Whether a pose is above the ground and clear of the other glass, seen from the front."""
        own, other = _outline(self.glass, *pose), _outline(self.target, self.target_x, 0.0, 0.0)
        if own[:, 1].min() < -self.glass.border_m / 2.0 - 1e-9:
            return False
        return _apart(own, other) or _apart(other, own)


def _outline(glass: Glass, x: float, y: float, turn_rad: float) -> Vector:
    """(4, 2) corners of a glass seen from the front."""
    half, low = glass.length_m / 2.0 + glass.border_m, -glass.border_m / 2.0
    corners = np.array([[-half, low], [half, low], [half, glass.height_m], [-half, glass.height_m]])
    co, si = np.cos(turn_rad), np.sin(turn_rad)
    return np.array([x, y]) + corners @ np.array([[co, -si], [si, co]])


def _apart(first: Vector, second: Vector) -> bool:
    """Whether a side of the rectangle `first` separates it from `second`."""
    for axis in (first[1] - first[0], first[2] - first[1]):
        a, b = first @ axis, second @ axis
        if a.max() < b.min() or b.max() < a.min():
            return True
    return False
