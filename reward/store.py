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
from reward import schema
from reward.clients.protocol import Bill, Estimate, JudgeIdentity, Outcome, Verdict
from reward.owners import Owner
from reward.placing import columns, placed
from reward.records import Budget, BudgetReached, DrawnPair, Place, Spending, StoredAnswer

FILE = "labels.sqlite"


class LabelStore:
    """One SQLite file in WAL mode; a context manager. Threads may share it, processes may open it at once."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`.

        Raises:
            LabelError: it cannot be opened, is no label store, or one of another version.
        """
        self.path = path
        self.owner = Owner(path.parent)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = threading.RLock()
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
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
        """All statements within, or none; for the modules beside this one."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

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
    ) -> None:
        """Remember the pairs of a draw, all or none."""
        with self.transaction():
            number = int(
                self._db.execute("SELECT COUNT(*) FROM draws WHERE labels=?", (labels,)).fetchone()[0]
            )
            self._db.execute(
                "INSERT INTO draws VALUES (?, ?, ?, ?)",
                (labels, draw, number, json.dumps(dict(settings), sort_keys=True)),
            )
            self._db.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (labels, draw, k, *columns(p.first), *(columns(p.second) if p.second else (None, None)))
                    for k, p in enumerate(pairs)
                ),
            )
            self._db.executemany(
                "INSERT INTO ballots VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (labels, draw, k, n, int(b.swapped), b.vote, b.key)
                    for k, p in enumerate(pairs)
                    for n, b in enumerate(p.ballots)
                ),
            )
            self._db.executemany(
                "INSERT INTO overrulings VALUES (?, ?, ?, ?)",
                ((labels, draw, k, p.overruled.key) for k, p in enumerate(pairs) if p.overruled is not None),
            )

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
        ((calls, cost),) = self.rows(
            "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(cost_usd), 0) FROM "
            "(SELECT calls, cost_usd FROM answers UNION ALL SELECT calls, cost_usd FROM charges)"
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
        with self.transaction():
            found = self._db.execute(
                "SELECT state, calls, cost_usd, owner, sending FROM answers WHERE key=?", (key,)
            ).fetchone()
            if found is not None:
                state, _, _, owner, sending = found
                if state == "answered" or (sending and not again) or self.owner.alive(owner):
                    return False
            bounded = budget.calls is not None or budget.usd is not None
            spent = self.spending() if bounded else Spending(0, 0.0)
            if budget.calls is not None and spent.calls + estimate.calls > budget.calls:
                raise BudgetReached(
                    f"the budget of {budget.calls} calls is used up ({spent.calls} spent): raise "
                    "--budget.calls to go on."
                )
            if budget.usd is not None and spent.cost_usd + estimate.cost_usd > budget.usd:
                raise BudgetReached(
                    f"the budget of {budget.usd:.2f} USD is used up ({spent.cost_usd:.2f} spent): raise "
                    "--budget.usd to go on."
                )
            # Of a question between two requests all is known: what it took is with the kept step.
            before = (found[1], found[2]) if found is not None and found[4] else (0, 0.0)
            self._db.execute(
                "INSERT OR REPLACE INTO answers (key, first_sha256, second_sha256, judge, "
                "prompt_version, settings, state, calls, cost_usd, vote, owner) "
                "VALUES (?, ?, ?, ?, ?, ?, 'reserved', ?, ?, ?, ?)",
                (
                    key,
                    *pictures,
                    *_identity(who),
                    before[0] + estimate.calls,
                    before[1] + estimate.cost_usd,
                    vote,
                    self.owner.token,
                ),
            )
        return True

    def commit(self, key: str, verdict: Verdict, estimate: Estimate) -> None:
        """Turn a reservation into an answer: what it took replaces `estimate`, the amount reserved for it."""
        with self.transaction():
            self._db.execute(
                "UPDATE answers SET state='answered', outcome=?, text=?, calls=calls-?+?, "
                "input_tokens=?, output_tokens=?, value=?, "
                "cost_usd=MAX(0, cost_usd-?)+? WHERE key=? AND state='reserved'",
                (
                    verdict.outcome.value,
                    verdict.text,
                    estimate.calls,
                    verdict.calls,
                    verdict.input_tokens,
                    verdict.output_tokens,
                    verdict.value,
                    estimate.cost_usd,
                    verdict.cost_usd,
                    key,
                ),
            )

    def release(self, key: str, estimate: Estimate, who: JudgeIdentity, bill: Bill) -> None:
        """Give back a reservation without an answer; what it took all the same, `bill`, stays counted."""
        with self.transaction():
            self._db.execute(
                "UPDATE answers SET calls=calls-?, cost_usd=MAX(0, cost_usd-?) WHERE key=? AND "
                "state='reserved'",
                (estimate.calls, estimate.cost_usd, key),
            )
            self._db.execute("DELETE FROM answers WHERE key=? AND state='reserved' AND calls<=0", (key,))
            if bill.cost_usd > 0 or bill.input_tokens or bill.output_tokens:
                self._db.execute(
                    "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)",
                    (key, who.judge, bill.calls, bill.input_tokens, bill.output_tokens, bill.cost_usd),
                )
                self._db.execute(
                    "UPDATE steps SET calls=0, input_tokens=0, output_tokens=0, cost_usd=0 WHERE key=?",
                    (key,),
                )

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
            db.execute("UPDATE answers SET sending=0 WHERE key=? AND state='reserved'", (key,))

    def sending(self, key: str) -> None:
        """A further request of a reserved question is about to be sent."""
        with self.transaction() as db:
            db.execute("UPDATE answers SET sending=1 WHERE key=? AND state='reserved'", (key,))

    def add_answers(self, answers: Iterable[StoredAnswer]) -> int:
        """Store answers that nobody here pays for, all or none; keys that are there stay as they are, and a
        reservation of a process that is gone gives way. How many were added."""
        with self.transaction() as db:
            before = db.total_changes
            for a in answers:
                found = db.execute("SELECT state, owner FROM answers WHERE key=?", (a.key,)).fetchone()
                if found is not None and (found[0] == "answered" or self.owner.alive(found[1])):
                    continue
                v = a.verdict
                db.execute(
                    "INSERT OR REPLACE INTO answers (key, first_sha256, second_sha256, judge, "
                    "prompt_version, settings, state, outcome, text, calls, input_tokens, output_tokens, "
                    "cost_usd, value, vote) VALUES (?, ?, ?, ?, ?, ?, 'answered', ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(a.key, *a.pictures, *_identity(a.who), v.outcome.value, v.text, v.calls),
                        *(v.input_tokens, v.output_tokens, v.cost_usd, v.value, a.vote),
                    ),
                )
            return db.total_changes - before


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
