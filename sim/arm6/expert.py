"""The scripted expert: plans smooth joint motions at the first observation and plays them.

Each motion is a minimum-jerk profile (Flash and Hogan 1985) in joint space or along a straight line of the
tool, as slow as its speed, acceleration and jerk demand; commands stay inside the limits of
`launch/contracts/arm6_sim.yaml`, so that control has nothing to clamp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.arm6.env import PERIOD_NS, STATE_NAMES
from sim.arm6.furniture import PUCK_RADIUS_M
from sim.arm6.kinematics import CHAIN, solve, tool_down
from sim.arm6.model import CUBE_HALF_M, HOME, TASKS
from sim.arm6.tasks import BEHIND_M

Vector = NDArray[np.float64]
SPEED = np.array([1.35, 1.35, 1.35, 2.25, 2.25, 2.25, 0.18])
"""(7,) Largest speed of a command stream, rad/s and m/s."""
GAIN = np.array([5.4, 5.4, 5.4, 9.0, 9.0, 9.0, 2.7])
"""(7,) Largest acceleration, rad/s² and m/s²."""
_PERIOD_S = PERIOD_NS * 1e-9
_UP = np.array([0.0, 0.0, 1.0])
_HOVER_M = 0.13
_GRASP_M = 0.026
"""Opening that is commanded on a cube of 0.04 m: what is missing is grip."""
_LIFTED_M = 0.003
"""Height over the table at which the cube is let go of."""
_LINE_POINTS = 8
_FORK_M = 0.03
"""Opening with which a puck is pushed."""
_FINGER_HALF_M = 0.012
"""Half a finger's width, across the axis along which the fingers open."""
_PUSH_HEIGHT_M = 0.024
_STRADDLE_M = 0.036
"""Opening that goes over a handle without touching it or the drawer behind it."""
_CLUTCH_M = 0.005
"""Opening that is commanded on a handle of 0.012 m: what is missing is grip."""


class Expert:
    """Plays a plan that depends on the first observation of an episode alone.

    Args:
        task: reach, pick-place, push or drawer.
    """

    def __init__(self, task: str) -> None:
        if task not in TASKS:
            raise ConfigError(f"there is no expert for {task!r}: {', '.join(map(repr, TASKS))}.")
        self._task = task
        self._plan = np.zeros((0, 7))

    def reset(self, state: Vector) -> None:
        """Plan from the first observation 'state' of an episode.

        Raises:
            ConfigError: the cube or the goal is out of reach.
        """
        seen = dict(zip(STATE_NAMES, np.asarray(state).tolist(), strict=True))
        plan = _Plan(np.asarray(state, dtype=np.float64)[:7])
        goal = np.array([seen[f"goal_{axis}"] for axis in "xyz"])
        cube = np.array([seen[f"object_{axis}"] for axis in "xyz"])
        if self._task == "reach":
            plan.reach(goal)
        elif self._task == "push":
            plan.push(cube, goal)
        elif self._task == "drawer":
            plan.pull(cube, goal)
        else:
            yaw = 2.0 * np.arctan2(seen["object_qz"], seen["object_qw"])
            plan.pick_and_place(cube, float(yaw), goal)
        self._plan = np.concatenate(plan.parts)

    def act(self, step: int) -> Vector:
        """The command (7,) of step `step`, counted from 0; the last one is held."""
        return np.array(self._plan[min(step, len(self._plan) - 1)])

    def __len__(self) -> int:
        """Steps of the plan."""
        return len(self._plan)


class _Plan:
    """Commands one after the other; `parts` are arrays (n, 7)."""

    def __init__(self, start: Vector) -> None:
        self._at = start
        self.parts: list[Vector] = []

    def reach(self, goal: Vector) -> None:
        """To the target, with the tool pointing down."""
        self._to(goal, tool_down(self._bearing(goal)))

    def pick_and_place(self, cube: Vector, yaw: float, goal: Vector) -> None:
        """Over the cube, down, close, up, over the pad, down, open, up."""
        bearing = self._bearing(cube)
        grip = bearing + _fold(yaw - bearing)
        down = tool_down(grip)
        over, at = cube + _HOVER_M * _UP, np.array([cube[0], cube[1], CUBE_HALF_M])
        self._to(over, down)
        self._line(at, down)
        self._grip(_GRASP_M)
        self._line(over, down)
        # Keep the cube as it is in the hand: the wrist turns with the arm.
        placed = tool_down(grip + self._bearing(goal) - bearing)
        above = goal + _HOVER_M * _UP
        self._to(above, placed)
        self._line(goal + _LIFTED_M * _UP, placed)
        self._grip(float(HOME[6]))
        self._line(above, placed)

    def push(self, puck: Vector, goal: Vector) -> None:
        """Down behind the puck with the fingers a little apart across the way, along the way, up.

        Two fingers touch the puck on both sides of the line of the push, so that it cannot roll off.
        """
        way = (goal - puck) / np.linalg.norm(goal - puck)
        down = tool_down(self._turned(puck, float(np.arctan2(way[1], way[0]))))
        contact = np.sqrt(PUCK_RADIUS_M**2 - (_FORK_M / 2) ** 2) + _FINGER_HALF_M
        begin = np.array([*(puck - BEHIND_M * way)[:2], _PUSH_HEIGHT_M])
        end = np.array([*(goal - contact * way)[:2], _PUSH_HEIGHT_M])
        self._to(begin + _HOVER_M * _UP, down)
        self._grip(_FORK_M)
        self._line(begin, down)
        self._line(end, down)
        self._line(end - 0.03 * way, down)
        self._line(end - 0.03 * way + _HOVER_M * _UP, down)

    def pull(self, handle: Vector, goal: Vector) -> None:
        """One finger before and one behind the handle, close, pull to the mark, open, up."""
        way = goal - handle
        down = tool_down(self._turned(handle, float(np.arctan2(way[1], way[0])) + np.pi / 2))
        self._to(handle + _HOVER_M * _UP, down)
        self._grip(_STRADDLE_M)
        self._line(handle, down)
        self._grip(_CLUTCH_M)
        self._line(goal, down)
        self._grip(_STRADDLE_M)
        self._line(goal + _HOVER_M * _UP, down)

    @classmethod
    def _turned(cls, point: Vector, angle: float) -> float:
        """`angle`, or the opposite one, that turns the wrist less; a gripper is the same from both sides."""
        bearing = cls._bearing(point)
        return float(bearing + (angle - bearing + np.pi / 2) % np.pi - np.pi / 2)

    @staticmethod
    def _bearing(point: Vector) -> float:
        return float(np.arctan2(point[1], point[0]))

    def _to(self, position: Vector, rotation: Vector) -> None:
        """Straight in joint space."""
        target = self._at.copy()
        try:
            target[:6] = solve(position, rotation, self._at[:6])
        except ConfigError:
            # From some poses the search ends at a joint limit; from above the table it does not.
            target[:6] = solve(position, rotation, np.array([self._bearing(position), *HOME[1:6]]))
        self._play(np.stack([self._at, target]))

    def _line(self, position: Vector, rotation: Vector) -> None:
        """Straight in space, through some points on the line."""
        begin = CHAIN(self._at[:6])
        points = [self._at]
        for share in np.linspace(0.0, 1.0, _LINE_POINTS)[1:]:
            point = points[-1].copy()
            point[:6] = solve(begin + share * (position - begin), rotation, points[-1][:6])
            points.append(point)
        self._play(np.stack(points))

    def _grip(self, opening_m: float) -> None:
        target = self._at.copy()
        target[6] = opening_m
        self._play(np.stack([self._at, target]))
        self.parts.append(np.tile(target, (4, 1)))

    def _play(self, knots: Vector) -> None:
        """Go through `knots` (k, 7) along their cubic, as fast as the limits let the whole of it."""
        ticks = 4
        while True:
            commands = _along(knots, _minimum_jerk(np.arange(1, ticks + 1) / ticks))
            stream = np.concatenate([np.repeat(knots[:1], 2, axis=0), commands, commands[-1:]])
            speed = np.abs(np.diff(stream, axis=0)).max(axis=0) / _PERIOD_S
            gain = np.abs(np.diff(stream, 2, axis=0)).max(axis=0) / _PERIOD_S**2
            excess = max(float((speed / SPEED).max()), float(np.sqrt((gain / GAIN).max())))
            if excess <= 1.0:
                break
            ticks = max(ticks + 1, int(ticks * min(excess, 1.5)))
        self.parts.append(commands)
        self._at = commands[-1]


def _minimum_jerk(share: Vector) -> Vector:
    progress: Vector = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
    return progress


def _along(knots: Vector, progress: Vector) -> Vector:
    """Natural cubic spline through `knots` (k, n) at `progress` (m,) in [0, 1]; a straight line for two."""
    count = len(knots)
    if count == 2:
        return np.asarray(knots[0] + progress[:, None] * (knots[1] - knots[0]))
    matrix = np.eye(count)
    for i in range(1, count - 1):
        matrix[i, i - 1 : i + 2] = (1.0, 4.0, 1.0)
    curve = np.zeros_like(knots)
    curve[1:-1] = 6.0 * (knots[2:] - 2.0 * knots[1:-1] + knots[:-2])
    curve[...] = np.linalg.solve(matrix, curve)
    place = progress * (count - 1)
    left = np.minimum(place.astype(int), count - 2)
    t = (place - left)[:, None]
    a, b = knots[left], knots[left + 1]
    bend = ((1.0 - t) ** 3 - (1.0 - t)) * curve[left] + (t**3 - t) * curve[left + 1]
    return np.asarray((1.0 - t) * a + t * b + bend / 6.0)


def _fold(angle: float) -> float:
    """The angle within ±45° that grips a square the same way."""
    quarter = np.pi / 2
    return float((angle + quarter / 2) % quarter - quarter / 2)
