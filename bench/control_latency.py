"""Leg `latency` of bench `control`: from a picture's publication to its chunk in control, less inference.

    latency = taken − stamp − inference − wait,   wait = max(0, deadline − arrived)

`stamp` is the picture's header stamp, set when its publication begins. `inference` is what the policy's own
process measured around the run of the network. `arrived` is when the chunk was there: for armchair the
middleware's reception stamp in control's process, for the plain way the end of the callback that made it.
`deadline` is when the tick that took it was due, as the loop that ticks says, so that a tick that begins late
counts as latency. `taken` is when that tick had the chunk decoded. All of it is one host's system clock.

The plain way runs twice: with ROS's default settings, as it comes, and with armchair's settings for DDS and
malloc, which shows what of the difference is theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.control_camera import DISTINCT
from bench.control_loop import PERIOD_NS, PRIORITY, WARM_UP_S
from bench.control_stand import Stand
from episodes.errors import StackError

Columns = dict[str, NDArray[np.int64]]


def run_ours(stand: Stand, name: str, seconds: float, *, handed: bool = True) -> Columns:
    """Times of the chunks that armchair's policy and control nodes exchange; with pictures through shared
    memory, or (`handed` False) over DDS alone."""
    timing = stand.folder / f"{name}.npz"
    specs = (stand.camera(handed=handed), stand.policy(), stand.control(timing, priority=PRIORITY))
    with stand.running(*specs) as started:
        stand.enable(started)
        stand.spin(WARM_UP_S + seconds)
    return _settled(timing)


def run_plain(stand: Stand, name: str, seconds: float, *, untuned: bool) -> Columns:
    """The same of one rclpy node with PyTorch; `untuned` with ROS's default settings, camera included."""
    out = stand.folder / f"{name}.npz"
    stand.spin(0.2)  # what the last run sent is not to be counted
    stand.commanded = 0
    with stand.running(stand.camera(), stand.plain(out), untuned=untuned) as started:
        if not stand.loop.spin_until(lambda: stand.commanded > 0, stand.patience_ns()):
            raise StackError(f"the plain node sends nothing:\n{started[-1].tail()}")
        stand.spin(WARM_UP_S + seconds)
    return _settled(out)


def _settled(path: Path) -> Columns:
    """Columns of the chunks after the warm-up."""
    with np.load(path) as file:
        rows = {key.removeprefix("chunks/"): file[key] for key in file.files if key.startswith("chunks/")}
    begins_ns = rows["taken_ns"][0] + round(WARM_UP_S * 1e9)
    settled = rows["taken_ns"] >= begins_ns
    return {name: values[settled] for name, values in rows.items()}


def latency_ms(rows: Columns) -> NDArray[np.float64]:
    """(n,) latency of each chunk."""
    wait = np.maximum(0, rows["deadline_ns"] - rows["received_ns"])
    return (rows["taken_ns"] - rows["observation_ns"] - rows["inference_ns"] - wait) / 1e6


def latency_figures(stand: Stand, seconds: float, repeats: int) -> dict[str, float]:
    """Both ways in turns, and where armchair's time goes."""
    ways: dict[str, Callable[[str], Columns]] = {
        "ours": lambda name: run_ours(stand, name, seconds),
        "over_dds": lambda name: run_ours(stand, name, seconds, handed=False),
        "plain": lambda name: run_plain(stand, name, seconds, untuned=True),
        "plain_tuned": lambda name: run_plain(stand, name, seconds, untuned=False),
    }
    runs: dict[str, list[Columns]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way, run in ways.items():
            runs[way].append(run(f"{way}-{repeat}"))
            p50, p99 = np.percentile(latency_ms(runs[way][-1]), (50, 99))
            print(f"  {way}: p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
    mine, over_dds, other, tuned = (_joined(runs[way]) for way in ways)
    figures = _percentiles("latency", latency_ms(mine)) | _percentiles("plain_latency", latency_ms(other))
    figures |= _percentiles("plain_tuned_latency", latency_ms(tuned))
    figures |= _percentiles("over_dds_latency", latency_ms(over_dds))
    figures |= {
        "latency_chunks": float(len(mine["taken_ns"])),
        "plain_latency_chunks": float(len(other["taken_ns"])),
        "plain_tuned_latency_chunks": float(len(tuned["taken_ns"])),
        "over_dds_to_ours_p50": figures["over_dds_latency_p50_ms"] / figures["latency_p50_ms"],
        "plain_tuned_to_ours_p99": figures["plain_tuned_latency_p99_ms"] / figures["latency_p99_ms"],
        "plain_to_ours_p99": figures["plain_latency_p99_ms"] / figures["latency_p99_ms"],
        "inference_p50_ms": float(np.median(mine["inference_ns"]) / 1e6),
        "plain_inference_p50_ms": float(np.median(other["inference_ns"]) / 1e6),
        "tick_wait_p50_ms": float(np.median(np.maximum(0, mine["deadline_ns"] - mine["received_ns"])) / 1e6),
    }
    parts = {
        "picture_and_policy": mine["published_ns"] - mine["observation_ns"] - mine["inference_ns"],
        "chunk_transport": mine["received_ns"] - mine["published_ns"],
        "take": mine["taken_ns"] - np.maximum(mine["deadline_ns"], mine["received_ns"]),
    }
    for name, values in parts.items():
        figures |= _percentiles(f"latency_part_{name}", values / 1e6)
    figures |= _percentiles("chunk_to_command", (mine["done_ns"] - mine["taken_ns"]) / 1e6)
    within = (mine["done_ns"] - mine["taken_ns"]) <= PERIOD_NS
    figures["commands_within_a_period_of_their_chunk"] = float(within.mean())
    figures["picture_copy_p50_ms"] = picture_copy_ms()
    return figures


def picture_copy_ms(rate_hz: float = 30.0, count: int = 60) -> float:
    """How long this machine takes to copy one picture of the bench, at the camera's rate (median, ms).

    A picture is copied about six times from camera to network: so much of it is the memory's.
    """
    pictures = np.random.default_rng(0).integers(0, 256, (DISTINCT, 480, 640, 3), dtype=np.uint8)
    target = np.empty_like(pictures[0])
    taken = []
    for k in range(count):
        time.sleep(1 / rate_hz)
        before_ns = time.monotonic_ns()
        np.copyto(target, pictures[k % DISTINCT])
        taken.append(time.monotonic_ns() - before_ns)
    return float(np.median(taken) / 1e6)


def _joined(runs: list[Columns]) -> Columns:
    return {name: np.concatenate([rows[name] for rows in runs]) for name in runs[0]}


def _percentiles(name: str, values_ms: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.percentile(values_ms, (50, 99))
    return {
        f"{name}_p50_ms": float(p50),
        f"{name}_p99_ms": float(p99),
        f"{name}_worst_ms": float(values_ms.max()),
    }
