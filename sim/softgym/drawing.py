"""Draws a soft task with MuJoCo: positions are written straight into what the renderer reads.

A cloth is drawn as two flexes, its front and its back a millimetre apart, so that the two sides have colours
of their own; a rope as capsules; water as one flex of octahedra. Where no GL loads, the ray caster, which
knows no flexes, gets a few hundred balls.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.appearance import Appearance
from sim.gl import Choice, RendererName, choose_gl, load_mujoco
from sim.render import Quality, Renderer
from sim.softgym.mjcf import OCTAHEDRON, Parts, scene_xml
from sim.softgym.scene import Look

Vector = NDArray[np.float64]
_AWAY = np.array([0.0, -50.0, 0.0])
"""Where things lie that are not to be seen."""
_SIDE_M = 0.0008


class Canvas:
    """Pictures of one task.

    Args:
        parts: how much there is to draw at most.
        wanted: which library draws.
        quality: `fast`, or `default` for shadows and multi-sampling.

    Raises:
        MachineError: the demanded library does not work.
    """

    def __init__(self, parts: Parts, wanted: RendererName, quality: Quality) -> None:
        self._mujoco = load_mujoco(wanted)
        self._wanted: RendererName = wanted
        self._quality: Quality = quality
        self.appearance: Appearance | None = None
        """How pictures look other than modelled."""
        self._make(replace(parts, as_balls=choose_gl(wanted).name == "raycast"))

    @property
    def choice(self) -> Choice:
        """What draws and why."""
        return self._renderer.choice

    def render(self, look: Look, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB of what `look` describes; errors are those of `Renderer.render`."""
        self._place(look)
        self._renderer.appearance = self.appearance
        frame = self._renderer.render(self._data, camera, height, width)
        if self.choice.name == "raycast" and not self._parts.as_balls:
            # No context could be made, which only the first frame finds out.
            self._renderer.close()
            self._make(replace(self._parts, as_balls=True))
            return self.render(look, camera, height, width)
        return frame

    def close(self) -> None:
        """Free the GL contexts. May be called twice."""
        self._renderer.close()

    def _make(self, parts: Parts) -> None:
        mujoco = self._mujoco
        self._parts = parts
        self._model: Any = mujoco.MjModel.from_xml_string(scene_xml(parts))
        self._data: Any = mujoco.MjData(self._model)
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_flex):
            compute(self._model, self._data)
        self._geoms = {
            kind: self._first(kind) for kind in ("rope", "cloth", "water", "goal", "ball", "box", "mark")
        }
        if self._renderer_is_stale(parts):
            self._renderer = Renderer(self._model, "raycast", self._quality)
        else:
            self._renderer = Renderer(self._model, self._wanted, self._quality)

    def _renderer_is_stale(self, parts: Parts) -> bool:
        return parts.as_balls and choose_gl(self._wanted).name != "raycast"

    def _first(self, kind: str) -> int:
        name = kind if kind == "mark" else f"{kind}0"
        return int(self._mujoco.mj_name2id(self._model, self._mujoco.mjtObj.mjOBJ_GEOM, name))

    def _place(self, look: Look) -> None:
        parts = self._parts
        if look.rope is not None:
            self._place_rope(look.rope)
        if look.cloth is not None:
            self._place_cloth(look.cloth, look.cloth_shape)
        if look.water is not None:
            self._place_water(look.water)
        self._points("goal", parts.goal, None if look.goal is None else look.goal.T)
        self._points("ball", parts.balls, look.balls)
        if parts.mark and look.mark is not None:
            self._data.geom_xpos[self._geoms["mark"]] = look.mark
        for i in range(parts.boxes):
            self._place_box(self._geoms["box"] + i, look.boxes[i] if i < len(look.boxes) else None)

    def _points(self, kind: str, room: int, places: Vector | None) -> None:
        """Balls of one kind, (n, 3); those beyond n are put away."""
        if room == 0:
            return
        first, used = self._geoms[kind], 0 if places is None else min(len(places), room)
        if places is not None:
            self._data.geom_xpos[first : first + used] = places[:used]
        self._data.geom_xpos[first + used : first + room] = _AWAY

    def _place_rope(self, p: Vector) -> None:
        first, n = self._geoms["rope"], p.shape[1] - 1
        along = np.diff(p, axis=1).T
        z = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        # Any direction will do as the first of the other two axes: capsules are round.
        helper = np.where(np.abs(z[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
        x = np.cross(helper, z)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        self._data.geom_xpos[first : first + n] = (p[:, 1:] + p[:, :-1]).T / 2.0
        self._data.geom_xmat[first : first + n] = np.stack([x, np.cross(z, x), z], axis=2).reshape(n, 9)

    def _place_cloth(self, p: Vector, shape: tuple[int, int]) -> None:
        rows, columns = shape
        if self._parts.as_balls:
            k, (most_rows, most_columns) = self._parts.cloth_stride, self._parts.cloth
            room = math.ceil(most_rows / k) * math.ceil(most_columns / k)
            self._points("cloth", room, p.reshape(3, rows, columns)[:, ::k, ::k].reshape(3, -1).T)
            return
        grid = p.reshape(3, rows, columns)
        ax, ay, az = across = np.empty_like(grid)
        across[:, :, 1:-1] = grid[:, :, 2:] - grid[:, :, :-2]
        across[:, :, 0], across[:, :, -1] = grid[:, :, 1] - grid[:, :, 0], grid[:, :, -1] - grid[:, :, -2]
        dx, dy, dz = down = np.empty_like(grid)
        down[:, 1:-1] = grid[:, 2:] - grid[:, :-2]
        down[:, 0], down[:, -1] = grid[:, 1] - grid[:, 0], grid[:, -1] - grid[:, -2]
        normal = np.stack([dy * az - dz * ay, dz * ax - dx * az, dx * ay - dy * ax])
        normal *= _SIDE_M / np.sqrt((normal * normal).sum(axis=0) + 1e-24)
        sides = np.stack([grid + normal, grid - normal])
        if shape != self._parts.cloth:
            # A smaller cloth than the model's largest: the rest collapses into its last row and column.
            r = np.minimum(np.arange(self._parts.cloth[0]), rows - 1)[:, None]
            c = np.minimum(np.arange(self._parts.cloth[1]), columns - 1)[None, :]
            sides = sides[:, :, r, c]
        self._data.flexvert_xpos[:] = sides.transpose(0, 2, 3, 1).reshape(-1, 3)

    def _place_water(self, p: Vector) -> None:
        if self._parts.as_balls:
            every = self._parts.water_stride
            self._points("water", math.ceil(self._parts.water / every), p.T[::every])
            return
        n = p.shape[1]
        corners = p.T[:, None] + self._parts.water_radius_m * OCTAHEDRON[None]
        self._data.flexvert_xpos[: 6 * n] = corners.reshape(-1, 3)
        self._data.flexvert_xpos[6 * n :] = _AWAY

    def _place_box(self, geom: int, box: Vector | None) -> None:
        if box is None:
            self._data.geom_xpos[geom] = _AWAY
            return
        co, si = np.cos(box[6]), np.sin(box[6])
        self._model.geom_size[geom] = box[3:6]
        self._model.geom_rbound[geom] = np.linalg.norm(box[3:6])
        self._model.geom_aabb[geom, 3:6] = box[3:6]
        self._data.geom_xpos[geom] = box[:3]
        self._data.geom_xmat[geom] = [co, si, 0.0, -si, co, 0.0, 0.0, 0.0, 1.0]
