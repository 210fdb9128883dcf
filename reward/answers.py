"""Reading a judge's answer: JSON where the provider keeps to a schema, free text otherwise."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from reward.clients.protocol import Outcome

ANSWER_SCHEMA: dict[str, Any] = {
    "type": "OBJECT",
    "properties": {
        "reason": {"type": "STRING", "description": "one sentence"},
        "answer": {
            "type": "STRING",
            "enum": ["0", "1", "-1"],
            "description": "0 first picture, 1 second picture, -1 no difference or unsure",
        },
    },
    "required": ["answer"],
}
"""A typed answer in the OpenAPI subset that providers take."""

_OUTCOMES = {"0": Outcome.FIRST, "1": Outcome.SECOND, "-1": Outcome.UNSURE}
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?![\w]|\.\d)")


def read_answer(text: str, line: Literal["first", "last"]) -> Outcome:
    """0, 1 or −1 out of an answer.

    A JSON object with an "answer" counts first, also inside a code fence. Otherwise the first or last line
    that holds anything must name exactly one of the three: two different numbers on it, or none, are
    MALFORMED, never a guess.
    """
    found = _json(text)
    if found is not None:
        return _OUTCOMES.get(str(found.get("answer")).strip(), Outcome.MALFORMED)
    lines = [part.strip() for part in text.strip().splitlines() if part.strip("`* \t")]
    if not lines:
        return Outcome.MALFORMED
    numbers = set(_NUMBER.findall(lines[0] if line == "first" else lines[-1]))
    return _OUTCOMES.get(numbers.pop(), Outcome.MALFORMED) if len(numbers) == 1 else Outcome.MALFORMED


def _json(text: str) -> dict[str, Any] | None:
    start, stop = text.find("{"), text.rfind("}")
    if start < 0 or stop < start:
        return None
    try:
        found = json.loads(text[start : stop + 1])
    except ValueError:
        return None
    return found if isinstance(found, dict) and "answer" in found else None
