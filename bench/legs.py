"""The legs of the main job: which policies are trained on which reward, and training several side by side.

A leg is trained by `armchair train` in a process of its own with one thread: two small networks side by side
on two cores are quicker than one after the other with two threads each, and the result of a leg does not
depend on its neighbours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from episodes.errors import StackError

POLL_S = 0.2


@dataclass(frozen=True)
class Leg:
    """One policy to train."""

    name: str
    """Folder name."""
    title: str
    """What the tables call it."""
    algorithm: str
    """Name behind `algo:`."""
    reward: str
    """Reward of the prepared file: truth, or a labeller's name."""
    options: tuple[str, ...] = ()
    """Further options of the algorithm, as on the command line."""


LEGS = (
    Leg("iql-true", "IQL, true reward (the ceiling)", "iql", "truth"),
    Leg("iql-learned", "IQL, learned reward", "iql", "learned"),
    Leg("iql-random", "IQL, random reward (the control)", "iql", "random"),
    Leg("bc", "BC, blind to rewards", "bc", "truth"),
)
"""Of the main job."""
FURTHER = {
    leg.algorithm: leg
    for leg in (
        Leg("cql-true", "CQL, true reward", "cql", "truth"),
        Leg("brac-true", "BRAC, true reward", "brac", "truth"),
        Leg("oril", "ORIL, the successful episodes as experts", "oril", "truth"),
    )
}
"""The other offline algorithms, which `armchair bench learning --also` asks for."""


def complete(legs: Sequence[Leg]) -> list[dict[str, Any]]:
    """The legs with every default of their algorithms: a run under other defaults is another run."""
    from policy.algorithms.bc import BCConfig
    from policy.algorithms.brac import BRACConfig
    from policy.algorithms.cql import CQLConfig
    from policy.algorithms.iql import IQLConfig
    from policy.algorithms.oril import ORILConfig

    defaults = {one.name: one for one in (BCConfig, IQLConfig, CQLConfig, BRACConfig, ORILConfig)}
    return [{**asdict(leg), "defaults": asdict(defaults[leg.algorithm]())} for leg in legs]


def train_command(
    leg: Leg, run: Path, prepared: Path, *, steps: int, seed: int, options: Sequence[str] = ()
) -> list[str]:
    """The command that trains `leg`; `options` are further ones of the run, such as --batch-size."""
    return [
        *(sys.executable, "-m", "armchair", "train", str(run)),
        *("--data.files", str(prepared), "--data.reward", leg.reward),
        *("--steps", str(steps), "--seed", str(seed), "--num-threads", "1"),
        *options,
        *(f"algo:{leg.algorithm}", *leg.options),
    ]


def train_legs(
    legs: Sequence[Leg],
    runs: Path,
    prepared: Path,
    *,
    steps: int,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None],
    options: Sequence[str] = (),
) -> dict[str, str]:
    """Train every leg, at most `workers` at a time; a leg whose run is complete returns at once.

    Args:
        options: of every run, beside those of the legs' algorithms.

    Returns:
        leg name -> run folder.

    Raises:
        StackError: a leg's process failed; the end of its log is in the message.
        KeyboardInterrupt: passed on after every process saved its checkpoint and ended.
    """
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    runs.mkdir(parents=True, exist_ok=True)
    waiting, running, done = list(legs), {}, 0
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                leg = waiting.pop(0)
                log = (runs / f"{leg.name}.log").open("w")
                command = train_command(
                    leg, runs / leg.name, prepared, steps=steps, seed=seed, options=options
                )
                running[leg.name] = (
                    subprocess.Popen(
                        command, stdout=log, stderr=log, env=environment, start_new_session=True
                    ),
                    log,
                )
            time.sleep(POLL_S)
            for name, (process, log) in list(running.items()):
                if process.poll() is None:
                    continue
                log.close()
                del running[name]
                if process.returncode != 0:
                    raise StackError(_failure(name, process.returncode, runs / f"{name}.log"))
                done += 1
            current = sum(_step(runs / name) for name in running)
            progress(done * steps + min(current, steps * len(running)), steps * len(legs))
    finally:
        for process, log in running.values():
            process.send_signal(signal.SIGTERM)
            process.wait()
            log.close()
    return {leg.name: str(runs / leg.name) for leg in legs}


def _step(run: Path) -> int:
    """The newest step that a run has logged."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError, KeyError):
        return 0


def _failure(name: str, code: int, log: Path) -> str:
    end = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
    return f"training leg {name!r} ended with exit code {code}; {log} ends with:\n{end}"
