"""Spread out a crumpled cloth, and drop a hanging one flat onto its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.body import flat_grid
from sim.softgym.cloth import LIFT_M, ClothTask, kept, scaled
from sim.softgym.moves import ActionMode
from sim.softgym.scene import Camera
from sim.softgym.settle import centre_over_origin, wait
from sim.softgym.task import Initial, Score

Vector = NDArray[np.float64]
_CELLS = 100


class ClothFlatten(ClothTask):
    """Reward is the area of the floor that the cloth covers, m²."""

    name = "ClothFlatten"

    def __init__(self, *, full: bool = False, mode: ActionMode = "picker") -> None:
        super().__init__(scaled(60, 119, full=full), mode)
        self._first, self._flat = 0.0, 1.0

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Lift a cloth by one particle, wait, and let it fall; see `Task.generate`."""
        rng = np.random.default_rng([47, variation])
        body = self.new_body(*self.sizes.draw(rng))
        picked = int(rng.integers(body.count))
        # SoftGym puts the particle up there at once; here it rises, which leaves no shock to wait for.
        height, rise = rng.uniform(0.5, 1.0), 60
        body.hold(picked)
        for _ in range(rise):
            body.v[1, picked] = height / (0.01 * rise)
            body.step()
        wait(body, steps=240, speed_m_s=0.01, least=6)
        body.release(picked)
        wait(body, steps=300, speed_m_s=0.01)
        centre_over_origin(body)
        return kept(body)

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        self._lay(initial)
        middle = (self.body.p.min(axis=1) + self.body.p.max(axis=1)) / 2.0
        self.pickers.place_around(np.array([middle[0], 0.2, middle[2]]))
        self.body.step()
        spacing = self.sizes.spacing_m
        self._first = covered_area_m2(self.body.p, spacing)
        flat = flat_grid(self.body.rows, self.body.columns, spacing, LIFT_M)
        self._flat = covered_area_m2(flat, spacing)

    def score(self) -> Score:
        """See `Task.score`. SoftGym declares no success; 0.9 of the way counts as one."""
        area = covered_area_m2(self.body.p, self.sizes.spacing_m)
        normalized = (area - self._first) / max(self._flat - self._first, 1e-9)
        return Score(area, area, normalized, normalized >= 0.9, {})


def covered_area_m2(p: Vector, radius_m: float) -> float:
    """Area of the floor under particles (3, n), each a square of `radius_m` to all sides, counted in 100 by
    100 cells over their bounding box, as SoftGym counts it."""
    low = p[[0, 2]].min(axis=1)
    span = np.maximum(p[[0, 2]].max(axis=1) - low, 1e-9) / _CELLS
    offset = p[[0, 2]] - low[:, None]
    begin = np.maximum(np.round((offset - radius_m) / span[:, None]).astype(int), 0)
    end = np.minimum(np.round((offset + radius_m) / span[:, None]).astype(int), _CELLS)
    # A sum over the corners of all squares, differenced: a cell is covered where the running sum is not 0.
    corners = np.zeros((_CELLS + 1, _CELLS + 1), dtype=np.int64)
    np.add.at(corners, (begin[0], begin[1]), 1)
    np.add.at(corners, (end[0], begin[1]), -1)
    np.add.at(corners, (begin[0], end[1]), -1)
    np.add.at(corners, (end[0], end[1]), 1)
    covered = np.cumsum(np.cumsum(corners, axis=0), axis=1)[:_CELLS, :_CELLS] > 0
    return float(np.count_nonzero(covered) * span[0] * span[1])


class ClothDrop(ClothTask):
    """Reward is minus the mean distance to the flat cloth on its place; the pickers begin at two corners and
    cannot go below half a metre."""

    name = "ClothDrop"
    horizon = 30
    _cameras = {  # noqa: RUF012
        "default_camera": Camera((1.07199, 0.94942, 1.15691), 0.633549, -0.397932),
        "top": Camera((0.2, 1.8, 0.0), 0.0, -np.pi / 2.0),
    }

    def __init__(self, *, full: bool = False) -> None:
        super().__init__(scaled(60, 99, full=full))
        self._target = self.body.p.copy()
        self._first = 1.0

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Hang a cloth by two corners and wait; see `Task.generate`."""
        rng = np.random.default_rng([53, variation])
        body = self.new_body(*self.sizes.draw(rng))
        width = (body.columns - 1) * self.sizes.spacing_m
        above = width / 2.0 - body.p[0]
        body.p[1] = above + max(rng.uniform(0.1, 0.2), 0.5 - width)
        body.p[0] = rng.uniform(-0.1, 0.1)
        corners = [0, body.columns * (body.rows - 1)]
        for corner in corners:
            body.hold(corner)
        wait(body, steps=500, speed_m_s=0.1, least=100)
        # In an exact plane nothing would say to which side a cloth that is let go folds: it would stand.
        body.p[0] += rng.normal(0.0, 5e-4, body.count)
        return kept(body)

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        self._lay(initial)
        body = self.body
        corners = [int(corner) for corner in self.key_points()[:2]]
        up = np.array([0.0, self.pickers.config.radius_m, 0.0])
        self.pickers.place_on(corners, up, np.array([-0.3, 0.5, -0.5]), np.array([0.5, 2.0, 0.5]))
        spacing = self.sizes.spacing_m
        self._target = flat_grid(body.rows, body.columns, spacing, LIFT_M)
        self._target[0] += (body.columns - 1) * spacing / 2.0
        self._first = self._distance_m()

    def score(self) -> Score:
        """See `Task.score`. SoftGym declares no success; 0.8 of the way counts as one."""
        distance = self._distance_m()
        normalized = (self._first - distance) / self._first
        return Score(-distance, -distance, normalized, normalized >= 0.8, {})

    def _repeat(self) -> int:
        return 16

    def _distance_m(self) -> float:
        return float(np.linalg.norm(self.body.p - self._target, axis=0).mean())
