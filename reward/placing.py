"""Drawn pairs as rows of the label store, with the place at which each stands."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reward.frames import FrameId
from reward.records import Ballot, DrawnPair, Place

Rows = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Runs a query."""


def placed(rows: Rows, rest: str, values: Sequence[object]) -> dict[Place, DrawnPair]:
    """Pairs with their ballots by place.

    Args:
        rows: of a label store.
        rest: the end of the query over items and ballots; a pair's ballots come in the order of their
            number.
        values: for the marks in `rest`.
    """
    found: dict[Place, DrawnPair] = {}
    for labels, draw, position, episode, index, other, at, key, swapped, vote, ruling in rows(
        "SELECT labels, draw, position, first_episode, first_index, second_episode, second_index, "
        "ballots.key, swapped, vote, overrulings.key FROM items JOIN ballots USING (labels, draw, position) "
        f"LEFT JOIN overrulings USING (labels, draw, position) {rest}",
        values,
    ):
        place, ballot = Place(labels, draw, position), Ballot(key, bool(swapped), vote)
        if place in found:
            found[place] = replace(found[place], ballots=(*found[place].ballots, ballot))
        else:
            second = None if other is None else FrameId(other, at)
            overruled = None if ruling is None else Ballot(ruling)
            found[place] = DrawnPair(FrameId(episode, index), second, (ballot,), overruled)
    return found


def columns(frame: FrameId) -> tuple[str, int]:
    """A frame as it is stored."""
    return frame.episode_id, frame.index


def put_draw(
    db: sqlite3.Connection, labels: str, draw: str, settings: str, pairs: Sequence[DrawnPair]
) -> None:
    """Store the pairs of a draw behind those of the label set's earlier draws; within a transaction."""
    (number,) = db.execute("SELECT COUNT(*) FROM draws WHERE labels=?", (labels,)).fetchone()
    db.execute("INSERT INTO draws VALUES (?, ?, ?, ?)", (labels, draw, number, settings))
    db.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (labels, draw, k, *columns(p.first), *(columns(p.second) if p.second else (None, None)))
            for k, p in enumerate(pairs)
        ),
    )
    db.executemany(
        "INSERT INTO ballots VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (labels, draw, k, n, int(b.swapped), b.vote, b.key)
            for k, p in enumerate(pairs)
            for n, b in enumerate(p.ballots)
        ),
    )
    db.executemany(
        "INSERT INTO overrulings VALUES (?, ?, ?, ?)",
        ((labels, draw, k, p.overruled.key) for k, p in enumerate(pairs) if p.overruled is not None),
    )
