"""The label store: answers of judges, keyed by what was asked, in `<dataset>/labels.sqlite`.

An answer's key is a hash over the content of both pictures, the prompt version, the judge and its
settings, so the same question is paid once, whoever asks and in whichever dataset run. A paid question is
reserved right before it is sent and its answer committed before anything else happens: a process that is
killed at any point loses no answer that had arrived, and leaves a reservation for a question that was in
flight. Such a question may have been charged, so it counts against the budget and is not sent again unless
that is asked for; one that was between two requests goes on from the kept step. A reservation names its
asker, so that what another process is waiting for is neither asked again nor taken for lost.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from episodes.errors import LabelError
from reward import ledger, schema
from reward.clients.protocol import Bill, Estimate, JudgeIdentity, Outcome, Verdict
from reward.owners import Owner
from reward.placing import placed, put_draw
from reward.records import Budget, DrawnPair, Place, Spending, StoredAnswer

FILE = "labels.sqlite"


class LabelStore:
    """One SQLite file in WAL mode; a context manager. Threads may share it, processes may open it at once."""

    def __init__(self, path: Path, *, copied: bool = False) -> None:
        """Open or create `path`.

        Args:
            path: the file.
            copied: work on a copy in memory: nothing that is done to it reaches the file, and a file of an
                older version stays one.

        Raises:
            LabelError: it cannot be opened, is no label store, or one of another version.
        """
        self.path = path
        self.owner = Owner(path.parent)
        try:
            self._lock = threading.RLock()
            self._db = schema.copy_of(path) if copied else _opened(path)
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if not 0 <= version <= schema.VERSION:
                raise LabelError(
                    f"{path}: a label store of version {version}; this armchair reads up to "
                    f"{schema.VERSION}. Update it."
                )
            if version != schema.VERSION:
                with self.transaction():
                    # Another process may have been first.
                    schema.create(self._db, int(self._db.execute("PRAGMA user_version").fetchone()[0]))
        except (sqlite3.Error, OSError) as error:
            raise LabelError(
                f"{path}: the label store cannot be opened ({error}). Restore it from a copy, or move it "
                "away to start anew; answers that were paid are in it."
            ) from error

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.owner.close()
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All statements within, or none; for the modules beside this one.

        Raises:
            LabelError: the file cannot be written (disk full, locked for long).
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise LabelError(
                    f"{self.path}: the label store cannot be written ({error}). What was answered before is "
                    "kept: run the same command when it can."
                ) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        # A statement or a commit that fails (disk full) may leave the transaction open, or end it by itself.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a query gives; for the modules beside this one."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def draw(self, labels: str, draw: str) -> tuple[DrawnPair, ...] | None:
        """The pairs of a draw in order, None when it was never made."""
        if not self.rows("SELECT 1 FROM draws WHERE labels=? AND draw=?", (labels, draw)):
            return None
        where = "WHERE labels=? AND draw=? ORDER BY position, ballots.number"
        return tuple(placed(self.rows, where, (labels, draw)).values())

    def add_draw(
        self, labels: str, draw: str, settings: Mapping[str, object], pairs: Sequence[DrawnPair]
    ) -> tuple[DrawnPair, ...]:
        """Remember the pairs of a draw, all or none; gives what is stored, which is somebody else's draw of
        that name where two processes drew at once."""
        with self.transaction() as db:
            found = self.draw(labels, draw)
            if found is None:
                put_draw(db, labels, draw, json.dumps(dict(settings), sort_keys=True), pairs)
                found = tuple(pairs)
        return found

    def drawn(self, labels: str) -> tuple[DrawnPair, ...]:
        """All pairs of all draws, in the order in which they were made."""
        return tuple(self.places(labels).values())

    def places(self, labels: str) -> dict[Place, DrawnPair]:
        """The same by where they stand."""
        return placed(
            self.rows,
            "JOIN draws USING (labels, draw) WHERE labels=? ORDER BY draws.number, position, ballots.number",
            (labels,),
        )

    def names(self) -> tuple[str, ...]:
        """Names of all label sets."""
        return tuple(row[0] for row in self.rows("SELECT DISTINCT labels FROM draws ORDER BY labels"))

    def outcomes(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """Outcomes of the keys that were answered."""
        found: dict[str, Outcome] = {}
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            found |= {
                key: Outcome(outcome)
                for key, outcome in self.rows(
                    f"SELECT key, outcome FROM answers WHERE state='answered' AND key IN ({marks})", part
                )
            }
        return found

    def verdict(self, key: str) -> Verdict | None:
        """A stored answer whole, None when there is none."""
        rows = self.rows(
            "SELECT outcome, text, calls, input_tokens, output_tokens, cost_usd, value FROM answers "
            "WHERE key=? AND state='answered'",
            (key,),
        )
        return Verdict(Outcome(rows[0][0]), *rows[0][1:]) if rows else None

    def values(self, keys: Iterable[str]) -> dict[str, float]:
        """Values of the keys whose answer is one."""
        found: dict[str, float] = {}
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            found |= dict(
                self.rows(
                    "SELECT key, value FROM answers WHERE state='answered' AND value IS NOT NULL "
                    f"AND key IN ({marks})",
                    part,
                )
            )
        return found

    def in_doubt(self, keys: Iterable[str]) -> set[str]:
        """Keys that were in flight when their process was killed: perhaps charged, and never answered."""
        return self._reserved(keys)[1]

    def in_flight(self, keys: Iterable[str]) -> set[str]:
        """Keys that a running process waits for."""
        return self._reserved(keys)[0]

    def _reserved(self, keys: Iterable[str]) -> tuple[set[str], set[str]]:
        by_owner: dict[str, dict[str, bool]] = {}
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            query = f"SELECT key, owner, sending FROM answers WHERE state='reserved' AND key IN ({marks})"
            for key, owner, sending in self.rows(query, part):
                by_owner.setdefault(owner, {})[key] = bool(sending)
        flying: set[str] = set()
        doubtful: set[str] = set()
        for owner, found in by_owner.items():
            if self.owner.alive(owner):
                flying |= found.keys()
            else:
                doubtful |= {key for key, sending in found.items() if sending}
        return flying, doubtful

    def spending(self) -> Spending:
        """What everything in the store took, reservations at their estimate."""
        with self._lock:
            return ledger.spending(self._db)

    def reserve(
        self,
        key: str,
        pictures: tuple[str, str],
        who: JudgeIdentity,
        estimate: Estimate,
        budget: Budget,
        *,
        vote: int = 0,
        again: bool = False,
    ) -> bool:
        """Claim a question before it is sent; False when it was answered or claimed before.

        Args:
            key: of the answer.
            pictures: content hashes of both.
            who: the judge.
            estimate: what it may take; held against the budget until the answer says more.
            budget: for all answers of this store.
            vote: which of several on the same question.
            again: claim a question that is in doubt once more; what it may have cost stays counted. One that
                a running process waits for is never claimed.

        Raises:
            BudgetReached: the question could exceed the budget. Nothing is claimed.
        """
        with self.transaction() as db:
            found = db.execute("SELECT state, owner, sending FROM answers WHERE key=?", (key,)).fetchone()
            if found is not None:
                state, owner, sending = found
                if state == "answered" or (sending and not again) or self.owner.alive(owner):
                    return False
                ledger.take_over(db, key)
            need = ledger.needed(db, key, estimate)
            ledger.check(ledger.spending(db), need, budget)
            db.execute(
                "INSERT INTO answers (key, first_sha256, second_sha256, judge, prompt_version, settings, "
                "state, calls, cost_usd, vote, owner) VALUES (?, ?, ?, ?, ?, ?, 'reserved', ?, ?, ?, ?)",
                (key, *pictures, *_identity(who), need.calls, need.cost_usd, vote, self.owner.token),
            )
        return True

    def commit(self, key: str, verdict: Verdict) -> None:
        """Turn a reservation into an answer: what it took replaces what was reserved for it."""
        v = verdict
        with self.transaction() as db:
            db.execute(
                "UPDATE answers SET state='answered', outcome=?, text=?, calls=?, input_tokens=?, "
                "output_tokens=?, cost_usd=?, value=? WHERE key=? AND state='reserved'",
                (
                    *(v.outcome.value, v.text, v.calls, v.input_tokens, v.output_tokens, v.cost_usd),
                    *(v.value, key),
                ),
            )
            db.execute("DELETE FROM failures WHERE key=?", (key,))

    def release(self, key: str, who: JudgeIdentity, bill: Bill) -> None:
        """Give back a reservation without an answer; what it took all the same, `bill`, stays counted, and a
        question with a kept step goes on from there."""
        with self.transaction() as db:
            ledger.give_back(db, key, who.judge, bill)

    def park(self, key: str, text: str) -> None:
        """Remember that a question found no answer, and why: it is asked again, but after all others."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO failures VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET text=excluded.text, "
                "runs=runs+1",
                (key, text),
            )

    def parked(self, keys: Iterable[str]) -> dict[str, str]:
        """Why the keys that found no answer did not, by key; those that failed least often first."""
        found: dict[str, tuple[int, str]] = {}
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            query = (
                "SELECT key, runs, text FROM failures WHERE NOT EXISTS (SELECT 1 FROM answers WHERE "
                f"answers.key=failures.key AND state='answered') AND key IN ({marks})"
            )
            found |= {key: (runs, text) for key, runs, text in self.rows(query, part)}
        return {key: text for key, (_, text) in sorted(found.items(), key=lambda each: each[1][0])}

    def recall(self, key: str, step: str) -> tuple[str, Bill] | None:
        """What a judge kept of one step of a question, and what the question had taken by then."""
        rows = self.rows(
            "SELECT text, calls, input_tokens, output_tokens, cost_usd FROM steps WHERE key=? AND step=?",
            (key, step),
        )
        return (str(rows[0][0]), Bill(*rows[0][1:])) if rows else None

    def keep(self, key: str, step: str, text: str, bill: Bill) -> None:
        """Keep the answer of one step of a question: nothing of it is in flight now."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, step, text, bill.calls, bill.input_tokens, bill.output_tokens, bill.cost_usd),
            )
            # One request at least is to come; repetitions may have taken more than was reserved.
            db.execute(
                "UPDATE answers SET sending=0, calls=MAX(calls, ?), cost_usd=MAX(cost_usd, ?) WHERE key=? "
                "AND state='reserved'",
                (bill.calls + 1, bill.cost_usd, key),
            )

    def sending(self, key: str) -> None:
        """A further request of a reserved question is about to be sent."""
        with self.transaction() as db:
            db.execute("UPDATE answers SET sending=1 WHERE key=? AND state='reserved'", (key,))

    def add_answers(self, answers: Iterable[StoredAnswer]) -> int:
        """Store answers that nobody here pays for, all or none; keys that are there stay as they are, and a
        reservation of a process that is gone gives way: what it may have taken stays counted. How many were
        added."""
        added = 0
        with self.transaction() as db:
            for a in answers:
                found = db.execute("SELECT state, owner FROM answers WHERE key=?", (a.key,)).fetchone()
                if found is not None and (found[0] == "answered" or self.owner.alive(found[1])):
                    continue
                if found is not None:
                    ledger.close(db, a.key)
                v = a.verdict
                db.execute(
                    "INSERT INTO answers (key, first_sha256, second_sha256, judge, "
                    "prompt_version, settings, state, outcome, text, calls, input_tokens, output_tokens, "
                    "cost_usd, value, vote) VALUES (?, ?, ?, ?, ?, ?, 'answered', ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(a.key, *a.pictures, *_identity(a.who), v.outcome.value, v.text, v.calls),
                        *(v.input_tokens, v.output_tokens, v.cost_usd, v.value, a.vote),
                    ),
                )
                added += 1
        return added


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    return db


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
