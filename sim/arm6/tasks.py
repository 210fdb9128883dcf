"""The tasks: where an episode begins, what is rewarded, what is success. Pure functions.

Train and evaluation share no goal: the table is tiled like a chessboard with cells of 2 cm, training takes
the points of one colour and evaluation those of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.arm6.furniture import (
    CABINET_HALF_M,
    HANDLE_HEIGHT_M,
    HANDLE_OUT_M,
    PUCK_HALF_M,
    PUCK_RADIUS_M,
)
from sim.arm6.model import CUBE_HALF_M
from sim.env import Split

Vector = NDArray[np.float64]
CELL_M = 0.02
RADIUS_M = (0.30, 0.52)
"""Distance from the base's axis at which goals and cubes lie."""
AZIMUTH_RAD = 0.62
"""Goals and cubes lie within this angle to both sides of straight ahead."""
HEIGHT_M = (0.06, 0.34)
"""Height of the targets to reach."""
APART_M = 0.13
"""Least distance of cube and pad at the start."""
TOUCH_M = 0.02
PLACED_M = 0.025
RELEASED_M = 2 * CUBE_HALF_M + 0.006
"""Opening from which the cube is let go of."""
PUSHED_M = (0.12, 0.26)
"""How far the puck is to be pushed."""
BEHIND_M = 0.09
"""Where the expert begins to push, from the middle of the puck."""
OPENED_M = (0.08, 0.14)
"""How far the drawer is to be opened."""
MARK_M = 0.015
_SALT = 6


@dataclass(frozen=True, eq=False)
class Layout:
    """Where an episode begins."""

    goal_m: Vector
    """(3,) Target of the tool, or where the middle of the cube, the puck or the handle is to be."""
    cube_m: Vector
    """(3,) Centre of the cube or the puck, or the cabinet's place; unused in reach."""
    cube_yaw_rad: float


@dataclass(frozen=True, eq=False)
class Scene:
    """What reward and success look at."""

    tool_m: Vector
    goal_m: Vector
    opening_m: float
    cube_m: Vector
    cube_speed: float
    """m/s"""


def split_of(point_m: Vector) -> Split:
    """Whose goal a point is: the colour of its cell."""
    return "evaluation" if int(np.floor(np.asarray(point_m) / CELL_M).sum()) % 2 else "train"


def draw(task: str, split: Split, seed: int, episode: int) -> Layout:
    """The layout of an episode, a function of the arguments alone.

    Raises:
        ConfigError: a split that is no split, or a negative seed or episode.
    """
    if split not in ("train", "evaluation"):
        raise ConfigError(f"split {split!r} is unknown: 'train' or 'evaluation'.")
    if seed < 0 or episode < 0:
        raise ConfigError(f"seed {seed}, episode {episode}: write 0 or more.")
    rng = np.random.default_rng([_SALT, seed, episode, split == "evaluation"])
    if task == "push":
        return _draw_push(rng, split)
    if task == "drawer":
        return _draw_drawer(rng, split)
    if task == "reach":
        return Layout(_point(rng, split, HEIGHT_M), np.zeros(3), 0.0)
    on_table = (CUBE_HALF_M, CUBE_HALF_M)
    goal = _point(rng, split, on_table)
    cube = _point(rng, split, on_table)
    while np.linalg.norm(cube - goal) < APART_M:
        cube = _point(rng, split, on_table)
    return Layout(goal, cube, float(rng.uniform(-np.pi / 4, np.pi / 4)))


def _point(rng: np.random.Generator, split: Split, height_m: tuple[float, float]) -> Vector:
    while True:
        radius = np.sqrt(rng.uniform(RADIUS_M[0] ** 2, RADIUS_M[1] ** 2))
        azimuth = rng.uniform(-AZIMUTH_RAD, AZIMUTH_RAD)
        point = np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), rng.uniform(*height_m)])
        if split_of(point) == split:
            return point


def _draw_push(rng: np.random.Generator, split: Split) -> Layout:
    """Puck and disc, so that the tool can stand behind the puck."""
    on_table = (PUCK_HALF_M, PUCK_HALF_M)
    while True:
        goal, puck = _point(rng, split, on_table), _point(rng, split, on_table)
        way = goal - puck
        distance = float(np.linalg.norm(way))
        if not PUSHED_M[0] <= distance <= PUSHED_M[1]:
            continue
        behind = puck - BEHIND_M * way / distance
        radius, azimuth = float(np.hypot(behind[0], behind[1])), float(np.arctan2(behind[1], behind[0]))
        if 0.27 <= radius <= 0.58 and abs(azimuth) <= 0.8:
            return Layout(goal, puck, 0.0)


def _draw_drawer(rng: np.random.Generator, split: Split) -> Layout:
    """The cabinet stands on the left and opens to the right, where the camera `front` sees into it."""
    while True:
        cabinet = np.array([rng.uniform(0.34, 0.44), rng.uniform(0.25, 0.31), 0.0])
        yaw, opening = rng.uniform(-0.25, 0.25) - np.pi / 2, rng.uniform(*OPENED_M)
        out = CABINET_HALF_M[0] + HANDLE_OUT_M + opening
        goal = cabinet + np.array([out * np.cos(yaw), out * np.sin(yaw), HANDLE_HEIGHT_M])
        if split_of(goal) == split:
            return Layout(goal, cabinet, float(yaw))


def outcome(task: str, scene: Scene) -> tuple[float, bool]:
    """Reward in [0, 1] and success of a task."""
    outcomes = {
        "reach": reach_outcome,
        "pick-place": pick_place_outcome,
        "push": push_outcome,
        "drawer": drawer_outcome,
    }
    return outcomes[task](scene)


def push_outcome(scene: Scene) -> tuple[float, bool]:
    """Reward in [0, 1] and success of pushing: the puck lies still on the disc.

    Below success 0.3 is for the way to the puck, 0.6 for its way to the disc.
    """
    way = scene.cube_m - scene.goal_m
    on_disc = float(np.hypot(way[0], way[1])) <= PLACED_M and abs(float(way[2])) <= 0.008
    if on_disc and scene.cube_speed <= 0.05:
        return 1.0, True
    near = max(0.0, float(np.linalg.norm(scene.tool_m - scene.cube_m)) - PUCK_RADIUS_M)
    to_puck, to_goal = 1.0 - np.tanh(6.0 * near), 1.0 - np.tanh(6.0 * float(np.linalg.norm(way)))
    return float(0.3 * to_puck + 0.6 * to_goal), False


def drawer_outcome(scene: Scene) -> tuple[float, bool]:
    """Reward in [0, 1] and success of the drawer: it stands still with its handle at the mark.

    Below success 0.3 is for the way to the handle, 0.6 for its way to the mark.
    """
    left = float(np.linalg.norm(scene.cube_m - scene.goal_m))
    if left <= MARK_M and scene.cube_speed <= 0.05:
        return 1.0, True
    near = float(np.linalg.norm(scene.tool_m - scene.cube_m))
    return float(0.3 * (1.0 - np.tanh(6.0 * near)) + 0.6 * (1.0 - np.tanh(10.0 * left))), False


def reach_outcome(scene: Scene) -> tuple[float, bool]:
    """Reward in [0, 1] and success of touching the target."""
    distance = float(np.linalg.norm(scene.tool_m - scene.goal_m))
    success = distance <= TOUCH_M
    return (1.0 if success else 0.9 * float(1.0 - np.tanh(4.0 * distance))), success


def pick_place_outcome(scene: Scene) -> tuple[float, bool]:
    """Reward in [0, 1] and success of placing the cube: it rests on the pad and has been let go of.

    Below success a quarter is for the way to the cube, 0.15 for holding it, the half for its way to the pad.
    """
    way = scene.cube_m - scene.goal_m
    placed = float(np.hypot(way[0], way[1])) <= PLACED_M and abs(float(way[2])) <= 0.008
    success = placed and scene.opening_m >= RELEASED_M and scene.cube_speed <= 0.05
    if success:
        return 1.0, True
    near = float(np.linalg.norm(scene.tool_m - scene.cube_m))
    held = near <= 0.02 and scene.opening_m < RELEASED_M and float(scene.cube_m[2]) > CUBE_HALF_M + 0.005
    to_cube, to_goal = 1.0 - np.tanh(6.0 * near), 1.0 - np.tanh(4.0 * float(np.linalg.norm(way)))
    return float(0.25 * to_cube + 0.15 * held + 0.5 * to_goal), False
