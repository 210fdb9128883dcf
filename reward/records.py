"""What the label store holds: drawn pairs with their ballots, and what they may take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from episodes.errors import ConfigError, LabelError
from reward.clients.protocol import JudgeIdentity, Verdict
from reward.frames import FrameId, Frames


@dataclass(frozen=True)
class Budget:
    """What labelling may take in all; questions that were in flight at a kill count as paid."""

    calls: int | None = None
    """Most paid requests; no bound when left out."""
    usd: float | None = None
    """Most money, in US dollars; no bound when left out."""

    def __post_init__(self) -> None:
        if (self.calls is not None and self.calls < 0) or (self.usd is not None and self.usd < 0):
            raise ConfigError(f"budget {self}: calls and usd are 0 or greater.")


class BudgetReached(LabelError):
    """Raised when the next question could exceed the budget; what was answered stays."""


@dataclass(frozen=True)
class Ballot:
    """One question about a drawn pair: which order, which vote, and the key of its answer."""

    key: str
    swapped: bool = False
    """The second picture is shown first."""
    vote: int = 0


@dataclass(frozen=True)
class DrawnPair:
    """A pair of frames, or a single one, that was drawn to be judged."""

    first: FrameId
    second: FrameId | None
    ballots: tuple[Ballot, ...]
    """At least one."""
    overruled: Ballot | None = None
    """A person's answer that counts instead of those to the ballots, which stay stored."""

    @property
    def key(self) -> str:
        """The key of the first ballot's answer, which stands for the pair."""
        return self.ballots[0].key

    @property
    def counted(self) -> tuple[Ballot, ...]:
        """Whose answers make the label: of the person who overruled the judge, else of the judge."""
        return self.ballots if self.overruled is None else (self.overruled,)


@dataclass(frozen=True)
class Place:
    """Where an item stands in a label set."""

    labels: str
    draw: str
    position: int


@dataclass(frozen=True)
class Spending:
    """What the answers of a store took, those in doubt included."""

    calls: int
    cost_usd: float


@dataclass(frozen=True)
class StoredAnswer:
    """An answer with everything that its key is made of."""

    key: str
    pictures: tuple[str, str]
    """Content hashes; the second is empty for a question about one picture."""
    who: JudgeIdentity
    vote: int
    verdict: Verdict


def answer_key(first_sha256: str, second_sha256: str, who: JudgeIdentity, vote: int = 0) -> str:
    """The key of an answer; the order of the pictures is part of it, since judges favour a side."""
    settings = json.dumps(dict(who.settings), sort_keys=True)
    text = "\n".join((first_sha256, second_sha256, who.judge, who.prompt_version, settings))
    if vote:
        text += f"\n{vote}"
    return hashlib.sha256(text.encode()).hexdigest()


def present(pairs: Sequence[DrawnPair], frames: Frames) -> tuple[DrawnPair, ...]:
    """Those of `pairs` whose frames the dataset has: an episode that was removed, or replaced by a shorter
    one, takes only its own pairs with it. What was said about the others stays in the store."""
    return tuple(pair for pair in pairs if frames.has(pair.first, pair.second))


def left_out_note(count: int, pairs: int) -> str:
    """What to tell people about pairs that `present` left out; empty where it left out none."""
    if not count:
        return ""
    return (
        f"{count} of {pairs} pairs or frames are left out: the dataset has no such frames any more (episodes "
        "removed, or replaced by shorter ones). What was said about them stays in labels.sqlite."
    )
