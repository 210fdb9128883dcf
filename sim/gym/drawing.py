"""Pictures of the classic control tasks, drawn with OpenCV after gymnasium's own, which need pygame."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from numpy.typing import NDArray

from sim.gym.classic import ContinuousCartPole

Picture = NDArray[np.uint8]
_SHIFT = 4
"""Coordinates are in sixteenths of a pixel, so that a small motion shows."""
_POLE, _AXLE, _GREY, _FLAG = (202, 152, 101), (129, 132, 203), (128, 128, 128), (204, 204, 0)
_BLACK = (0, 0, 0)


def draws(env: Any) -> bool:
    """Whether there is a drawing of `env` here."""
    return isinstance(env, CartPoleEnv | Continuous_MountainCarEnv)


def draw(env: Any, height: int, width: int) -> Picture:
    """(height, width, 3) uint8 RGB of the present state of an environment that `draws`.

    Gymnasium's picture of 400 rows and 600 columns, or RL-VLM-F's of 200 by 200 with the cart in the middle,
    scaled to the size that is asked for; where the sides are in another proportion it is stretched.
    """
    if isinstance(env, ContinuousCartPole):
        return _cart_pole(env, height, width, (200, 200), 40.0, follow=True)
    if isinstance(env, CartPoleEnv):
        return _cart_pole(env, height, width, (400, 600), 100.0, follow=False)
    return _mountain_car(env, height, width)


class _Sheet:
    """A white picture whose origin is below left, in the drawing's own pixels."""

    def __init__(self, height: int, width: int, own: tuple[int, int]) -> None:
        self.picture = np.full((height, width, 3), 255, dtype=np.uint8)
        self._scale = np.array([width / own[1], height / own[0]])
        self._top = own[0]

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        flipped = np.stack([points[:, 0], self._top - points[:, 1]], axis=1)
        return np.rint((flipped * self._scale - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
        pixels = self._pixels(points)[None]
        cv2.fillPoly(self.picture, pixels, colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: NDArray[np.float64], colour: tuple[int, int, int] = _BLACK) -> None:
        cv2.polylines(self.picture, [self._pixels(points)], False, colour, 1, cv2.LINE_AA, _SHIFT)

    def disc(self, centre: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
        turns = np.linspace(0.0, 2.0 * math.pi, 24, endpoint=False)
        rim = np.array(centre) + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        self.polygon(rim, colour)


def _box(left: float, bottom: float, right: float, top: float) -> NDArray[np.float64]:
    return np.array([[left, bottom], [left, top], [right, top], [right, bottom]])


def _turned(points: NDArray[np.float64], angle_rad: float) -> NDArray[np.float64]:
    co, si = math.cos(angle_rad), math.sin(angle_rad)
    return points @ np.array([[co, si], [-si, co]])


def _cart_pole(
    env: Any, height: int, width: int, own: tuple[int, int], cart_y: float, *, follow: bool
) -> Picture:
    x, _, theta, _ = (float(value) for value in env.state)
    scale = 600.0 / (2.0 * env.x_threshold)
    sheet = _Sheet(height, width, own)
    cart_x = own[1] / 2.0 if follow else x * scale + own[1] / 2.0
    sheet.polygon(np.add(_box(-25.0, -15.0, 25.0, 15.0), (cart_x, cart_y)), _BLACK)
    axle = (cart_x, cart_y + 7.5)
    pole = _box(-5.0, -5.0, 5.0, scale * 2.0 * env.length - 5.0)
    sheet.polygon(np.add(_turned(pole, -theta), axle), _POLE)
    sheet.disc(axle, 5.0, _AXLE)
    sheet.line(np.array([[0.0, cart_y], [float(own[1]), cart_y]]))
    return sheet.picture


def _mountain_car(env: Any, height: int, width: int) -> Picture:
    position = float(env.state[0])
    scale = 600.0 / (env.max_position - env.min_position)
    sheet = _Sheet(height, width, (400, 600))

    def at(x: float) -> NDArray[np.float64]:
        return np.array([(x - env.min_position) * scale, (math.sin(3.0 * x) * 0.45 + 0.55) * scale])

    xs = np.linspace(env.min_position, env.max_position, 100)
    sheet.line(np.array([at(float(x)) for x in xs]))
    tilt, seat = math.cos(3.0 * position), np.add(at(position), (0.0, 10.0))
    sheet.polygon(_turned(_box(-20.0, 0.0, 20.0, 20.0), tilt) + seat, _BLACK)
    for wheel in (10.0, -10.0):
        centre = _turned(np.array([[wheel, 0.0]]), tilt)[0] + seat
        sheet.disc((float(centre[0]), float(centre[1])), 8.0, _GREY)
    foot = at(env.goal_position)
    sheet.line(np.array([foot, np.add(foot, (0.0, 50.0))]))
    sheet.polygon(foot + np.array([[0.0, 50.0], [0.0, 40.0], [25.0, 45.0]]), _FLAG)
    return sheet.picture
