"""What simulation says of a run that was diagnosed from recordings alone: the truth, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from policy.diagnosis.series import series, smoothed

SUCCESS, RETURN = "evaluate/success_rate", "evaluate/return"
Truth = Literal["overfitting", "underfitting", "sound", "unlearned"]


@dataclass(frozen=True)
class Curve:
    """Success along a run, averaged over neighbouring evaluations: each alone rests on few goals."""

    steps: NDArray[np.int64]
    success: NDArray[np.float64]

    @property
    def best(self) -> float:
        return float(self.success.max())

    @property
    def last(self) -> float:
        return float(self.success[-1])

    def at(self, step: int) -> float:
        """Success of the latest evaluation at or before `step`, or of the first."""
        return float(self.success[max(0, int(np.searchsorted(self.steps, step, side="right")) - 1)])


def curve(rows: Sequence[Mapping[str, float]], window: int) -> Curve:
    """The success curve of a log, over `window` evaluations."""
    found = series(rows, SUCCESS)
    return Curve(found.steps, smoothed(found.values, window))


def truth(base: Curve, corrected: Curve, margin: float, *, larger: bool) -> Truth:
    """What was wrong with the base run, by success alone.

    overfitting: it was better before, by `margin`. underfitting: the corrected run is a `larger` model and at
    its best better than the base ever was, by `margin`. unlearned: neither run reached `margin`, so there
    is nothing to tell. A best over many evaluations flatters; the margin has to be wider than that.
    """
    if max(base.best, corrected.best) < margin:
        return "unlearned"
    if base.best - base.last >= margin:
        return "overfitting"
    if larger and corrected.best - base.best >= margin:
        return "underfitting"
    return "sound"


def summarise(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over all groups (`bench.workflow.run_group`), named CASE/FIGURE."""
    figures: dict[str, Any] = {}
    for case in dict.fromkeys(group["case"] for group in groups):
        some = [group for group in groups if group["case"] == case]
        told = [g for g in some if g["truth"] != "unlearned"]
        decided = [g for g in told if g["verdict"] != "undecided"]
        figures |= {
            f"{case}/truth": [g["truth"] for g in some],
            f"{case}/verdict": [g["verdict"] for g in some],
            f"{case}/matches": sum(g["verdict"] == g["truth"] for g in decided),
            f"{case}/decided": len(decided),
            f"{case}/told": len(told),
        }
        for name in ("regret_chosen", "regret_last", "success_base", "success_corrected", "fqe_rank"):
            values = [g[name] for g in some if g.get(name) is not None]
            figures[f"{case}/{name}"] = round(float(np.mean(values)), 4) if values else None
    return figures


def table(groups: Sequence[Mapping[str, Any]]) -> str:
    """The groups as Markdown."""
    columns = (
        "case", "seed", "truth", "verdict", "chosen step", "best", "chosen", "last", "corrected", "FQE rank",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for g in groups:
        fqe = "–" if g.get("fqe_rank") is None else f"{g['fqe_rank']:.2f}"
        numbers = [f"{g[name]:.2f}" for name in ("best", "chosen", "success_base", "success_corrected")]
        cells = [g["case"], str(g["seed"]), g["truth"], g["verdict"], str(g["chosen_step"]), *numbers, fqe]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's ρ; None where either does not vary."""
    from scipy.stats import rankdata

    a, b = rankdata(one), rankdata(other)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
