"""What people are asked: pairs drawn as for any judge, or those of a label set that a judge answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from episodes.errors import LabelError
from reward.ballots import VoteConfig
from reward.clients.human import HUMAN, asked_of_people
from reward.clients.protocol import Kind, Task
from reward.records import Ballot, DrawnPair, Place, answer_key
from reward.review.album import Album
from reward.review.verdicts import for_people
from reward.store import LabelStore


def check_for_people(store: LabelStore, labels: str) -> None:
    """Raises:
    LabelError: the label set holds the answers of another judge.
    """
    if labels in store.names() and not for_people(store, labels):
        raise LabelError(
            f"{store.path}: the label set {labels!r} holds a judge's answers. Give people one of their own "
            f"(--labels {HUMAN}), and --of {labels} to put its pairs to them."
        )


def draw_of(
    store: LabelStore,
    album: Album,
    labels: str,
    source: str,
    count: int,
    seed: int,
    goal: str,
    kind: Kind,
    votes: VoteConfig,
) -> None:
    """Put pairs of another label set to people, each shown as the judge was shown it; once. Pairs whose
    frames are gone are left out.

    Args:
        store: holds both.
        album: shows.
        labels: label set of people.
        source: the other label set.
        count: pairs to take, chosen by `seed`; all when there are not more.
        seed: of the choice.
        goal: what is asked for.
        kind: the question of both.
        votes: how often each is asked about.
    """
    places = list(store.places(source))
    chosen = np.random.default_rng([seed, len(places)]).permutation(len(places))[:count]
    by_draw: dict[str, list[Place]] = {}
    for k in np.sort(chosen).tolist():
        by_draw.setdefault(places[k].draw, []).append(places[k])
    pairs = store.places(source)
    for draw, taken in by_draw.items():
        shown = _settings(store, source, draw)
        show = album.as_drawn(shown)
        who = asked_of_people(Task(goal, kind, show.layout))
        settings: dict[str, object] = {
            "of": {"labels": source, "draw": draw, "positions": [place.position for place in taken]},
            "judge": asdict(who),
            **({"votes": asdict(votes)} if votes != VoteConfig() else {}),
            **({"kind": kind.value} if kind is not Kind.PREFERENCE else {}),
            **({"show": shown["show"]} if "show" in shown else {}),
            **({"stream": shown["stream"]} if "stream" in shown else {}),
        }
        name = f"of-{source}-{_fingerprint(settings)}"
        if store.draw(labels, name) is not None:
            continue
        made: list[DrawnPair] = []
        for place in taken:
            pair = pairs[place]
            if not album.has(pair):
                continue
            pictures = album.digests(show, pair)
            ballots = tuple(
                Ballot(answer_key(*_ordered(pictures, swapped), who, vote), swapped, vote)
                for swapped, vote in votes.orders(kind.pictures)
            )
            made.append(DrawnPair(pair.first, pair.second, ballots))
        if made:
            store.add_draw(labels, name, settings, made)


def _ordered(pictures: tuple[str, str], swapped: bool) -> Sequence[str]:
    return pictures[::-1] if swapped else pictures


def _settings(store: LabelStore, labels: str, draw: str) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(
        store.rows("SELECT settings FROM draws WHERE labels=? AND draw=?", (labels, draw))[0][0]
    )
    return found


def _fingerprint(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
