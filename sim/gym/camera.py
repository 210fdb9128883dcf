"""Pictures of Gymnasium's MuJoCo environments by armchair's renderer.

Gymnasium draws with MuJoCo's own quality, which is fifteen times slower in software, and from a free camera
that has no name. Here the scene is compiled once more with that camera as one of its own, called `default`,
and the state is copied over for each picture.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import MachineError
from sim.appearance import Appearance
from sim.gl import Choice, RendererName, load_mujoco
from sim.gym.tasks import View
from sim.render import Quality, Renderer

DEFAULT = "default"
_PLACED = (
    "body_pos",
    "body_quat",
    "geom_pos",
    "geom_quat",
    "site_pos",
    "site_quat",
    "geom_rgba",
    "site_rgba",
)
"""What environments change in their models, to show a goal for example."""


class SceneCamera:
    """Draws a MuJoCo environment of Gymnasium.

    Args:
        env: the environment, unwrapped.
        view: the camera `default`; None for the environment's own.
        wanted: which library draws.
        quality: `fast`, or `default` for shadows and multi-sampling.

    Raises:
        MachineError: the environment's model cannot be compiled again.
    """

    def __init__(self, env: Any, view: View | None, wanted: RendererName, quality: Quality) -> None:
        self._mujoco = mujoco = load_mujoco(wanted)
        self._env = env
        try:
            scene = mujoco.MjSpec.from_file(str(env.fullpath))
        except (AttributeError, ValueError) as error:
            raise MachineError(f"{type(env).__name__}: its MuJoCo model cannot be read ({error}).") from error
        if DEFAULT not in camera_names(env):
            position, quaternion = pose(view or own_view(mujoco, env))
            scene.worldbody.add_camera(name=DEFAULT, pos=position, quat=quaternion, fovy=45.0)
        self._model = scene.compile()
        self._data = mujoco.MjData(self._model)
        self._renderer = Renderer(self._model, wanted, quality)
        self.appearance: Appearance | None = None
        """How pictures look other than modelled."""

    @property
    def choice(self) -> Choice:
        """What draws and why."""
        return self._renderer.choice

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB of the present state; errors are those of `Renderer.render`."""
        mujoco, env = self._mujoco, self._env
        for name in _PLACED:
            getattr(self._model, name)[...] = getattr(env.model, name)
        for name in ("qpos", "mocap_pos", "mocap_quat"):
            getattr(self._data, name)[...] = getattr(env.data, name)
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_tendon):
            compute(self._model, self._data)
        self._renderer.appearance = self.appearance
        return self._renderer.render(self._data, camera, height, width)

    def close(self) -> None:
        """Free the GL contexts."""
        self._renderer.close()


def camera_names(env: Any) -> tuple[str, ...]:
    """Named cameras of an environment's model."""
    names = (env.model.camera(i).name for i in range(env.model.ncam))
    return tuple(name for name in names if name)


def own_view(mujoco: Any, env: Any) -> View:
    """The free camera that Gymnasium draws the environment from."""
    free = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(env.model, free)
    settings = getattr(getattr(env, "mujoco_renderer", None), "default_cam_config", None) or {}
    lookat = np.asarray(settings.get("lookat", free.lookat), dtype=np.float64).tolist()
    return View(
        (lookat[0], lookat[1], lookat[2]),
        float(settings.get("distance", free.distance)),
        float(settings.get("azimuth", free.azimuth)),
        float(settings.get("elevation", free.elevation)),
    )


def pose(view: View) -> tuple[list[float], list[float]]:
    """Position (3,) and quaternion (4,) as w, x, y, z of a camera with this view.

    MuJoCo's convention: the camera looks along (cos e cos a, cos e sin a, sin e), z is up.
    """
    azimuth, elevation = math.radians(view.azimuth_deg), math.radians(view.elevation_deg)
    forward = np.array([
        math.cos(elevation) * math.cos(azimuth),
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
    ])  # fmt: skip
    right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    matrix = np.stack([right, np.cross(right, forward), -forward], axis=1)
    quaternion = np.empty(4)
    load_mujoco().mju_mat2Quat(quaternion, matrix.ravel())
    position = np.asarray(view.lookat_m) - view.distance_m * forward
    return position.tolist(), quaternion.tolist()
