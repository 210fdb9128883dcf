"""Agreement between raters, whether people or other judges, beyond what chance gives.

Raters are compared on pictures that both judged, found by content, whichever label sets they were asked in.
Of people only answers count that were given without a judge's answer in sight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from reward.ballots import label_of
from reward.clients.human import is_blind, is_person
from reward.clients.protocol import JudgeIdentity, Kind, Outcome
from reward.clients.replay import REPLAY
from reward.store import LabelStore

DRAWS = 4000
"""Samples of the posterior of κ."""
PRIOR = 2.0
"""Pseudo-counts of the posterior in all cells together: Jeffreys' one half each in a table of two levels."""
LEVELS = {Kind.PREFERENCE: 2, Kind.SCORE: 11, Kind.PROGRESS: 5, Kind.SUCCESS: 2}

Content = tuple[str, str]
"""Content hashes of a question's pictures, the smaller one first; the second is empty for one picture."""


@dataclass(frozen=True, eq=False)
class Rater:
    """A person, or a judge with its settings."""

    name: str
    person: bool
    kind: Kind
    goal: str
    """What was asked for, empty where nobody said it."""
    levels: Mapping[Content, int | None]
    """By content, what was said: 0 or 1 for the side, else the level of the rating; None where the rater did
    not decide."""


@dataclass(frozen=True)
class Agreement:
    """How two raters agree on what both judged."""

    first: str
    second: str
    people: int
    """How many of the two are people."""
    kind: str
    both: int
    """Questions that both answered."""
    decided: int
    """Those in which both named a side or a level; the figures are over these."""
    share: float | None
    """Of the decided ones with the same answer."""
    kappa: float | None
    """Cohen's κ (1960), with quadratic weights (1968) for scores and progress; None where it is undefined."""
    low: float | None
    """95 % interval of κ, see `kappa_interval`."""
    high: float | None


def cohen_kappa(table: NDArray[np.floating], *, quadratic: bool = False) -> float | None:
    """κ = 1 − Σ w·p / Σ w·(row·column) of a table of counts, (levels, levels).

    w is 1 off the diagonal (Cohen 1960), or (i − j)² (Cohen 1968). None when the table is empty or chance
    alone gives full agreement, since κ is 0/0 there.
    """
    values = _kappas(np.asarray(table, np.float64)[None], quadratic)
    return None if np.isnan(values[0]) else float(values[0])


def kappa_interval(
    table: NDArray[np.floating], *, quadratic: bool = False, level: float = 0.95
) -> tuple[float, float] | None:
    """Credible interval of κ: the table's cells have a Dirichlet posterior with PRIOR.

    The usual interval from the standard error (Fleiss, Cohen and Everitt 1969) has width 0 when two raters
    agree in all of ten answers; this one does not. The point estimate is always inside. None where κ is.
    """
    counts = np.asarray(table, np.float64)
    point = cohen_kappa(counts, quadratic=quadratic)
    if point is None:
        return None
    generator = np.random.default_rng(0)
    drawn = generator.dirichlet(counts.ravel() + PRIOR / counts.size, DRAWS).reshape(-1, *counts.shape)
    found = np.quantile(_kappas(drawn, quadratic), [(1 - level) / 2, (1 + level) / 2])
    return min(float(found[0]), point), max(float(found[1]), point)


def _kappas(tables: NDArray[np.float64], quadratic: bool) -> NDArray[np.float64]:
    size = tables.shape[-1]
    i, j = np.indices((size, size))
    weight = ((i - j) ** 2 if quadratic else i != j).astype(np.float64)
    total = tables.sum(axis=(1, 2))
    chance = np.einsum("nij,nkl,il->n", tables, tables, weight)
    seen = (weight * tables).sum(axis=(1, 2)) * total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance > 0, 1 - seen / chance, np.nan)


def agreement(one: Rater, other: Rater) -> Agreement:
    """How two raters of the same kind of question agree."""
    shared = sorted(one.levels.keys() & other.levels.keys())
    size = LEVELS[one.kind]
    table = np.zeros((size, size))
    for content in shared:
        a, b = one.levels[content], other.levels[content]
        if a is not None and b is not None:
            table[a, b] += 1
    decided = int(table.sum())
    quadratic = one.kind in (Kind.SCORE, Kind.PROGRESS)
    interval = kappa_interval(table, quadratic=quadratic)
    return Agreement(
        first=one.name,
        second=other.name,
        people=one.person + other.person,
        kind=one.kind.value,
        both=len(shared),
        decided=decided,
        share=float(np.trace(table)) / decided if decided else None,
        kappa=cohen_kappa(table, quadratic=quadratic),
        low=None if interval is None else interval[0],
        high=None if interval is None else interval[1],
    )


def agreements(raters: Sequence[Rater]) -> tuple[Agreement, ...]:
    """Of all two raters who were asked the same about some of the same pictures; people first."""
    found = [
        agreement(one, other)
        for one, other in combinations(sorted(raters, key=lambda r: (not r.person, r.name)), 2)
        if one.kind is other.kind
        and (one.goal == other.goal or not one.goal or not other.goal)
        and one.levels.keys() & other.levels.keys()
    ]
    return tuple(sorted(found, key=lambda a: (-a.people, -a.both, a.first, a.second)))


def raters(store: LabelStore) -> tuple[Rater, ...]:
    """Everybody who answered anything: people by name, other judges by name, prompt and settings.

    A replay has no opinion of its own and is left out."""
    answers: dict[tuple[str, str, str], dict[Content, list[Outcome | float]]] = {}
    for judge, prompt, settings, first, second, outcome, value in store.rows(
        "SELECT judge, prompt_version, settings, first_sha256, second_sha256, outcome, value FROM answers "
        "WHERE state='answered' ORDER BY key"
    ):
        said = Outcome(outcome)
        content = (first, second)
        if second and first > second:
            content, said = (second, first), said.swapped
        given = answers.setdefault((judge, prompt, settings), {}).setdefault(content, [])
        given.append(said if value is None else float(value))
    found = []
    for (judge, prompt, settings), by_content in answers.items():
        who = JudgeIdentity(judge, prompt, json.loads(settings))
        if judge == REPLAY or (is_person(judge) and not is_blind(who)):
            continue
        kind = Kind(str(who.settings.get("question", "preference")))
        levels = {content: _level(given, kind) for content, given in by_content.items()}
        found.append(Rater(judge, is_person(judge), kind, str(who.settings.get("goal", "")), levels))
    return tuple(found)


def _level(given: Sequence[Outcome | float], kind: Kind) -> int | None:
    """What several answers come to: the side with more of them, or the mean rating as a level."""
    if kind is Kind.PREFERENCE:
        label = label_of([said for said in given if isinstance(said, Outcome)], "drop")
        return int(label) if label in (0.0, 1.0) else None
    values = [said for said in given if isinstance(said, float)]
    if not values:
        return None
    mean = sum(values) / len(values)
    level = {Kind.SCORE: 10 * mean, Kind.PROGRESS: mean - 1, Kind.SUCCESS: mean}[kind]
    return int(np.clip(np.floor(level + 0.5), 0, LEVELS[kind] - 1))
