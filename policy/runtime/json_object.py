"""Reading a JSON file with errors that teach: every refusal names file, key, value and what to write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from episodes.errors import BundleError, did_you_mean


@dataclass(frozen=True)
class JsonObject:
    """A JSON object with the path by which it was reached, so that errors can name the key."""

    data: dict[str, Any]
    path: str
    source: str

    @classmethod
    def root(cls, text: str, source: str) -> JsonObject:
        """Parse `text`; keys written twice and NaN, which JSON does not know, are refused."""

        def unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
            data: dict[str, object] = {}
            for key, value in pairs:
                if key in data:
                    raise ValueError(f"key {key!r} is written twice")
                data[key] = value
            return data

        def constant(value: str) -> float:
            raise ValueError(f"{value} is not JSON")

        try:
            data = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"{source}: this is not valid JSON ({error}). Export the policy anew with `armchair export`."
            ) from error
        if not isinstance(data, dict):
            raise BundleError(f"{source}: this is a {type(data).__name__}, a JSON object was expected.")
        return cls(data, "", source)

    def error(self, key: str, value: object, fix: str) -> BundleError:
        """A BundleError about `key` of this object."""
        full = f"{self.path}.{key}" if self.path else key
        shown = "is missing" if value is None else f"has the value {value!r}"
        return BundleError(f"{self.source}: key '{full}' {shown}: {fix}.")

    def only(self, *known: str) -> None:
        """Refuse keys that are not `known`."""
        for key in self.data:
            if key not in known:
                full = f"{self.path}.{key}" if self.path else key
                raise BundleError(f"{self.source}: unknown key '{full}'; {did_you_mean(key, known)}")

    def child(self, key: str) -> JsonObject:
        """The object under `key`."""
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise self.error(key, value, "write a JSON object")
        return JsonObject(value, f"{self.path}.{key}" if self.path else key, self.source)

    def objects(self, key: str) -> tuple[JsonObject, ...]:
        """The objects of the list under `key`, at least one."""
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
            raise self.error(key, value, "write a list of JSON objects, at least one")
        return tuple(JsonObject(v, f"{key}[{i}]", self.source) for i, v in enumerate(value))

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self.data.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, value, "write a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, at least one."""
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise self.error(key, value, "write a list of texts, at least one")
        return tuple(value)

    def number(self, key: str) -> float:
        """A finite number of 0 or more."""
        value = self.data.get(key)
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < 1e300
        if not good or value is None:
            raise self.error(key, value, "write a finite number of 0 or more")
        return float(value)

    def whole(self, key: str) -> int:
        """A whole number of 1 or more."""
        value = self.data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(key, value, "write a whole number of 1 or more")
        return value

    def truth(self, key: str) -> bool:
        """true or false."""
        value = self.data.get(key)
        if not isinstance(value, bool):
            raise self.error(key, value, "write true or false")
        return value

    def sizes(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers of 1 or more, at least one."""
        value = self.data.get(key)
        good = isinstance(value, list) and value and all(type(v) is int and v >= 1 for v in value)
        if not good or value is None:
            raise self.error(key, value, "write a list of sizes of 1 or more")
        return tuple(value)
