"""Robot contracts for environments that no file in `launch/contracts` describes.

An action entry that may be zero is a delta: it is clipped to its box, and its stop is zero. A flag by which
something is held, and an entry whose box leaves zero out, is a gripper: it is never averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from episodes.contract import Contract, load_contract, parse_contract
from sim.env import ActionChannel, EnvSpec
from sim.make import make_env

SHIPPED = {
    "metaworld/": Path("launch/contracts/sawyer_sim.yaml"),
    "arm6/": Path("launch/contracts/arm6_sim.yaml"),
}
"""Families that have a contract of their own."""
_FLAGS = ("hold", "choice")


def contract_of(environment: str, path: Path | None, size: tuple[int, int] = (84, 84)) -> Contract:
    """The contract in `path`, else the one of the family of `environment`, else one made for it.

    Args:
        environment: as given to `make_env`; empty for the one that the contract names.
        path: a contract, or None.
        size: height and width of the pictures in a contract that is made; its camera is the environment's
            first one.

    Raises:
        ContractError: the file is wrong.
        ConfigError: no such environment.
    """
    path = path or shipped_for(environment)
    if path is not None:
        return load_contract(path)
    return parse_contract(made_text(environment, size), f"<made for {environment}>")


def shipped_for(environment: str) -> Path | None:
    """The contract of the family of `environment`, of MetaWorld for none; None for a family without."""
    family = next((p for p in SHIPPED if environment.startswith(p)), None if environment else "metaworld/")
    return None if family is None else SHIPPED[family]


def made_text(environment: str, size: tuple[int, int] = (84, 84)) -> str:
    """A contract for an environment with its first camera, as the text of a YAML file.

    Raises:
        ConfigError: no such environment.
    """
    env = make_env(environment)
    try:
        return contract_text(env.spec, env.spec.cameras[:1], size)
    finally:
        env.close()


def made_for(spec: EnvSpec, cameras: Sequence[str], size: tuple[int, int]) -> Contract:
    """A contract that fits `spec`, with a picture stream (height, width of `size`) for each of `cameras`."""
    return parse_contract(contract_text(spec, cameras, size), f"<made for {spec.name}>")


def contract_text(spec: EnvSpec, cameras: Sequence[str], size: tuple[int, int]) -> str:
    """`made_for` as the text of a YAML file."""
    period_ms = spec.period_ns / 1e6
    streams: dict[str, Any] = {
        camera: {
            "topic": f"camera/{camera}/image_raw",
            "type": "sensor_msgs/msg/Image",
            "shape": [*size, 3],
            "align": "nearest",
            "max_age_ms": round(2 * period_ms, 3),
        }
        for camera in cameras
    }
    for name, entries in spec.observation_names.items():
        streams[name] = {
            "topic": f"sim/{name}",
            "type": "sensor_msgs/msg/JointState",
            "field": "position",
            "align": "linear",
            "max_age_ms": round(2 * period_ms, 3),
            "names": list(entries),
        }
    document = {
        "robot": spec.name.replace("/", "_"),
        "rate_hz": 1e9 / spec.period_ns,
        "reference": next(iter(streams)),
        "observations": streams,
        "actions": _channels(spec),
        "simulation": {"environment": spec.name, "cameras": {camera: camera for camera in cameras}},
    }
    head = (
        f"# {spec.name}: {spec.source}.\n"
        f"# Made from the environment: armchair sim show {spec.name} --contract FILE\n"
    )
    return head + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110)


def _channels(spec: EnvSpec) -> dict[str, Any]:
    names = spec.action_names
    lower, upper = (
        dict(zip(names, bound.tolist(), strict=True)) for bound in (spec.action_lower, spec.action_upper)
    )
    channels: dict[str, Any] = {}
    for channel in spec.channels or _by_names(names, lower, upper):
        channels[channel.name] = {
            "kind": channel.kind,
            "topic": f"sim/{channel.name}",
            "type": "std_msgs/msg/Float64MultiArray",
            "names": list(channel.entries),
            "lower": [lower[name] for name in channel.entries],
            "upper": [upper[name] for name in channel.entries],
            "on_timeout": "stop" if channel.kind == "cartesian_delta" else "hold",
        }
        if channel.max_velocity is not None:
            channels[channel.name]["max_velocity"] = list(channel.max_velocity)
        if channel.measured_by is not None:
            channels[channel.name]["measured_by"] = channel.measured_by
    return channels


def _by_names(
    names: tuple[str, ...], lower: dict[str, float], upper: dict[str, float]
) -> tuple[ActionChannel, ...]:
    kept = tuple(name for name in names if name.endswith(_FLAGS) or not lower[name] <= 0.0 <= upper[name])
    moved = tuple(name for name in names if name not in kept)
    both = (ActionChannel("delta", "cartesian_delta", moved), ActionChannel("hold", "gripper", kept))
    return tuple(channel for channel in both if channel.entries)
