"""Reading a judge's answer: JSON where the provider keeps to a schema, free text otherwise."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reward.clients.protocol import Kind, Outcome

FORM = 1
"""Number of the schemas below; it is part of the key of stored answers, so raise it with any change."""


@dataclass(frozen=True)
class Reading:
    """What was read out of an answer."""

    outcome: Outcome
    value: float | None = None


MALFORMED, UNSURE = Reading(Outcome.MALFORMED), Reading(Outcome.UNSURE)

_CHOICES: Mapping[Kind, Mapping[str, Reading]] = {
    Kind.PREFERENCE: {"0": Reading(Outcome.FIRST), "1": Reading(Outcome.SECOND), "-1": UNSURE},
    Kind.PROGRESS: {**{str(n): Reading(Outcome.RATED, float(n)) for n in range(1, 6)}, "-1": UNSURE},
    Kind.SUCCESS: {
        "yes": Reading(Outcome.RATED, 1.0),
        "no": Reading(Outcome.RATED, 0.0),
        "unsure": UNSURE,
    },
}
_MEANING: Mapping[Kind, str] = {
    Kind.PREFERENCE: "0 first picture, 1 second picture, -1 no difference or unsure",
    Kind.SCORE: "from 0 (nothing achieved) to 1 (achieved), -1 unsure",
    Kind.PROGRESS: "step of the rubric, 1 to 5, -1 unsure",
    Kind.SUCCESS: "is the goal achieved?",
}
_DASH = "\\-\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"
"""What models write for a minus: hyphens, dashes, the mathematical sign, the full width."""
_MINUS = re.compile(rf"[{_DASH}]\s*(?=[\d.])")
_NUMBER = re.compile(
    rf"(?<![\w.{_DASH}])(?:[{_DASH}]\s*)?(?:\d+(?:\.\d+)?|\.\d+)(?!\w|\.\d|\s*%|\s*[{_DASH}]\s*\d)"
)
"""A number that stands alone: a dash before it is its sign, but for one behind a word ("picture-1", which
names nothing); a percentage and the beginning of a range are none."""
_WORD = re.compile(r"(?<![\w-])(?:yes|no|unsure)(?![\w-])", re.IGNORECASE)


def answer_schema(kind: Kind) -> dict[str, Any]:
    """A typed answer as JSON Schema, in the part of it that providers keep to: all required, nothing more.

    The reason comes first, so that a model gives it before it decides.
    """
    answer: dict[str, Any] = {"type": "number" if kind is Kind.SCORE else "string"}
    if kind in _CHOICES:
        answer["enum"] = list(_CHOICES[kind])
    return {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "what is seen, and what follows from it"},
            "answer": {**answer, "description": _MEANING[kind]},
        },
        "required": ["reason", "answer"],
        "additionalProperties": False,
    }


def openapi_schema(kind: Kind) -> dict[str, Any]:
    """The same in the OpenAPI subset that Gemini takes."""

    def convert(schema: dict[str, Any]) -> dict[str, Any]:
        made = {key: value for key, value in schema.items() if key != "additionalProperties"}
        made["type"] = str(schema["type"]).upper()
        if "properties" in schema:
            made["properties"] = {name: convert(part) for name, part in schema["properties"].items()}
            made["propertyOrdering"] = list(schema["properties"])
        return made

    return convert(answer_schema(kind))


def read_answer(text: str, kind: Kind, line: Literal["first", "last"]) -> Reading:
    """What an answer says.

    A JSON object with an "answer" counts first, also inside a code fence or after prose. Otherwise the first
    or last line that holds anything must name exactly one possible answer: two different ones on it, none,
    or a number out of range are MALFORMED, never a guess.
    """
    found = _json(text)
    if found is not None:
        return _value(kind, found.get("answer"))
    if _is_object(text):
        return MALFORMED
    lines = [part.strip() for part in text.strip().splitlines() if part.strip("`* \t")]
    if not lines:
        return MALFORMED
    pattern = _WORD if kind is Kind.SUCCESS else _NUMBER
    named = {name.lower() for name in pattern.findall(lines[0] if line == "first" else lines[-1])}
    return _value(kind, named.pop()) if len(named) == 1 else MALFORMED


def _value(kind: Kind, answer: object) -> Reading:
    if isinstance(answer, bool):
        return _CHOICES[kind]["yes" if answer else "no"] if kind is Kind.SUCCESS else MALFORMED
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    said = _MINUS.sub("-", str(answer).strip().lower())
    if kind in _CHOICES:
        return _CHOICES[kind].get(said, MALFORMED)
    try:
        number = float(said)
    except ValueError:
        return MALFORMED
    if number == -1:
        return UNSURE
    inside = math.isfinite(number) and 0 <= number <= 1
    return Reading(Outcome.RATED, number) if inside else MALFORMED


def _is_object(text: str) -> bool:
    """The whole text is a JSON object or list: one without an answer, whose numbers mean something else."""
    bare = re.sub(r"^```\w*|```$", "", text.strip()).strip()
    try:
        return isinstance(json.loads(bare), dict | list)
    except (ValueError, RecursionError):
        return False


def _json(text: str) -> dict[str, Any] | None:
    """The last JSON object with an "answer" in `text`."""
    decoder, found = json.JSONDecoder(), None
    for start in (match.start() for match in re.finditer(r"\{", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and "answer" in value:
            found = value
    return found
