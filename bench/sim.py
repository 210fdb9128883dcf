"""Bench `sim`: what the simulator does per second.

Legs: `pbd`, soft bodies on one core; `render`, frames of the Sawyer scene; `collect`, episodes on disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from bench.machine import machine
from bench.sim_pbd import BOUNDS, measure
from bench.sim_scene import COLLECT_BOUNDS, RENDER_BOUNDS, measure_collect, measure_render
from episodes.errors import ConfigError

Leg = Literal["pbd", "render", "collect"]
EPISODES = 100
"""Without pictures; the bound on their time is for so many."""


@dataclass(frozen=True)
class SimBenchConfig:
    """Measure the simulator."""

    legs: tuple[Leg, ...] = ("pbd", "render", "collect")
    """Which parts to measure."""
    seconds: float = 3.0
    """Simulated time per soft body, s."""
    pictured: int = 6
    """Episodes with pictures, 2 or more; each takes a second or so."""
    workers: int = 2
    """Processes that collect without pictures; the bound is for two."""

    def __post_init__(self) -> None:
        """Raises ConfigError for no time, no leg, no process, or too few episodes to leave out the first."""
        if self.seconds <= 0.0 or not self.legs:
            raise ConfigError(f"seconds {self.seconds:g} and legs {self.legs}: write more than nothing.")
        if self.workers < 1 or self.pictured < 2:
            raise ConfigError(
                f"workers {self.workers} and pictured {self.pictured}: write 1 or more, and 2 or more."
            )


def main(config: SimBenchConfig) -> int:
    """Measure, and print one JSON object last.

    Raises:
        MachineError: a worker died, or a demanded GL library is missing.
    """
    figures: dict[str, float] = {}
    bounds: dict[str, dict[str, float]] = {}
    renderer = ""
    for leg in config.legs:
        if leg == "pbd":
            found, renderer = measure(config.seconds)
            held = {name: {"at_least": bound} for name, bound in BOUNDS.items()}
        elif leg == "render":
            found, renderer = measure_render()
            held = RENDER_BOUNDS
        else:
            found, held = measure_collect(EPISODES, config.pictured, config.workers), COLLECT_BOUNDS
        figures |= {f"{leg}_{name}": value for name, value in found.items()}
        bounds |= {f"{leg}_{name}": bound for name, bound in held.items()}
    report = {
        "bench": "sim",
        "figures": {name: round(value, 3) for name, value in figures.items()},
        "bounds": bounds,
        "holds": all(_holds(figures[name], bound) for name, bound in bounds.items()),
        "machine": machine(renderer),
    }
    print(json.dumps(report))
    return 0


def _holds(value: float, bound: dict[str, float]) -> bool:
    return bound.get("at_least", value) <= value <= bound.get("at_most", value)
