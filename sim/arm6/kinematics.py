"""Inverse kinematics of the arm by damped least squares on the geometric Jacobian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from episodes.contract import KinematicLink
from episodes.errors import ConfigError
from policy.runtime.kinematics import Chain
from sim.arm6.model import AXES, JOINTS, ORIGINS_M, TOOL_M

Vector = NDArray[np.float64]
_NAMES = tuple(joint.name for joint in JOINTS)
_NONE = (0.0, 0.0, 0.0)
LINKS = (
    *(
        KinematicLink(name, origin, _NONE, (float(axis[0]), float(axis[1]), float(axis[2])))
        for name, origin, axis in zip(_NAMES, ORIGINS_M, AXES, strict=True)
    ),
    KinematicLink(None, TOOL_M, _NONE, (0.0, 0.0, 1.0)),
)
"""The chain of the MJCF, as a contract writes it."""
CHAIN = Chain(LINKS, _NAMES)
_LOWER = np.array([joint.lower for joint in JOINTS])
_UPPER = np.array([joint.upper for joint in JOINTS])
_DAMPING = 1e-3
_ITERATIONS = 200
_TOLERANCE = 1e-7
_LARGEST_STEP_RAD = 0.3


def tool_down(yaw_rad: float) -> Vector:
    """Rotation (3, 3) of a tool that points straight down, its fingers along y turned by `yaw_rad`."""
    cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[-cosine, -sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, -1.0]])


def solve(position_m: Vector, rotation: Vector, start: Vector) -> Vector:
    """Joints (6,) inside the limits that bring the tool to a pose; `start` (6,) decides the branch.

    Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least squares
    methods" (2004), equation 11; the damping shrinks with the error, so that the last steps are Newton's.

    Raises:
        ConfigError: the pose is out of reach.
    """
    joints = np.array(start, dtype=np.float64)
    for _ in range(_ITERATIONS):
        at, turned = CHAIN.pose(joints)
        error = np.concatenate([position_m - at, _rotation_vector(rotation @ turned.T)])
        size = float(np.linalg.norm(error))
        if size < _TOLERANCE:
            return joints
        jacobian = CHAIN.jacobian(joints)
        damped = jacobian @ jacobian.T + _DAMPING * min(size, 1.0) ** 2 * np.eye(6)
        step = jacobian.T @ np.linalg.solve(damped, error)
        step *= min(1.0, _LARGEST_STEP_RAD / float(np.abs(step).max()))
        joints = np.clip(joints + step, _LOWER, _UPPER)
    raise ConfigError(
        f"the arm cannot bring its tool to {np.round(position_m, 3).tolist()} in that direction: it reaches "
        "0.8 m from the shoulder, within its joint limits."
    )


def _rotation_vector(rotation: Vector) -> Vector:
    """Axis times angle (3,) of a rotation; for the half turns in between any of the two axes will do."""
    axis = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = 0.5 * float(np.linalg.norm(axis))
    angle = float(np.arctan2(sine, 0.5 * (np.trace(rotation) - 1.0)))
    return axis * (0.5 if sine < 1e-9 else 0.5 * angle / sine)
