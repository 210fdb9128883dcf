"""The verdict over a run, as a pure function of its log and of stated rules.

After Kumar et al. 2021 (A Workflow for Offline Model-Free Robotic RL, arXiv 2109.10813), who state the rules
in words: a critic overfits when the average Q of the dataset rises and then falls; it underfits when it does
not, but TD error or CQL loss stay high, which a larger model confirms by lowering them. The numbers are ours
and every one is a setting. Neither the absolute scale of Q nor the return of any rollout is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from policy.diagnosis.series import Series, noise, series, smoothed
from policy.settings import require

Verdict = Literal["overfitting", "underfitting", "sound", "undecided"]
Row = Mapping[str, float]

DATASET_Q = ("diagnose/train/q", "train/q")
"""Average dataset Q: over fixed rows at evaluations; where those are too few, over the batches of the log."""


@dataclass(frozen=True)
class Rules:
    """The numbers behind the verdict. Shares are of the curve's own size, so the scale of rewards is none."""

    window: float = 0.15
    """Width of the running mean that curves are smoothed with, as a share of their points."""
    min_points: int = 10
    """Points of dataset Q below which nothing is said."""
    sigmas: float = 3.0
    """Rises and falls count from this many standard errors of the smoothed curve on."""
    fall: float = 0.2
    """Overfitting: dataset Q ends at least this share of its rise below its peak."""
    persist: float = 0.1
    """Overfitting: and it is below for this last share of the run, so a dip is no fall."""
    rising: float = 0.15
    """Too short to say: in the last quarter of the run dataset Q made more than this share of its rise."""
    td_high: float = 0.2
    """Underfitting: share of the targets' variance that Q leaves unexplained, td / (td + var Q)."""
    separation_low: float = 0.1
    """Underfitting, CQL: 1 − (CQL term / its value for a critic that cannot tell actions apart)."""
    tail: float = 0.2
    """Last share of the evaluations over which losses are averaged."""
    falling: float = 0.2
    """Too short to say: a high loss fell by more than this share from the tail before to the last tail."""
    drop: float = 0.25
    """A larger model confirms underfitting when it lowers the high loss by at least this share."""
    validation: Literal["implicit", "always", "never"] = "implicit"
    """Whether held-out TD errors may say overfitting as well. implicit: for algorithms without a conservative
    term (IQL, ORIL), whose dataset Q need not fall. This rule is ours, not the workflow's."""
    held_out_rise: float = 0.5
    """Overfitting by held-out TD errors: the unexplained share ends this share above its lowest value,"""
    held_out_ratio: float = 3.0
    """and at this multiple of that of the training rows."""
    aligned: float = 0.9
    """Cosine between features of neighbouring pairs from which on DR3 is advised before capacity."""

    def __post_init__(self) -> None:
        require(self.min_points >= 4, "rules.min-points", self.min_points, "give 4 or more")
        require(0 < self.tail <= 0.5, "rules.tail", self.tail, "give a share above 0, up to 0.5")
        for name in ("window", "persist"):
            value = getattr(self, name)
            require(0 <= value < 1, f"rules.{name}", value, "give a share from 0 to 1")
        for name in ("sigmas", "fall", "rising", "td_high", "falling", "drop", "held_out_rise"):
            value = getattr(self, name)
            require(value >= 0, f"rules.{name.replace('_', '-')}", value, "give 0 or more")


@dataclass(frozen=True)
class Finding:
    """What the log of a run says."""

    verdict: Verdict
    because: str
    """One sentence, with the numbers that decided."""
    peak_step: int | None = None
    """Overfitting: the step after which the critic gets worse."""
    high: tuple[str, ...] = ()
    """Underfitting: the figures that stay high, keys of `figures`."""
    confirmed: bool | None = None
    """Underfitting: whether a larger model lowered them; None where there was none to compare with."""
    missing: Literal["", "points", "steps", "start"] = ""
    """Undecided: what would decide. points: more points of the log; steps: a longer run; start: a closer look
    at the beginning."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the rules looked at, by name."""


def judge(rows: Sequence[Row], rules: Rules, *, implicit: bool, floor: float | None = None) -> Finding:
    """The verdict over one run.

    Args:
        rows: its log, `policy.metrics.read_metrics`.
        implicit: the algorithm has no conservative term (IQL, ORIL).
        floor: the lowest value that any policy can have; None where it is not known.
    """
    curve = next((c for c in (series(rows, n) for n in DATASET_Q) if len(c) >= rules.min_points), None)
    losses = _losses(rows, rules)
    if curve is None:
        most = max(len(series(rows, name)) for name in DATASET_Q)
        return Finding(
            "undecided",
            f"too short to say: {most} points of dataset Q, {rules.min_points} are needed",
            missing="points",
            figures=losses,
        )
    shape = _shape(curve, rules)
    figures = {**shape.figures, **losses}
    if shape.falls and shape.rises:
        return Finding(
            "overfitting",
            f"dataset Q rises by {shape.rise:.3g} up to step {shape.peak_step} and then falls by "
            f"{shape.fall:.3g}, {_percent(shape.fall, shape.rise)} of its rise",
            peak_step=shape.peak_step,
            figures=figures,
        )
    if shape.falls and floor is not None and figures["q_last"] < floor - figures["q_least"]:
        return Finding(
            "overfitting",
            f"dataset Q falls by {shape.fall:.3g} from step {shape.peak_step} on, to "
            f"{figures['q_last']:.3g}: no policy can be worth less than {floor:.3g}",
            peak_step=shape.peak_step,
            figures=figures,
        )
    if shape.falls:
        return Finding(
            "undecided",
            f"dataset Q falls by {shape.fall:.3g} from its first point (step {int(curve.steps[0])}) on: a "
            "peak before it would mean overfitting, so log the beginning more often",
            missing="start",
            figures=figures,
        )
    if rules.validation == "always" or (rules.validation == "implicit" and implicit):
        held_out = _held_out(rows, rules, figures)
        if held_out is not None:
            return held_out
    if "td_unexplained" not in figures:
        return Finding(
            "undecided",
            "dataset Q does not fall, but the log has too few evaluations to say whether losses stay high",
            missing="points",
            figures=figures,
        )
    return _under_or_sound(rules, shape, figures)


def compared(finding: Finding, larger: Finding, rules: Rules) -> Finding:
    """The verdict in the light of a larger model on the same data; only underfitting can change."""
    if finding.verdict != "underfitting":
        return finding
    if not all(name in larger.figures for name in finding.high):
        return finding
    lower = {n: 1 - _cost(n, larger.figures[n]) / _cost(n, finding.figures[n]) for n in finding.high}
    best = max(lower, key=lambda name: lower[name])
    said = f"a larger model changes {best} from {finding.figures[best]:.3g} to {larger.figures[best]:.3g}"
    if lower[best] >= rules.drop:
        return replace(finding, confirmed=True, because=f"{finding.because}; {said}")
    return replace(
        finding,
        verdict="sound",
        confirmed=False,
        because=f"{finding.because}, but {said}: what is left is in the data, not in the model",
    )


@dataclass(frozen=True)
class _Shape:
    rise: float
    fall: float
    peak_step: int
    rises: bool
    falls: bool
    gain: float
    """Share of the rise that the last quarter made; 0 where it is within the noise."""
    figures: dict[str, float]


def _shape(curve: Series, rules: Rules) -> _Shape:
    window = _window(curve, rules)
    smooth = smoothed(curve.values, window)
    peak = int(smooth.argmax())
    rise, fall = float(smooth[peak] - smooth[0]), float(smooth[peak] - smooth[-1])
    # The ends are single points, so the difference of a smoothed point and an end has about one σ.
    least = rules.sigmas * noise(curve.values) * float(np.sqrt(1.0 + 1.0 / window))
    rises = rise > least
    low = max(least, rules.fall * rise if rises else rules.fall * float(np.ptp(smooth)))
    last = smooth[max(0, int(np.ceil(len(smooth) * (1 - rules.persist))) - 1) :]
    falls = fall > least and fall >= low and bool((smooth[peak] - last >= low).all())
    quarter = smooth[int(0.75 * (len(smooth) - 1))]
    gain = float(smooth[-1] - quarter)
    return _Shape(
        rise,
        fall,
        int(curve.steps[peak]),
        rises,
        falls,
        gain / rise if rises and gain > least else 0.0,
        {"q_first": float(smooth[0]), "q_peak": float(smooth[peak]), "q_last": float(smooth[-1])}
        | {"q_peak_step": float(curve.steps[peak]), "q_noise": noise(curve.values)}
        | {"q_points": float(len(curve)), "q_least": least},
    )


def _under_or_sound(rules: Rules, shape: _Shape, figures: Mapping[str, float]) -> Finding:
    limits = {"td_unexplained": (rules.td_high, 1), "separation": (rules.separation_low, -1)}
    high = tuple(n for n, (limit, sign) in limits.items() if n in figures and sign * (figures[n] - limit) > 0)
    told = ", ".join(f"{name} {figures[name]:.3g}" for name in limits if name in figures)
    still = {n: 1 - _cost(n, figures[n]) / _cost(n, figures[f"{n}_before"]) for n in high}
    falling = [name for name, by in still.items() if by > rules.falling]
    if falling:
        return Finding(
            "undecided",
            f"too short to say: {falling[0]} is high ({figures[falling[0]]:.3g}) but still falls, by "
            f"{100 * still[falling[0]]:.0f} %",
            missing="steps",
            figures=figures,
        )
    if high:
        return Finding(
            "underfitting",
            f"dataset Q does not fall, but the losses stay high ({told})",
            high=high,
            figures=figures,
        )
    if shape.gain > rules.rising:
        return Finding(
            "undecided",
            f"too short to say: dataset Q still rises, it made {_percent(shape.gain, 1)} of "
            "its rise in the last quarter of the run",
            missing="steps",
            figures=figures,
        )
    return Finding(
        "sound",
        f"dataset Q does not fall and the losses are low ({told})",
        figures=figures,
    )


def _held_out(rows: Sequence[Row], rules: Rules, figures: Mapping[str, float]) -> Finding | None:
    there, here = _unexplained(rows, "valid"), _unexplained(rows, "train")
    if min(len(there), len(here)) < rules.min_points:
        return None
    smooth = smoothed(there.values, _window(there, rules))
    best = int(smooth.argmin())
    rise, end = float(smooth[-1] / max(smooth[best], 1e-12) - 1), float(smooth[-1])
    trained = float(smoothed(here.values, _window(here, rules))[-1])
    clear = smooth[-1] - smooth[best] > rules.sigmas * noise(there.values)
    if not (clear and rise >= rules.held_out_rise and end >= rules.held_out_ratio * trained):
        return None
    return Finding(
        "overfitting",
        f"held-out TD errors grow: {smooth[best]:.3g} of the variance unexplained at step "
        f"{int(there.steps[best])}, {end:.3g} at the end, against {trained:.3g} on the training rows",
        peak_step=int(there.steps[best]),
        figures={**figures, "held_out_lowest": float(smooth[best]), "held_out_last": end},
    )


def _losses(rows: Sequence[Row], rules: Rules) -> dict[str, float]:
    """Means over the last tail and, as `<name>_before`, over the one before it."""
    curves = {"td_unexplained": _unexplained(rows, "train")}
    flat, term = (series(rows, f"diagnose/train/{n}") for n in ("conservative_flat", "conservative"))
    if len(flat) and len(flat) == len(term):
        curves["separation"] = Series(flat.steps, 1.0 - term.values / np.maximum(flat.values, 1e-12))
    curves["feature_cosine"] = series(rows, "diagnose/train/feature_cosine")
    curves["feature_dot"] = series(rows, "diagnose/train/feature_dot")
    curves["effective_rank"] = series(rows, "diagnose/train/effective_rank")
    figures = {}
    for name, curve in curves.items():
        count = max(1, round(rules.tail * len(curve)))
        if len(curve) >= 2:
            figures[name] = float(curve.values[-count:].mean())
            figures[f"{name}_before"] = float(curve.values[-2 * count : -count].mean())
    return figures


def _unexplained(rows: Sequence[Row], split: str) -> Series:
    """td / (td + var Q) at every evaluation: by the law of total variance the share of the targets' variance
    that a calibrated Q does not explain; 0 is best, 1 says nothing about any row."""
    td, std = (series(rows, f"diagnose/{split}/{name}") for name in ("td_error", "q_std"))
    if len(td) != len(std):
        return Series(np.zeros(0, np.int64), np.zeros(0))
    return Series(td.steps, td.values / np.maximum(td.values + std.values**2, 1e-12))


def _cost(name: str, value: float) -> float:
    """A figure as a cost, the lower the better, above 0."""
    return max(1.0 - value if name == "separation" else value, 1e-12)


def _window(curve: Series, rules: Rules) -> int:
    return max(1, round(rules.window * len(curve)))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 1e-12):.0f} %"
