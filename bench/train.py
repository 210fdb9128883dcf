"""Bench `train`: gradient steps per second of IQL and CQL, beside d3rlpy, and what pictures cost the step.

Both sides have the same sizes: a state of 39 numbers, 4 actions, batches of 256 rows, two hidden layers of
256, two Q, 10 actions of each kind for CQL; no layer normalisation and no dropout, which d3rlpy's defaults
lack. d3rlpy runs in an environment and a process of its own. All take turns, so that other work on the
machine moves them alike; what counts is the median of the ratios of neighbours. Batches are drawn beforehand
on both sides.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.machine import machine
from bench.peers.environment import D3RLPY, peer_environment_variables, peer_python
from bench.train_pictures import picture_figures
from episodes.errors import MachineError
from policy.accelerate import Acceleration, Reduced, accelerate
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.precision import Precision
from policy.settings import require
from policy.training import Learner
from policy.transitions import Transitions

STATE_DIM, ACTION_DIM, ROWS, HIDDEN = 39, 4, 256, (256, 256)
BATCHES = 16
SCRIPT = Path(__file__).with_name("peers") / "d3rlpy_updates.py"
BOUNDS = {
    "iql_fp32_over_d3rlpy": {"at_least": 1.1},
    "iql_bf16_over_d3rlpy": {"at_least": 1.7},
    "cql_bf16_compiled_over_d3rlpy": {"at_least": 3.0},
    "picture_idle_share": {"at_most": 0.05},
}

Rate = Callable[[], float]


@dataclass(frozen=True)
class TrainBenchConfig:
    """Measure gradient steps per second beside d3rlpy, and the share of a step that waits for pictures."""

    folder: Path = Path("runs/bench/train")
    """Where the measured data goes; made anew each time."""
    peers: Path = Path("runs/peers")
    """Where environments of peers are kept."""
    turns: int = 7
    """How often each is measured."""
    seconds: float = 3.0
    """How long each runs per turn."""
    threads: int = 2
    """CPU threads of either side."""
    compile: bool = True
    """Measure with torch.compile too."""
    peer: bool = True
    """Measure d3rlpy too."""
    pictures: int = 84
    """Side of the pictures, in pixels; 0 leaves them out."""
    picture_steps: int = 8
    """Gradient steps with pictures."""

    def __post_init__(self) -> None:
        require(self.turns >= 1, "turns", self.turns, "give 1 or more")
        require(self.seconds > 0, "seconds", self.seconds, "give more than 0")
        require(self.threads >= 1, "threads", self.threads, "give 1 or more")
        require(self.pictures == 0 or self.pictures >= 16, "pictures", self.pictures, "give 16 or more, or 0")
        require(self.picture_steps >= 1, "picture-steps", self.picture_steps, "give 1 or more")


def main(config: TrainBenchConfig) -> int:
    """Measure, and print one JSON object last."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    said: list[str] = []
    try:
        figures = update_figures(config, said.append)
        if config.pictures:
            print(f"pictures of {config.pictures}x{config.pictures}", flush=True)
            figures |= picture_figures(config.folder, config.pictures, ROWS, config.picture_steps)
    finally:
        torch.set_num_threads(before)
    bounds = {key: bound for key, bound in BOUNDS.items() if key in figures}
    report = {
        "bench": "train",
        "figures": {key: round(value, 4) for key, value in figures.items()},
        "bounds": bounds,
        "holds": all(
            bound.get("at_least", -np.inf) <= figures[key] <= bound.get("at_most", np.inf)
            for key, bound in bounds.items()
        ),
        "not_measured": sorted(set(BOUNDS) - set(bounds)),
        "warnings": said,
        "machine": machine() | {"threads": config.threads, "d3rlpy": "2.8.1"},
    }
    print(json.dumps(report))
    return 0


def update_figures(config: TrainBenchConfig, warn: Callable[[str], None]) -> dict[str, float]:
    """Gradient steps per second of everyone, the medians over turns, and ratios to d3rlpy's."""
    rates: dict[str, list[float]] = {}
    with d3rlpy_updates(config) if config.peer else _nobody() as peer:
        for algo in ("iql", "cql"):
            everyone = {f"{algo}_d3rlpy": peer(algo)} if peer else {}
            everyone |= candidates(algo, config, warn)
            for turn in range(config.turns + 1):
                print(f"{algo}: turn {turn} of {config.turns}" + ("" if turn else ", to warm up"), flush=True)
                for name, rate in everyone.items():
                    found = rate()
                    if turn:
                        rates.setdefault(name, []).append(found)
    figures = {f"{name}_steps_per_s": statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        theirs = rates.get(f"{name[:3]}_d3rlpy")
        if theirs is not None and theirs is not values:
            ratios = [own / other for own, other in zip(values, theirs, strict=True)]
            figures[f"{name}_over_d3rlpy"] = statistics.median(ratios)
    return figures


def candidates(algo: str, config: TrainBenchConfig, warn: Callable[[str], None]) -> dict[str, Rate]:
    """Our learner of `algo` in each precision, as it is and compiled."""
    kinds: list[tuple[Precision, bool]] = [("fp32", False), ("bf16", False)]
    if config.compile:
        kinds += [("fp32", True), ("bf16", True)]
    drawn = batches()
    return {
        f"{algo}_{precision}" + ("_compiled" if compiled else ""): _rate(
            learner(algo, precision, compiled, warn), drawn, config.seconds
        )
        for precision, compiled in kinds
    }


def learner(
    algo: str, precision: Precision, compiled: bool, warn: Callable[[str], None]
) -> Learner[Transitions]:
    """A fresh learner with d3rlpy's layers, past the steps in which CQL's policy imitates."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    config = (
        IQLConfig(hidden=HIDDEN, layer_norm=False, policy_dropout=0.0)
        if algo == "iql"
        else CQLConfig(hidden=HIDDEN, samples=10, bc_steps=0)
    )
    made = config.build(STATE_DIM, ACTION_DIM, device)
    accelerate(made, Acceleration(compile=compiled, warn=warn), algo, device)
    return Reduced(made, precision)


def batches() -> list[Transitions]:
    """Random transitions."""
    generator = torch.Generator().manual_seed(0)

    def one() -> Transitions:
        s, ahead = (torch.randn(ROWS, STATE_DIM, generator=generator) for _ in range(2))
        a = torch.rand(ROWS, ACTION_DIM, generator=generator) * 2 - 1
        zeros = torch.zeros(ROWS)
        return Transitions(s, a, torch.rand(ROWS, generator=generator), ahead, zeros, zeros)

    return [one() for _ in range(BATCHES)]


def _rate(made: Learner[Transitions], drawn: list[Transitions], seconds: float) -> Rate:
    def rate() -> float:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            made.update(drawn[steps % BATCHES])
            steps += 1
        return steps / (time.perf_counter() - start)

    return rate


@contextmanager
def _nobody() -> Iterator[None]:
    yield None


@contextmanager
def d3rlpy_updates(config: TrainBenchConfig) -> Iterator[Callable[[str], Rate]]:
    """A process of d3rlpy's that steps for as long as it is asked to and gives gradient steps per second."""
    python = peer_python(config.peers / "d3rlpy", D3RLPY)
    sizes = map(str, (STATE_DIM, ACTION_DIM, ROWS, config.threads))
    process = subprocess.Popen(
        [str(python.absolute()), str(SCRIPT), *sizes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=peer_environment_variables(),
    )

    def rate(algo: str) -> float:
        if process.stdin is None or process.stdout is None:
            raise MachineError("the pipes to d3rlpy's process are closed.")
        with suppress(BrokenPipeError):  # it has ended: there is no line then
            print(algo, config.seconds, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            raise MachineError(
                f"d3rlpy's process ended with {process.wait()}; run it by hand to see why: "
                f"echo '{algo} 1' | {' '.join(map(str, process.args))}"  # type: ignore[arg-type]
            )
        return float(json.loads(line)["steps_per_s"])

    try:
        yield lambda algo: lambda: rate(algo)
    finally:
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
