"""What the cloth tasks have in common: sizes, a body, pickers, and the corners that are seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.pbd.body import Body, Solid, flat_grid
from sim.softgym.moves import ActionMode, carry_out, cloth_actions
from sim.softgym.picked import Picked
from sim.softgym.pickers import PickerConfig, Pickers
from sim.softgym.scene import Camera, Look
from sim.softgym.task import Initial, point_names

Vector = NDArray[np.float64]

FINE_M = 0.00625
"""SoftGym's spacing of particles."""
COARSE_M = 0.0125
"""Twice that: a cloth of SoftGym's size in metres with a quarter of the particles."""
LIFT_M = 0.005
CLOTH = Solid(
    kind="cloth",
    spacing_m=COARSE_M,
    mass_kg=1.0,
    stretch=0.8,
    # SoftGym's 1 would make a sheet that unfolds by itself: here a sub-step has few passes, each at full
    # stiffness.
    bend=0.02,
    shear=0.9,
    thickness_m=0.01125,
    lift_m=LIFT_M,
    friction=0.75,
    self_friction=1.0,
    damping_hz=1.0,
    sleep_m_s=0.02,
)
PICK_PLACE_HORIZON = 20
ROOM = ((-0.4, 0.0, -0.4), (1.0, 0.5, 0.4))
CAMERAS = {
    "default_camera": Camera((0.0, 0.82, 0.82), 0.0, -np.pi / 4.0),
    "top": Camera((0.0, 1.1, 0.0), 0.0, -np.pi / 2.0),
}


@dataclass(frozen=True)
class Sizes:
    """Which cloths a task draws from."""

    spacing_m: float
    least: int
    """Fewest particles along a side."""
    most: int
    """Most particles along a side."""

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Rows and columns of one cloth."""
        rows, columns = rng.integers(self.least, self.most + 1, 2)
        return int(rows), int(columns)


def scaled(least: int, most: int, *, full: bool) -> Sizes:
    """SoftGym's sizes, given in its particles: its own with `full`, else with twice the spacing."""
    return Sizes(FINE_M, least, most) if full else Sizes(COARSE_M, least // 2, most // 2)


class ClothTask(Picked):
    """Begins, steps, saves and draws a cloth; what it is for, its heirs say.

    Args:
        sizes: which cloths.
        mode: SoftGym's action mode.
        mass_kg: mass of the whole cloth.
    """

    name = ""
    horizon = 100
    variations = 1000
    state_names: tuple[str, ...] = point_names(4, "corner") + point_names(2, "picker")
    _cameras = CAMERAS

    def __init__(self, sizes: Sizes, mode: ActionMode = "picker", mass_kg: float = 0.5) -> None:
        self.sizes, self.mode = sizes, mode
        if mode == "pickerpickplace":
            self.horizon = PICK_PLACE_HORIZON
        self._mass_kg = mass_kg
        self.actions = cloth_actions(mode, self._pickers_config(), self._repeat())
        self.most_points = sizes.most**2
        self._set_body(self.new_body(sizes.most, sizes.most))

    def new_body(self, rows: int, columns: int) -> Body:
        """A cloth flat on the floor about the origin."""
        mass = self._mass_kg / (rows * columns)
        body = Body(replace(CLOTH, spacing_m=self.sizes.spacing_m, mass_kg=mass), rows, columns)
        body.p[:] = flat_grid(rows, columns, self.sizes.spacing_m, LIFT_M)
        return body

    def act(self, action: Vector) -> None:
        """See `Task.act`."""
        carry_out(self.mode, self.pickers, action, self.actions.steps)

    def state(self) -> Vector:
        """The four corners and the pickers; see `Task.state`."""
        return np.concatenate([self.body.p[:, self.key_points()].T.ravel(), self.pickers.at.ravel()])

    def look(self) -> Look:
        """See `Task.look`."""
        return Look(
            self._cameras, cloth=self.body.p, cloth_shape=(self.body.rows, self.body.columns),
            balls=self.pickers.at, ball_radius_m=0.4 * self.pickers.config.radius_m,
        )  # fmt: skip

    def key_points(self) -> NDArray[np.int64]:
        """Numbers of the corners: the first column's two, then the last column's two."""
        rows, columns = self.body.rows, self.body.columns
        return np.array([0, columns * (rows - 1), columns - 1, columns * rows - 1])

    def _lay(self, initial: Initial) -> None:
        rows, columns = (int(value) for value in initial["size"])
        self._set_body(self.new_body(rows, columns))
        self.body.p[:] = initial["p"]

    def _set_body(self, body: Body) -> None:
        self.body = body
        self.pickers = Pickers(self._pickers_config(), body)

    def _pickers_config(self) -> PickerConfig:
        if self.mode == "pickerpickplace":
            return PickerConfig(2, 0.05, FINE_M, (-0.5, 0.0, -0.5), (0.5, 0.3, 0.5))
        return PickerConfig(2, 0.05, FINE_M, *ROOM)

    def _repeat(self) -> int:
        return 8


def kept(body: Body) -> dict[str, NDArray[np.float64]]:
    """A cloth as an initial state."""
    return {"p": body.p, "size": np.array([body.rows, body.columns], dtype=np.float64)}
