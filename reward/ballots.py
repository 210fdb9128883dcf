"""From several answers about a pair to one label, and what the answers say about the judge.

A judge favours a side: asking in both orders cancels that on average and shows how often it decides. Several
votes do the same for chance. The −1 rate and the swap disagreement are the first things to look at, since a
judge that cannot see the difference between two pictures answers all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from episodes.errors import ConfigError
from reward.clients.protocol import Outcome
from reward.records import Ballot, DrawnPair

Unsure = Literal["drop", "soft"]

MANY_UNSURE = 0.3
MANY_SWAPPED = 0.25
MANY_MALFORMED = 0.05
LOPSIDED = 0.25
"""A share of first answers this far from one half is no chance."""
ENOUGH = 20
"""Answers below which rates say nothing."""


@dataclass(frozen=True)
class VoteConfig:
    """How often a pair is asked about."""

    swap: bool = False
    """Ask in both orders, which cancels a judge's preference for a side and shows it; doubles the price."""
    votes: int = 1
    """Votes in each order; several need a temperature above 0."""

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= 99:
            raise ConfigError(f"votes {self.votes} is out of range: 1 to 99.")

    def orders(self, pictures: int) -> tuple[tuple[bool, int], ...]:
        """(swapped, vote) of every ballot about a question with so many pictures."""
        swaps = (False, True) if self.swap and pictures == 2 else (False,)
        return tuple((swapped, vote) for vote in range(self.votes) for swapped in swaps)


def read_back(ballots: Sequence[Ballot], outcomes: Mapping[str, Outcome]) -> list[Outcome] | None:
    """The answers as if all had been asked in the drawn order; None while one is missing."""
    found = [outcomes.get(ballot.key) for ballot in ballots]
    if any(outcome is None for outcome in found):
        return None
    return [
        outcome.swapped if ballot.swapped else outcome
        for ballot, outcome in zip(ballots, found, strict=True)
        if outcome is not None
    ]


def sides_by_order(
    ballots: Sequence[Ballot], outcomes: Mapping[str, Outcome]
) -> tuple[frozenset[Outcome], frozenset[Outcome]]:
    """Sides that the answers there are name, as if asked in the drawn order: of the ballots that were shown
    in it, and of the swapped ones. Two sides in one of them are votes that differ; one side in each, and not
    the same, is an order that decides."""
    straight, swapped = (
        frozenset(
            outcomes[b.key].swapped if b.swapped else outcomes[b.key]
            for b in ballots
            if b.swapped is order and b.key in outcomes
        )
        & {Outcome.FIRST, Outcome.SECOND}
        for order in (False, True)
    )
    return straight, swapped


def label_of(answers: Sequence[Outcome], unsure: Unsure) -> float | None:
    """P(second preferred) of a pair; None for no label.

    drop: the side with more votes, 0 or 1; unsure and malformed answers do not count; an even split is no
    label (a judge that contradicts itself when the order is swapped), unless every vote was a tie: one half.
    soft: the mean over the votes, unsure as one half; malformed answers do not count (B-Pref's equal label,
    and soft labels of the paper's label_margin).
    """
    known = [label for outcome in answers if (label := outcome.label) is not None]
    if unsure == "soft":
        known += [0.5] * sum(outcome is Outcome.UNSURE for outcome in answers)
        return sum(known) / len(known) if known else None
    if not known:
        return None
    mean = sum(known) / len(known)
    if mean == 0.5:
        return 0.5 if all(label == 0.5 for label in known) else None
    return float(mean > 0.5)


def verdict_of(answers: Sequence[Outcome]) -> Outcome:
    """One outcome for a pair, for counting: what `drop` makes of it."""
    if len(answers) == 1:
        return answers[0]
    label = label_of(answers, "drop")
    if label is None:
        return (
            Outcome.UNSURE
            if Outcome.UNSURE in answers or any(a.label is not None for a in answers)
            else answers[0]
        )
    return {0.0: Outcome.FIRST, 1.0: Outcome.SECOND}.get(label, Outcome.TIE)


@dataclass(frozen=True)
class TaskReport:
    """How a judge fares on one task. Rates are over answers, None where there are none to tell from."""

    task: str
    pairs: int
    """Drawn pairs or frames."""
    answers: int
    unsure_rate: float | None
    """Share of −1."""
    malformed_rate: float | None
    swap_disagreement: float | None
    """Share of the pairs that named a side in both orders and named different ones."""
    first_share: float | None
    """Share of the first picture among answers that name one, in the order in which they were shown."""
    vote_disagreement: float | None
    """Share of the questions with several votes whose votes name both sides."""

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change, in words."""
        found = []
        see = (
            "The judge may not see the difference: crop to what changes (--show.crop active), show another "
            "or a further camera (--stream, --show.cameras), a short clip (--show.frames 4), or ask "
            "another judge (--judge, a larger model). docs/judges.md says which."
        )
        if self.answers < ENOUGH:
            return ()
        if self.unsure_rate is not None and self.unsure_rate > MANY_UNSURE:
            found.append(f"{self.task}: {self.unsure_rate:.0%} of the answers are −1. {see}")
        if self.swap_disagreement is not None and self.swap_disagreement > MANY_SWAPPED:
            found.append(
                f"{self.task}: {self.swap_disagreement:.0%} of the pairs get another answer when their "
                f"order is swapped. {see}"
            )
        elif (
            self.first_share is not None
            and self.swap_disagreement is None
            and abs(self.first_share - 0.5) > LOPSIDED
        ):
            found.append(
                f"{self.task}: {self.first_share:.0%} of the answers name the first picture. Ask in both "
                "orders (--swap) to cancel that and to see how often the order decides."
            )
        if self.malformed_rate is not None and self.malformed_rate > MANY_MALFORMED:
            found.append(
                f"{self.task}: {self.malformed_rate:.0%} of the answers could not be read: armchair label "
                "status shows some. Give --vlm.max-output-tokens more room, or try --openai.answers text."
            )
        return tuple(found)


def task_reports(
    pairs: Sequence[DrawnPair], tasks: Mapping[str, str], outcomes: Mapping[str, Outcome]
) -> tuple[TaskReport, ...]:
    """One report per task, by the task of the first frame's episode; pairs over two tasks are their own."""
    by_task: dict[str, list[DrawnPair]] = {}
    for pair in pairs:
        names = {tasks.get(frame.episode_id, "") for frame in (pair.first, pair.second) if frame is not None}
        by_task.setdefault(" / ".join(sorted(names)) or "unnamed", []).append(pair)
    return tuple(_report(task, found, outcomes) for task, found in sorted(by_task.items()))


def _report(task: str, pairs: Sequence[DrawnPair], outcomes: Mapping[str, Outcome]) -> TaskReport:
    shown = [outcomes[b.key] for pair in pairs for b in pair.ballots if b.key in outcomes]
    sides = [outcome for outcome in shown if outcome in (Outcome.FIRST, Outcome.SECOND)]
    swapped: list[bool] = []
    voted: list[bool] = []
    for pair in pairs:
        by_order = sides_by_order(pair.ballots, outcomes)
        if all(len(named) == 1 for named in by_order):
            swapped.append(by_order[0] != by_order[1])
        if any(b.vote for b in pair.ballots):
            voted += [len(named) > 1 for named in by_order if named]
    return TaskReport(
        task=task,
        pairs=len(pairs),
        answers=len(shown),
        unsure_rate=_share([outcome is Outcome.UNSURE for outcome in shown]),
        malformed_rate=_share([outcome is Outcome.MALFORMED for outcome in shown]),
        swap_disagreement=_share(swapped),
        first_share=_share([outcome is Outcome.FIRST for outcome in sides]),
        vote_disagreement=_share(voted),
    )


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None
