"""The rope tasks: straighten a rope, with free pickers or with pickers that hold its ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.body import Body, Solid
from sim.softgym.moves import picker_actions
from sim.softgym.picked import Picked
from sim.softgym.pickers import PickerConfig, Pickers
from sim.softgym.scene import Camera, Look
from sim.softgym.settle import centre_over_origin, random_picks
from sim.softgym.task import Initial, Score, point_names

Vector = NDArray[np.float64]

SEGMENTS = 40
SPACING_M = 0.0125
LENGTH_M = SEGMENTS * SPACING_M
RADIUS_M = 0.0125
ROPE = Solid(
    kind="rope",
    spacing_m=SPACING_M,
    mass_kg=0.5 / (SEGMENTS + 1),
    stretch=0.9,
    bend=0.0,
    sharpest_bend_rad=0.7,
    thickness_m=2.0 * RADIUS_M,
    lift_m=RADIUS_M,
    friction=1.0,
    self_friction=0.5,
    damping_hz=1.0,
    sleep_m_s=0.01,
    substeps=16,
    passes=2,
)
KEY_POINTS = np.array([0, *(i * ((SEGMENTS - 1) // 8) for i in range(1, 9)), SEGMENTS])
CAMERAS = {
    "default_camera": Camera((0.0, 0.85, 0.0), 0.0, -np.pi / 2.0),
    "side": Camera((0.0, 0.45, 0.65), 0.0, -0.6),
}
_PICKERS = PickerConfig(2, 0.02, 0.025, (-0.35, 0.0, -0.35), (0.35, 0.3, 0.35))


class RopeFlatten(Picked):
    """Pull the rope straight: reward is minus how far its ends are from a rope's length apart."""

    name = "RopeFlatten"
    horizon = 75
    variations = 1000
    most_points = SEGMENTS + 1
    state_names: tuple[str, ...] = point_names(len(KEY_POINTS)) + point_names(2, "picker")
    _config = _PICKERS
    _repeat = 8

    def __init__(self) -> None:
        self.actions = picker_actions(2, self._repeat)
        self.body = Body(ROPE, SEGMENTS + 1)
        self.pickers = Pickers(self._config, self.body)

    def generate(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Crumple a straight rope by four random picks; see `Task.generate`."""
        rng = np.random.default_rng([41, variation])
        body = Body(ROPE, SEGMENTS + 1)
        body.p[0] = (np.arange(SEGMENTS + 1) - SEGMENTS / 2.0) * SPACING_M
        body.p[1] = RADIUS_M
        random_picks(body, rng, picks=4, scale_m=0.005)
        centre_over_origin(body)
        return {"p": body.p}

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        self._lay(initial)
        middle = (self.body.p.min(axis=1) + self.body.p.max(axis=1)) / 2.0
        self.pickers.place_around(np.array([middle[0], 0.1, middle[2]]))

    def act(self, action: Vector) -> None:
        """See `Task.act`."""
        per_picker = action.reshape(2, 4)
        for _ in range(self.actions.steps):
            self.pickers.step(per_picker[:, :3], per_picker[:, 3])

    def state(self) -> Vector:
        """Ten key points and the pickers; see `Task.state`."""
        return np.concatenate([self.body.p[:, KEY_POINTS].T.ravel(), self.pickers.at.ravel()])

    def score(self) -> Score:
        """See `Task.score`."""
        distance = self.end_distance_m
        performance = -abs(distance - LENGTH_M)
        normalized = (performance + LENGTH_M) / LENGTH_M
        # SoftGym declares no success here; RL-VLM-F's bound for the easier task is taken.
        return Score(
            performance, performance, normalized, normalized >= 0.95, {"end_point_distance": distance}
        )

    @property
    def end_distance_m(self) -> float:
        """Distance between the rope's ends."""
        return float(np.linalg.norm(self.body.p[:, 0] - self.body.p[:, -1]))

    def look(self) -> Look:
        """See `Task.look`."""
        return Look(
            CAMERAS, rope=self.body.p, rope_radius_m=RADIUS_M, balls=self.pickers.at,
            ball_radius_m=self._config.radius_m,
        )  # fmt: skip

    def _lay(self, initial: Initial) -> None:
        self.body.p[:] = initial["p"]
        self.body.v[:] = 0.0


class RopeFlattenEasy(RopeFlatten):
    """RL-VLM-F's rope: the pickers hold the ends from the first moment to the last."""

    name = "RopeFlattenEasy"
    horizon = 40
    _config = PickerConfig(2, 0.02, 0.025, (-0.35, 0.0, -0.35), (0.35, 0.3, 0.35), keep_in_m=0.325)
    _repeat = 6

    def begin(self, initial: Initial) -> None:
        """See `Task.begin`."""
        self._lay(initial)
        ends = [0, SEGMENTS]
        config = self._config
        self.pickers.place_on(ends, np.full(3, config.radius_m), np.array(config.low), np.array(config.high))
        self.pickers.grasp(ends)

    def act(self, action: Vector) -> None:
        """See `Task.act`; the flags count as set."""
        held = action.reshape(2, 4).copy()
        held[:, 3] = 1.0
        super().act(held.ravel())

    def score(self) -> Score:
        """See `Task.score`: the distance itself, up to 1.1 lengths."""
        distance = self.end_distance_m
        performance = min(distance, 1.1 * LENGTH_M)
        return Score(
            performance, performance, (performance + LENGTH_M) / LENGTH_M, performance >= 0.95 * LENGTH_M,
            {"end_point_distance": distance},
        )  # fmt: skip
