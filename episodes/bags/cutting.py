"""Where the episodes of a bag begin and end: the whole bag, at pauses, or as a topic says. Pure.

Each cutter is asked with every message, in the order of the bag, and answers with the marks that come before
the message is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from episodes.errors import ConfigError
from episodes.messages import NS_PER_S, MessageError

Outcome = Literal["success", "failure", "unknown"]


@dataclass(frozen=True)
class Begin:
    """An episode begins."""


@dataclass(frozen=True)
class End:
    """The episode under way ends."""

    outcome: Outcome = "unknown"
    reason: str = "stop"
    discard: bool = False
    """Throw it away: the operator said so."""


Mark = Begin | End


class Cutter(Protocol):
    """Decides where episodes begin and end."""

    topic: str | None
    """The topic whose messages it wants decoded."""

    def before(self, topic: str, recv_ns: int, message: Any) -> Iterable[Mark]:
        """Marks before a message; `message` is there for messages of `topic` alone.

        Raises:
            MessageError: a message of `topic` says nothing that is understood.
        """


class WholeBag:
    """One episode, the whole bag."""

    topic: str | None = None

    def __init__(self) -> None:
        self._begun = False

    def before(self, topic: str, recv_ns: int, message: Any) -> Iterable[Mark]:
        """Begins with the first message."""
        if self._begun:
            return ()
        self._begun = True
        return (Begin(),)


class Pauses:
    """An episode ends where no message of the contract comes for a while."""

    topic: str | None = None

    def __init__(self, pause_ns: int) -> None:
        self._pause_ns = pause_ns
        self._last_ns: int | None = None

    def before(self, topic: str, recv_ns: int, message: Any) -> Iterable[Mark]:
        """Ends at a pause and begins anew behind it."""
        last_ns, self._last_ns = self._last_ns, recv_ns
        if last_ns is None:
            return (Begin(),)
        if recv_ns - last_ns <= self._pause_ns:
            return ()
        return (End(reason=f"a pause of {(recv_ns - last_ns) / NS_PER_S:.1f} s"), Begin())


@dataclass(frozen=True)
class Buttons:
    """Which button of a joystick means what, by number."""

    start_button: int = 7
    success_button: int = 0
    failure_button: int = 1
    stop_button: int = 6
    discard_button: int = 3


_WORDS: dict[str, Mark] = {
    "start": Begin(),
    "begin": Begin(),
    "success": End("success", "success"),
    "failure": End("failure", "failure"),
    "fail": End("failure", "failure"),
    "stop": End(),
    "end": End(),
    "discard": End(discard=True),
}


class Events:
    """Episodes as a topic says: String (start, success, failure, stop, discard), Bool (true while an episode
    runs) or Joy (a button pressed)."""

    def __init__(self, topic: str, kind: str, buttons: Buttons | None = None) -> None:
        """`topic` as the bag names it; ConfigError when its type says nothing about episodes."""
        self.topic: str | None = topic
        readers = {"String": self._word, "Bool": self._level, "Joy": self._button}
        name = kind.rsplit("/", 1)[-1]
        if name not in readers:
            raise ConfigError(f"event topic {topic}: a {kind} marks no episodes; take a String, Bool or Joy.")
        self._read = readers[name]
        self._buttons: Mapping[int, Mark] = _by_number(buttons or Buttons())
        self._pressed: frozenset[int] = frozenset()
        self._high = False
        self._running = False

    def before(self, topic: str, recv_ns: int, message: Any) -> Iterable[Mark]:
        """What a message of the event topic says; nothing for others."""
        if topic != self.topic:
            return ()
        mark = self._read(message)
        marks: list[Mark] = []
        if self._running and isinstance(mark, Begin):
            marks.append(End(reason="the next one began"))
        if isinstance(mark, Begin) or (mark is not None and self._running):
            marks.append(mark)
            self._running = isinstance(mark, Begin)
        return marks

    def _word(self, message: Any) -> Mark | None:
        word = message.data.strip().lower()
        if word not in _WORDS:
            raise MessageError(
                f"{self.topic}: {message.data[:40]!r} marks no episode; known are {', '.join(_WORDS)}."
            )
        return _WORDS[word]

    def _level(self, message: Any) -> Mark | None:
        before, self._high = self._high, bool(message.data)
        return None if before == self._high else Begin() if self._high else End()

    def _button(self, message: Any) -> Mark | None:
        down = frozenset(n for n, value in enumerate(message.buttons) if value)
        new, self._pressed = down - self._pressed, down
        marks = [mark for number, mark in self._buttons.items() if number in new]
        return marks[0] if marks else None


def _by_number(buttons: Buttons) -> dict[int, Mark]:
    return {
        buttons.start_button: Begin(),
        buttons.success_button: End("success", "success"),
        buttons.failure_button: End("failure", "failure"),
        buttons.stop_button: End(),
        buttons.discard_button: End(discard=True),
    }
