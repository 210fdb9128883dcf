"""A drill: the arm moves fast under a policy, something breaks, and what follows is measured and judged.

Every drill begins at the arm's beginning, so that the simulation's worst values are its own, and ends with
the arm moving under the policy again: the fault is mended, stays latched until it is cleared, and control can
then be enabled. What it measures, from the fault on:

    reaction   the first command that does not follow the policy
    hold       the last command that differs from the one after: from there on the arm is told to stand
    rest       the arm itself stands, by the simulation's own speeds
    fault      control says FAULT
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.drills.rig import Rig

MARGIN_MS = 100.0
"""What a busy machine may add to any of the bounds."""
LATCHED_SAMPLES = 60
"""How many samples of the arm's motion a mended fault must outlive."""


ROW = 200
"""Characters of a row."""
SHARES = ("position", "velocity", "acceleration")
"""Worst values of the simulated arm, as shares of the limits."""


@dataclass(frozen=True)
class Outcome:
    """What was seen. Times in ms since the fault, NaN where the drill has none."""

    name: str
    state: str
    says: str
    figures: dict[str, float]
    bounds: dict[str, float]
    """Largest value of a figure that is promised."""
    problems: tuple[str, ...] = ()

    def row(self) -> str:
        """One line of a table."""
        times = [
            f"{key.removesuffix('_ms')} {self.figures[key]:.0f} (≤ {bound:.0f})"
            for key, bound in self.bounds.items()
            if key in self.figures
        ]
        shares = " ".join(f"{self.figures.get(f'{key}_share', np.nan):.2f}" for key in SHARES)
        row = f"{self.name:36.36} {', '.join(times) or 'goes on':72} {shares}  {self.state} {self.says}"
        return row[:ROW]


@dataclass
class Measurement:
    """Collects figures and bounds of one run, and what breaks a promise."""

    rig: Rig
    name: str
    fault_ns: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    state: str = ""
    says: str = ""

    def note(self, figure: str, at_ns: int | None, at_most_ms: float) -> None:
        """A figure (ms since the fault) with its bound, the margin not yet in it."""
        if at_ns is None:
            self.problems.append(f"there is no {figure}")
            return
        key, bound = f"{figure}_ms", at_most_ms + MARGIN_MS
        self.figures[key], self.bounds[key] = (at_ns - self.fault_ns) / 1e6, bound
        if self.figures[key] > bound:
            self.problems.append(f"{figure} after {self.figures[key]:.0f} ms, promised are {bound:.0f} ms")

    def demand(self, holds: bool, what: str) -> None:
        """Something that must be so."""
        if not holds:
            self.problems.append(what)

    def limits(self) -> None:
        """Hold the worst values of the simulated arm against the contract's limits."""
        seen = self.rig.limits_seen()
        measured: dict[str, dict[str, Any]] = seen["measured"]
        self.figures |= {
            "position_share": max(_range_share(row) for row in measured.values()),
            "velocity_share": max(row["velocity"] / row["max_velocity"] for row in measured.values()),
            "acceleration_share": max(
                row["acceleration"] / row["max_acceleration"] for row in measured.values()
            ),
        }
        self.problems += [f"outside the limits: {text}" for text in seen["excess"]]

    def outcome(self) -> Outcome:
        """All of it."""
        for text in self.rig.stumbles:
            print(f"{self.name}: on the way to a fast motion there was a fault: {text}")
        self.figures["stumbles"] = float(len(self.rig.stumbles))
        self.rig.stumbles.clear()
        return Outcome(
            self.name, self.state, self.says, dict(self.figures), dict(self.bounds), tuple(self.problems)
        )


def _range_share(row: dict[str, float]) -> float:
    """How far from the middle of its range a joint went: 1 is the limit."""
    middle, half = 0.5 * (row["lower"] + row["upper"]), 0.5 * (row["upper"] - row["lower"])
    return max(row["highest"] - middle, middle - row["lowest"]) / half


@dataclass(frozen=True)
class Drill:
    """A fault after which control stops the arm by itself and says FAULT."""

    name: str
    inject: Callable[[Rig], int]
    """Break something; when (ns, the rig's clock)."""
    heal: Callable[[Rig], None]
    """Mend it."""
    says: str
    """Part of the fault's text; | between alternatives."""
    reaction_ms: float
    """After which the policy is not followed any more, by the time-outs that are set."""
    fault_ms: float
    """After which control says FAULT, by the time-outs."""
    prepare: Callable[[Rig], None] = lambda rig: rig.own_policy()
    """Before the arm moves."""
    restore: Callable[[Rig], None] = lambda rig: None
    """After the recovery, for the next drill."""

    def run(self, rig: Rig) -> Outcome:
        """Run it."""
        found = Measurement(rig, self.name)
        self.prepare(rig)
        rig.reset()
        rig.go()
        found.fault_ns = self.inject(rig)
        watch = rig.watch
        rig.until(lambda: watch.state == "FAULT", f"{self.name}: FAULT")
        found.state, found.says = watch.state, watch.fault
        found.demand(
            any(text in watch.fault for text in self.says.split("|")),
            f"the fault says {watch.fault!r}, not {self.says!r}",
        )
        standstill(rig, found, self.reaction_ms)
        found.note("fault", watch.state_ns(found.fault_ns, "FAULT"), self.fault_ms + tick_ms(rig))
        self.heal(rig)
        rig.more(LATCHED_SAMPLES)
        found.demand(watch.state == "FAULT", f"the fault was not latched: {watch.state}")
        found.demand(not rig.services.switch("control/enable", True)[0], "control was enabled in FAULT")
        rig.bury()
        rig.clear()
        rig.go()
        found.limits()
        rig.disable()
        self.restore(rig)
        return found.outcome()


@dataclass(frozen=True)
class Other:
    """A drill that is a function of its own."""

    name: str
    body: Callable[[Rig, Measurement], None]

    def run(self, rig: Rig) -> Outcome:
        """Run it, from the arm's beginning with nothing of an earlier drill left."""
        found = Measurement(rig, self.name)
        self.body(rig, found)
        return found.outcome()


def stop_ms(rig: Rig) -> float:
    """How long a stop from the full speed takes at the contract's largest deceleration."""
    rows = [
        v / a
        for c in rig.contract.actions.values()
        for v, a in zip(c.max_velocity or (), c.max_acceleration or (), strict=True)
    ]
    return 1e3 * max(rows)


def tick_ms(rig: Rig) -> float:
    """Period of control."""
    return 1e3 / rig.setup.rate_hz


def standstill(rig: Rig, found: Measurement, reaction_ms: float) -> None:
    """Wait until commands and arm stand, and note when each did."""
    watch, fault_ns = rig.watch, found.fault_ns
    rig.until(lambda: watch.held_ns(fault_ns) is not None, "a standing command")
    rig.until(lambda: watch.rest_ns(fault_ns) is not None, "a standing arm")
    tick = tick_ms(rig)
    found.note("reaction", watch.reaction_ns(fault_ns), reaction_ms + tick)
    found.note("hold", watch.held_ns(fault_ns), reaction_ms + stop_ms(rig) + 2.0 * tick)
    found.note("rest", watch.rest_ns(fault_ns), reaction_ms + stop_ms(rig) + 2.0 * tick + SETTLE_MS)


SETTLE_MS = 350.0
"""From the last command to the simulated arm at rest: the driver's interpolation, and the servos' lag."""
