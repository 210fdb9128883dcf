"""The two ROS 2 stages of the main job: experts recorded, and the policy deployed, through nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from episodes.contract import load_contract
from episodes.errors import StackError
from episodes.reader import Episode, Stream
from sim.experts import Mix, assignment
from sim.statistics import wilson
from sim.video import write_filmstrip, write_video

FILM_EVERY = 2


def record_experts(
    data: Path,
    contract: Path,
    folder: Path,
    *,
    episodes: int,
    mix: Mix,
    horizon: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Record the expert episodes of the collection through simulation, expert and recorder nodes."""
    from ros_nodes.stacks import CollectExpert
    from ros_nodes.up import run_stack

    experts = [b.episode for b in assignment(seed, episodes, mix, horizon=horizon) if b.kind == "expert"]
    if not experts:
        return {"episodes": 0, "rows": []}
    stack = CollectExpert(
        dataset=data, contract=contract, episodes=len(experts), first=experts[0], seed=seed, horizon=horizon
    )
    result = run_stack(stack, folder, progress=progress)
    rows = _rows(result.results, len(experts), folder)
    return {"episodes": len(experts), "rows": rows, "notes": list(result.notes)}


def deploy(
    bundle: Path,
    contract: Path,
    folder: Path,
    *,
    goals: int,
    horizon: int,
    seed: int,
    in_process: Sequence[Mapping[str, Any]],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Drive the simulation through policy and control nodes, recording it, and compare with `in_process`."""
    from ros_nodes.stacks import DeploySim
    from ros_nodes.up import run_stack

    stack = DeploySim(
        bundle=bundle, contract=contract, dataset=folder / "data", episodes=goals, seed=seed, horizon=horizon
    )
    result = run_stack(stack, folder / "run", progress=progress)
    rows = _rows(result.results, goals, folder)
    successes = sum(row["success"] for row in rows)
    interval = wilson(successes, len(rows))
    ticks = sum(row["ticks"] for row in rows)
    equal = [
        (row["success"], row["success_tick"]) == (other["success"], other["success_step"])
        for row, other in zip(rows, in_process, strict=True)
    ]
    filmed = next((row for row in rows if row["success"]), rows[0])
    strip, video = _film(folder, filmed["file"])
    timed = [row for row in rows if row["wall_s"]]
    return {
        "successes": successes,
        "episodes": len(rows),
        "interval": [interval.lower, interval.upper],
        "equal_in_process": all(equal),
        "different_goals": [row["episode"] for row, same in zip(rows, equal, strict=True) if not same],
        "ticks": ticks,
        "ticks_per_s": sum(r["ticks"] for r in timed) / sum(r["wall_s"] for r in timed) if timed else None,
        "changed_by_limits": _changed([row["file"] for row in rows], contract, bundle),
        "dataset": str(folder / "data"),
        "filmed": filmed["episode"],
        "filmstrip": str(strip),
        "video": str(video),
        "notes": list(result.notes),
        "rows": rows,
    }


def _rows(results: Mapping[str, Any] | None, expected: int, folder: Path) -> list[dict[str, Any]]:
    rows = list(results["episodes"]) if results else []
    faults = Counter(row["fault"] for row in rows if row.get("fault"))
    if len(rows) != expected:
        raise StackError(f"{folder}: {len(rows)} of {expected} episodes came out; the logs in it say why.")
    if faults:
        raise StackError(f"{folder}: control stopped the robot: {dict(faults)}; the logs in it say why.")
    return rows


def _film(folder: Path, filmed: str, stem: str = "deployment") -> tuple[Path, Path]:
    """Filmstrip and video of a recorded episode, from its own pictures, enlarged to be looked at."""
    with Episode.open(filmed) as episode:
        stream = next(s for s in episode.streams.values() if len(s.spec.shape) == 3)
        frames = stream.read(slice(None))
        rate_hz = episode.contract.rate_hz
    large = [cv2.resize(frame, (252, 252), interpolation=cv2.INTER_CUBIC) for frame in frames]
    strip = write_filmstrip(large, folder / f"{stem}.png")
    return strip, write_video(large[::FILM_EVERY], folder / f"{stem}.mp4", fps=rate_hz / FILM_EVERY)


def _changed(files: Sequence[str], contract: Path, bundle: Path) -> int:
    """How many recorded commands differ in any bit from what the policy asked for.

    The policy is asked again for each recorded observation; it answers with the same bits.
    """
    from policy.runtime.bundle import Bundle
    from policy.runtime.infer import Policy

    policy = Policy(Bundle.load(bundle, robot_contract=load_contract(contract)))
    changed = 0
    for file in files:
        with Episode.open(file) as episode:
            commands = episode.commands
            if commands is None:
                raise StackError(f"{file}: a deployment without commands was recorded; the logs say why.")
            streams = {name: episode.streams[name] for name in policy.streams}
            for value, stamp in zip(commands.values, commands.observation_ns, strict=True):
                asked = policy.infer({name: _at(stream, int(stamp)) for name, stream in streams.items()})
                changed += not np.array_equal(asked[0], value)
    return changed


def _at(stream: Stream, stamp_ns: int) -> Any:
    row = int(np.searchsorted(stream.stamp_ns, stamp_ns))
    return stream.read(slice(row, row + 1))[0]
