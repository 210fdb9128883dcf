"""The label store: answers of judges, keyed by what was asked, in `<dataset>/labels.sqlite`.

An answer's key is a hash over the content of both pictures, the prompt version, the judge and its
settings, so the same question is paid once, whoever asks and in whichever dataset run. A paid question is
reserved before it is sent and its answer committed before anything else happens: a process that is killed
at any point loses no answer that had arrived, and leaves a reservation for a question that was in flight.
Such a question may have been charged, so it counts against the budget and is not sent again unless that is
asked for.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from episodes.errors import ConfigError, LabelError
from reward.clients.protocol import Estimate, JudgeIdentity, Outcome, Verdict
from reward.frames import FrameId

FILE = "labels.sqlite"
VERSION = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    first_sha256 TEXT NOT NULL, second_sha256 TEXT NOT NULL,
    judge TEXT NOT NULL, prompt_version TEXT NOT NULL, settings TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'answered')),
    outcome TEXT, text TEXT,
    calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (
    key TEXT NOT NULL, step TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS draws (
    labels TEXT NOT NULL, draw TEXT NOT NULL, number INTEGER NOT NULL, settings TEXT NOT NULL,
    PRIMARY KEY (labels, draw)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairs (
    labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL,
    first_episode TEXT NOT NULL, first_index INTEGER NOT NULL,
    second_episode TEXT NOT NULL, second_index INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (labels, draw, position)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Budget:
    """What labelling may take in all; questions that were in flight at a kill count as paid."""

    calls: int | None = None
    """Most paid requests; no bound when left out."""
    usd: float | None = None
    """Most money, in US dollars; no bound when left out."""

    def __post_init__(self) -> None:
        if (self.calls is not None and self.calls < 0) or (self.usd is not None and self.usd < 0):
            raise ConfigError(f"budget {self}: calls and usd are 0 or greater.")


class BudgetReached(LabelError):
    """Raised when the next question could exceed the budget; what was answered stays."""


@dataclass(frozen=True)
class DrawnPair:
    """A pair that was drawn to be judged, with the key of its answer."""

    first: FrameId
    second: FrameId
    key: str


@dataclass(frozen=True)
class Spending:
    """What the answers of a store took, those in doubt included."""

    calls: int
    cost_usd: float


def answer_key(first_sha256: str, second_sha256: str, who: JudgeIdentity) -> str:
    """The key of an answer; the order of the pictures is part of it, since judges favour a side."""
    settings = json.dumps(dict(who.settings), sort_keys=True)
    text = "\n".join((first_sha256, second_sha256, who.judge, who.prompt_version, settings))
    return hashlib.sha256(text.encode()).hexdigest()


class LabelStore:
    """One SQLite file in WAL mode; a context manager. Threads may share it, processes may open it at once."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`.

        Raises:
            LabelError: it cannot be opened, is no label store, or one of another version.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = threading.RLock()
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise LabelError(
                    f"{path}: a label store of version {version}; this armchair reads {VERSION}. Update it."
                )
            with self._transaction():
                for statement in filter(None, (part.strip() for part in _TABLES.split(";"))):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise LabelError(
                f"{path}: the label store cannot be opened ({error}). Restore it from a copy, or move it "
                "away to start "
                "anew; answers that were paid are in it."
            ) from error

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def draw(self, labels: str, draw: str) -> tuple[DrawnPair, ...] | None:
        """The pairs of a draw in order, None when it was never made."""
        if not self._rows("SELECT 1 FROM draws WHERE labels=? AND draw=?", (labels, draw)):
            return None
        rows = self._rows(
            "SELECT first_episode, first_index, second_episode, second_index, key FROM pairs "
            "WHERE labels=? AND draw=? ORDER BY position",
            (labels, draw),
        )
        return tuple(DrawnPair(FrameId(a, i), FrameId(b, j), key) for a, i, b, j, key in rows)

    def add_draw(
        self, labels: str, draw: str, settings: Mapping[str, object], pairs: Sequence[DrawnPair]
    ) -> None:
        """Remember the pairs of a draw, all or none."""
        with self._transaction():
            number = int(
                self._db.execute("SELECT COUNT(*) FROM draws WHERE labels=?", (labels,)).fetchone()[0]
            )
            self._db.execute(
                "INSERT INTO draws VALUES (?, ?, ?, ?)",
                (labels, draw, number, json.dumps(dict(settings), sort_keys=True)),
            )
            self._db.executemany(
                "INSERT INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (labels, draw, k, *_columns(p.first), *_columns(p.second), p.key)
                    for k, p in enumerate(pairs)
                ),
            )

    def drawn(self, labels: str) -> tuple[DrawnPair, ...]:
        """All pairs of all draws, in the order in which they were made."""
        rows = self._rows(
            "SELECT first_episode, first_index, second_episode, second_index, key FROM pairs JOIN draws "
            "USING (labels, draw) WHERE labels=? ORDER BY number, position",
            (labels,),
        )
        return tuple(DrawnPair(FrameId(a, i), FrameId(b, j), key) for a, i, b, j, key in rows)

    def names(self) -> tuple[str, ...]:
        """Names of all label sets."""
        return tuple(row[0] for row in self._rows("SELECT DISTINCT labels FROM draws ORDER BY labels"))

    def outcomes(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """Outcomes of the keys that were answered."""
        found: dict[str, Outcome] = {}
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            found |= {
                key: Outcome(outcome)
                for key, outcome in self._rows(
                    f"SELECT key, outcome FROM answers WHERE state='answered' AND key IN ({marks})", part
                )
            }
        return found

    def verdict(self, key: str) -> Verdict | None:
        """A stored answer whole, None when there is none."""
        rows = self._rows(
            "SELECT outcome, text, calls, input_tokens, output_tokens, cost_usd FROM answers "
            "WHERE key=? AND state='answered'",
            (key,),
        )
        return Verdict(Outcome(rows[0][0]), *rows[0][1:]) if rows else None

    def in_doubt(self, keys: Iterable[str]) -> set[str]:
        """Keys that are reserved: asked by a process that is gone, or by one that is still waiting."""
        found: set[str] = set()
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            found |= {
                row[0]
                for row in self._rows(
                    f"SELECT key FROM answers WHERE state='reserved' AND key IN ({marks})", part
                )
            }
        return found

    def spending(self) -> Spending:
        """What everything in the store took, reservations at their estimate."""
        ((calls, cost),) = self._rows(
            "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(cost_usd), 0) FROM answers"
        )
        return Spending(int(calls), float(cost))

    def reserve(
        self,
        key: str,
        pictures: tuple[str, str],
        who: JudgeIdentity,
        estimate: Estimate,
        budget: Budget,
        *,
        again: bool = False,
    ) -> bool:
        """Claim a question before it is sent; False when it was answered or claimed before.

        Args:
            key: of the answer.
            pictures: content hashes of both.
            who: the judge.
            estimate: what it may take; held against the budget until the answer says more.
            budget: for all answers of this store.
            again: claim a question that is in doubt once more; what it may have cost stays counted.

        Raises:
            BudgetReached: the question could exceed the budget. Nothing is claimed.
        """
        with self._transaction():
            found = self._db.execute(
                "SELECT state, calls, cost_usd FROM answers WHERE key=?", (key,)
            ).fetchone()
            if found is not None and not (again and found[0] == "reserved"):
                return False
            spent = self.spending()
            if budget.calls is not None and spent.calls + estimate.calls > budget.calls:
                raise BudgetReached(
                    f"the budget of {budget.calls} calls is used up ({spent.calls} spent): raise "
                    "--budget.calls to go on."
                )
            if budget.usd is not None and spent.cost_usd + estimate.cost_usd > budget.usd:
                raise BudgetReached(
                    f"the budget of {budget.usd:.2f} USD is used up ({spent.cost_usd:.2f} spent): raise "
                    "--budget.usd to "
                    "go on."
                )
            before = (0, 0.0) if found is None else (found[1], found[2])
            self._db.execute(
                "INSERT OR REPLACE INTO answers (key, first_sha256, second_sha256, judge, "
                "prompt_version, settings, state, "
                "calls, cost_usd) VALUES (?, ?, ?, ?, ?, ?, 'reserved', ?, ?)",
                (
                    key,
                    *pictures,
                    *_identity(who),
                    before[0] + estimate.calls,
                    before[1] + estimate.cost_usd,
                ),
            )
        return True

    def commit(self, key: str, verdict: Verdict, estimate: Estimate) -> None:
        """Turn a reservation into an answer: what it took replaces `estimate`, the amount reserved for it."""
        with self._transaction():
            self._db.execute(
                "UPDATE answers SET state='answered', outcome=?, text=?, calls=calls-?+?, "
                "input_tokens=?, output_tokens=?, "
                "cost_usd=MAX(0, cost_usd-?)+? WHERE key=? AND state='reserved'",
                (
                    verdict.outcome.value,
                    verdict.text,
                    estimate.calls,
                    verdict.calls,
                    verdict.input_tokens,
                    verdict.output_tokens,
                    estimate.cost_usd,
                    verdict.cost_usd,
                    key,
                ),
            )

    def release(self, key: str, estimate: Estimate) -> None:
        """Give back a reservation that was certainly not charged."""
        with self._transaction():
            self._db.execute(
                "UPDATE answers SET calls=calls-?, cost_usd=MAX(0, cost_usd-?) WHERE key=? AND "
                "state='reserved'",
                (estimate.calls, estimate.cost_usd, key),
            )
            self._db.execute("DELETE FROM answers WHERE key=? AND state='reserved' AND calls<=0", (key,))

    def recall(self, key: str, step: str) -> str | None:
        """What a judge kept of one step of a question."""
        rows = self._rows("SELECT text FROM steps WHERE key=? AND step=?", (key, step))
        return str(rows[0][0]) if rows else None

    def keep(self, key: str, step: str, text: str) -> None:
        """Keep the answer of one step of a question."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", (key, step, text))

    def add_answers(
        self, answers: Iterable[tuple[str, tuple[str, str], Verdict]], who: JudgeIdentity
    ) -> None:
        """Store answers that cost nothing, all or none; keys that are there stay as they are."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO answers (key, first_sha256, second_sha256, judge, prompt_version, "
                "settings, state, "
                "outcome, text, calls, cost_usd) VALUES (?, ?, ?, ?, ?, ?, 'answered', ?, ?, ?, ?)",
                (
                    (key, *pictures, *_identity(who), v.outcome.value, v.text, v.calls, v.cost_usd)
                    for key, pictures, v in answers
                ),
            )


def _columns(frame: FrameId) -> tuple[str, int]:
    return frame.episode_id, frame.index


def _identity(who: JudgeIdentity) -> tuple[str, str, str]:
    return who.judge, who.prompt_version, json.dumps(dict(who.settings), sort_keys=True)


def _parts(keys: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    part: list[str] = []
    for key in keys:
        part.append(key)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
