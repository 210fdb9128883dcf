"""Who may import whom: a robot must not need torch, data must not need ROS."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("episodes", "policy", "reward", "sim", "ros_nodes", "bench")
ROS = {"rclpy", "std_msgs", "sensor_msgs", "geometry_msgs", "trajectory_msgs", "diagnostic_msgs", "std_srvs"}
VLM_SDKS = {"google", "openai"}

ALLOWED_OWN = {
    "episodes": ("episodes",),
    "policy.runtime": ("episodes.contract", "episodes.align", "episodes.errors", "policy.runtime"),
    "policy": ("episodes", "policy"),
    "reward": ("episodes", "policy.networks", "policy.training", "policy.checkpoint", "reward"),
    "sim": ("episodes", "policy.runtime", "sim"),
    "ros_nodes": ("episodes", "policy.runtime", "sim", "reward", "ros_nodes"),
    "bench": ("episodes", "policy", "reward", "sim", "ros_nodes", "bench", "armchair"),
}
FORBIDDEN_FOREIGN = {
    "episodes": {"torch", "onnxruntime", "mujoco", *ROS, *VLM_SDKS},
    "policy.runtime": {"torch", "h5py", "cv2", "mujoco", *ROS, *VLM_SDKS},
    "policy": {"mujoco", "metaworld", *ROS, *VLM_SDKS},
    "reward": {"mujoco", "metaworld", *ROS},
    "sim": {"torch", *ROS, *VLM_SDKS},
    "ros_nodes": {"torch", *VLM_SDKS},
    "bench": set(),
}


def modules() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def unit_of(name: str) -> str:
    return "policy.runtime" if name.startswith("policy.runtime") else name.split(".")[0]


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of every absolute import in the file, lazy ones included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def allowed(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_along_the_agreed_arrows(path: Path) -> None:
    unit = unit_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    in_clients = "clients" in path.parts
    for line, name in imports(path):
        top = name.split(".")[0]
        if top in FOLDERS or top == "armchair":
            assert allowed(name, ALLOWED_OWN[unit]), f"{path}:{line}: {unit} may not import {name}"
        elif not (unit == "reward" and in_clients and top in VLM_SDKS):
            assert top not in FORBIDDEN_FOREIGN[unit] | (VLM_SDKS if unit == "reward" else set()), (
                f"{path}:{line}: {unit} may not import {name}"
            )


def test_the_launch_folder_never_shadows_ros_own_launch_package() -> None:
    assert not (ROOT / "launch" / "__init__.py").exists()


def test_folder_names_are_import_names_of_this_checkout() -> None:
    for folder in FOLDERS:
        module = __import__(folder)
        assert Path(module.__file__).resolve().parent == ROOT / folder, f"another {folder!r} shadows ours"


def test_no_module_is_longer_than_the_ceiling() -> None:
    long = {
        str(p): n for p in [*modules(), ROOT / "armchair.py"] if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long
