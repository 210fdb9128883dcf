"""What a figure was measured on: cores, load, versions, renderer."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "numpy", "onnxruntime", "mujoco", "metaworld", "h5py", "ros-rclpy")


def machine(renderer: str | None = None) -> dict[str, object]:
    """A JSON-able description of this machine; `renderer` as `sim.render` reports it."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed as a Python package"
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "renderer": renderer,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
