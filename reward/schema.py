"""The tables of a label store, and how older files get there."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

VERSION = 4

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    first_sha256 TEXT NOT NULL, second_sha256 TEXT NOT NULL,
    judge TEXT NOT NULL, prompt_version TEXT NOT NULL, settings TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'answered')),
    outcome TEXT, text TEXT,
    calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL NOT NULL,
    value REAL, vote INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '', sending INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    key TEXT NOT NULL, judge TEXT NOT NULL,
    calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost_usd REAL
    NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    key TEXT NOT NULL, step TEXT NOT NULL, text TEXT NOT NULL,
    calls INTEGER NOT NULL DEFAULT 0, input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0, cost_usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (key, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, runs INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS draws (
    labels TEXT NOT NULL, draw TEXT NOT NULL, number INTEGER NOT NULL, settings TEXT NOT NULL,
    PRIMARY KEY (labels, draw)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL,
    first_episode TEXT NOT NULL, first_index INTEGER NOT NULL,
    second_episode TEXT, second_index INTEGER,
    PRIMARY KEY (labels, draw, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ballots (
    labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL,
    swapped INTEGER NOT NULL, vote INTEGER NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (labels, draw, position, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS overrulings (
    labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (labels, draw, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (
    labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL,
    person TEXT NOT NULL, tab TEXT NOT NULL, until_ns INTEGER NOT NULL,
    PRIMARY KEY (labels, draw, position, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acts (
    id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    person TEXT NOT NULL, tab TEXT NOT NULL, what TEXT NOT NULL CHECK (what IN ('answer', 'overrule')),
    labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL,
    key TEXT NOT NULL, key_before TEXT NOT NULL, outcome_before TEXT, value_before REAL,
    undone_by TEXT
) WITHOUT ROWID;
"""
_FROM_1 = """
ALTER TABLE answers ADD COLUMN value REAL;
ALTER TABLE answers ADD COLUMN vote INTEGER NOT NULL DEFAULT 0;
ALTER TABLE answers ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE answers ADD COLUMN sending INTEGER NOT NULL DEFAULT 1;
ALTER TABLE steps ADD COLUMN calls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE steps ADD COLUMN input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE steps ADD COLUMN output_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE steps ADD COLUMN cost_usd REAL NOT NULL DEFAULT 0;
"""
_PAIRS_OF_1 = """
INSERT INTO items SELECT labels, draw, position, first_episode, first_index, second_episode, second_index
FROM pairs;
INSERT INTO ballots SELECT labels, draw, position, 0, 0, 0, key FROM pairs;
DROP TABLE pairs;
"""


def copy_of(path: Path) -> sqlite3.Connection:
    """What the file `path` holds, in memory; empty where there is none. The file is not written to, not even
    to bring it to this version."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if not path.is_file():
        return copy
    log = path.with_name(path.name + "-wal")
    name = quote(str(path.resolve()))
    if not log.exists():
        # Nobody has the file open. Read in any other way it would get a log beside it that stays there.
        _read(f"file:{name}?mode=ro&immutable=1", copy)
    if log.exists():
        _read(f"file:{name}?mode=ro", copy)
    return copy


def _read(uri: str, copy: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30.0)) as source:
        source.backup(copy)


def create(db: sqlite3.Connection, version: int) -> None:
    """Make the tables, from any older version on; within a transaction of the caller.

    Version 3 adds tables for what people do, version 4 one for questions that fail, and neither changes
    any, so a file of version 2 only gains them.
    """
    if version == 1:
        _run(db, _FROM_1)
    _run(db, _TABLES)
    if version == 1:
        _run(db, _PAIRS_OF_1)
    db.execute(f"PRAGMA user_version={VERSION}")


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in filter(None, (part.strip() for part in statements.split(";"))):
        db.execute(statement)
