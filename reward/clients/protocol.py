"""The protocol between armchair and a judge: a typed question, a typed verdict."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Setting = str | int | float | bool | None
"""A value that decides what a judge answers; it is part of the key of a stored answer."""


class Outcome(StrEnum):
    """What a judge said about a pair of pictures."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    """Both show the same progress: a label of one half."""
    UNSURE = "unsure"
    """The judge does not know, or skips the pair: no label."""
    MALFORMED = "malformed"
    """The answer could not be read; its text is kept, and it never becomes a label."""

    @property
    def label(self) -> float | None:
        """P(second preferred) as the loss takes it, None when there is no label."""
        return {Outcome.FIRST: 0.0, Outcome.SECOND: 1.0, Outcome.TIE: 0.5}.get(self)


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture to be judged."""

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
    """Which of two pictures shows more progress towards a goal?"""

    first: Picture
    second: Picture


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


@dataclass(frozen=True)
class Estimate:
    """What one question may take."""

    calls: int = 0
    cost_usd: float = 0.0


class Memory(Protocol):
    """Where a judge that asks in several steps keeps the answer of each, so that a kill between them loses
    none."""

    def recall(self, step: str) -> str | None:
        """The kept answer of a step of this question."""
        ...

    def keep(self, step: str, text: str) -> None:
        """Keep the answer of a step before the next one is asked."""
        ...


class NoMemory:
    """Keeps nothing."""

    def recall(self, step: str) -> str | None:
        """Nothing."""
        return None

    def keep(self, step: str, text: str) -> None:
        """Nothing is kept."""


class Judge(Protocol):
    """Whoever answers preference questions. `ask` is called from several threads when `concurrency` > 1."""

    @property
    def name(self) -> str:
        """Who answers, for example "scripted" or "gemini-2.5-flash"."""
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
    def concurrency(self) -> int:
        """Questions that may be in flight at once."""
        ...

    def estimate(self, question: Question) -> Estimate:
        """An upper estimate of what `question` takes without retries."""
        ...

    def ask(self, question: Question, memory: Memory) -> Verdict:
        """Answer one question.

        Raises:
            LabelError: the judge cannot go on and was not paid for this question (key refused, server
            gone, true
                performance unknown).
        """
        ...


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
