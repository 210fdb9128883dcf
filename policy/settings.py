"""Configurations as JSON and back, what differs between two of them, and the check of a single setting."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from episodes.errors import ConfigError

T = TypeVar("T")


def require(holds: bool, key: str, value: object, rule: str) -> None:
    """Refuse the setting `key` unless it `holds`; `rule` says what to give instead.

    Raises:
        ConfigError: it does not hold.
    """
    if not holds:
        raise ConfigError(f"--{key} {value}: {rule}.")


def to_json(value: Any) -> Any:
    """A configuration as plain JSON values; an algorithm's carries its `name`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = getattr(type(value), "name", None)
        named = {"name": name} if isinstance(name, str) else {}
        return named | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(kind: type[T], data: Any, source: str) -> T:
    """The configuration of dataclass `kind` that `to_json` wrote; `source` is named in errors.

    Raises:
        ConfigError: a key is unknown, or a value does not fit.
    """
    return _decode(kind, data, source)


def differences(old: Any, new: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) of every entry that differs between two JSON trees, keys dotted."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at, old, new


def _decode(kind: Any, data: Any, at: str) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _decode(get_args(kind)[0], data, at)
    if origin in (Union, types.UnionType):
        return _decode(_chosen(get_args(kind), data, at), data, at)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, at)
    if origin is tuple and isinstance(data, list):
        return tuple(_decode(get_args(kind)[0], item, at) for item in data)
    if origin is Literal and data in get_args(kind):
        return data
    if kind is Path and isinstance(data, str):
        return Path(data)
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if isinstance(kind, type) and type(data) is kind:
        return data
    raise ConfigError(f"{at}: {data!r} does not fit here ({kind}). Was the file written by this version?")


def _decode_dataclass(kind: Any, data: Any, at: str) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    fields = [f.name for f in dataclasses.fields(kind)]
    if not isinstance(data, Mapping) or set(data) - {*fields, "name"} or set(fields) - set(data):
        odd = sorted(set(data) ^ set(fields)) if isinstance(data, Mapping) else data
        raise ConfigError(f"{at}: the keys {odd} do not fit {kind.__name__}. Was it written by this version?")
    return kind(**{name: _decode(hints[name], data[name], f"{at}: {name}") for name in fields})


def _chosen(options: tuple[Any, ...], data: Any, at: str) -> Any:
    """The member of a union that `data` is: None, or the dataclass of this name."""
    plain = [get_args(o)[0] if get_origin(o) is Annotated else o for o in options]
    if data is None and type(None) in plain:
        return type(None)
    if isinstance(data, Mapping) and "name" in data:
        for option in plain:
            if getattr(option, "name", None) == data["name"]:
                return option
        raise ConfigError(f"{at}: {data['name']!r} is unknown; known: {[o.name for o in plain]}.")
    return next(o for o in plain if o is not type(None))
