"""The curves of a run that the verdict rests on, as pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from policy.diagnosis.reading import Diagnosis
from policy.diagnosis.rules import DATASET_Q, Rules
from policy.diagnosis.series import Series, series, smoothed

BLUE, ORANGE, GREY, RED, GREEN = "#2563a8", "#c2660a", "#b6bec9", "#b3261e", "#1e7a38"
Lines = Sequence[tuple[str, Series, str]]


def dataset_q(each: Diagnosis, rules: Rules) -> bytes:
    """Average dataset Q with its smoothed curve, the peak and the checkpoints, as a PNG file."""
    canvas = Canvas(figsize=(11, 3.2), layout="constrained")
    axis = canvas.subplots()
    curves = [series(each.rows, name) for name in DATASET_Q]
    curve = next((c for c in curves if len(c) >= rules.min_points), max(curves, key=len))
    for name, here, colour in (("batches", curves[1], GREY), ("fixed rows", curves[0], BLUE)):
        if len(here):
            axis.plot(here.steps, here.values, color=colour, linewidth=0.9, marker=".", label=name)
    held_out = series(each.rows, "diagnose/valid/q")
    if len(held_out):
        axis.plot(held_out.steps, held_out.values, color=ORANGE, linewidth=0.9, label="held out")
    if len(curve) >= rules.min_points:
        window = max(1, round(rules.window * len(curve)))
        axis.plot(curve.steps, smoothed(curve.values, window), color=BLUE, linewidth=2.2, label="smoothed")
    if each.finding.peak_step is not None:
        axis.axvline(each.finding.peak_step, color=RED, linewidth=1, linestyle="--", label="peak")
    axis.axvline(each.choice.step, color=GREEN, linewidth=1.4, label="checkpoint to take")
    _finish(axis, "average Q of the dataset's actions")
    return _png(canvas)


def figures(each: Diagnosis) -> bytes:
    """The other curves of the workflow, as a PNG file."""
    canvas = Canvas(figsize=(11, 5.4), layout="constrained")
    axes = canvas.subplots(2, 3).ravel()
    rows = each.rows
    _panel(axes[0], "TD error", _both(rows, "td_error"), log=True)
    conservative = [*_both(rows, "conservative")]
    conservative.append(("cannot tell actions apart", series(rows, "diagnose/train/conservative_flat"), GREY))
    _panel(axes[1], "conservative term (CQL: w E[Z − Q])", conservative)
    _panel(
        axes[2],
        "Q in and out of the distribution",
        [
            ("the data's actions", series(rows, "diagnose/train/q"), BLUE),
            ("the policy's", series(rows, "diagnose/train/q_policy"), GREEN),
            ("uniform", series(rows, "diagnose/train/q_random"), GREY),
        ],
    )
    _panel(axes[3], "φ(s, a)·φ(s′, a′)", _both(rows, "feature_dot"))
    _panel(axes[4], "effective rank of the features", _both(rows, "effective_rank"))
    _panel(axes[5], "log-likelihood of the data's actions", _both(rows, "log_likelihood"))
    return _png(canvas)


def _both(rows: Sequence[Mapping[str, float]], name: str) -> list[tuple[str, Series, str]]:
    return [
        (label, series(rows, f"diagnose/{split}/{name}"), colour)
        for label, split, colour in (("training", "train", BLUE), ("held out", "valid", ORANGE))
    ]


def _panel(axis: Axes, title: str, lines: Lines, *, log: bool = False) -> None:
    shown = [line for line in lines if len(line[1])]
    for label, curve, colour in shown:
        axis.plot(curve.steps, curve.values, color=colour, linewidth=1.2, label=label)
    if log and shown and all((curve.values > 0).all() for _, curve, _ in shown):
        axis.set_yscale("log")
    if not shown:
        axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes, fontsize=8)
    _finish(axis, title)


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("gradient steps", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        axis.legend(handles, labels, fontsize=7, frameon=False)


def _png(canvas: Canvas) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
