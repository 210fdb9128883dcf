"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """How bad it is."""

    PASS = 0
    WARN = 1
    """Usable, but somebody should know."""
    FAIL = 2
    """Training on it, or believing it, is a mistake."""


@dataclass(frozen=True)
class Finding:
    """What one check says about one stream of one episode, or about the whole dataset."""

    check: str
    level: Level
    text: str
    episode: str = ""
    """Id; "" for the whole dataset."""
    stream: str = ""
    """Stream, "commands", or "" for the whole episode."""
    figure: float | None = None
    """What was measured, in `unit`."""
    threshold: float | None = None
    """The bound that it broke, or the first one that it kept."""
    unit: str = ""
    advice: str = ""
    """What to do; "" for PASS."""

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "level": self.level.name}


def graded(
    check: str,
    figure: float,
    warn: float,
    fail: float,
    *,
    text: str,
    advice: str,
    stream: str = "",
    unit: str = "",
) -> Finding:
    """A finding whose level follows from `figure`: WARN above `warn`, FAIL above `fail`."""
    level = Level.FAIL if figure > fail else Level.WARN if figure > warn else Level.PASS
    return Finding(
        check,
        level,
        text,
        stream=stream,
        figure=float(figure),
        threshold=float(fail if level is Level.FAIL else warn),
        unit=unit,
        advice=advice if level else "",
    )
