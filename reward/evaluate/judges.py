"""How good are the judges: consistency with themselves, agreement with people and with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reward.ballots import TaskReport, read_back, task_reports
from reward.clients.protocol import Kind, Outcome
from reward.drawing import labelled_pairs, labelled_scores
from reward.evaluate.agreement import preference_accuracy, same_share
from reward.evaluate.decisions import Confusion, confusion
from reward.evaluate.ground import SIMULATION, Ground
from reward.evaluate.resampling import UNKNOWN, Figure, Resampling
from reward.exchange import stored_draws
from reward.frames import Frames
from reward.pairs import LabelledPairs
from reward.records import Ballot, DrawnPair, left_out_note, present
from reward.scores import LabelledScores
from reward.store import LabelStore


@dataclass(frozen=True, eq=False)
class LabelSet:
    """A label set with its answers, read from the store."""

    labels: str
    kind: Kind
    drawn: tuple[DrawnPair, ...]
    outcomes: Mapping[str, Outcome]
    """Of every answered ballot, by key."""
    ratings: Mapping[str, float]
    """Of every ballot whose answer is a value."""
    pairs: LabelledPairs
    """Pairs with a label; empty for questions about one frame."""
    rows: NDArray[np.int64]
    """(n,) single frames with a value; empty for pairs."""
    values: NDArray[np.float64]
    """(n,) their values on the scale of the regression: −1 to 1."""
    kept_out: NDArray[np.bool_]
    """(n,) which of them a regression holds out."""
    judged: LabelledPairs
    """Pairs by what the judge said, overruled or not."""
    judged_rows: NDArray[np.int64]
    """(m,) single frames with a value of the judge's."""
    judged_values: NDArray[np.float64]
    """(m,) the judge's values."""

    left_out: int = 0
    """Drawn pairs beside these whose frames the dataset does not have any more."""

    def said(self, ballot: Ballot) -> object:
        """The answer to a ballot as it is compared with another vote: scores to one decimal."""
        value = self.ratings.get(ballot.key)
        return self.outcomes.get(ballot.key) if value is None else round(value, 1)


@dataclass(frozen=True)
class JudgeFigures:
    """One label set as a measurement of its judge."""

    labels: str
    question: str
    items: int
    """Pairs or frames that were drawn."""
    usable: int
    """Those with a label or a value."""
    tasks: tuple[TaskReport, ...]
    swap_consistency: Figure
    """P(the same frame is named in both orders), over pairs that named a side in both."""
    self_agreement: Figure
    """P(two votes on the same question are the same answer)."""
    accuracy: Figure
    """Share of the judge's labels that agree with the true reward, where that differs. What a person
    overruled counts as the judge said it."""
    success: Confusion | None
    """Judged success against the simulation's."""
    left_out: int = 0
    """Items beside these whose frames the dataset does not have any more."""

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change, in words."""
        found = [line for task in self.tasks for line in task.advice]
        if note := left_out_note(self.left_out, self.items + self.left_out):
            found.append(f"{self.labels}: {note}")
        agreed = self.self_agreement
        if agreed.value is not None and agreed.count >= MANY and agreed.value < STEADY:
            found.append(
                f"{self.labels}: two votes on the same question agree only in {agreed.value:.0%}. Lower "
                "--vlm.temperature, or raise --votes so that chance cancels."
            )
        if self.accuracy.value is not None and self.accuracy.count >= MANY and self.accuracy.value < RIGHT:
            found.append(
                f"{self.labels}: {1 - self.accuracy.value:.0%} of the labels contradict the true reward. "
                "Look at some pairs (armchair review), say the goal in other words (--goal), show more "
                "(--show.frames, --show.cameras, --show.crop active), or ask a better judge."
            )
        return tuple(found)


MANY = 20
"""Items below which a rate says nothing."""
STEADY = 0.8
RIGHT = 0.75


def read_label_sets(
    store: LabelStore, frames: Frames, wanted: Sequence[str], held_out: float
) -> tuple[LabelSet, ...]:
    """The label sets `wanted`, else all, split into one per kind of question where a set holds several."""
    drawn: dict[tuple[str, Kind], list[DrawnPair]] = {}
    for labels, _, settings, pairs in stored_draws(store):
        if not wanted or labels in wanted:
            kind = Kind(settings.get("kind", Kind.PREFERENCE.value))
            drawn.setdefault((labels, kind), []).extend(pairs)
    found = []
    for (labels, kind), asked in sorted(drawn.items()):
        pairs = list(present(asked, frames))
        none = np.empty(0, np.int64)
        scores = LabelledScores(none, none.astype(np.float32), none.astype(np.bool_))
        if kind is not Kind.PREFERENCE:
            scores = labelled_scores(store, pairs, frames, kind, held_out)
        said = [replace(pair, overruled=None) for pair in pairs]
        own = scores if kind is Kind.PREFERENCE else labelled_scores(store, said, frames, kind, held_out)
        keys = {ballot.key for pair in pairs for ballot in pair.ballots}
        found.append(
            LabelSet(
                labels,
                kind,
                tuple(pairs),
                store.outcomes(keys),
                store.values(keys),
                labelled_pairs(store, pairs, frames, held_out),
                scores.frame,
                scores.target.astype(np.float64),
                scores.held_out,
                labelled_pairs(store, said, frames, held_out),
                own.frame,
                own.target.astype(np.float64),
                left_out=len(asked) - len(pairs),
            )
        )
    return tuple(found)


def judge_figures(found: LabelSet, frames: Frames, ground: Ground, resampling: Resampling) -> JudgeFigures:
    """What the answers of a label set say about who gave them."""
    tasks = task_reports(found.drawn, frames.task_by_episode, found.outcomes)
    usable = len(found.judged) if found.kind is Kind.PREFERENCE else len(found.judged_rows)
    accuracy: Figure = UNKNOWN
    if ground.truth is not None and found.kind is Kind.PREFERENCE:
        p, truth = found.judged, ground.truth
        differs = (truth[p.first] != truth[p.second]) & (p.label != 0.5)
        first, second, label = p.first[differs], p.second[differs], p.label[differs]
        accuracy = resampling.figure(
            lambda k: preference_accuracy(truth[first[k]], truth[second[k]], label[k]),
            frames.episode[first],
            frames.episode[second],
        )
    detected = None
    if found.kind is Kind.SUCCESS and ground.success_from == SIMULATION:
        detected = confusion(found.judged_values > 0.0, ground.success[found.judged_rows])
    return JudgeFigures(
        labels=found.labels,
        question=found.kind.value,
        items=len(found.drawn),
        usable=usable,
        tasks=tasks,
        swap_consistency=_swaps(found, frames, resampling),
        self_agreement=_votes(found, frames, resampling),
        accuracy=accuracy,
        success=detected,
        left_out=found.left_out,
    )


def _swaps(found: LabelSet, frames: Frames, resampling: Resampling) -> Figure:
    sides = {Outcome.FIRST, Outcome.SECOND}
    kept, same = [], []
    for pair in found.drawn:
        by_order = [
            set(read_back([b for b in pair.ballots if b.swapped is order], found.outcomes) or ()) & sides
            for order in (False, True)
        ]
        if all(len(named) == 1 for named in by_order):
            kept.append(pair)
            same.append(by_order[0] == by_order[1])
    return _mean(kept, np.array(same, np.float64), frames, resampling)


def _votes(found: LabelSet, frames: Frames, resampling: Resampling) -> Figure:
    """Votes in one order are one question; a pair that is asked in both has the mean of both."""
    kept, shares = [], []
    for pair in found.drawn:
        by_order = [
            share
            for order in (False, True)
            if (share := same_share([found.said(b) for b in pair.ballots if b.swapped is order])) is not None
        ]
        if by_order and all(b.key in found.outcomes for b in pair.ballots):
            kept.append(pair)
            shares.append(sum(by_order) / len(by_order))
    return _mean(kept, np.array(shares, np.float64), frames, resampling)


def _mean(
    pairs: Sequence[DrawnPair], values: NDArray[np.float64], frames: Frames, resampling: Resampling
) -> Figure:
    if not pairs:
        return UNKNOWN
    first = frames.episode[[frames.row(pair.first) for pair in pairs]]
    second = frames.episode[[frames.row(pair.second or pair.first) for pair in pairs]]
    return resampling.figure(lambda k: float(values[k].mean()), first, second)
