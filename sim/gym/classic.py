"""Cart-poles and the mountain car of the papers: episodes of fixed length that never end by themselves."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from numpy.typing import NDArray

SOLVED_DEG = 5.0
"""RL-VLM-F's continuous cart-pole counts a pole this near to upright as a success."""


class ContinuousCartPole(CartPoleEnv):  # type: ignore[misc]
    """RL-VLM-F's cart-pole (Wang et al. 2024, envs/cartpole.py): the force is the action times 10 N.

    The cart stops at 0.8 of the track's half and the pole at 30°; the speeds go on, as in its source. The
    reward is minus the angle in degrees.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.theta_threshold_radians = math.radians(30.0)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One Euler step of 20 ms (Florian 2007, equations 23 and 24)."""
        x, x_dot, theta, theta_dot = (float(value) for value in self.state)
        force = self.force_mag * float(np.asarray(action).ravel()[0])
        cosine, sine = math.cos(theta), math.sin(theta)
        temp = (force + self.polemass_length * theta_dot**2 * sine) / self.total_mass
        theta_acc = (self.gravity * sine - cosine * temp) / (
            self.length * (4.0 / 3.0 - self.masspole * cosine**2 / self.total_mass)
        )
        x_acc = temp - self.polemass_length * theta_acc * cosine / self.total_mass
        x, x_dot = x + self.tau * x_dot, x_dot + self.tau * x_acc
        theta, theta_dot = theta + self.tau * theta_dot, theta_dot + self.tau * theta_acc
        x = min(max(x, -0.8 * self.x_threshold), 0.8 * self.x_threshold)
        theta = min(max(theta, -self.theta_threshold_radians), self.theta_threshold_radians)
        self.state = np.array((x, x_dot, theta, theta_dot), dtype=np.float64)
        angle_deg = abs(math.degrees(theta))
        info = {"is_success": angle_deg < SOLVED_DEG}
        return np.array(self.state, dtype=np.float32), -angle_deg, False, False, info


class FixedCartPole(CartPoleEnv):  # type: ignore[misc]
    """vlmrm's CartPole-v1: where gymnasium's ends, cart and pole are held at their limits.

    The reward is gymnasium's: 1 within the limits, 0 where something had to be held. Success is the same.
    """

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; never terminates."""
        _, _, fell, _, info = super().step(action)
        self.steps_beyond_terminated = None
        x, x_dot, theta, theta_dot = self.state
        x = np.clip(x, -self.x_threshold, self.x_threshold)
        theta = np.clip(theta, -self.theta_threshold_radians, self.theta_threshold_radians)
        self.state = np.array((x, x_dot, theta, theta_dot), dtype=np.float64)
        info = {**info, "is_success": not fell}
        return np.array(self.state, dtype=np.float32), float(not fell), False, False, info


class FixedMountainCar(Continuous_MountainCarEnv):  # type: ignore[misc]
    """vlmrm's MountainCarContinuous-v0: a car that has reached the goal is held there, at 0.45."""

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; never terminates."""
        if float(self.state[0]) >= self.goal_position:
            reached = True
            reward = 100.0 - 0.1 * float(action[0]) ** 2
        else:
            _, reward, reached, _, _ = super().step(action)
        if reached:
            self.state = np.array([self.goal_position, 0.0], dtype=np.float64)
        return np.array(self.state, dtype=np.float32), float(reward), False, False, {"is_success": reached}


def humanoid() -> gymnasium.Env[Any, Any]:
    """Humanoid-v5 as vlmrm has it: it falls, and the episode goes on."""
    return gymnasium.make(
        "Humanoid-v5", terminate_when_unhealthy=False, max_episode_steps=-1, disable_env_checker=True
    )
