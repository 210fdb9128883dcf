"""Edits of a dataset: `edits.jsonl`, beside the recordings, which are never touched.

Line 1 names the schema; every further line is one edit or the undoing of one, and lines are only added:

    {"schema": "armchair/edits/1"}
    {"edit": 1, "episodes": ["e3"], "exclude": true, "why": "the camera fell", "who": "anna", "when": "…Z"}
    {"edit": 2, "episodes": ["e1"], "trim": {"start_s": 0.5, "end_s": 3.25}, "who": "anna", "when": "…Z"}
    {"edit": 3, "episodes": ["e1"], "outcome": "success", "task": "open the drawer", "who": …, "when": …}
    {"edit": 4, "undo": 2, "who": "anna", "when": "…Z"}

What holds for an episode follows from the lines alone: of each kind (exclude, trim, outcome, task) the last
one that was not undone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from episodes.errors import DatasetError
from episodes.layout import OUTCOMES, Attribute

SCHEMA = "armchair/edits/1"

_KINDS = ("exclude", "trim", "outcome", "task")
_BESIDE = ("edit", "episodes", "who", "when", "why")


@dataclass(frozen=True)
class Change:
    """What one edit says; None where it says nothing. A trim replaces an earlier trim as a whole."""

    exclude: bool | None = None
    """Leave the episode out of training, or take it in again."""
    trim: tuple[float | None, float | None] | None = None
    """Keep what lies between these times, s since the episode's start; None for its start or end."""
    outcome: str | None = None
    """success, failure or unknown."""
    task: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        found = {key: value for key in _KINDS if (value := getattr(self, key)) is not None}
        if self.trim is not None:
            ends = zip(("start_s", "end_s"), self.trim, strict=True)
            found["trim"] = {key: value for key, value in ends if value is not None}
        return found


@dataclass(frozen=True)
class Entry:
    """One edit of the file."""

    number: int
    episodes: tuple[str, ...]
    change: Change
    who: str
    when: str
    """UTC."""
    why: str = ""
    undone_by: int | None = None
    """Number of the line that undid it."""


@dataclass(frozen=True)
class Edit:
    """What all edits together say about one episode."""

    excluded: bool = False
    trim: tuple[float | None, float | None] = (None, None)
    """s since the episode's start."""
    outcome: str | None = None
    task: str | None = None

    def window_ns(self, started_ns: int) -> tuple[int | None, int | None]:
        """First and last moment that the trim keeps, in the clock of `started_ns`; None for no bound."""
        start, end = (None if s is None else started_ns + round(s * 1e9) for s in self.trim)
        return start, end

    def attributes(self) -> dict[str, Attribute]:
        """Attributes of the episode that read otherwise than they were recorded."""
        found: dict[str, Attribute] = {}
        if self.outcome is not None:
            found |= {
                "outcome": self.outcome,
                "outcome_source": "none" if self.outcome == "unknown" else "operator",
            }
        if self.task is not None:
            found["task"] = self.task
        return found

    def describe(self) -> str:
        """In a few words, "" where nothing is edited."""
        parts = ["excluded"] if self.excluded else []
        if self.trim != (None, None):
            start, end = ("" if s is None else f"{s:g}" for s in self.trim)
            parts.append(f"trim {start}:{end} s")
        parts += [f"outcome {self.outcome}"] if self.outcome is not None else []
        parts += [f"task {self.task!r}"] if self.task is not None else []
        return ", ".join(parts)


def fold(entries: Iterable[Entry]) -> dict[str, Edit]:
    """What holds for each episode that an edit which was not undone names."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.undone_by is not None:
            continue
        for episode_id in entry.episodes:
            state = found.setdefault(episode_id, {})
            state |= {k: v for k in _KINDS if (v := getattr(entry.change, k)) is not None}
    return {
        episode_id: Edit(
            bool(state.get("exclude", False)),
            state.get("trim", (None, None)),
            state.get("outcome"),
            state.get("task"),
        )
        for episode_id, state in found.items()
    }


def parse_edits(text: str, source: str) -> tuple[Entry, ...]:
    """Read the text of an edits file; `source` is named in errors.

    Raises:
        DatasetError: naming the line that is damaged or makes no sense, and how to mend it.
    """
    entries: dict[int, Entry] = {}
    lines = text.split("\n")
    if lines[-1]:
        raise DatasetError(
            f"{source}: line {len(lines)} is cut short (a full disk, a power cut): it was never in force. "
            "Delete that line."
        )
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("it is no JSON object")
            if number == 1:
                if record != {"schema": SCHEMA}:
                    raise ValueError(f'the first line is {{"schema": "{SCHEMA}"}}')
                continue
            if record.get("edit") != number - 1:
                raise ValueError(f"'edit' is {record.get('edit')!r}, not {number - 1}")
            if "undo" in record:
                _undo(entries, record)
            else:
                entries[number - 1] = _entry(record)
        except ValueError as error:
            raise DatasetError(
                f"{source}: line {number}: {error}. Set the line right, or restore it."
            ) from error
    return tuple(entries.values())


def _undo(entries: dict[int, Entry], record: Mapping[str, Any]) -> None:
    number = record["undo"]
    undone = entries.get(number) if isinstance(number, int) else None
    if undone is None or undone.undone_by is not None:
        raise ValueError(f"'undo' {number!r} names no edit that is in force")
    values = {**vars(undone), "undone_by": int(record["edit"])}
    entries[undone.number] = Entry(**values)


def _entry(record: Mapping[str, Any]) -> Entry:
    unknown = [key for key in record if key not in (*_KINDS, *_BESIDE)]
    episodes = record.get("episodes")
    if unknown:
        raise ValueError(f"the key {unknown[0]!r} is unknown")
    if not isinstance(episodes, list) or not episodes or not all(isinstance(e, str) for e in episodes):
        raise ValueError("'episodes' is no list of episode ids")
    for key in ("who", "when", "why"):
        if not isinstance(record.get(key, ""), str):
            raise ValueError(f"{key!r} is no text")
    trim = record.get("trim")
    if trim is not None:
        if not isinstance(trim, dict) or not set(trim) <= {"start_s", "end_s"}:
            raise ValueError('\'trim\' is {"start_s": …, "end_s": …}')
        trim = (trim.get("start_s"), trim.get("end_s"))
    change = Change(record.get("exclude"), trim, record.get("outcome"), record.get("task"))
    check_change(change)
    return Entry(
        int(record["edit"]),
        tuple(episodes),
        change,
        record.get("who", ""),
        record.get("when", ""),
        record.get("why", ""),
    )


def check_change(change: Change) -> None:
    """ValueError when `change` says nothing, or something that cannot be."""
    if change == Change():
        raise ValueError(f"the edit says nothing: it needs one of {', '.join(_KINDS)}")
    if not isinstance(change.exclude, bool | None):
        raise ValueError(f"'exclude' is {change.exclude!r}, not true or false")
    if change.outcome is not None and change.outcome not in OUTCOMES:
        raise ValueError(f"'outcome' is {change.outcome!r}, not one of {', '.join(OUTCOMES)}")
    if not isinstance(change.task, str | None):
        raise ValueError(f"'task' is {change.task!r}, not a text")
    for second in change.trim or ():
        number = isinstance(second, int | float) and not isinstance(second, bool)
        if second is not None and not (number and math.isfinite(second) and 0.0 <= second < 1e9):
            raise ValueError(f"'trim' at {second!r}: write seconds since the episode's start, from 0 on")
    start, end = change.trim or (None, None)
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"'trim' from {start or 0.0:g} s to {end:g} s keeps nothing")
