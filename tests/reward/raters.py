"""Judges that look at the pictures of the slider: they see where the square is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from episodes.dataset import Dataset
from reward.asking import ask_pairs
from reward.ballots import VoteConfig
from reward.clients.protocol import Errand, Estimate, Kind, Outcome, Question, Setting, Verdict
from reward.drawing import DrawConfig, draw_pairs
from reward.frames import Frames
from reward.store import FILE, LabelStore


def seen(image: np.ndarray) -> int:
    """Where the square is, 0 to 30."""
    return int(np.flatnonzero((image[20] == (250, 200, 40)).all(axis=1))[0]) - 8


@dataclass(frozen=True)
class Sees:
    """A judge that costs nothing and answers by a function of a question."""

    answer: Callable[[Question], Verdict]
    name: str = "sees"
    prompt_version: str = "none"
    paid: bool = False
    threads: int = 1
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def estimate(self, question: Question) -> Estimate:
        return Estimate()

    def ask(self, question: Question, errand: Errand) -> Verdict:
        return self.answer(question)


def rate(
    dataset: Dataset,
    frames: Frames,
    labels: str,
    kind: Kind,
    value: Callable[[int], float | None],
    *,
    pairs: int,
    name: str = "sees",
) -> None:
    """Rate `pairs` frames of a dataset by the place of the square; None is unsure."""

    def answer(question: Question) -> Verdict:
        found = value(seen(question.first.image))
        return Verdict(Outcome.UNSURE) if found is None else Verdict(Outcome.RATED, value=found)

    with LabelStore(dataset.path / FILE) as store:
        judge = Sees(answer, name)
        drawn = draw_pairs(store, labels, frames, judge, DrawConfig(pairs=pairs), kind=kind)
        ask_pairs(store, frames, judge, drawn)


def compare(
    dataset: Dataset,
    frames: Frames,
    labels: str,
    prefer: Callable[[int, int, int], Outcome],
    *,
    pairs: int,
    name: str = "sees",
    votes: VoteConfig | None = None,
    seed: int = 0,
) -> None:
    """Compare pairs of frames by `prefer`(place in the first picture, in the second, vote)."""

    def answer(question: Question) -> Verdict:
        assert question.second is not None
        return Verdict(prefer(seen(question.first.image), seen(question.second.image), question.vote))

    with LabelStore(dataset.path / FILE) as store:
        judge = Sees(answer, name)
        drawn = draw_pairs(store, labels, frames, judge, DrawConfig(pairs=pairs, seed=seed), votes=votes)
        ask_pairs(store, frames, judge, drawn)
