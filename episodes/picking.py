"""The choice of samples at a moment: pure functions over stamps, shared by live and recorded alignment."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from episodes.contract import ObservationStream
from episodes.errors import ContractError, did_you_mean


@dataclass(frozen=True)
class NotReady:
    """Why there is no observation at a tick."""

    missing: tuple[str, ...]
    """Streams of which no sample that could serve had been received."""
    stale: dict[str, int]
    """Streams whose best sample is too old, with its age in ns."""


@dataclass(frozen=True)
class Pick:
    """Which samples make a value: `first` alone, or `first` and `second` with `weight` on the second."""

    first: int
    second: int | None
    weight: float
    stamp_ns: int
    age_ns: int


class SampleClock:
    """The stamps of one stream, and the choice among them; samples go by the number in which they came."""

    def __init__(self, align: str, max_age_ns: int) -> None:
        self._align = align
        self._max_age_ns = max_age_ns
        self._pending: list[tuple[int, int, int]] = []
        self._stamps: list[int] = []
        self._numbers: list[int] = []
        self._count = 0

    def push(self, stamp_ns: int, recv_ns: int) -> int:
        """Take the stamps of a new sample and return its number."""
        number = self._count
        self._count += 1
        heapq.heappush(self._pending, (recv_ns, number, stamp_ns))
        return number

    def receive(self, tick_ns: int) -> list[int]:
        """Let the samples received by `tick_ns` count; the numbers of those that they replace.

        Of two samples with one stamp the later received one holds.
        """
        replaced = []
        while self._pending and self._pending[0][0] <= tick_ns:
            _, number, stamp_ns = heapq.heappop(self._pending)
            place = bisect_left(self._stamps, stamp_ns)
            if place < len(self._stamps) and self._stamps[place] == stamp_ns:
                replaced.append(self._numbers[place])
                self._numbers[place] = number
            else:
                self._stamps.insert(place, stamp_ns)
                self._numbers.insert(place, number)
        return replaced

    def newest(self) -> tuple[int, int] | None:
        """Stamp and number of the newest sample that counts."""
        return (self._stamps[-1], self._numbers[-1]) if self._stamps else None

    def pick(self, at_ns: int) -> Pick | int | None:
        """The samples that make the value at `at_ns`; the age of the best one if it is too old; or None."""
        after = bisect_left(self._stamps, at_ns)
        if after < len(self._stamps) and self._stamps[after] == at_ns:
            return Pick(self._numbers[after], None, 0.0, at_ns, 0)
        before_age = at_ns - self._stamps[after - 1] if after > 0 else None
        after_age = self._stamps[after] - at_ns if after < len(self._stamps) else None
        if self._align == "hold":
            after_age = None
        ages = [age for age in (before_age, after_age) if age is not None]
        if not ages:
            return None
        if min(ages) > self._max_age_ns:
            return min(ages)
        if self._align in ("linear", "slerp") and max(ages) <= self._max_age_ns and len(ages) == 2:
            first, second = ages
            farther = after if second > first else after - 1
            return Pick(
                self._numbers[after - 1],
                self._numbers[after],
                first / (first + second),
                self._stamps[farther],
                max(ages),
            )
        place = after - 1 if before_age == min(ages) else after
        return Pick(self._numbers[place], None, 0.0, self._stamps[place], min(ages))

    def forget_before(self, at_ns: int) -> list[int]:
        """Forget what no observation time from `at_ns` on can need; the numbers of what was forgotten."""
        keep = max(0, bisect_left(self._stamps, at_ns + 1) - 1)
        gone = self._numbers[:keep]
        del self._stamps[:keep], self._numbers[:keep]
        return gone


def blend(align: str, first: NDArray[Any], second: NDArray[Any], weight: float) -> NDArray[Any]:
    """The value between two samples, with `weight` in (0, 1) on the second, in the dtype of the first.

    `linear` is first·(1−w) + second·w in float64. `slerp` takes quaternions (x, y, z, w), which it
    normalises; one of length zero gives NaN, which inference and training refuse.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if align == "linear":
            return (a * (1.0 - weight) + b * weight).astype(first.dtype)
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        cosine = float(np.dot(a, b))
        if cosine < 0.0:
            b, cosine = -b, -cosine
        angle = np.arctan2(np.linalg.norm(b - a * cosine), cosine)
        sine = np.sin(angle)
        if sine < 1e-9:
            value = a * (1.0 - weight) + b * weight
        else:
            value = (a * np.sin((1.0 - weight) * angle) + b * np.sin(weight * angle)) / sine
        return (value / np.linalg.norm(value)).astype(first.dtype)


def stream_clocks(streams: Mapping[str, ObservationStream], reference: str) -> dict[str, SampleClock]:
    """A clock per stream; ContractError when the reference is not among them."""
    if reference not in streams:
        raise ContractError(
            f"reference stream {reference!r} is not there: {did_you_mean(reference, streams)}"
        )
    return {name: SampleClock(stream.align, stream.max_age_ns) for name, stream in streams.items()}


def pick_all(
    clocks: Mapping[str, SampleClock], reference: str, max_age_ns: int, tick_ns: int
) -> tuple[int, dict[str, Pick]] | NotReady:
    """Observation time and chosen samples at a tick; `max_age_ns` is that of the reference stream.

    With the reference stream stale there is no observation time to judge the others at.
    """
    newest = clocks[reference].newest()
    missing = tuple(name for name, clock in clocks.items() if clock.newest() is None)
    if newest is None:
        return NotReady(missing, {})
    observation_ns, number = newest
    age_ns = abs(tick_ns - observation_ns)
    if age_ns > max_age_ns:
        return NotReady(missing, {reference: age_ns})
    picks = {reference: Pick(number, None, 0.0, observation_ns, age_ns)}
    lacking: list[str] = []
    stale: dict[str, int] = {}
    for name, clock in clocks.items():
        if name == reference:
            continue
        pick = clock.pick(observation_ns)
        if pick is None:
            lacking.append(name)
        elif isinstance(pick, int):
            stale[name] = pick
        else:
            picks[name] = pick
    if lacking or stale:
        return NotReady(tuple(lacking), stale)
    return observation_ns, picks


class CommandStamps(Protocol):
    """What `command_for_ticks` needs of the commands, which are in the order of sending."""

    @property
    def stamp_ns(self) -> NDArray[np.int64]:
        """When each was sent, (N,)."""

    @property
    def observation_ns(self) -> NDArray[np.int64]:
        """Stamp of the observation that each was computed from, (N,); 0 for none."""


def command_for_ticks(
    observation_ns: NDArray[np.int64],
    tick_ns: NDArray[np.int64],
    commands: CommandStamps,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which command is the action of each tick: indices (N,) and whether there is one (N,).

    It is the command that was computed from the tick's observation: the first one sent at or after the tick,
    else the last one sent before it. Where no command names that observation, it is the first one sent at or
    after the tick and before the next. Commands are in the order of sending. The index where there is none
    is 0 and means nothing.
    """
    index = np.zeros(len(tick_ns), np.int64)
    found = np.zeros(len(tick_ns), np.bool_)
    by_observation: dict[int, list[int]] = {}
    for number, observation in enumerate(commands.observation_ns.tolist()):
        if observation:
            by_observation.setdefault(observation, []).append(number)
    sent = commands.stamp_ns.tolist()
    ticks = tick_ns.tolist()
    for k, (tick, observation) in enumerate(zip(ticks, observation_ns.tolist(), strict=True)):
        same = by_observation.get(observation)
        if same is not None:
            place = bisect_left(same, tick, key=sent.__getitem__)
            index[k], found[k] = same[min(place, len(same) - 1)], True
            continue
        number = bisect_left(sent, tick)
        if number < len(sent) and (k + 1 == len(ticks) or sent[number] < ticks[k + 1]):
            index[k], found[k] = number, True
    return index, found
