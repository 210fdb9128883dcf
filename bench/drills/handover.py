"""What an episode holds of a takeover: whose each command is, and whether any of them jumps. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Source
from policy.runtime.limits import Limits

GAP = 1.9
"""Periods between two stamps from which ticks have been missed. A setpoint that stood for more than two
periods counts as at rest, so what is next to a gap says nothing about the acceleration."""


@dataclass(frozen=True)
class Steps:
    """The largest steps of a stream of commands, as shares of what the limits allow per tick."""

    velocity: float
    acceleration: float
    judged: int
    """Changes of velocity that lie next to no gap."""


def steps(values: NDArray[np.float64], stamp_ns: NDArray[np.int64], limits: Limits) -> Steps:
    """Commands (N, dim) with the times at which they were sent (N,), of a loop with the limits' period."""
    period_s = limits.period_ns * 1e-9
    velocity = np.diff(values, axis=0) / period_s
    gain = np.diff(velocity, axis=0) / period_s
    gap = np.diff(stamp_ns) > GAP * limits.period_ns
    even = ~(gap[1:] | gap[:-1])
    return Steps(
        velocity=float((np.abs(velocity) / limits.velocity).max(initial=0.0)),
        acceleration=float((np.abs(gain[even]) / limits.acceleration).max(initial=0.0)),
        judged=int(even.sum()),
    )


def turns(source: NDArray[np.uint8]) -> list[Source]:
    """Who commands (N,), one after another, each once per turn; safety, which follows nobody, is left out."""
    acting = [Source(int(value)) for value in source if value != Source.SAFETY]
    return acting[:1] + [after for before, after in pairwise(acting) if after is not before]
