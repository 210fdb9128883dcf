"""SoftGym's action modes for cloth.

An environment step takes the same simulated time whatever the action: `pickerplace` and `pickerpickplace`
hold still when they have arrived. In SoftGym such a step ends on arrival.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim.softgym.pickers import DELTA_M, PickerConfig, Pickers
from sim.softgym.task import Actions

Vector = NDArray[np.float64]
ActionMode = Literal["picker", "pickerplace", "pickerpickplace"]

PLACE_M = 0.15
"""Where pickerplace may put its particle: |x|, |z| up to this."""
PLACE_STEPS = 100
_PLACE_DELTA_M = 0.005
_LIFT_M, _LIFT_STEPS = 0.006, 10
_PLACE_TRAVEL = PLACE_STEPS - 2 * _LIFT_STEPS
PICK_PLACE_STEPS = 150


def picker_actions(number: int, repeat: int) -> Actions:
    """Per picker a way (m per simulator step) and a flag."""
    names = [f"picker{i}_{part}" for i in range(number) for part in ("dx", "dy", "dz", "hold")]
    lower = np.tile([-DELTA_M, -DELTA_M, -DELTA_M, 0.0], number)
    upper = np.tile([DELTA_M, DELTA_M, DELTA_M, 1.0], number)
    return Actions(tuple(names), lower, upper, repeat)


def cloth_actions(mode: ActionMode, config: PickerConfig, repeat: int) -> Actions:
    """The action of a mode."""
    if mode == "picker":
        return picker_actions(config.number, repeat)
    if mode == "pickerplace":
        bound = np.full(2 * config.number, PLACE_M)
        names = tuple(f"picker{i}_to_{axis}" for i in range(config.number) for axis in "xz")
        return Actions(names, -bound, bound, PLACE_STEPS)
    names = tuple(
        f"picker{i}_{part}" for i in range(config.number) for part in ("to_x", "to_y", "to_z", "hold")
    )
    lower, upper = [*config.low, 0.0] * config.number, [*config.high, 1.0] * config.number
    return Actions(names, np.array(lower), np.array(upper), PICK_PLACE_STEPS)


def carry_out(mode: ActionMode, pickers: Pickers, action: Vector, steps: int) -> None:
    """Take one environment step of `steps` simulator steps."""
    if mode == "picker":
        per_picker = action.reshape(-1, 4)
        for _ in range(steps):
            pickers.step(per_picker[:, :3], per_picker[:, 3])
    elif mode == "pickerplace":
        _place(pickers, action.reshape(-1, 2))
    else:
        _pick_place(pickers, action.reshape(-1, 4), steps)


def _place(pickers: Pickers, target: Vector) -> None:
    """Lift 6 cm, go to target (number, 2) x and z, lower again, holding all the time."""
    number = len(target)
    held, up = np.ones(number), np.tile([0.0, _LIFT_M, 0.0], (number, 1))
    for _ in range(_LIFT_STEPS):
        pickers.step(up, held)
    way = np.zeros((number, 3))
    way[:, [0, 2]] = target - pickers.at[:, [0, 2]]
    travel = int(min(np.ceil(np.linalg.norm(way, axis=1).max() / _PLACE_DELTA_M), _PLACE_TRAVEL))
    for done in range(_PLACE_TRAVEL):
        pickers.step(way / max(travel, 1) if done < travel else np.zeros_like(way), held)
        if done + 1 == max(travel, 1):
            for _ in range(_LIFT_STEPS):
                pickers.step(-up, held)


def _pick_place(pickers: Pickers, target: Vector, steps: int) -> None:
    """Hold or let go as the flags say, and go straight to the targets, 1 cm a step."""
    low = np.array(pickers.config.low) + pickers.config.radius_m
    high = np.array(pickers.config.high) - pickers.config.radius_m
    way = np.clip(target[:, :3], low, high) - pickers.at
    travel = int(max(np.ceil(np.linalg.norm(way, axis=1).max() / DELTA_M), 1))
    for done in range(steps):
        pickers.step(way / travel if done < travel else np.zeros_like(way), target[:, 3])
