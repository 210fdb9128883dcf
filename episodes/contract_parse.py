"""Reading YAML with errors that teach: every refusal names file, key, value and what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from episodes.errors import ContractError, did_you_mean

_TOPIC = re.compile(r"^/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*$")
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key written twice, which YAML would silently let win."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is written twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class Node:
    """A YAML mapping, with the path by which it was reached."""

    data: dict[str, Any]
    path: str
    source: str

    @classmethod
    def root(cls, text: str, source: str) -> Node:
        """Parse `text`, which must be one mapping with text keys."""
        try:
            data = yaml.load(text, Loader=_UniqueKeys)
        except yaml.YAMLError as error:
            raise ContractError(
                f"{source}: this is not valid YAML: {' '.join(str(error).split())}"
            ) from error
        if not isinstance(data, dict):
            raise ContractError(
                f"{source}: a contract is a YAML mapping with robot, rate_hz, observations and actions."
            )
        return cls(data, "", source)

    def error(self, key: str, value: object, fix: str) -> ContractError:
        """A ContractError about `key` of this mapping."""
        shown = "is missing" if value is None else f"has the value {value!r}"
        return ContractError(f"{self.source}: key '{self._full(key)}' {shown}: {fix}.")

    def _full(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def only(self, *known: str) -> None:
        """Refuse keys that are not `known`."""
        for key in self.data:
            if key not in known:
                raise ContractError(
                    f"{self.source}: unknown key '{self._full(str(key))}'; {did_you_mean(str(key), known)}"
                )

    def has(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return self.data.get(key) is not None

    def _get(self, key: str) -> Any:
        if not self.has(key):
            raise self.error(key, None, "add it")
        return self.data[key]

    def child(self, key: str) -> Node:
        """The mapping under `key`."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.error(key, value, "write a mapping of keys and values")
        return Node(value, self._full(key), self.source)

    def children(self, key: str) -> Iterator[tuple[str, Node]]:
        """Name and mapping of each entry under `key`, at least one."""
        node = self.child(key)
        if not node.data:
            raise self.error(key, {}, "list at least one")
        for name in node.data:
            if not isinstance(name, str) or not _NAME.match(name):
                raise self.error(
                    key, name, "names are letters, digits and underscores, beginning with a letter"
                )
            yield name, node.child(name)

    def list_of_mappings(self, key: str) -> list[Node]:
        """The mappings of a list, at least one."""
        value = self._get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            raise self.error(key, value, "write a list of mappings")
        return [Node(entry, f"{self._full(key)}[{i}]", self.source) for i, entry in enumerate(value)]

    def mapping(self, key: str) -> dict[str, str]:
        """A mapping of text to text."""
        node = self.child(key)
        return {str(name): node.text(name) for name in node.data}

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty, unless a default is given."""
        if default is not None and not self.has(key):
            return default
        value = self._get(key)
        if not isinstance(value, str) or (not value.strip() and default is None):
            raise self.error(key, value, "write a text")
        return value

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of `options`."""
        value = self.text(key, default)
        if value not in options:
            raise self.error(key, value, did_you_mean(value, options).rstrip("."))
        return value

    def topic(self, key: str) -> str:
        """A ROS topic name, relative or absolute."""
        value = self.text(key)
        if not _TOPIC.match(value):
            raise self.error(key, value, "write a ROS topic such as camera/front/image_raw")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false."""
        value = self.data.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "write true or false")
        return value

    def number(self, key: str, lower: float, upper: float) -> float:
        """A finite number within [lower, upper]."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not lower <= value <= upper:
            raise self.error(key, value, f"write a number from {lower:g} to {upper:g}")
        return float(value)

    def numbers(self, key: str, count: int, *, required: bool) -> tuple[float, ...] | None:
        """`count` finite numbers, one per name."""
        if not required and not self.has(key):
            return None
        value = self._get(key)
        good = isinstance(value, list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
        )
        if not good:
            raise self.error(key, value, "write a list of finite numbers")
        if len(value) != count:
            raise self.error(
                key, value, f"it has {len(value)} numbers for {count} names: write one number per name"
            )
        return tuple(float(v) for v in value)

    def strings(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of different texts, not empty unless a default is given."""
        if default is not None and not self.has(key):
            return default
        value = self._get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise self.error(key, value, "write a list of names")
        for name in value:
            if value.count(name) > 1:
                raise self.error(key, name, "it is listed twice")
        return tuple(value)

    def shape(self, key: str) -> tuple[int, ...]:
        """A list of positive whole numbers."""
        value = self._get(key)
        good = isinstance(value, list) and value and all(type(v) is int and 0 < v <= 16384 for v in value)
        if not good:
            raise self.error(key, value, "write a list of positive whole numbers")
        return tuple(value)


def differences(old: object, new: object, path: str = "") -> list[str]:
    """Readable differences between two JSON-like values; list entries with a name are matched by it."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(k for k in new if k not in old)]:
            where = f"{path}.{key}" if path else str(key)
            if key not in new:
                found.append(f"{where} is missing")
            elif key not in old:
                found.append(f"{where} is new")
            else:
                found += differences(old[key], new[key], where)
        return found
    if (
        isinstance(old, list)
        and isinstance(new, list)
        and all(isinstance(v, dict) and "name" in v for v in old + new)
    ):
        if [v["name"] for v in old] == [v["name"] for v in new]:
            pairs = zip(old, new, strict=True)
            return [text for a, b in pairs for text in differences(a, b, f"{path}.{a['name']}")]
        return [f"{path} are {[v['name'] for v in new]}, expected {[v['name'] for v in old]}"]
    return [] if old == new else [f"{path} is {new!r}, expected {old!r}"]
