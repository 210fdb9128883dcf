"""Where the tool is for given joint positions: forward kinematics in plain numpy.

The chain is a list of links as in a URDF (`episodes.contract.KinematicLink`), which a contract may hold; for
another mechanism any function of the same shape will do (`Forward`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from episodes.contract import KinematicLink

Vector = NDArray[np.float64]
Forward = Callable[[Vector], Vector]
"""Joint positions (m, n) of a channel, in the order of its names, to tool positions (m, 3) in metres."""


class Chain:
    """A serial chain of revolute joints. Calling it gives the position of the tool.

    Args:
        links: from the base to the tool.
        names: names of the joints in the order of the vectors that it is given.
    """

    def __init__(self, links: Sequence[KinematicLink], names: Sequence[str]) -> None:
        self._links = [
            (
                np.array(link.xyz),
                _rpy(link.rpy),
                None if link.joint is None else list(names).index(link.joint),
                _unit(link.axis),
            )
            for link in links
        ]
        self._cross = [_skew(axis) for *_, axis in self._links]
        self._size = len(names)

    def __call__(self, joints: Vector) -> Vector:
        """Positions (..., 3) of the tool for joints (..., n)."""
        return self.pose(joints)[0]

    def pose(self, joints: Vector) -> tuple[Vector, Vector]:
        """Position (..., 3) and rotation (..., 3, 3) of the tool in the base for joints (..., n)."""
        joints = np.asarray(joints, dtype=np.float64)
        position = np.zeros((*joints.shape[:-1], 3))
        rotation = np.broadcast_to(np.eye(3), (*joints.shape[:-1], 3, 3))
        for (xyz, fixed, column, _), cross in zip(self._links, self._cross, strict=True):
            position = position + rotation @ xyz
            rotation = rotation @ fixed
            if column is not None:
                rotation = rotation @ _turn(cross, joints[..., column])
        return position, rotation

    def jacobian(self, joints: Vector) -> Vector:
        """(6, n): velocity of the tool (m/s), then its angular velocity, per rad/s of each joint (n,)."""
        points, axes = np.zeros((self._size, 3)), np.zeros((self._size, 3))
        position, rotation = np.zeros(3), np.eye(3)
        for (xyz, fixed, column, axis), cross in zip(self._links, self._cross, strict=True):
            position = position + rotation @ xyz
            rotation = rotation @ fixed
            if column is not None:
                points[column], axes[column] = position, rotation @ axis
                rotation = rotation @ _turn(cross, np.asarray(joints[column]))
        return np.concatenate([np.cross(axes, position - points), axes], axis=1).T


def _turn(cross: Vector, angle: Vector) -> Vector:
    """Rodrigues: rotations (..., 3, 3) by `angle` (...) about the axis of the cross-product matrix."""
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    turned: Vector = np.eye(3) + sine * cross + (1.0 - cosine) * (cross @ cross)
    return turned


def _rpy(rpy: Sequence[float]) -> Vector:
    roll, pitch, yaw = (
        _turn(_skew(axis), np.asarray(angle)) for axis, angle in zip(np.eye(3), rpy, strict=True)
    )
    rotation: Vector = yaw @ pitch @ roll
    return rotation


def _unit(axis: Sequence[float]) -> Vector:
    vector = np.array(axis, dtype=np.float64)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


def _skew(axis: Vector) -> Vector:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
