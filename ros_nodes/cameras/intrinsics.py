"""Calibration of a camera, and the YAML file of it that ROS's camera_calibration_parsers reads and writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

from episodes.errors import ConfigError

Numbers = tuple[float, ...]
_IDENTITY: Numbers = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_MATRICES = {"camera_matrix": 9, "rectification_matrix": 9, "projection_matrix": 12}


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera with distortion, as in sensor_msgs/CameraInfo; matrices row by row."""

    width: int
    height: int
    k: Numbers
    """3×3 camera matrix: fx 0 cx, 0 fy cy, 0 0 1."""
    distortion_model: str = "plumb_bob"
    """plumb_bob, rational_polynomial or equidistant."""
    d: Numbers = (0.0, 0.0, 0.0, 0.0, 0.0)
    r: Numbers = _IDENTITY
    p: Numbers | None = None
    """3×4 projection matrix; None: `k` with a column of zeros."""

    @classmethod
    def pinhole(
        cls, width: int, height: int, focal: tuple[float, float], center: tuple[float, float], **rest: Any
    ) -> Intrinsics:
        """From focal lengths and principal point, pixels."""
        k = (focal[0], 0.0, center[0], 0.0, focal[1], center[1], 0.0, 0.0, 1.0)
        return cls(width, height, k, **rest)

    @property
    def projection(self) -> Numbers:
        """The 3×4 projection matrix."""
        if self.p is not None:
            return self.p
        rows = (self.k[0:3], self.k[3:6], self.k[6:9])
        return tuple(value for row in rows for value in (*row, 0.0))


def calibration_path(url: str) -> Path | None:
    """The file of a `camera_info_url`: a path or file:///path; None where it is empty.

    Raises:
        ConfigError: another scheme.
    """
    if not url:
        return None
    parts = urlparse(url)
    if parts.scheme not in ("", "file"):
        raise ConfigError(
            f"parameter 'camera_info_url' is {url!r}: write a path or file:///path/camera.yaml."
        )
    return Path(unquote(parts.path)).expanduser()


def load_calibration(path: Path) -> Intrinsics:
    """Read the file of a camera calibrator.

    Raises:
        ConfigError: not there, no YAML, or a key is missing or has the wrong length.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: this calibration cannot be read ({error}).") from error
    try:
        matrix = {key: tuple(float(v) for v in tree[key]["data"]) for key in _MATRICES if key in tree}
        found = Intrinsics(
            width=int(tree["image_width"]),
            height=int(tree["image_height"]),
            k=matrix["camera_matrix"],
            distortion_model=str(tree.get("distortion_model") or "plumb_bob"),
            d=tuple(float(v) for v in tree["distortion_coefficients"]["data"]),
            r=matrix.get("rectification_matrix", _IDENTITY),
            p=matrix.get("projection_matrix"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: this is no calibration of camera_calibration ({type(error).__name__}: {error}); it "
            "needs image_width, image_height, camera_matrix, distortion_model and distortion_coefficients."
        ) from error
    wrong = {key: len(values) for key, values in matrix.items() if len(values) != _MATRICES[key]}
    if wrong:
        raise ConfigError(f"{path}: numbers in {wrong}, which must be {_MATRICES}.")
    return found


def save_calibration(path: Path, intrinsics: Intrinsics, camera_name: str) -> None:
    """Write a calibration, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """

    def matrix(rows: int, values: Numbers) -> dict[str, Any]:
        return {"rows": rows, "cols": len(values) // rows, "data": list(values)}

    tree = {
        "image_width": intrinsics.width,
        "image_height": intrinsics.height,
        "camera_name": camera_name,
        "camera_matrix": matrix(3, intrinsics.k),
        "distortion_model": intrinsics.distortion_model,
        "distortion_coefficients": matrix(1, intrinsics.d),
        "rectification_matrix": matrix(3, intrinsics.r),
        "projection_matrix": matrix(3, intrinsics.projection),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(yaml.safe_dump(tree, sort_keys=False))
    os.replace(partial, path)
