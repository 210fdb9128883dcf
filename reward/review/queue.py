"""Who is shown what: questions are leased to a tab for a time, so that no two tabs work on the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from reward.clients.human import HUMAN
from reward.frames import FrameId
from reward.records import Ballot, DrawnPair, Place
from reward.review.acts import Seat
from reward.store import LabelStore

LEASE_NS = 300 * 1_000_000_000
"""A question comes back when its tab was silent for so long; every request of the tab renews it."""
AHEAD = 2
"""Questions that a tab holds at once: the one in sight, and the next one, whose pictures load meanwhile."""

_FREE = """
FROM ballots b JOIN draws d USING (labels, draw) JOIN items i USING (labels, draw, position)
LEFT JOIN answers a ON a.key=b.key AND a.state='answered'
LEFT JOIN leases l ON l.labels=b.labels AND l.draw=b.draw AND l.position=b.position AND l.number=b.number
    AND l.until_ns>:now AND l.tab<>:tab
LEFT JOIN leases own ON own.labels=b.labels AND own.draw=b.draw AND own.position=b.position
    AND own.number=b.number AND own.tab=:tab
WHERE b.labels=:labels AND a.key IS NULL
"""
_MINE = """
AND l.tab IS NULL
AND NOT EXISTS (SELECT 1 FROM ballots o JOIN answers x ON x.key=o.key WHERE o.labels=b.labels AND
    o.draw=b.draw AND o.position=b.position AND o.swapped=b.swapped AND o.number<>b.number AND
    x.state='answered' AND x.judge=:judge)
AND NOT EXISTS (SELECT 1 FROM leases m WHERE m.labels=b.labels AND m.draw=b.draw AND m.position=b.position
    AND m.number<>b.number AND m.person=:person AND m.tab<>:tab AND m.until_ns>:now)
ORDER BY (b.draw, b.position, b.number)=(:draw, :position, :number) DESC, own.tab IS NULL,
    d.number, b.number, b.position
"""


@dataclass(frozen=True)
class Waiting:
    """A question that waits for its answer."""

    place: Place
    number: int
    pair: DrawnPair
    """With this one ballot."""

    @property
    def ballot(self) -> Ballot:
        """Order and vote."""
        return self.pair.ballots[0]


@dataclass(frozen=True)
class Progress:
    """Where a label set stands, seen from a tab."""

    total: int
    answered: int
    mine: int
    """Of the answered ones, by this person."""
    elsewhere: int
    """Leased to other tabs at the moment."""


def lease_next(
    store: LabelStore,
    labels: str,
    seat: Seat,
    now_ns: int,
    *,
    count: int = AHEAD,
    first: tuple[Place, int] | None = None,
    shown: Callable[[DrawnPair], bool] = lambda pair: True,
) -> tuple[Waiting, ...]:
    """The next questions for a tab, leased to it: those that it holds come first, so that a reload shows the
    same one.

    A person is asked for one vote in each order of a pair: further votes wait for other people.

    Args:
        store: holds the label set.
        labels: the label set.
        seat: who asks for work, and where.
        now_ns: time; leases run from here.
        count: questions wanted.
        first: a question that comes before all others if it is free, and the number of its ballot.
        shown: whether a pair can be shown; others are passed over.
    """
    place, wanted = first or (Place(labels, "", -1), -1)
    values = {
        "labels": labels,
        "now": now_ns,
        "tab": seat.tab,
        "person": seat.person,
        "judge": f"{HUMAN}:{seat.person}",
        "draw": place.draw,
        "position": place.position,
        "number": wanted,
    }
    query = (
        "SELECT b.draw, b.position, b.number, b.key, b.swapped, b.vote, i.first_episode, i.first_index, "
        f"i.second_episode, i.second_index {_FREE} {_MINE}"
    )
    found: dict[tuple[str, int], Waiting] = {}
    with store.transaction() as db:
        rows = db.execute(query, values)
        for draw, position, number, key, swapped, vote, episode, index, other, at in rows:
            second = None if other is None else FrameId(other, at)
            pair = DrawnPair(FrameId(episode, index), second, (Ballot(key, bool(swapped), vote),))
            if not shown(pair):
                continue
            found.setdefault((draw, position), Waiting(Place(labels, draw, position), number, pair))
            if len(found) == count:
                break
        rows.close()
        db.execute("DELETE FROM leases WHERE tab=? OR until_ns<=?", (seat.tab, now_ns))
        db.executemany(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (labels, w.place.draw, w.place.position, w.number, seat.person, seat.tab, now_ns + LEASE_NS)
                for w in found.values()
            ),
        )
    return tuple(found.values())


def give_back(store: LabelStore, tab: str) -> None:
    """A tab that is closed holds nothing."""
    with store.transaction() as db:
        db.execute("DELETE FROM leases WHERE tab=?", (tab,))


def without(progress: Progress, store: LabelStore, gone: Iterable[DrawnPair]) -> Progress:
    """The same without the unanswered questions about pairs that cannot be shown."""
    keys = {ballot.key for pair in gone for ballot in pair.ballots}
    return replace(progress, total=progress.total - len(keys) + len(store.outcomes(keys)))


def progress_of(store: LabelStore, labels: str, seat: Seat, now_ns: int) -> Progress:
    """Counts of questions, each order and vote for itself."""
    ((total, answered, mine),) = store.rows(
        "SELECT COUNT(*), COUNT(a.key), COALESCE(SUM(a.judge=?), 0) FROM ballots b LEFT JOIN answers a ON "
        "a.key=b.key AND a.state='answered' WHERE b.labels=?",
        (f"{HUMAN}:{seat.person}", labels),
    )
    ((elsewhere,),) = store.rows(
        "SELECT COUNT(*) FROM leases WHERE labels=? AND tab<>? AND until_ns>?", (labels, seat.tab, now_ns)
    )
    return Progress(total, answered, mine, elsewhere)
