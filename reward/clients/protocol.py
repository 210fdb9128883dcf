"""The protocol between armchair and a judge: a typed question, a typed verdict."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from episodes.errors import LabelError

Setting = str | int | float | bool | None
"""A value that decides what a judge answers; it is part of the key of a stored answer."""


class Kind(StrEnum):
    """What is asked."""

    PREFERENCE = "preference"
    """Which of two pictures shows the goal achieved better?"""
    SCORE = "score"
    """How well is the goal achieved, from 0 to 1?"""
    PROGRESS = "progress"
    """Which step of a rubric from 1 (nothing done) to 5 (done) is reached?"""
    SUCCESS = "success"
    """Is the goal achieved, yes or no?"""

    @property
    def pictures(self) -> int:
        """Pictures in a question."""
        return 2 if self is Kind.PREFERENCE else 1


class Outcome(StrEnum):
    """What a judge said."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    """Both show the same progress: a label of one half."""
    RATED = "rated"
    """A single picture got a value: see Verdict.value."""
    UNSURE = "unsure"
    """The judge does not know, or skips the question: no label."""
    MALFORMED = "malformed"
    """The answer could not be read; its text is kept, and it never becomes a label."""

    @property
    def label(self) -> float | None:
        """P(second preferred) as the loss takes it, None when there is no label."""
        return {Outcome.FIRST: 0.0, Outcome.SECOND: 1.0, Outcome.TIE: 0.5}.get(self)

    @property
    def swapped(self) -> Outcome:
        """The same answer about the pictures in the other order."""
        return {Outcome.FIRST: Outcome.SECOND, Outcome.SECOND: Outcome.FIRST}.get(self, self)


@dataclass(frozen=True)
class Task:
    """What a judge is asked to look for."""

    goal: str
    """Goal phrase, as it completes "The goal is …"."""
    kind: Kind = Kind.PREFERENCE
    layout: str = ""
    """How a picture is composed (strip of frames, several cameras), in one sentence; empty for plain ones."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture to be judged: a frame, or a strip of frames, of one or several cameras."""

    image: NDArray[np.uint8]
    """(height, width, 3) RGB."""
    performance: NDArray[np.float64] | None = None
    """(length,) true performance of the steps that the picture stands for, when known; a scripted teacher
    needs it, a VLM never sees it."""

    @functools.cached_property
    def digest(self) -> str:
        """sha256 over shape and pixels, in hexadecimal."""
        return image_digest(self.image)


@dataclass(frozen=True, eq=False)
class Question:
    """A question about two pictures, or about one."""

    first: Picture
    second: Picture | None = None
    vote: int = 0
    """Which of several votes on the same question; a judge that draws draws anew for each."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in order."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def digests(self) -> tuple[str, str]:
        """Content hashes of both pictures; the second is empty where there is only one."""
        return self.first.digest, "" if self.second is None else self.second.digest


@dataclass(frozen=True)
class Verdict:
    """A judge's answer and what it took."""

    outcome: Outcome
    text: str = ""
    """What the judge wrote; kept whole, so that a malformed answer can be looked at."""
    calls: int = 0
    """Paid requests, repeated ones included."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    value: float | None = None
    """Of a RATED answer: score in [0, 1], progress 1 to 5, success 0 or 1."""


@dataclass(frozen=True)
class Estimate:
    """What one question may take."""

    calls: int = 0
    cost_usd: float = 0.0


@dataclass
class Bill:
    """What a question took so far; requests whose fate is unknown count at their estimate."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    def add(self, other: Bill) -> None:
        """Book what an earlier part took."""
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_usd += other.cost_usd

    def verdict(self, outcome: Outcome, text: str, value: float | None = None) -> Verdict:
        """An answer that took this much."""
        return Verdict(outcome, text, self.calls, self.input_tokens, self.output_tokens, self.cost_usd, value)


class WithdrawnError(LabelError):
    """Raised inside a judge when its question is not to be asked after all: the run ends, or another
    process asked it. Nothing is in flight then."""


class Errand(Protocol):
    """One question on its way: what the judge kept of it, what it took, and leave to send."""

    @property
    def bill(self) -> Bill:
        """What the question took; the judge adds to it."""
        ...

    def recall(self, step: str) -> str | None:
        """The kept answer of a step of this question, so that a kill between two steps loses none."""
        ...

    def keep(self, step: str, text: str) -> None:
        """Keep the answer of a step before the next one is asked."""
        ...

    def claim(self) -> None:
        """Called right before every request: reserves the question the first time.

        Raises:
            WithdrawnError: it is not to be asked.
            LabelError: the budget is used up.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Wait while no request is in flight.

        Raises:
            WithdrawnError: the run ends.
        """
        ...

    def end_run(self) -> None:
        """No other question can be answered either (key refused, no such model): nothing more is sent."""
        ...


class FreeErrand:
    """Keeps nothing, and any request may be sent."""

    def __init__(self) -> None:
        self.bill = Bill()

    def recall(self, step: str) -> str | None:
        """Nothing."""
        return None

    def keep(self, step: str, text: str) -> None:
        """Nothing is kept."""

    def claim(self) -> None:
        """Always granted."""

    def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def end_run(self) -> None:
        """There is no run."""


class Judge(Protocol):
    """Whoever answers questions. `ask` is called from several threads when `threads` > 1."""

    @property
    def name(self) -> str:
        """Who answers, for example "scripted" or "gemini-3.5-flash-lite"."""
        ...

    @property
    def prompt_version(self) -> str:
        """Name and hash of the prompt, "none" where there is none."""
        ...

    @property
    def settings(self) -> Mapping[str, Setting]:
        """All that changes an answer besides pictures and prompt. Never a key or an address."""
        ...

    @property
    def paid(self) -> bool:
        """True when an answer costs money or quota: then each is reserved and committed by itself."""
        ...

    @property
    def threads(self) -> int:
        """Questions that may be worked on at once; a judge itself bounds its requests in flight."""
        ...

    def estimate(self, question: Question) -> Estimate:
        """An upper estimate of what `question` takes without retries."""
        ...

    def ask(self, question: Question, errand: Errand) -> Verdict:
        """Answer one question.

        Raises:
            WithdrawnError: the errand was withdrawn.
            LabelError: the judge cannot go on (key refused, server gone, true performance unknown); what
                that took is in `errand.bill`.
        """
        ...


class FreeJudge:
    """What judges have in common that cost nothing and answer one question at a time."""

    @property
    def paid(self) -> bool:
        """Free of charge."""
        return False

    @property
    def threads(self) -> int:
        """One."""
        return 1

    def estimate(self, question: Question) -> Estimate:
        """Nothing."""
        return Estimate()


@dataclass(frozen=True)
class JudgeIdentity:
    """What names a judge in the label store."""

    judge: str
    prompt_version: str
    settings: Mapping[str, Setting] = field(default_factory=dict)


def identity(judge: Judge) -> JudgeIdentity:
    """The part of a judge that decides its answers."""
    return JudgeIdentity(judge.name, judge.prompt_version, dict(judge.settings))


def image_digest(image: NDArray[np.uint8]) -> str:
    """sha256 of a picture's shape and pixels, in hexadecimal."""
    head = f"{image.dtype.str}{image.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()
