"""The MuJoCo model that pictures of a soft task are drawn from: geoms and flexes without physics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim.softgym.scene import Camera

FRONT, BACK = "0.86 0.35 0.30 1", "0.98 0.82 0.55 1"
"""Colours of the two sides of a cloth: what is folded shows."""
ROPE_RGBA = ("0.85 0.55 0.20 1", "0.95 0.72 0.38 1")
WATER_RGBA = "0.20 0.52 0.80 1"
GOAL_RGBA = "0.30 0.65 0.40 0.45"
MOST_BALLS = 450
"""About as many balls are drawn in place of a cloth or water."""
OCTAHEDRON = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64)
_OCTAHEDRON_FACES = np.array([
    [0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5],
])  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """How many of each thing a scene draws at most."""

    cameras: tuple[tuple[str, Camera], ...]
    rope: int = 0
    """Particles of the rope."""
    rope_radius_m: float = 0.0
    rope_spacing_m: float = 0.0
    cloth: tuple[int, int] = (0, 0)
    """Rows and columns of the largest cloth."""
    water: int = 0
    """Particles of water."""
    water_radius_m: float = 0.0
    boxes: int = 0
    """Walls of glass."""
    balls: int = 0
    """Pickers."""
    ball_radius_m: float = 0.0
    goal: int = 0
    """Particles of the goal."""
    goal_radius_m: float = 0.0
    mark: bool = False
    """A marked place on the floor."""
    as_balls: bool = False
    """Cloth and water as one ball a particle, for a renderer that knows no flexes."""
    cloth_radius_m: float = 0.006
    """Radius of such a ball of cloth."""

    @property
    def cloth_stride(self) -> int:
        """As balls: of how many rows and columns one is drawn. Each ray is held against each ball."""
        return max(math.ceil(math.sqrt(self.cloth[0] * self.cloth[1] / MOST_BALLS)), 1)

    @property
    def water_stride(self) -> int:
        """As balls: of how many particles of water one is drawn."""
        return max(math.ceil(self.water / MOST_BALLS), 1)


def camera_matrix(camera: Camera) -> np.ndarray:
    """(3, 3) columns: right, up and backwards of a camera, as MuJoCo wants them."""
    cy, sy = math.cos(camera.yaw_rad), math.sin(camera.yaw_rad)
    cp, sp = math.cos(camera.pitch_rad), math.sin(camera.pitch_rad)
    yaw = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    pitch = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    return yaw @ pitch


def scene_xml(parts: Parts) -> str:
    """The model as MJCF. Geom names count from 0: rope0, box0, ball0, goal0, cloth0, water0."""
    geoms = [
        '<geom name="floor" type="plane" size="6 6 1" zaxis="0 1 0" material="floor" pos="0 -0.001 0"/>',
    ]
    half = 0.5 * parts.rope_spacing_m
    for i in range(max(parts.rope - 1, 0)):
        # Alternating shades, in groups of five, show how a rope lies across itself.
        rgba = ROPE_RGBA[i // 5 % 2]
        geoms.append(
            f'<geom name="rope{i}" type="capsule" size="{parts.rope_radius_m} {half}" rgba="{rgba}"/>'
        )
    if parts.as_balls:
        across, every = parts.cloth_stride, parts.water_stride
        balls = math.ceil(parts.cloth[0] / across) * math.ceil(parts.cloth[1] / across)
        geoms += [_ball(f"cloth{i}", across * parts.cloth_radius_m, FRONT) for i in range(balls)]
        radius = every ** (1.0 / 3.0) * parts.water_radius_m
        geoms += [_ball(f"water{i}", radius, WATER_RGBA) for i in range(math.ceil(parts.water / every))]
    geoms += [_ball(f"goal{i}", parts.goal_radius_m, GOAL_RGBA) for i in range(parts.goal)]
    geoms += [_ball(f"ball{i}", parts.ball_radius_m, "0.35 0.38 0.45 1") for i in range(parts.balls)]
    if parts.mark:
        geoms.append(
            '<geom name="mark" type="cylinder" size="0.06 0.001" zaxis="0 1 0" rgba="0.9 0.1 0.1 1"/>'
        )
    geoms += [
        f'<geom name="box{i}" type="box" size="0.1 0.1 0.1" rgba="0.80 0.88 0.92 0.22"/>'
        for i in range(parts.boxes)
    ]
    cameras = [_camera(name, camera) for name, camera in parts.cameras]
    flexes = "" if parts.as_balls else _cloth_flexes(parts) + _water_flex(parts)
    return f"""<mujoco model="soft">
  <visual>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
    <quality numslices="12" numstacks="6"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <option><flag contact="disable"/></option>
  <statistic extent="1" center="0 0 0"/>
  <asset>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.36 0.38 0.41" rgb2="0.33 0.35 0.38" width="64"
      height="64"/>
    <material name="floor" texture="floor" texrepeat="20 20" specular="0" reflectance="0"/>
    <material name="matt" specular="0.1" shininess="0.1"/>
  </asset>
  <worldbody>
    <light pos="0.6 3 0.9" dir="-0.2 -1 -0.3" directional="true" diffuse="0.5 0.5 0.5" specular="0 0 0"/>
    {chr(10).join(cameras)}
    {chr(10).join(geoms)}
  </worldbody>
  <deformable>{flexes}</deformable>
</mujoco>"""


def _ball(name: str, radius_m: float, rgba: str) -> str:
    return f'<geom name="{name}" type="sphere" size="{radius_m}" rgba="{rgba}"/>'


def _camera(name: str, camera: Camera) -> str:
    right, up, _ = camera_matrix(camera).T
    position = " ".join(f"{value:.9g}" for value in camera.position)
    axes = " ".join(f"{value:.9g}" for value in (*right, *up))
    return f'<camera name="{name}" pos="{position}" xyaxes="{axes}" fovy="45"/>'


def _cloth_flexes(parts: Parts) -> str:
    rows, columns = parts.cloth
    if rows == 0:
        return ""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    corner = (r * columns + c).ravel()
    triangles = np.stack(
        [corner, corner + 1, corner + columns + 1, corner, corner + columns + 1, corner + columns], axis=1
    )
    grid = np.stack(
        [np.tile(np.arange(columns), rows), np.zeros(rows * columns), np.repeat(np.arange(rows), columns)]
    )
    vertices, elements = _numbers(0.01 * grid.T), _numbers(triangles)
    return _flex("front", vertices, elements, FRONT) + _flex("back", vertices, elements, BACK)


def _water_flex(parts: Parts) -> str:
    if parts.water == 0:
        return ""
    # Places that differ, since coinciding vertices would not compile.
    places = np.arange(parts.water)[:, None, None] * np.array([0.1, 0.0, 0.0]) + 0.01 * OCTAHEDRON
    triangles = _OCTAHEDRON_FACES[None] + 6 * np.arange(parts.water)[:, None, None]
    return _flex("water", _numbers(places), _numbers(triangles), WATER_RGBA)


def _flex(name: str, vertices: str, elements: str, rgba: str) -> str:
    return (
        f'<flex name="{name}" dim="2" body="world" radius="0.0002" rgba="{rgba}" material="matt" '
        f'vertex="{vertices}" element="{elements}"/>'
    )


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6g}" for value in values.ravel())
