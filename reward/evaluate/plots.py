"""One figure per labeller: who gets which reward, along episodes, and how sure it is."""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from reward.evaluate.ground import Ground
from reward.evaluate.measure import Measured
from reward.frames import Frames

BLUE, GREEN, GREY, INK = "#2563a8", "#1e8c3c", "#b6bec9", "#1d2430"
SHOWN_SUCCESSFUL, SHOWN_OTHERS = 4, 8


def plot(measured: Measured, frames: Frames, ground: Ground) -> bytes:
    """The figure as a PNG file."""
    canvas = Canvas(figsize=(11, 3.1), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    _histogram(left, measured, ground)
    _along(middle, measured, frames, ground)
    _reliability(right, measured)
    for axis in (left, middle, right):
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _histogram(axis: Axes, measured: Measured, ground: Ground) -> None:
    found = measured.rewards
    values = found.rewards[found.valid]
    edges = np.histogram_bin_edges(values, bins=40) if len(values) else np.linspace(0, 1, 41)
    known = ground.known[found.valid]
    success = ground.success[found.valid] & known
    groups = [("frames", values, BLUE)]
    if success.any():
        groups = [("no success", values[known & ~success], GREY), ("success", values[success], GREEN)]
    for name, group, colour in groups:
        share = np.full(len(group), 1.0 / max(1, len(group)))
        axis.hist(group, edges, weights=share, label=f"{name} ({len(group)})", color=colour, alpha=0.75)
    axis.set_title("which reward which frames get", fontsize=9)
    axis.set_xlabel("reward", fontsize=8)
    axis.set_ylabel("share of the group", fontsize=8)
    axis.legend(fontsize=7, frameon=False)


def _along(axis: Axes, measured: Measured, frames: Frames, ground: Ground) -> None:
    found = measured.rewards
    numbers = [n for n in range(len(frames.episode_ids)) if found.valid[frames.rows_of(n)].any()]
    returns = {n: float(found.rewards[frames.rows_of(n)].sum()) for n in numbers}
    won = [n for n in numbers if ground.episode_success[n] == 1]
    others = sorted((n for n in numbers if n not in won), key=lambda n: -returns[n])
    # The best of the others are the ones that could mislead; the rest are spread evenly.
    step = max(1, len(others) // SHOWN_OTHERS)
    drawn = [(n, GREY, 0.9) for n in others[::step][:SHOWN_OTHERS]]
    drawn += [(n, GREEN, 1.4) for n in won[:: max(1, len(won) // SHOWN_SUCCESSFUL)][:SHOWN_SUCCESSFUL]]
    for number, colour, width in drawn:
        rows = frames.rows_of(number)
        along = np.where(found.valid[rows], found.rewards[rows], np.nan)
        axis.plot(np.arange(1, len(along) + 1), along, color=colour, linewidth=width)
    said = "green: with success" if ground.episodes_from else "success unknown"
    axis.set_title(f"along some episodes ({said})", fontsize=9)
    axis.set_xlabel("frame", fontsize=8)
    axis.set_ylabel("reward", fontsize=8)


def _reliability(axis: Axes, measured: Measured) -> None:
    axis.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1, linestyle="--")
    drawn = False
    for each in measured.against:
        c = each.calibration
        if c is None:
            continue
        predicted = [part.predicted for part in c.curve.bins]
        observed = [part.observed for part in c.curve.bins]
        pairs = np.array([part.pairs for part in c.curve.bins])
        axis.plot(predicted, observed, linewidth=1)
        axis.scatter(
            predicted,
            observed,
            12 + 120 * pairs / pairs.max(),
            label=f"{each.labels}: {c.curve.pairs} pairs, error {c.curve.expected_error:.2f}",
        )
        drawn = True
    axis.set_xlim(0.48, 1.02)
    axis.set_ylim(-0.05, 1.05)
    axis.set_title("calibration on held-out preferences", fontsize=9)
    axis.set_xlabel("predicted probability of the judge agreeing", fontsize=8)
    axis.set_ylabel("share that agrees", fontsize=8)
    if drawn:
        axis.legend(fontsize=7, frameon=False, loc="lower right")
    else:
        axis.text(0.75, 0.2, "no held-out preferences", ha="center", fontsize=8, color=INK)
