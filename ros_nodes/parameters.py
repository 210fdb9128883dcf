"""A node's ROS parameters, declared from a frozen dataclass that says what each is and means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from episodes.errors import ConfigError, did_you_mean

Config = TypeVar("Config")

_TYPES = {
    "str": Parameter.Type.STRING,
    "bool": Parameter.Type.BOOL,
    "int": Parameter.Type.INTEGER,
    "float": Parameter.Type.DOUBLE,
    "tuple[str, ...]": Parameter.Type.STRING_ARRAY,
}


def field_docs(config_type: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, base classes included."""
    docs: dict[str, str] = {}
    for cls in reversed([c for c in config_type.__mro__ if dataclasses.is_dataclass(c)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                docs[node.target.id] = inspect.cleandoc(str(after.value.value)) if is_doc else ""  # type: ignore[union-attr]
    return docs


def declare(node: Node, config_type: type[Config], *, settable: Collection[str] = ()) -> Config:
    """Declare a parameter for each field and return what was set on the command line or in a parameter file.

    A field that is a dataclass itself is a group, `group.name` in ROS. Fields in `settable` may be changed
    while the node runs (read them with `current`); all others are locked.

    Raises:
        ConfigError: a parameter that the node does not have, or one with a wrong type.
    """
    fields = {name: (field, doc) for name, field, doc in parameters_of(config_type)}
    unknown = sorted(
        name for name in node._parameter_overrides if name not in fields and name not in _BUILT_IN
    )
    if unknown:
        raise ConfigError(
            f"node {node.get_name()}: unknown parameters {unknown}; {did_you_mean(unknown[0], fields)}"
        )
    for name, (field, doc) in fields.items():
        descriptor = ParameterDescriptor(description=doc, type=_TYPES[str(field.type)].value)
        # ROS cannot tell the type of an empty list, so it stands as a list with one empty text.
        default = [*field.default] or [""] if isinstance(field.default, tuple) else field.default
        try:
            node.declare_parameter(name, default, descriptor)
        except ParameterException as error:
            raise ConfigError(f"node {node.get_name()}: parameter {name!r}: {error}.") from error

    def refuse_locked(parameters: list[Parameter]) -> SetParametersResult:
        locked = [p.name for p in parameters if p.name in fields and p.name not in settable]
        if locked:
            return SetParametersResult(
                successful=False, reason=f"{', '.join(locked)}: locked while the node runs; restart it"
            )
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(refuse_locked)
    return current(node, config_type)


_BUILT_IN = {"use_sim_time", "start_type_description_service"}


def current(node: Node, config_type: type[Config], prefix: str = "") -> Config:
    """The dataclass filled with the parameters' values of this moment."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config_type):  # type: ignore[arg-type]
        name = f"{prefix}{field.name}"
        if (group := _group(field)) is not None:
            values[field.name] = current(node, group, f"{name}.")
            continue
        value = node.get_parameter(name).value
        values[field.name] = tuple(filter(None, value)) if isinstance(field.default, tuple) else value
    return config_type(**values)


def parameters_of(config_type: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], str]]:
    """(ROS name, field, docstring) of every parameter, those of groups included."""
    docs = field_docs(config_type)
    for field in dataclasses.fields(config_type):
        if (group := _group(field)) is not None:
            yield from parameters_of(group, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, docs[field.name]


def _group(field: dataclasses.Field[Any]) -> type | None:
    """The dataclass of a field that is a group of parameters."""
    factory = field.default_factory
    return factory if isinstance(factory, type) and dataclasses.is_dataclass(factory) else None
