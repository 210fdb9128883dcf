"""What a judge said about the items of a label set, for people who look through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reward.agreement import Content, Rater, raters
from reward.ballots import label_of, sides_by_order, verdict_of
from reward.clients.human import HUMAN, is_person
from reward.clients.protocol import Kind, Outcome
from reward.records import DrawnPair, Place
from reward.store import LabelStore


@dataclass(frozen=True, eq=False)
class Judged:
    """An item with at least one answer."""

    place: Place
    pair: DrawnPair
    answers: tuple[Outcome, ...]
    """Of the ballots that were answered, read as if asked in the drawn order."""
    order_decides: bool
    """Another side was named when the pictures were swapped."""
    votes_differ: bool
    """The same question was answered with both sides."""
    people_differ: bool
    """A person who had not seen the answer named another side or level."""

    @property
    def outcome(self) -> Outcome:
        """What the judge's answers come to."""
        return verdict_of(self.answers)


TOLERATED = {Kind.SCORE: 2.5, Kind.PROGRESS: 1.0}
"""Levels (tenths of a score, steps of the rubric) by which a person's rating may differ."""

Filter = Callable[[Judged], bool]

FILTERS: Mapping[str, tuple[str, Filter]] = {
    "all": ("all", lambda item: True),
    "unsure": ("unsure", lambda item: Outcome.UNSURE in item.answers),
    "malformed": ("malformed", lambda item: Outcome.MALFORMED in item.answers),
    "order": ("order decides", lambda item: item.order_decides),
    "votes": ("votes differ", lambda item: item.votes_differ),
    "people": ("people differ", lambda item: item.people_differ),
    "overruled": ("overruled", lambda item: item.pair.overruled is not None),
}
"""Short name, words on the page, and which items."""


def judge_of(store: LabelStore, labels: str) -> str:
    """Whose answers a label set holds, as its draws name it; empty for a set without draws."""
    rows = store.rows(
        "SELECT json_extract(settings, '$.judge.judge') FROM draws WHERE labels=? ORDER BY number", (labels,)
    )
    return str(rows[0][0] or labels) if rows else ""


def kind_of(store: LabelStore, labels: str) -> Kind:
    """What is asked in a label set."""
    rows = store.rows(
        "SELECT json_extract(settings, '$.kind') FROM draws WHERE labels=? ORDER BY number", (labels,)
    )
    return Kind(rows[0][0]) if rows and rows[0][0] else Kind.PREFERENCE


def for_people(store: LabelStore, labels: str) -> bool:
    """Whether the questions of a label set wait for people."""
    return judge_of(store, labels) == HUMAN


def judged(store: LabelStore, labels: str) -> tuple[Judged, ...]:
    """The items of a label set that a judge answered, in their order."""
    places = store.places(labels)
    keys = {ballot.key for pair in places.values() for ballot in pair.ballots}
    outcomes = store.outcomes(keys)
    contents, values = _contents(store, labels), store.values(keys)
    people = [rater for rater in raters(store) if rater.person and rater.kind is kind_of(store, labels)]
    found = []
    for place, pair in places.items():
        known = [ballot for ballot in pair.ballots if ballot.key in outcomes]
        if not known:
            continue
        answers = tuple(outcomes[b.key].swapped if b.swapped else outcomes[b.key] for b in known)
        orders = sides_by_order(pair.ballots, outcomes)
        found.append(
            Judged(
                place,
                pair,
                answers,
                order_decides=all(len(named) == 1 for named in orders) and orders[0] != orders[1],
                votes_differ=any(len(named) > 1 for named in orders)
                or len({values[b.key] for b in known if b.key in values}) > 1,
                people_differ=_people_differ(people, pair, answers, contents, values),
            )
        )
    return tuple(found)


def _people_differ(
    people: list[Rater],
    pair: DrawnPair,
    answers: tuple[Outcome, ...],
    contents: Mapping[str, Content],
    values: Mapping[str, float],
) -> bool:
    pictures = contents.get(pair.key)
    if pictures is None:
        return False
    turned = bool(pictures[1]) and pictures[0] > pictures[1]
    content = (pictures[1], pictures[0]) if turned else pictures
    if pair.second is None:
        given = [values[ballot.key] for ballot in pair.ballots if ballot.key in values]
        mine: float | None = sum(given) / len(given) if given else None
    else:
        label = label_of(answers, "drop")
        mine = None if label not in (0.0, 1.0) else (1 - label if turned else label)
    if mine is None:
        return False
    for person in people:
        theirs = person.levels.get(content)
        if theirs is not None:
            scale = {Kind.SCORE: 10 * mine, Kind.PROGRESS: mine - 1}.get(person.kind, mine)
            if abs(theirs - scale) > TOLERATED.get(person.kind, 0.5):
                return True
    return False


def answers_about(store: LabelStore, pair: DrawnPair) -> list[dict[str, Any]]:
    """Every answer to a pair's ballots with its text, the first stage's description included."""
    found = []
    for ballot in pair.ballots:
        verdict = store.verdict(ballot.key)
        if verdict is None:
            continue
        description = store.recall(ballot.key, "describe")
        outcome = verdict.outcome.swapped if ballot.swapped else verdict.outcome
        found.append(
            {
                "swapped": ballot.swapped,
                "vote": ballot.vote,
                "outcome": outcome.value,
                "value": verdict.value,
                "text": verdict.text,
                "description": "" if description is None else description[0],
                "cost_usd": verdict.cost_usd,
            }
        )
    return found


def overruling_of(store: LabelStore, pair: DrawnPair) -> dict[str, Any] | None:
    """The person's answer that counts instead."""
    if pair.overruled is None:
        return None
    rows = store.rows("SELECT judge, outcome, value FROM answers WHERE key=?", (pair.overruled.key,))
    if not rows:
        return None
    judge, outcome, value = rows[0]
    person = judge.partition(":")[2] if is_person(judge) else judge
    return {"key": pair.overruled.key, "person": person, "outcome": outcome, "value": value}


def judged_pictures(store: LabelStore, pair: DrawnPair) -> tuple[str, str] | None:
    """Content hashes of what the judge was shown, in the drawn order."""
    for ballot in pair.ballots:
        rows = store.rows("SELECT first_sha256, second_sha256 FROM answers WHERE key=?", (ballot.key,))
        if rows:
            first, second = rows[0]
            return (second, first) if ballot.swapped and second else (first, second)
    return None


def _contents(store: LabelStore, labels: str) -> dict[str, Content]:
    """Pictures in the order in which they were shown, by the key of the answer."""
    return {
        key: (first, second)
        for key, first, second in store.rows(
            "SELECT DISTINCT b.key, a.first_sha256, a.second_sha256 FROM ballots b JOIN answers a ON "
            "a.key=b.key WHERE b.labels=?",
            (labels,),
        )
    }
