"""The file of edits: read when it has changed, added to line by line, never rewritten."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from episodes.edits import SCHEMA, Change, Edit, Entry, check_change, fold, parse_edits
from episodes.errors import DatasetError
from episodes.partial import sync_folder

EDITS = "edits.jsonl"


class EditLog:
    """The edits file of one dataset folder, read again whenever it has changed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / EDITS
        self._seen: tuple[int, int, int] | None = None
        self._entries: tuple[Entry, ...] = ()
        self._folded: dict[str, Edit] = {}

    def entries(self) -> tuple[Entry, ...]:
        """All edits in the order in which they were made.

        Raises:
            DatasetError: the file is damaged.
        """
        self._refresh()
        return self._entries

    def in_force(self) -> Mapping[str, Edit]:
        """What holds for each episode that is edited; DatasetError when the file is damaged."""
        self._refresh()
        return self._folded

    def _refresh(self) -> None:
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._seen, self._entries, self._folded = None, (), {}
            return
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{self.path}: the edits cannot be read ({error}). Restore the file."
            ) from error
        self._entries = parse_edits(text, str(self.path))
        self._folded = fold(self._entries)
        self._seen = seen

    def add(self, episodes: Sequence[str], change: Change, *, who: str, when_ns: int, why: str = "") -> Entry:
        """Write one edit of `episodes`; `when_ns` is UTC. It holds from now on.

        Raises:
            DatasetError: the change makes no sense, or the file cannot be written.
        """
        try:
            check_change(change)
        except ValueError as error:
            raise DatasetError(f"{self.path}: {error}.") from error
        record = {"episodes": list(episodes), **change.as_json(), **({"why": why} if why else {})}
        number = self._append(record, who, when_ns)
        return next(entry for entry in self.entries() if entry.number == number)

    def undo(self, number: int | None = None, *, who: str, when_ns: int) -> Entry:
        """Undo edit `number`, the last one in force when None; the edit that was undone.

        Raises:
            DatasetError: there is no such edit, or it was undone already.
        """
        entries = {entry.number: entry for entry in self.entries()}
        active = [n for n, entry in entries.items() if entry.undone_by is None]
        if number is None:
            if not active:
                raise DatasetError(f"{self.path}: there is no edit to undo.")
            number = active[-1]
        if number not in active:
            what = "was undone already" if number in entries else "is not there"
            shown = ", ".join(map(str, active)) or "none"
            raise DatasetError(f"{self.path}: edit {number} {what}; edits in force: {shown}.")
        self._append({"undo": number}, who, when_ns)
        return entries[number]

    def _append(self, record: Mapping[str, Any], who: str, when_ns: int) -> int:
        """Add one line, all or nothing, and return its number."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                text = self.path.read_text(encoding="utf-8")
                head = "" if text else json.dumps({"schema": SCHEMA}) + "\n"
                number = text.count("\n") or 1
                line = {"edit": number, **record, "who": who, "when": _utc(when_ns)}
                added = head + json.dumps(line, ensure_ascii=False) + "\n"
                # Read as it will stand there: nothing is added to a damaged file, or undone twice at once.
                parse_edits(text + added, str(self.path))
                data = added.encode("utf-8")
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, data) != len(data):
                    os.ftruncate(descriptor, before)
                    raise OSError("the disk is full")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(self.path.parent)
        except (OSError, UnicodeError) as error:
            raise DatasetError(f"{self.path}: the edit cannot be written ({error}).") from error
        return number


def _utc(when_ns: int) -> str:
    return datetime.fromtimestamp(when_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
