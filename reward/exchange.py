"""Answers and draws of a label store as a file of JSON lines, out and in.

The first line says what it is; every other one is an answer or a draw. Importing adds what is not there, so
it can be repeated, and stores of several people can be merged.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from episodes.errors import LabelError
from reward.clients.protocol import JudgeIdentity, Outcome, Verdict
from reward.frames import FrameId
from reward.records import Ballot, DrawnPair, StoredAnswer, answer_key
from reward.store import LabelStore

Draw = tuple[str, str, Mapping[str, Any], tuple[DrawnPair, ...]]
"""Label set, name, settings, pairs."""

FORMAT = "armchair-labels"
VERSION = 1


@dataclass(frozen=True)
class Imported:
    """What an import added."""

    answers: int
    draws: int
    known: int
    """Answers that were there already."""


def export_labels(store: LabelStore, path: Path) -> int:
    """Write all answers and draws; how many answers.

    Raises:
        LabelError: the file cannot be written.
    """
    count = 0
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"format": FORMAT, "version": VERSION}) + "\n")
            for answer in stored_answers(store):
                file.write(json.dumps({"answer": _answer_json(answer)}, sort_keys=True) + "\n")
                count += 1
            for labels, draw, settings, pairs in stored_draws(store):
                line = {
                    "labels": labels,
                    "draw": draw,
                    "settings": settings,
                    "pairs": [asdict(pair) for pair in pairs],
                }
                file.write(json.dumps({"draw": line}, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise LabelError(f"{path}: the labels cannot be written ({error}).") from error
    return count


def import_labels(store: LabelStore, path: Path) -> Imported:
    """Add the answers and draws of an export, or of another store, that are not there yet.

    What the answers cost is not booked again: somebody else's budget paid for it.

    Raises:
        LabelError: the file is no export, or an answer's key does not fit its content.
    """
    answers = list(read_answers(path))
    draws = list(_read_draws(path))
    free = [replace(a, verdict=replace(a.verdict, calls=0, cost_usd=0.0)) for a in answers]
    added = store.add_answers(free)
    made = 0
    for labels, draw, settings, pairs in draws:
        here = store.draw(labels, draw)
        if here is None:
            store.add_draw(labels, draw, settings, pairs)
            made += 1
        else:
            _adopt(store, (labels, draw), here, pairs)
    return Imported(added, made, len(answers) - added)


def _adopt(
    store: LabelStore, draw: tuple[str, str], here: Sequence[DrawnPair], there: Sequence[DrawnPair]
) -> None:
    """Take over what people decided there and nobody decided here: answers to open ballots, which then name
    the person who gave them, and overrulings. What was decided here stays."""
    same = [(k, a, b) for k, (a, b) in enumerate(zip(here, there, strict=False)) if _frames(a) == _frames(b)]
    answered = store.outcomes({b.key for pair in (*here, *there) for b in pair.ballots})
    with store.transaction() as db:
        for position, ours, theirs in same:
            for number, (b, other) in enumerate(zip(ours.ballots, theirs.ballots, strict=False)):
                if b.key not in answered and other.key in answered:
                    db.execute(
                        "UPDATE ballots SET key=? WHERE labels=? AND draw=? AND position=? AND number=?",
                        (other.key, *draw, position, number),
                    )
            if theirs.overruled is not None:
                db.execute(
                    "INSERT OR IGNORE INTO overrulings VALUES (?, ?, ?, ?)",
                    (*draw, position, theirs.overruled.key),
                )


def _frames(pair: DrawnPair) -> tuple[FrameId, FrameId | None]:
    return pair.first, pair.second


def stored_answers(store: LabelStore) -> Iterator[StoredAnswer]:
    """All answers of a store, by key."""
    for row in store.rows(
        "SELECT key, first_sha256, second_sha256, judge, prompt_version, settings, vote, outcome, text, "
        "calls, input_tokens, output_tokens, cost_usd, value FROM answers WHERE state='answered' ORDER BY "
        "key"
    ):
        who = JudgeIdentity(row[3], row[4], json.loads(row[5]))
        yield StoredAnswer(row[0], (row[1], row[2]), who, row[6], Verdict(Outcome(row[7]), *row[8:]))


def stored_draws(store: LabelStore) -> Iterator[Draw]:
    """All draws of a store, in the order in which they were made."""
    for labels, draw, settings in store.rows(
        "SELECT labels, draw, settings FROM draws ORDER BY labels, number"
    ):
        yield labels, draw, json.loads(settings), store.draw(labels, draw) or ()


def read_answers(path: Path) -> Iterator[StoredAnswer]:
    """The answers of an export or of a label store.

    Raises:
        LabelError: it is neither.
    """
    if _is_store(path):
        yield from _read_store(path)[0]
        return
    for number, line in _lines(path):
        if "answer" in line:
            yield _answer(path, number, line["answer"])


def _read_draws(path: Path) -> Iterator[Draw]:
    if _is_store(path):
        yield from _read_store(path)[1]
        return
    for number, line in _lines(path):
        if "draw" not in line:
            continue
        try:
            found = line["draw"]
            pairs = tuple(
                DrawnPair(
                    FrameId(**pair["first"]),
                    None if pair["second"] is None else FrameId(**pair["second"]),
                    tuple(Ballot(**ballot) for ballot in pair["ballots"]),
                    Ballot(**ruling) if (ruling := pair.get("overruled")) else None,
                )
                for pair in found["pairs"]
            )
            yield str(found["labels"]), str(found["draw"]), dict(found["settings"]), pairs
        except (KeyError, TypeError, ValueError) as error:
            raise LabelError(f"{path}:{number}: not a draw of {FORMAT} ({error}).") from error


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(file.readline())
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise ValueError(f"the first line names no {FORMAT}")
            if head.get("version") != VERSION:
                raise LabelError(
                    f"{path}: version {head.get('version')}; this armchair reads {VERSION}. Update it."
                )
            for number, text in enumerate(file, start=2):
                line = json.loads(text)
                if not isinstance(line, dict):
                    raise ValueError(f"line {number} is no object")
                yield number, line
    except (OSError, ValueError) as error:
        raise LabelError(
            f"{path}: not an export of labels ({error}). armchair label export makes one."
        ) from error


def _answer(path: Path, number: int, found: Mapping[str, Any]) -> StoredAnswer:
    try:
        who = JudgeIdentity(str(found["judge"]), str(found["prompt_version"]), dict(found["settings"]))
        pictures = (str(found["pictures"][0]), str(found["pictures"][1]))
        vote = int(found["vote"])
        value = found["value"]
        answer = StoredAnswer(
            key=str(found["key"]),
            pictures=pictures,
            who=who,
            vote=vote,
            verdict=Verdict(
                Outcome(found["outcome"]),
                str(found["text"]),
                int(found["calls"]),
                int(found["input_tokens"]),
                int(found["output_tokens"]),
                float(found["cost_usd"]),
                None if value is None else float(value),
            ),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LabelError(f"{path}:{number}: not an answer of {FORMAT} ({error}).") from error
    if answer_key(*pictures, who, vote) != answer.key:
        raise LabelError(
            f"{path}:{number}: the key of this answer does not fit its pictures, prompt and judge: the file "
            "was changed. Export it anew."
        )
    return answer


def _answer_json(answer: StoredAnswer) -> dict[str, Any]:
    who, verdict = answer.who, asdict(answer.verdict)
    return {
        "key": answer.key,
        "pictures": list(answer.pictures),
        "judge": who.judge,
        "prompt_version": who.prompt_version,
        "settings": dict(who.settings),
        "vote": answer.vote,
        **verdict,
        "outcome": answer.verdict.outcome.value,
    }


def _is_store(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error}).") from error


def _read_store(path: Path) -> tuple[list[StoredAnswer], list[Draw]]:
    try:
        # Somebody else's file: it is neither written to nor brought to this version.
        with LabelStore(path, copied=True) as store:
            return list(stored_answers(store)), list(stored_draws(store))
    except sqlite3.Error as error:
        raise LabelError(f"{path}: the label store cannot be read ({error}).") from error
