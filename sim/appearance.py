"""How a scene looks in one episode: cameras, lights and colours a little other than modelled.

The model is changed for the time of a drawing and put back, so that physics, and tasks that write into the
model, never see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fields = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Spread:
    """How far scenes may be from their model; see `sim.randomise.Randomisation`."""

    camera_m: float = 0.0
    camera_deg: float = 0.0
    fov_deg: float = 0.0
    light: float = 0.0
    light_m: float = 0.0
    texture: float = 0.0


class Appearance:
    """The looks of one episode, a function of `spread` and `seed` for any model.

    Args:
        spread: how far.
        seed: words of the seed.
    """

    def __init__(self, spread: Spread, seed: tuple[int, ...]) -> None:
        self.spread = spread
        self._seed = seed
        self._drawn: tuple[int, Fields] | None = None

    def fields(self, model: Any) -> Fields:
        """New values of the fields of `model` (by name) that differ, from its present ones."""
        drawn, spread = self._draws(model), self.spread
        fields: Fields = {}
        if spread.camera_m:
            fields["cam_pos"] = model.cam_pos + spread.camera_m * drawn["camera_m"]
        if spread.camera_deg:
            turned = [
                _turned(quaternion, np.radians(spread.camera_deg) * turn)
                for quaternion, turn in zip(model.cam_quat, drawn["camera_deg"], strict=True)
            ]
            fields["cam_quat"] = np.array(turned).reshape(model.cam_quat.shape)
        if spread.fov_deg:
            fields["cam_fovy"] = np.clip(model.cam_fovy + spread.fov_deg * drawn["fov_deg"], 5.0, 150.0)
        if spread.light:
            for name in ("light_diffuse", "light_ambient"):
                fields[name] = np.clip(getattr(model, name) * drawn["light"], 0.0, 1.0)
        if spread.light_m:
            fields["light_pos"] = model.light_pos + spread.light_m * drawn["light_pos"]
            direction = model.light_dir + spread.light_m * drawn["light_dir"]
            fields["light_dir"] = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        if spread.texture:
            for name in ("mat_rgba", "geom_rgba"):
                colours = np.array(getattr(model, name))
                colours[:, :3] = _mixed(colours[:, :3], drawn[name], drawn[f"{name}_share"])
                fields[name] = colours
        return fields

    def headlight(self) -> float:
        """Factor of the light at the camera."""
        rng = np.random.default_rng([*self._seed, 1])
        return float(1.0 + self.spread.light * rng.uniform(-1.0, 1.0))

    def textures(self, model: Any) -> NDArray[np.uint8] | None:
        """All pixels of all textures; None where they stay as they are."""
        if not self.spread.texture or model.ntex == 0:
            return None
        rng = np.random.default_rng([*self._seed, 2])
        pixels = np.array(model.tex_data)
        for texture in range(model.ntex):
            channels = int(model.tex_nchannel[texture])
            start = int(model.tex_adr[texture])
            count = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
            tint, share = rng.uniform(0.0, 255.0, channels), self.spread.texture * rng.uniform()
            part = pixels[start : start + count].reshape(-1, channels)
            pixels[start : start + count] = np.rint((1.0 - share) * part + share * tint).ravel()
        return pixels

    def _draws(self, model: Any) -> Fields:
        if self._drawn is None or self._drawn[0] != id(model):
            rng = np.random.default_rng([*self._seed, 0])
            lights, cameras = model.nlight, model.ncam
            drawn: Fields = {
                "camera_m": rng.standard_normal((cameras, 3)),
                "camera_deg": rng.standard_normal((cameras, 3)),
                "fov_deg": rng.standard_normal(cameras),
                "light": (1.0 + self.spread.light * rng.uniform(-1.0, 1.0, (lights, 1)))
                * (1.0 + 0.1 * self.spread.light * rng.uniform(-1.0, 1.0, (lights, 3))),
                "light_pos": rng.standard_normal((lights, 3)),
                "light_dir": rng.standard_normal((lights, 3)),
            }
            for name, count in (("mat_rgba", model.nmat), ("geom_rgba", model.ngeom)):
                drawn[name] = rng.uniform(0.0, 1.0, (count, 3))
                drawn[f"{name}_share"] = self.spread.texture * rng.uniform(0.0, 1.0, (count, 1))
            # What has neither colour nor material of its own shows its material: mixing its colour would
            # paint over that.
            plain = np.isclose(model.geom_rgba, (0.5, 0.5, 0.5, 1.0)).all(axis=1) & (model.geom_matid >= 0)
            drawn["geom_rgba_share"][plain] = 0.0
            self._drawn = (id(model), drawn)
        return self._drawn[1]


@contextmanager
def worn(mujoco: Any, model: Any, data: Any, appearance: Appearance) -> Iterator[None]:
    """Change `model`, and where cameras and lights of `data` are, for the time of the block."""
    fields = appearance.fields(model)
    before = {name: np.array(getattr(model, name)) for name in fields}
    head = model.vis.headlight
    own = {name: np.array(getattr(head, name)) for name in ("ambient", "diffuse")}
    factor = appearance.headlight()
    try:
        for name, value in fields.items():
            getattr(model, name)[...] = value
        for name, value in own.items():
            getattr(head, name)[...] = np.clip(value * factor, 0.0, 1.0)
        mujoco.mj_camlight(model, data)
        yield
    finally:
        for name, value in before.items():
            getattr(model, name)[...] = value
        for name, value in own.items():
            getattr(head, name)[...] = value
        mujoco.mj_camlight(model, data)


def _mixed(colours: NDArray[Any], others: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((1.0 - share) * colours + share * others)


def _turned(quaternion: NDArray[np.float64], turn_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """A quaternion (w, x, y, z) turned in its own frame by a rotation vector."""
    angle = float(np.linalg.norm(turn_rad))
    axis = turn_rad / angle if angle > 0.0 else np.zeros(3)
    w, v = np.cos(angle / 2.0), np.sin(angle / 2.0) * axis
    a, b = quaternion[0], quaternion[1:]
    return np.array([a * w - b @ v, *(a * v + w * b + np.cross(b, v))])
