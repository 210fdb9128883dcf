"""Fold a cloth: in half with two pickers, or corner to corner in one move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.softgym.cloth import FINE_M, ClothTask, Sizes, kept, scaled
from sim.softgym.moves import ActionMode
from sim.softgym.pickers import PickerConfig
from sim.softgym.scene import Camera, Look
from sim.softgym.settle import centre_over_origin, wait
from sim.softgym.task import Initial, Score, point_names

Vector = NDArray[np.float64]
FIXATION_WEIGHT = 1.2


class ClothFold(ClothTask):
    """Reward is minus the mean distance of mirrored particles and 1.2 times how far the lower half moved."""

    name = "ClothFold"

    def __init__(self, *, full: bool = False, mode: ActionMode = "picker") -> None:
        super().__init__(scaled(60, 119, full=full), mode)
        self._begin_scoring()

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """A flat cloth, turned by up to 45 degrees; see `Task.generate`."""
        rng = np.random.default_rng([43, variation])
        body = self.new_body(*self.sizes.draw(rng))
        wait(body, steps=100, speed_m_s=0.2, least=5)
        centre_over_origin(body)
        angle = rng.uniform(-0.25, 0.25) * np.pi
        co, si = np.cos(angle), np.sin(angle)
        body.p[[0, 2]] = np.array([[co, -si], [si, co]]) @ body.p[[0, 2]]
        return kept(body)

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        self._lay(initial)
        first, second = self.key_points()[:2]
        middle = (self.body.p[:, first] + self.body.p[:, second]) / 2.0
        self.pickers.place_around(np.array([middle[0], 0.1, middle[2]]))
        self.body.step()
        self._begin_scoring()

    def score(self) -> Score:
        """See `Task.score`. SoftGym declares no success; 0.85 of the way counts as one."""
        group, fixation = self._distances()
        performance = -group - FIXATION_WEIGHT * fixation
        normalized = (performance - self._first) / -self._first
        further = {"neg_group_dist": -group, "neg_fixation_dist": -fixation}
        return Score(performance, performance, normalized, normalized >= 0.85, further)

    def _begin_scoring(self) -> None:
        rows, columns = self.body.rows, self.body.columns
        numbers = np.arange(rows * columns).reshape(rows, columns)
        self._moving = numbers[:, : columns // 2].ravel()
        self._lying = numbers[:, ::-1][:, : columns // 2].ravel()
        self._lay_at = self.body.p[:, self._lying].copy()
        group, fixation = self._distances()
        self._first = -group - FIXATION_WEIGHT * fixation

    def _distances(self) -> tuple[float, float]:
        lying = self.body.p[:, self._lying]
        group = np.linalg.norm(self.body.p[:, self._moving] - lying, axis=0).mean()
        return float(group), float(np.linalg.norm(lying - self._lay_at, axis=0).mean())


class ClothFoldDiagonal(ClothTask):
    """RL-VLM-F's fold: one picker holds a corner from the beginning and puts it down once.

    The goal is where the move to the opposite corner leads; reward is minus ten times the mean distance.
    """

    name = "ClothFoldDiagonal"
    horizon = 1
    variations = 1
    state_names = point_names(36) + point_names(1, "picker")
    _cameras = {  # noqa: RUF012
        "default_camera": Camera((0.0, 0.42, 0.0), 0.0, -np.pi / 2.0),
        "side": Camera((0.0, 0.3, 0.42), 0.0, -0.6),
    }
    _side = 40

    def __init__(self) -> None:
        super().__init__(Sizes(FINE_M, self._side, self._side), "pickerplace", mass_kg=1.0)
        self._goal = np.zeros((3, self._side**2))
        self._first = 1.0

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """The flat cloth and its goal; see `Task.generate`."""
        self._set_body(self.new_body(self._side, self._side))
        wait(self.body, steps=100, speed_m_s=0.2, least=5)
        centre_over_origin(self.body)
        flat = self.body.p.copy()
        self._grasp()
        self.act(self.body.p[[0, 2], -1].copy())
        return {"p": flat, "size": np.array([self._side, self._side], dtype=np.float64), "goal": self.body.p}

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        self._lay(initial)
        self._grasp()
        self._goal = np.array(initial["goal"])
        self._first = self._distance_m()

    def score(self) -> Score:
        """See `Task.score`."""
        distance = self._distance_m()
        normalized = (self._first - distance) / self._first
        return Score(-10.0 * distance, -distance, normalized, normalized > 0.9, {})

    def key_points(self) -> NDArray[np.int64]:
        """Every eighth row and column, and the last ones."""
        n = self._side
        lines = np.array([*range(0, 5 * (n // 5), n // 5), n - 1])
        return (lines[:, None] * n + lines[None, :]).ravel()

    def look(self) -> Look:
        """See `Task.look`."""
        return replace(super().look(), ball_radius_m=0.006)

    def _pickers_config(self) -> PickerConfig:
        return PickerConfig(1, 0.001, FINE_M, (-0.15, -0.15, -0.15), (0.15, 0.15, 0.15), bounded=False)

    def _grasp(self) -> None:
        self.pickers.place_on([0], np.full(3, 0.001), np.full(3, -0.15), np.full(3, 0.15))
        self.pickers.grasp([0])

    def _distance_m(self) -> float:
        return float(np.linalg.norm(self.body.p - self._goal, axis=0).mean())
