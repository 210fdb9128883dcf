"""Bench `drills`: from a fault to a standing arm, for every fault that can be shown in simulation.

Each drill runs several times around the simulated arm at its full speed; the figures are the worst of its
runs. What is measured how: docs/drills.md.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.drills.cases import (
    CAMERA_DRILLS,
    CHUNK_DRILLS,
    NETWORK_DRILLS,
    POLICY_DRILLS,
    RESTART_DRILLS,
    ROBOT_DRILLS,
    SECOND_DRILLS,
)
from bench.drills.clock import CLOCK_DRILLS
from bench.drills.drill import SHARES, Outcome
from bench.drills.operators import ALONE_DRILLS, OPERATOR_DRILLS
from bench.drills.others import OTHER_DRILLS
from bench.drills.rig import Rig, Setup, rig
from bench.drills.supervision import SILENT_DRILLS, SUPERVISOR_DRILLS
from bench.machine import machine


class AnyDrill(Protocol):
    """What can be run in a rig."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def run(self, rig: Rig) -> Outcome:
        """Run it."""
        ...


WALL_CLOCK: tuple[AnyDrill, ...] = (
    *CAMERA_DRILLS, *POLICY_DRILLS, *NETWORK_DRILLS, *ROBOT_DRILLS, *SECOND_DRILLS, *OTHER_DRILLS,
    *OPERATOR_DRILLS, *SUPERVISOR_DRILLS, *CHUNK_DRILLS,
)  # fmt: skip
"""In an order in which the policy's place is given away once."""
SLOW: tuple[AnyDrill, ...] = (*RESTART_DRILLS, *ALONE_DRILLS, *SILENT_DRILLS)
"""Further ones, for the long form."""
SIM_TIME: tuple[AnyDrill, ...] = CLOCK_DRILLS
SIM_TIME_SETUP = Setup(sim_time=True, own_camera="")


@dataclass(frozen=True)
class DrillsConfig:
    """Measure how long it takes from a fault to a standing arm."""

    repeats: int = 3
    """How often each drill is run."""
    only: str = ""
    """Part of the names of the drills to run; empty: all."""


def main(config: DrillsConfig) -> int:
    """Run the drills, and print one JSON object last."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="armchair-drills-") as name:
        for folder, setup, drills in (
            ("wall", Setup(), (*SLOW, *WALL_CLOCK)),
            ("sim", SIM_TIME_SETUP, SIM_TIME),
        ):
            wanted = [drill for drill in drills if config.only in drill.name]
            if wanted:
                with rig(setup, Path(name) / folder) as made:
                    outcomes += run_all(made, wanted, config.repeats)
    print(json.dumps(report(outcomes)))
    return 0


def run_all(made: Rig, drills: Sequence[AnyDrill], repeats: int) -> list[Outcome]:
    """Run all drills `repeats` times, one after the other, with a line each."""
    outcomes = []
    for _ in range(repeats):
        for drill in drills:
            outcomes.append(drill.run(made))
            print("  " + outcomes[-1].row(), flush=True)
            for problem in outcomes[-1].problems:
                print(f"    {problem}", flush=True)
    return outcomes


def report(outcomes: Iterable[Outcome]) -> dict[str, object]:
    """The JSON object of design.md 9: the worst of each drill's runs."""
    figures: dict[str, float] = {}
    bounds: dict[str, dict[str, float]] = {}
    problems: list[str] = []
    for outcome in outcomes:
        problems += [f"{outcome.name}: {problem}" for problem in outcome.problems]
        for key, value in outcome.figures.items():
            name = f"{slug(outcome.name)}_{key}"
            figures[name] = max(value, figures.get(name, value))
            if key in outcome.bounds:
                bounds[name] = {"at_most": outcome.bounds[key]}
    for share in SHARES:
        shares = [v for key, v in figures.items() if key.endswith(f"_{share}_share")]
        figures[f"worst_{share}_share"] = max(shares, default=0.0)
    return {
        "bench": "drills",
        "figures": {key: round(value, 3) for key, value in figures.items()},
        "bounds": bounds,
        "holds": not problems,
        "problems": problems,
        "machine": machine(),
    }


def slug(name: str) -> str:
    """A drill's name as the beginning of a figure's."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
