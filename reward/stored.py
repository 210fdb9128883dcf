"""Configurations back from JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def rebuild(kind: type[T], found: Any) -> T:
    """The frozen dataclass of which `json.dumps(dataclasses.asdict(…), default=str)` made `found`.

    Groups that `found` lacks are plain; nothing but fields of dataclasses, paths, tuples and plain values is
    made, whatever `found` holds.

    Raises:
        TypeError: unknown entries, or no table where a group belongs.
        ConfigError: values out of range.
    """
    if not isinstance(found, dict):
        raise TypeError(f"{kind.__name__} is {found!r} where a table belongs")
    hints = typing.get_type_hints(kind)
    unknown = set(found) - set(hints)
    if unknown:
        raise TypeError(f"{kind.__name__} has no {sorted(unknown)[0]!r}")
    return kind(**{name: _value(hints[name], value) for name, value in found.items()})


def _value(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return rebuild(hint, value)  # type: ignore[arg-type]
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [part for part in typing.get_args(hint) if part is not type(None)]
        return _value(inner, value)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item) for item in value)
    return Path(value) if hint is Path else value
