"""What people do to a label set: answer, overrule, undo. Each is one transaction and done once.

Every act has an id that the page makes up, so that a request which is sent again after a lost reply changes
nothing. A question is answered once: the second answer, from another tab or another person, is refused with
the name of whoever was first. Acts are kept, so that the last one of a tab can be undone after a reload.
"""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

from episodes.errors import LabelError
from reward.clients.human import is_person
from reward.clients.protocol import JudgeIdentity, Kind, Outcome
from reward.records import Place, answer_key
from reward.store import LabelStore

What = Literal["answer", "overrule"]

RANGES = {Kind.SCORE: (0.0, 1.0), Kind.PROGRESS: (1.0, 5.0), Kind.SUCCESS: (0.0, 1.0)}


class TakenError(LabelError):
    """Raised when somebody else decided in the meantime; what they said stays."""


@dataclass(frozen=True)
class Seat:
    """A person at a tab of the page."""

    person: str
    tab: str


@dataclass(frozen=True)
class Given:
    """What a person said."""

    outcome: Outcome
    value: float | None = None


def check_given(given: Given, kind: Kind) -> None:
    """Raises:
    LabelError: not an answer to this kind of question.
    """
    if given.outcome is Outcome.UNSURE:
        fits = given.value is None
    elif kind is Kind.PREFERENCE:
        fits = given.outcome in (Outcome.FIRST, Outcome.SECOND, Outcome.TIE) and given.value is None
    else:
        low, high = RANGES[kind]
        value = given.value
        fits = given.outcome is Outcome.RATED and value is not None and low <= value <= high
        fits = fits and (kind is Kind.SCORE or (value is not None and math.floor(value) == value))
    if not fits:
        raise LabelError(f"{given.outcome.value!r} with value {given.value} is no answer to {kind.value!r}.")


def answer(
    store: LabelStore,
    place: Place,
    number: int,
    seat: Seat,
    who: JudgeIdentity,
    pictures: tuple[str, str],
    given: Given,
    act: str,
    now_ns: int,
) -> None:
    """Answer a ballot that waits for a person.

    Args:
        store: holds the label set.
        place: the pair or frame.
        number: of its ballot.
        seat: who answers, and where.
        who: their identity; decides the key of the answer.
        pictures: content hashes in the order in which they were shown.
        given: the answer, about that order.
        act: id of this answer.
        now_ns: time, for the record.

    Raises:
        TakenError: the ballot was answered before.
        LabelError: there is no such ballot.
    """
    with store.transaction() as db:
        if db.execute("SELECT 1 FROM acts WHERE id=?", (act,)).fetchone():
            return
        found = db.execute(
            "SELECT key, vote FROM ballots WHERE labels=? AND draw=? AND position=? AND number=?",
            (*_values(place), number),
        ).fetchone()
        if found is None:
            raise LabelError(f"{place.labels}: there is no question {number} at {place.position}.")
        waiting, vote = found
        _free_the_lease(db, place, number)
        taken = db.execute(
            "SELECT judge FROM answers WHERE key=? AND state='answered'", (waiting,)
        ).fetchone()
        if taken is not None:
            by = taken[0].partition(":")[2] or taken[0]
            where = "in another tab" if taken[0] == who.judge else f"by {by}"
            raise TakenError(f"this was answered {where} in the meantime; that answer stays.")
        key = answer_key(*pictures, who, vote)
        _record(db, act, now_ns, seat, "answer", (place, number), key, waiting)
        _put(db, key, pictures, who, vote, given)
        db.execute(
            "UPDATE ballots SET key=? WHERE labels=? AND draw=? AND position=? AND number=?",
            (key, *_values(place), number),
        )


def overrule(
    store: LabelStore,
    place: Place,
    seat: Seat,
    who: JudgeIdentity,
    pictures: tuple[str, str],
    given: Given,
    act: str,
    now_ns: int,
    *,
    seen: str,
) -> None:
    """Let a person's answer count instead of the judge's; the judge's stays stored.

    Args:
        seen: key of the overruling that was in sight, empty for none: two people who look at the same item
            do not overrule each other unknowingly.
        store, place, seat, who, act, now_ns: as for `answer`.
        pictures: in the drawn order.
        given: about the drawn order.

    Raises:
        TakenError: somebody else overruled it in the meantime.
        LabelError: there is no such item.
    """
    with store.transaction() as db:
        if db.execute("SELECT 1 FROM acts WHERE id=?", (act,)).fetchone():
            return
        if not db.execute(
            "SELECT 1 FROM items WHERE labels=? AND draw=? AND position=?", _values(place)
        ).fetchone():
            raise LabelError(f"{place.labels}: there is nothing at {place.position} of {place.draw}.")
        before = _overruling(db, place)
        if before != seen:
            raise TakenError("somebody else overruled this in the meantime; look at it again.")
        key = answer_key(*pictures, who)
        _record(db, act, now_ns, seat, "overrule", (place, 0), key, before)
        _put(db, key, pictures, who, 0, given)
        db.execute("INSERT OR REPLACE INTO overrulings VALUES (?, ?, ?, ?)", (*_values(place), key))


def undo(
    store: LabelStore, seat: Seat, what: What, act: str, *, labels: str = ""
) -> tuple[Place, int] | None:
    """Take the last act of this tab back; where it was, None when there is none.

    Args:
        store: holds the label set.
        seat: whose act.
        what: kind of act.
        act: id of the undoing.
        labels: only in this label set; in any when left out.

    Raises:
        TakenError: somebody else built upon it in the meantime.
    """
    columns = "id, labels, draw, position, number, key, key_before, outcome_before, value_before"
    with store.transaction() as db:
        done = db.execute(f"SELECT {columns} FROM acts WHERE undone_by=?", (act,)).fetchone()
        if done is not None:
            return Place(*done[1:4]), done[4]
        found = db.execute(
            f"SELECT {columns} FROM acts WHERE person=? AND tab=? AND what=? AND (?='' OR labels=?) "
            "AND undone_by IS NULL ORDER BY sequence DESC LIMIT 1",
            (seat.person, seat.tab, what, labels, labels),
        ).fetchone()
        if found is None:
            return None
        name, *where, number, key, key_before, outcome, value = found
        place = Place(*where)
        if what == "overrule":
            if _overruling(db, place) != key:
                raise TakenError("somebody else overruled this since; what they said stays.")
            if key_before:
                db.execute("INSERT OR REPLACE INTO overrulings VALUES (?, ?, ?, ?)", (*where, key_before))
            else:
                db.execute("DELETE FROM overrulings WHERE labels=? AND draw=? AND position=?", where)
        else:
            db.execute(
                "UPDATE ballots SET key=? WHERE labels=? AND draw=? AND position=? AND number=? AND key=?",
                (key_before, *where, number, key),
            )
        _restore(db, key, outcome, value)
        db.execute("UPDATE acts SET undone_by=? WHERE id=?", (act, name))
        return place, number


def _restore(db: sqlite3.Connection, key: str, outcome: str | None, value: float | None) -> None:
    """The answer as it was before an act; gone when there was none and nothing else rests on it."""
    if outcome is not None:
        db.execute("UPDATE answers SET outcome=?, value=? WHERE key=?", (outcome, value, key))
        return
    used = db.execute(
        "SELECT 1 FROM ballots WHERE key=? UNION ALL SELECT 1 FROM overrulings WHERE key=?", (key, key)
    ).fetchone()
    if used is None:
        db.execute("DELETE FROM answers WHERE key=?", (key,))


def _record(
    db: sqlite3.Connection,
    act: str,
    now_ns: int,
    seat: Seat,
    what: What,
    where: tuple[Place, int],
    key: str,
    key_before: str,
) -> None:
    """Keep what is needed to take the act back, before anything changes."""
    old = db.execute("SELECT outcome, value FROM answers WHERE key=?", (key,)).fetchone() or (None, None)
    db.execute(
        "INSERT INTO acts SELECT ?, COALESCE(MAX(sequence), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL "
        "FROM acts",
        (act, now_ns, seat.person, seat.tab, what, *_values(where[0]), where[1], key, key_before, *old),
    )


def _put(
    db: sqlite3.Connection, key: str, pictures: tuple[str, str], who: JudgeIdentity, vote: int, given: Given
) -> None:
    check_person(who)
    db.execute(
        "INSERT OR REPLACE INTO answers (key, first_sha256, second_sha256, judge, prompt_version, settings, "
        "state, outcome, text, calls, cost_usd, value, vote) "
        "VALUES (?, ?, ?, ?, ?, ?, 'answered', ?, '', 0, 0, ?, ?)",
        (
            *(key, *pictures, who.judge, who.prompt_version),
            *(json.dumps(dict(who.settings), sort_keys=True), given.outcome.value, given.value, vote),
        ),
    )


def check_person(who: JudgeIdentity) -> None:
    """Only people may change their mind: a judge's paid answer is never written over.

    Raises:
        LabelError: another judge.
    """
    if not is_person(who.judge):
        raise LabelError(f"{who.judge!r} is no person; its answers are not changed by hand.")


def _overruling(db: sqlite3.Connection, place: Place) -> str:
    found = db.execute(
        "SELECT key FROM overrulings WHERE labels=? AND draw=? AND position=?", _values(place)
    ).fetchone()
    return str(found[0]) if found else ""


def _free_the_lease(db: sqlite3.Connection, place: Place, number: int) -> None:
    db.execute(
        "DELETE FROM leases WHERE labels=? AND draw=? AND position=? AND number=?", (*_values(place), number)
    )


def _values(place: Place) -> tuple[Any, ...]:
    return place.labels, place.draw, place.position
