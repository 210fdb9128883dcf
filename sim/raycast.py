"""Pictures without any GL library: MuJoCo's own ray caster, flat colours, Lambert shading from a head light.

Needs nothing but the mujoco wheel. Textures are replaced by their mean colour, there is no sky and no
shadow, and sites (goal markers) are drawn as spheres of their first size. Depth and segmentation are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.crop import frustum
from sim.gl import load_mujoco

_BACKGROUND = np.array([0.50, 0.49, 0.46])
_AMBIENT = 0.6
_VISIBLE_GROUPS = 3
"""MuJoCo's viewers show groups 0 to 2 unless told otherwise; collision shapes live above."""


@dataclass(frozen=True)
class RayImage:
    """One cast: colour (H, W, 3) uint8, depth (H, W) metres along the ray (inf = nothing), geom (H, W) id
    or -1."""

    colour: NDArray[np.uint8]
    depth: NDArray[np.float64]
    geom: NDArray[np.int32]


class RayCaster:
    """Casts pictures of one model. Colours are taken when it is made; positions are read at each cast."""

    def __init__(self, model: Any) -> None:
        self._mujoco = load_mujoco()
        self._model = model
        self._geom_rgb = _geom_colours(self._mujoco, model)
        self._groups = np.array([1] * _VISIBLE_GROUPS + [0] * (6 - _VISIBLE_GROUPS), dtype=np.uint8)
        self._sites = np.flatnonzero((model.site_group < _VISIBLE_GROUPS) & (model.site_rgba[:, 3] > 0))
        self._takes_normals: bool | None = None

    def cast(self, data: Any, camera: int, height: int, width: int) -> RayImage:
        """Cast one picture from camera number `camera`; `data` must have its positions computed
        (mj_forward)."""
        origin = np.array(data.cam_xpos[camera], dtype=np.float64)
        rays = self._rays(data, camera, height, width)
        geom = np.full(height * width, -1, dtype=np.int32)
        depth = np.full(height * width, -1.0)
        self._multi_ray(data, origin, rays, geom, depth)
        depth = np.where(geom >= 0, depth, np.inf)
        colour = np.where((geom >= 0)[:, None], self._geom_rgb[geom], _BACKGROUND)
        shade = self._shade(rays, depth, geom, height, width)
        colour = np.where((geom >= 0)[:, None], colour * shade[:, None], colour)
        for site in self._sites.tolist():
            self._draw_site(data, site, origin, rays, depth, colour)
        pixels = np.rint(np.clip(colour, 0.0, 1.0) * 255.0).astype(np.uint8)
        shape = (height, width)
        return RayImage(pixels.reshape(*shape, 3), depth.reshape(shape), geom.reshape(shape))

    def _rays(self, data: Any, camera: int, height: int, width: int) -> NDArray[np.float64]:
        """Unit directions (H*W, 3) through the pixel centres, row 0 on top; a camera looks along its -z."""
        seen = frustum(self._model, camera, height, width)
        y = seen.top - (seen.top - seen.bottom) * (np.arange(height) + 0.5) / height
        x = seen.left + (seen.right - seen.left) * (np.arange(width) + 0.5) / width
        local = np.stack(np.broadcast_arrays(x[None, :], y[:, None], -1.0), axis=-1).reshape(-1, 3)
        local /= np.linalg.norm(local, axis=1, keepdims=True)
        return np.ascontiguousarray(local @ np.asarray(data.cam_xmat[camera]).reshape(3, 3).T)

    def _multi_ray(
        self,
        data: Any,
        origin: NDArray[np.float64],
        rays: NDArray[np.float64],
        geom: NDArray[np.int32],
        depth: NDArray[np.float64],
    ) -> None:
        """mj_multiRay; MuJoCo 4 inserts an output for normals before the number of rays."""
        head = (self._model, data, origin, rays.reshape(-1), self._groups, True, -1, geom, depth)
        tail = (len(geom), self._mujoco.mjMAXVAL)
        if self._takes_normals is None:
            try:
                self._mujoco.mj_multiRay(*head, *tail)
                self._takes_normals = False
                return
            except TypeError:
                self._takes_normals = True
        self._mujoco.mj_multiRay(*head, *((None,) if self._takes_normals else ()), *tail)

    @staticmethod
    def _shade(
        rays: NDArray[np.float64],
        depth: NDArray[np.float64],
        geom: NDArray[np.int32],
        height: int,
        width: int,
    ) -> NDArray[np.float64]:
        """Lambert factor (H*W,) of a light at the camera, with normals from the neighbouring hit points.

        Of the two neighbours in a row (or column) the nearer in depth is taken, so that an edge does not
        smear.
        """
        points = (rays * np.where(np.isfinite(depth), depth, 0.0)[:, None]).reshape(height, width, 3)
        ids = geom.reshape(height, width)
        along_x = _nearer_difference(points, ids, axis=1)
        along_y = _nearer_difference(points, ids, axis=0)
        normal = np.cross(along_x, along_y).reshape(-1, 3)
        length = np.linalg.norm(normal, axis=1)
        facing = np.abs(np.einsum("ij,ij->i", normal, rays)) / np.where(length > 0.0, length, 1.0)
        return _AMBIENT + (1.0 - _AMBIENT) * np.where(length > 0.0, facing, 1.0)

    def _draw_site(
        self,
        data: Any,
        site: int,
        origin: NDArray[np.float64],
        rays: NDArray[np.float64],
        depth: NDArray[np.float64],
        colour: NDArray[np.float64],
    ) -> None:
        """Paint a site over `colour` in place where its sphere is nearer than what was hit."""
        offset = np.asarray(data.site_xpos[site]) - origin
        along = rays @ offset
        gap = self._model.site_size[site, 0] ** 2 - (offset @ offset - along**2)
        hit = (gap > 0.0) & (along > 0.0)
        near = along - np.sqrt(np.where(hit, gap, 0.0))
        hit &= (near > 0.0) & (near < depth)
        rgba = np.asarray(self._model.site_rgba[site], dtype=np.float64)
        colour[hit] = rgba[3] * rgba[:3] + (1.0 - rgba[3]) * colour[hit]


def _nearer_difference(points: NDArray[np.float64], ids: NDArray[np.int32], axis: int) -> NDArray[np.float64]:
    """Difference (H, W, 3) to the neighbour on the same geom that is nearer in depth; zero where there is
    none."""
    step = np.diff(points, axis=axis)
    same = np.diff(ids, axis=axis) == 0
    size = np.where(same, np.linalg.norm(step, axis=2), np.inf)
    pad = [(0, 0), (0, 0)]
    before, after = list(pad), list(pad)
    before[axis], after[axis] = (1, 0), (0, 1)
    size_before = np.pad(size, before, constant_values=np.inf)
    size_after = np.pad(size, after, constant_values=np.inf)
    step_before = np.pad(step, [*before, (0, 0)])
    step_after = np.pad(step, [*after, (0, 0)])
    chosen = np.where((size_after <= size_before)[..., None], step_after, step_before)
    return np.where(np.isfinite(np.minimum(size_before, size_after))[..., None], chosen, 0.0)


def _geom_colours(mujoco: Any, model: Any) -> NDArray[np.float64]:
    """Colour (ngeom, 3) in [0, 1]: the geom's own, else its material's times the mean of the texture."""
    rgb = np.array(model.geom_rgba[:, :3], dtype=np.float64)
    texture_means: dict[int, NDArray[np.float64]] = {}
    for geom in range(model.ngeom):
        material = int(model.geom_matid[geom])
        own = not np.allclose(model.geom_rgba[geom], (0.5, 0.5, 0.5, 1.0))
        if material < 0:
            continue
        if not own:
            rgb[geom] = model.mat_rgba[material, :3]
        roles = np.atleast_1d(model.mat_texid[material])
        texture = int(roles[mujoco.mjtTextureRole.mjTEXROLE_RGB]) if len(roles) > 1 else int(roles[0])
        if texture >= 0:
            if texture not in texture_means:
                texture_means[texture] = _mean_of_texture(model, texture)
            rgb[geom] *= texture_means[texture]
    return rgb


def _mean_of_texture(model: Any, texture: int) -> NDArray[np.float64]:
    channels = int(model.tex_nchannel[texture])
    count = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
    start = int(model.tex_adr[texture])
    pixels = np.asarray(model.tex_data[start : start + count]).reshape(-1, channels)
    mean = pixels[:, :3].mean(axis=0) / 255.0
    return np.broadcast_to(mean, (3,)).astype(np.float64)
