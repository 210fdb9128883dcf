"""Bench `sim`: what the simulator does per second. Leg `pbd`: soft bodies on one core."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from bench.machine import machine
from bench.sim_pbd import BOUNDS, measure
from episodes.errors import ConfigError


@dataclass(frozen=True)
class SimBenchConfig:
    """Measure the simulator."""

    legs: tuple[Literal["pbd"], ...] = ("pbd",)
    """Which parts to measure."""
    seconds: float = 3.0
    """Simulated time per soft body, s."""


def main(config: SimBenchConfig) -> int:
    """Measure, and print one JSON object last.

    Raises:
        ConfigError: no time, or no leg.
    """
    if config.seconds <= 0.0 or not config.legs:
        raise ConfigError(f"seconds {config.seconds:g} and legs {config.legs}: write more than nothing.")
    figures, renderer = measure(config.seconds)
    report = {
        "bench": "sim",
        "figures": {f"pbd_{name}": round(value, 2) for name, value in figures.items()},
        "bounds": {f"pbd_{name}": {"at_least": bound} for name, bound in BOUNDS.items()},
        "holds": all(figures[name] >= bound for name, bound in BOUNDS.items()),
        "machine": machine(renderer),
    }
    print(json.dumps(report))
    return 0
