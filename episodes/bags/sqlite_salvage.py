"""rosbag2's .db3 files, read by rows as far as SQLite can follow them in a file that is damaged.

The file is opened as immutable, so nothing is written beside it. SQLite refuses a file that is shorter than
its header says unless its schema may be written (`writable_schema`, which here only lifts that check). Rows
are read in the order of their ids; where a page is lost, reading goes on behind it, and ids that are missing
are told.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from episodes.bags.records import BagError, Record

_QUERY = (
    "SELECT id, topic_id, timestamp, CASE WHEN topic_id IN ({}) THEN data END "
    "FROM messages WHERE id >= ? ORDER BY id"
)
_LIMIT = 1 << 40
_FAR_ID = 1 << 20


class SqliteFile:
    """One .db3 file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.seen: Counter[str] = Counter()
        self.declared: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def _connect(self) -> sqlite3.Connection:
        log = self.path.with_name(self.path.name + "-wal")
        immutable = not (log.exists() and log.stat().st_size)
        mode = "mode=ro&immutable=1" if immutable else "mode=ro"
        base = sqlite3.connect(f"file:{quote(str(self.path.absolute()))}?{mode}", uri=True)
        base.text_factory = bytes
        base.execute("PRAGMA writable_schema=ON")
        return base

    def topics(self) -> dict[str, str]:
        """Message type of each topic.

        Raises:
            BagError: the file is no database of rosbag2, or its list of topics is lost.
        """
        try:
            with closing(self._connect()) as base:
                rows = base.execute("SELECT id, name, type FROM topics").fetchall()
                self.declared = _declared(base)
            known = {int(number): (name.decode(), kind.decode()) for number, name, kind in rows}
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            raise BagError(
                f"{self.path}: the list of topics cannot be read ({error}): it is no rosbag2 database, or "
                "its beginning is lost. Copy it again from its source."
            ) from error
        if not known:
            raise BagError(f"{self.path}: the database names no topic: nothing was recorded.")
        self._names = {number: name for number, (name, _) in known.items()}
        return dict(known.values())

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Messages of these topics in the order in which they were stored."""
        if not self._names:
            self.topics()
        self.damage = []
        self.seen = Counter()
        wanted = {number for number, name in self._names.items() if name in topics}
        last, lost, unreadable = 0, 0, 0
        try:
            self._check_size()
            with closing(self._connect()) as base:
                for number, topic_id, recv_ns, data in self._rows(base, wanted):
                    lost += number - last - 1
                    last = number
                    name = self._names.get(topic_id)
                    if name is None or not isinstance(recv_ns, int) or recv_ns < 0:
                        unreadable += 1
                        continue
                    self.seen[name] += 1
                    if isinstance(data, bytes) and name in topics:
                        yield Record(name, recv_ns, data)
                    elif name in topics:
                        unreadable += 1
                lost += max(0, self._last_id(base) - last)
        except (sqlite3.Error, OSError) as error:
            self._tell(f"the messages cannot be read ({error})")
        if lost:
            self._tell(f"{lost} of {self.seen.total() + lost} messages are missing")
        if unreadable:
            self._tell(f"{unreadable} messages are damaged and were left out")

    def _tell(self, text: str) -> None:
        self.damage.append(f"{self.path}: {text}")

    def _check_size(self) -> None:
        with self.path.open("rb") as file:
            head = file.read(32)
        page_bytes, pages = struct.unpack_from(">H", head, 16)[0], struct.unpack_from(">I", head, 28)[0]
        said = (65536 if page_bytes == 1 else page_bytes) * pages
        size = self.path.stat().st_size
        if size < said:
            self._tell(f"it was cut short: {size} of {said} bytes are there")

    def _rows(
        self, base: sqlite3.Connection, wanted: Collection[int]
    ) -> Iterator[tuple[int, Any, object, object]]:
        """Rows with rising ids; behind a damaged page it goes on at the next id that can be reached."""
        query = _QUERY.format(",".join(map(str, sorted(wanted))))
        start, step, places = 0, 1, []
        while start < _LIMIT:
            try:
                for row in base.execute(query, (start,)):
                    # A flipped bit in an id must not hide the rows behind it.
                    number = row[0] if 0 <= row[0] - start < _FAR_ID else start
                    start, step = number + 1, 1
                    yield number, *row[1:]
                break
            except sqlite3.Error as error:
                if step == 1:
                    places.append(f"behind message {start - 1} ({error})" if start else f"at once ({error})")
                # The damage may span any number of ids: go on behind it in growing steps.
                start, step = start + step, 2 * step
        if places:
            more = f", and in {len(places) - 1} more places" if len(places) > 1 else ""
            self._tell(f"reading stops {places[0]}{more}")

    def _last_id(self, base: sqlite3.Connection) -> int:
        """The largest id, which SQLite finds at the other end of the table; 0 where that end is lost."""
        try:
            row = base.execute("SELECT max(id) FROM messages").fetchone()
        except sqlite3.Error:
            return 0
        return row[0] if row and isinstance(row[0], int) else 0


def _declared(base: sqlite3.Connection) -> dict[str, int]:
    """Messages of each topic by the metadata inside; nothing where it is missing or damaged."""
    try:
        row = base.execute("SELECT metadata FROM metadata ORDER BY id DESC LIMIT 1").fetchone()
        return message_counts(yaml.safe_load(row[0].decode()))
    except (sqlite3.Error, TypeError, AttributeError, ValueError, KeyError, yaml.YAMLError):
        return {}


def message_counts(metadata: Any) -> dict[str, int]:
    """Messages of each topic as rosbag2's metadata says; KeyError, TypeError or ValueError when damaged."""
    top = metadata.get("rosbag2_bagfile_information", metadata)
    return {
        str(entry["topic_metadata"]["name"]): int(entry["message_count"])
        for entry in top["topics_with_message_count"]
    }
