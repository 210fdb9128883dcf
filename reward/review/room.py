"""What the page can ask for, without HTTP: questions for people, what judges said, figures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from episodes.errors import DatasetError, LabelError
from reward.agreement import agreements, raters
from reward.clients.human import asked_of_people, person_identity
from reward.clients.protocol import JudgeIdentity, Kind, Task
from reward.label_store import costs_of, status_of
from reward.placing import placed
from reward.records import DrawnPair, Place
from reward.review.acts import Given, Seat, answer, check_given, overrule, undo
from reward.review.album import Album
from reward.review.queue import Waiting, give_back, lease_next, progress_of, without
from reward.review.verdicts import (
    FILTERS,
    answers_about,
    for_people,
    judge_of,
    judged,
    judged_pictures,
    kind_of,
    overruling_of,
)
from reward.store import LabelStore

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What people are asked in this room."""

    labels: str
    """Label set that their answers go to."""
    goal: str
    """Of overrulings where the judge's goal is not known."""
    wanted: bool = False
    """People came to answer: the page opens on that, also where judges' answers could be looked at."""


class Room:
    """A dataset's label store with people around it; threads may share it."""

    def __init__(
        self,
        store: LabelStore,
        album: Album,
        asked: Asked,
        draw: Callable[[], None],
        tasks: Mapping[str, str],
        now_ns: Callable[[], int],
    ) -> None:
        """Prepare; nothing is drawn before somebody wants to answer.

        Args:
            store: labels.
            album: pictures.
            asked: what people are asked.
            draw: makes the label set's pairs, or finds them.
            tasks: by episode id.
            now_ns: time, for leases and the record.
        """
        self._store, self._album, self._asked, self._tasks = store, album, asked, dict(tasks)
        self._draw, self._now_ns = draw, now_ns
        self._drawing, self._drawn = threading.Lock(), False

    def shows(self, pair: DrawnPair) -> bool:
        """Whether the dataset still has what a pair is about."""
        return self._album.has(pair)

    def state(self) -> Json:
        """What there is."""
        sets = [
            {"labels": labels, "judge": judge_of(self._store, labels), "kind": kind_of(self._store, labels)}
            for labels in self._store.names()
            if not for_people(self._store, labels)
        ]
        asked = self._asked
        return {
            "labels": asked.labels,
            "sets": sets,
            "start": "judge"
            if sets and not self._store.drawn(asked.labels) and not asked.wanted
            else "answer",
            "filters": [{"name": name, "words": words} for name, (words, _) in FILTERS.items()],
        }

    def next(self, seat: Seat, first: tuple[Place, int] | None = None) -> Json:
        """The question in sight and the one after it, leased to the tab, and the progress."""
        with self._drawing:
            if not self._drawn:
                self._draw()
                self._drawn = True
        now_ns = self._now_ns()
        labels, shown = self._asked.labels, self._album.has
        waiting = lease_next(self._store, labels, seat, now_ns, first=first, shown=shown)
        progress = progress_of(self._store, labels, seat, now_ns)
        if progress.answered < progress.total:
            gone = [pair for pair in self._store.drawn(labels) if not shown(pair)]
            progress = without(progress, self._store, gone)
        return {"items": [self._item(each) for each in waiting], "progress": asdict(progress)}

    def answer(self, seat: Seat, place: Place, number: int, given: Given, act: str) -> Json:
        """Keep an answer to a question of `next`; gives the next ones.

        Raises:
            TakenError: it was answered in the meantime.
            LabelError: no such question, or no answer to it.
        """
        if place.labels != self._asked.labels:
            raise LabelError(f"{place.labels!r} does not wait for people.")
        pair, asked = self._pair(place), self._judge(place)
        check_given(given, _kind(asked))
        if not 0 <= number < len(pair.ballots):
            raise LabelError(f"{place.labels}: there is no question {number} at {place.position}.")
        show = self._album.of_draw(self._store, place)
        pictures = self._album.digests(show, pair, swapped=pair.ballots[number].swapped)
        who = person_identity(asked, seat.person)
        answer(self._store, place, number, seat, who, pictures, given, act, self._now_ns())
        return self.next(seat)

    def undo_answer(self, seat: Seat, act: str) -> Json:
        """Take the tab's last answer back and show its question again."""
        place = undo(self._store, seat, "answer", act, labels=self._asked.labels)
        return {**self.next(seat, place), "undone": place is not None}

    def release(self, tab: str) -> None:
        """A tab was closed."""
        give_back(self._store, tab)

    def verdicts(self, labels: str, filtered: str, offset: int, limit: int) -> Json:
        """Items of a judge's label set that can be shown, and how many each filter has."""
        self._check_judged(labels)
        items = [item for item in judged(self._store, labels) if self._album.has(item.pair)]
        kept = [item for item in items if FILTERS[filtered][1](item)]
        return {
            "counts": {name: sum(map(keeps, items)) for name, (_, keeps) in FILTERS.items()},
            "total": len(kept),
            "items": [
                {
                    "place": asdict(item.place),
                    "outcome": item.outcome.value,
                    "overruled": item.pair.overruled is not None,
                }
                for item in kept[offset : offset + limit]
            ],
        }

    def verdict(self, place: Place) -> Json:
        """One item: pictures, all that the judge said, and who overruled it."""
        self._check_judged(place.labels)
        pair = self._pair(place)
        show = self._album.of_draw(self._store, place)
        pictures = self._album.digests(show, pair)
        seen, who = judged_pictures(self._store, pair), self._judge(place)
        return {
            "place": asdict(place),
            "kind": kind_of(self._store, place.labels),
            "goal": str(who.settings.get("goal") or self._asked.goal),
            "layout": show.layout,
            "judge": who.judge,
            "pictures": [digest for digest in pictures if digest],
            "same_pictures": seen is None or seen == pictures,
            "frames": [asdict(frame) for frame in (pair.first, pair.second) if frame is not None],
            "answers": answers_about(self._store, pair),
            "overruling": overruling_of(self._store, pair),
        }

    def overrule(self, seat: Seat, place: Place, given: Given, act: str, seen: str) -> Json:
        """Let a person's answer count instead; gives the item as it is then.

        Raises:
            TakenError: somebody else overruled it in the meantime.
            LabelError: no such item, or no answer to its question.
        """
        self._check_judged(place.labels)
        kind = kind_of(self._store, place.labels)
        check_given(given, kind)
        judge = self._judge(place)
        show = self._album.of_draw(self._store, place)
        pictures = self._album.digests(show, self._pair(place))
        goal = str(judge.settings.get("goal") or self._asked.goal)
        who = person_identity(asked_of_people(Task(goal, kind, show.layout)), seat.person, sees=judge.judge)
        overrule(self._store, place, seat, who, pictures, given, act, self._now_ns(), seen=seen)
        return self.verdict(place)

    def undo_overruling(self, seat: Seat, act: str) -> Json:
        """Take the tab's last overruling back; gives its item, None when there is none."""
        found = undo(self._store, seat, "overrule", act)
        return {"item": None if found is None else self.verdict(found[0])}

    def figures(self) -> Json:
        """How judges and people fare, agree, and what it cost."""
        spent = self._store.spending()
        return {
            "sets": [
                {**asdict(each), "open": each.open, "judge": judge_of(self._store, each.labels)}
                for each in status_of(self._store, self._tasks)
            ],
            "overruled": dict(
                self._store.rows("SELECT labels, COUNT(*) FROM overrulings GROUP BY labels ORDER BY labels")
            ),
            "agreements": [asdict(each) for each in agreements(raters(self._store))],
            "costs": [asdict(each) for each in costs_of(self._store)],
            "calls": spent.calls,
            "cost_usd": spent.cost_usd,
        }

    def picture(self, digest: str) -> bytes:
        """PNG of a picture that was put to somebody.

        Raises:
            DatasetError: none has that hash.
        """
        return self._album.png(digest)

    def _item(self, waiting: Waiting) -> Json:
        show = self._album.of_draw(self._store, waiting.place)
        pictures = self._album.digests(show, waiting.pair, swapped=waiting.ballot.swapped)
        asked = self._judge(waiting.place)
        return {
            "place": asdict(waiting.place),
            "kind": _kind(asked),
            "goal": str(asked.settings.get("goal", "")),
            "number": waiting.number,
            "layout": show.layout,
            "pictures": [digest for digest in pictures if digest],
        }

    def _pair(self, place: Place) -> DrawnPair:
        where = "WHERE labels=? AND draw=? AND position=? ORDER BY ballots.number"
        found = placed(self._store.rows, where, (place.labels, place.draw, place.position))
        if place not in found:
            raise LabelError(f"{place.labels}: there is nothing at {place.position} of {place.draw!r}.")
        return found[place]

    def _check_judged(self, labels: str) -> None:
        if labels not in self._store.names() or for_people(self._store, labels):
            raise DatasetError(f"no judge answered a label set {labels!r}.")

    def _judge(self, place: Place) -> JudgeIdentity:
        rows = self._store.rows(
            "SELECT settings FROM draws WHERE labels=? AND draw=?", (place.labels, place.draw)
        )
        found = json.loads(rows[0][0]).get("judge", {}) if rows else {}
        return JudgeIdentity(
            str(found.get("judge", place.labels)),
            str(found.get("prompt_version", "")),
            dict(found.get("settings", {})),
        )


def _kind(asked: JudgeIdentity) -> Kind:
    return Kind(str(asked.settings.get("question", Kind.PREFERENCE)))
