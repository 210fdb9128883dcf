"""Causal alignment of streams with different rates to control ticks, for live nodes and recordings alike.

At tick t only samples received by t exist. The observation time is the source stamp of the newest sample of
the reference stream among them; every other stream is taken at that time, from what had been received:

- `nearest`: the sample whose stamp lies nearest, the earlier one of two at the same distance;
- `hold`: the newest sample that is not later;
- `linear`: between the neighbours on both sides, entry by entry;
- `slerp`: the same along the shortest arc, for quaternions in the order x, y, z, w (Shoemake 1985).

A neighbour counts only within the stream's maximum age of the observation time. With a neighbour on one side
only, linear and slerp take it as it is: nothing is extrapolated, and nothing missing is filled with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.aligned import AlignedEpisode, align_episode
from episodes.contract import ObservationStream
from episodes.errors import EpisodeError, did_you_mean
from episodes.picking import NotReady, SampleClock, blend, command_for_ticks, pick_all, stream_clocks

__all__ = [
    "Aligned",
    "AlignedEpisode",
    "CausalAligner",
    "NotReady",
    "align_episode",
    "command_for_ticks",
]


@dataclass(frozen=True)
class Aligned:
    """One observation, made of what had been received by `tick_ns`."""

    tick_ns: int
    observation_ns: int
    """Source stamp of the newest sample of the reference stream."""
    values: dict[str, NDArray[Any]]
    """Value of each stream at `observation_ns`, of the stream's shape and dtype."""
    stamps_ns: dict[str, int]
    """Source stamp of the sample farthest from `observation_ns` that the value was made of."""
    ages_ns: dict[str, int]
    """How far that sample is from `observation_ns`; for the reference stream, from the tick."""


class CausalAligner:
    """Aligns live samples: `push` what arrives, ask `at` each tick. Pure; keeps what later ticks can need.

    Call `at` at every tick, also when nobody waits for the observation: it is what lets go of old samples.
    """

    def __init__(self, streams: Mapping[str, ObservationStream], reference: str) -> None:
        """`streams` are the ones wanted; ContractError when `reference` is not among them."""
        self._streams = dict(streams)
        self._reference = reference
        self._last_tick_ns: int | None = None
        self._clocks: dict[str, SampleClock] = {}
        self._values: dict[str, dict[int, NDArray[Any]]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything, as before a new episode."""
        self._clocks = stream_clocks(self._streams, self._reference)
        self._values = {name: {} for name in self._streams}
        self._last_tick_ns = None

    def push(self, name: str, value: ArrayLike, stamp_ns: int, recv_ns: int) -> None:
        """Take one sample, in any order of stamps. The value is kept, not copied.

        Raises:
            EpisodeError: the stream is not one of this aligner's, or the sample has not its shape.
        """
        stream = self._streams.get(name)
        if stream is None:
            raise EpisodeError(f"there is no stream {name!r} to align; {did_you_mean(name, self._streams)}")
        array = np.asarray(value, dtype=stream.dtype)
        if array.shape != stream.shape:
            raise EpisodeError(
                f"stream {name!r}: a sample of shape {array.shape} came where {stream.shape} belongs."
            )
        self._values[name][self._clocks[name].push(stamp_ns, recv_ns)] = array

    def keep(self, name: str, memory: NDArray[Any]) -> None:
        """Copy the samples of a stream that lie in `memory`, to which somebody else is about to write."""
        samples = self._values[name]
        for number, value in samples.items():
            if np.may_share_memory(value, memory):
                samples[number] = value.copy()

    def at(self, tick_ns: int) -> Aligned | NotReady:
        """The observation at `tick_ns`, or why there is none. Ticks never go backwards.

        Raises:
            EpisodeError: `tick_ns` lies before the last one.
        """
        if self._last_tick_ns is not None and tick_ns < self._last_tick_ns:
            raise EpisodeError(
                f"tick {tick_ns} lies before the last one, {self._last_tick_ns}: samples that it needs may "
                "be gone. Call reset() before a new episode."
            )
        self._last_tick_ns = tick_ns
        for name, clock in self._clocks.items():
            self._drop(name, clock.receive(tick_ns))
        found = pick_all(self._clocks, self._reference, self._streams[self._reference].max_age_ns, tick_ns)
        values = {}
        if not isinstance(found, NotReady):
            for name, pick in found[1].items():
                samples = self._values[name]
                first = samples[pick.first]
                values[name] = (
                    first
                    if pick.second is None
                    else blend(self._streams[name].align, first, samples[pick.second], pick.weight)
                )
        horizon_ns = self._horizon_ns(tick_ns)
        for name, clock in self._clocks.items():
            self._drop(name, clock.forget_before(horizon_ns))
        if isinstance(found, NotReady):
            return found
        observation_ns, picks = found
        return Aligned(
            tick_ns,
            observation_ns,
            values,
            {name: pick.stamp_ns for name, pick in picks.items()},
            {name: pick.age_ns for name, pick in picks.items()},
        )

    def _horizon_ns(self, tick_ns: int) -> int:
        """No later tick has an earlier observation time than this: stamps grow, and the stale is refused."""
        newest = self._clocks[self._reference].newest()
        oldest_ns = tick_ns - self._streams[self._reference].max_age_ns
        return oldest_ns if newest is None else max(newest[0], oldest_ns)

    def _drop(self, name: str, numbers: list[int]) -> None:
        for number in numbers:
            del self._values[name][number]
