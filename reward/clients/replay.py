"""Replay: a judge that answers from labels that somebody paid for before.

Answers are found by the content of the pictures, in either order, so they serve wherever the same pictures
are asked about: another dataset run, another label set, another machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.errors import ConfigError
from reward.cached import cached_files, read_cached
from reward.clients.protocol import (
    Errand,
    FreeJudge,
    Kind,
    Outcome,
    Question,
    Setting,
    Verdict,
    image_digest,
)
from reward.exchange import read_answers

REPLAY = "replay"
MISSING = "not among the cached answers"
_CACHED = {0.0: Outcome.FIRST, 1.0: Outcome.SECOND, -1.0: Outcome.UNSURE}

Answer = tuple[tuple[str, str], Verdict]


@dataclass(frozen=True)
class ReplayConfig:
    """Answer from labels that are there already; nothing is paid."""

    source: Path | None = None
    """A label store (labels.sqlite), an export of one (`armchair label export`), or cached labels of Offline
    RL-VLM-F: one .pkl or a folder of them."""
    judge: str = ""
    """Only this judge's answers, by name; may be left out where the source has one judge."""


class Replay(FreeJudge):
    """A judge that has only a memory. Several votes on a question get the same answer."""

    def __init__(self, config: ReplayConfig, kind: Kind = Kind.PREFERENCE, goal: str = "") -> None:
        """Read the answers to the question `kind` about `goal`, or about the source's one goal.

        Raises:
            ConfigError: no source is given, it holds no such answer, or those of several judges or goals.
            DatasetError, LabelError: it cannot be read.
        """
        if config.source is None:
            raise ConfigError(
                "--judge replay needs --replay.source: a label store, an export, or cached labels."
            )
        digest = hashlib.sha256()
        self._answers: dict[tuple[str, str], Verdict] = {}
        for pictures, verdict in sorted(_read(config, config.source, kind, goal), key=_order):
            # A swapped question has its own answer where there is one.
            self._answers.setdefault(pictures, verdict)
            digest.update(f"{pictures}{verdict.outcome.value}{verdict.value}".encode())
        if not self._answers:
            raise ConfigError(
                f"{config.source}: no answers to the question {kind.value!r}"
                + (f" by {config.judge!r}" if config.judge else "")
                + (f" about {goal!r}." if goal else ".")
            )
        self._content, self._kind = digest.hexdigest()[:16], kind

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def name(self) -> str:
        """Always "replay"."""
        return REPLAY

    @property
    def prompt_version(self) -> str:
        """No prompt of its own."""
        return "none"

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What is remembered: a source that grew is another one, since it knows more."""
        return {"question": self._kind.value, "answers": self._content}

    def ask(self, question: Question, errand: Errand) -> Verdict:
        """The remembered answer, UNSURE where there is none."""
        first, second = question.digests
        found = self._answers.get((first, second))
        if found is None and second:
            other = self._answers.get((second, first))
            found = None if other is None else Verdict(other.outcome.swapped, other.text)
        if found is None:
            return Verdict(Outcome.UNSURE, MISSING)
        return Verdict(found.outcome, found.text, value=found.value)


def _order(answer: Answer) -> tuple[tuple[str, str], bool, str, float]:
    """By pictures; of several answers about them one that could be read comes first, and always the same."""
    pictures, verdict = answer
    return pictures, verdict.outcome is Outcome.MALFORMED, verdict.outcome.value, verdict.value or 0.0


def _read(config: ReplayConfig, source: Path, kind: Kind, goal: str) -> Iterator[Answer]:
    if source.suffix == ".pkl" or source.is_dir():
        yield from _cached(source, kind)
        return
    judges: set[str] = set()
    goals: set[str] = set()
    for answer in read_answers(source):
        who = answer.who
        asked, about = str(who.settings.get("question", "preference")), str(who.settings.get("goal", ""))
        if asked != kind.value or answer.vote or (config.judge and who.judge != config.judge):
            continue
        if goal and about and about != goal:
            continue
        judges.add(who.judge)
        goals.add(about)
        yield answer.pictures, answer.verdict
    for what, found, option in (("judges", judges, "--replay.judge"), ("goals", goals - {""}, "--goal")):
        if len(found) > 1:
            raise ConfigError(
                f"{source}: answers of several {what}; give {option}: {', '.join(sorted(found))}."
            )


def _cached(source: Path, kind: Kind) -> Iterable[Answer]:
    for path in cached_files(source):
        labels = read_cached(path)
        if labels.scores is not (kind is Kind.SCORE):
            continue
        for k, label in enumerate(labels.labels.tolist()):
            text = f"{path.name}, pair {k}"
            if labels.scores:
                # Scores are stored as 2·score − 1.
                yield (
                    (image_digest(labels.second[k]), ""),
                    Verdict(Outcome.RATED, text, value=(label + 1) / 2),
                )
            else:
                pictures = (image_digest(labels.first[k]), image_digest(labels.second[k]))
                yield pictures, Verdict(_CACHED[label], text)
