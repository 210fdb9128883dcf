"""People as judges: who they are in the label store. They answer on the page of `armchair review`.

A pair that waits for somebody is keyed by the judge `human`; whoever answers it, the answer is keyed by
`human:NAME`, and the pair's ballot then names that answer. An answer that was given with the judge's own
answer in sight says so in its settings: it overrules, but tells nothing about agreement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from episodes.errors import ConfigError, LabelError
from reward.clients.protocol import (
    Errand,
    FreeJudge,
    JudgeIdentity,
    Question,
    Setting,
    Task,
    Verdict,
    identity,
)

HUMAN = "human"
WORDING = "page-1"
"""How the page puts the question; it is part of the key of stored answers, so raise it with any change."""
SEEN = "sees"
"""Setting of an answer that was given with the judge's answer in sight."""
NAME = re.compile(r"[\w][\w .@-]{0,39}")


class Human(FreeJudge):
    """Whoever comes to answer."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def name(self) -> str:
        """Nobody yet."""
        return HUMAN

    @property
    def prompt_version(self) -> str:
        """The page's wording."""
        return WORDING

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What is asked."""
        task = self._task
        return {"goal": task.goal, "question": task.kind.value, "layout": task.layout}

    def ask(self, question: Question, errand: Errand) -> Verdict:
        """A program cannot ask a person.

        Raises:
            LabelError: always.
        """
        raise LabelError("people answer on a page: armchair review DATASET opens it.")


def person_identity(asked: JudgeIdentity, person: str, *, sees: str = "") -> JudgeIdentity:
    """Who answers as `person` a question that was put to people.

    Args:
        asked: what was asked.
        person: a name.
        sees: name of the judge whose answer is in sight; empty for an answer of one's own.

    Raises:
        ConfigError: not a name.
    """
    if NAME.fullmatch(person) is None:
        raise ConfigError(
            f"person {person!r}: a name begins with a letter or digit and has up to 40 letters, digits, "
            "spaces and .@-_ in it."
        )
    settings = {**asked.settings, SEEN: sees} if sees else dict(asked.settings)
    return replace(asked, judge=f"{HUMAN}:{person.strip()}", prompt_version=WORDING, settings=settings)


def asked_of_people(task: Task) -> JudgeIdentity:
    """What is put to people about a task."""
    return identity(Human(task))


def is_person(judge: str) -> bool:
    """Whether a judge of the label store is a person."""
    return judge.startswith(f"{HUMAN}:")


def is_blind(who: JudgeIdentity) -> bool:
    """Whether an answer was given without the judge's answer in sight, so that it may be held against it."""
    return is_person(who.judge) and not who.settings.get(SEEN)
