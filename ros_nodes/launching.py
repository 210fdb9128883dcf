"""Turns a stack of `ros_nodes.stacks` into a launch description; `launch/*.launch.py` are one line each of
it.

Needs ROS's own `launch` and `launch_ros`, which come with an apt installation and not with the PyPI wheels;
on the latter `armchair up` runs the same stacks.
"""

from __future__ import annotations

import dataclasses
import tempfile
import typing
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from episodes.errors import ConfigError, did_you_mean
from launch import LaunchContext, LaunchDescription
from ros_nodes import dds
from ros_nodes.parameters import field_docs
from ros_nodes.processes import ESCALATION
from ros_nodes.stacks import Process, launch_folder


def stack_description(stack_type: type) -> LaunchDescription:
    """A launch description whose arguments are the stack's fields, with their docstrings as descriptions."""
    docs = field_docs(stack_type)
    fields = dataclasses.fields(stack_type)
    arguments = [
        DeclareLaunchArgument(
            field.name,
            description=docs[field.name],
            default_value=None if field.default is dataclasses.MISSING else _text(field.default),
        )
        for field in fields
    ]
    names = tuple(field.name for field in fields)
    shared = [
        SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
        for name, value in {
            **dds.MALLOC,
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
        }.items()
    ]

    def processes(context: LaunchContext) -> list[Any]:
        given = {name: LaunchConfiguration(name).perform(context) for name in names}
        folder = Path(tempfile.mkdtemp(prefix="armchair-launch-"))
        specs = stack_from_text(stack_type, given).processes(folder)
        profile, _ = dds.fitting_profile(launch_folder() / "fastdds.xml", len(specs), folder)
        return [
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile)),
            *(_node(spec) for spec in specs),
        ]

    return LaunchDescription([*arguments, *shared, OpaqueFunction(function=processes)])


def stack_from_text(stack_type: type, given: dict[str, str]) -> Any:
    """The stack dataclass from launch arguments, which are text; '' stands for None, commas divide a list.

    Raises:
        ConfigError: a text that is no value of its field's type.
    """
    kinds = typing.get_type_hints(stack_type)
    return stack_type(**{name: _value(name, kinds[name], text) for name, text in given.items()})


def _value(name: str, kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise ConfigError(f"launch argument {name}:={text}: {did_you_mean(text, choices)}")
        return text
    if typing.get_origin(kind) is tuple:
        return tuple(filter(None, text.split(",")))
    options = typing.get_args(kind) or (kind,)
    if type(None) in options and not text:
        return None
    plain = next(option for option in options if option is not type(None))
    try:
        return plain(text)
    except ValueError as error:
        raise ConfigError(f"launch argument {name}:={text}: {plain.__name__} expected ({error}).") from error


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def _node(spec: Process) -> Node:
    interrupt, terminate = (str(patience_s) for _, patience_s in ESCALATION[:2])
    return Node(
        package="armchair",
        executable=spec.executable,
        name=spec.name,
        parameters=[
            *([str(spec.parameter_file)] if spec.parameter_file else []),
            {key: list(v) if isinstance(v, tuple) else v for key, v in spec.parameters.items() if v != ()},
        ],
        additional_env=dict(spec.environment),
        output="both",
        emulate_tty=True,
        sigterm_timeout=interrupt,
        sigkill_timeout=terminate,
        on_exit=Shutdown(reason=f"{spec.name} ended"),
    )
