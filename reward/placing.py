"""Drawn pairs as rows of the label store, with the place at which each stands."""

from __future__ import annotations

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
