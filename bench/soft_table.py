"""The tables of bench `soft-learning` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.soft_tasks import ACTORS, CLONED, LEGS, RANDOM, TRUE

QUALITY = {
    "held_out_true_preference_accuracy": "pairs ordered as by the true reward",
    "held_out_rank_correlation": "rank correlation over all frames",
    "held_out_success_above_best_decile": "P(frame of success above the best decile of the others)",
}
AGAINST = {
    TRUE: "IQL, true reward",
    CLONED: "BC",
    RANDOM: "random actions",
}


def table(summary: Mapping[str, Any]) -> str:
    """Per task: policies, what the learned reward's policy leads by, and the reward on held-out episodes.

    Args:
        summary: what `bench.soft_learning.summarise` made; tasks may have different seeds.
    """
    parts = []
    for task, seeds in summary["seeds"].items():
        begin = f"{task}/"
        figures = {
            name.removeprefix(begin): value
            for name, value in summary["figures"].items()
            if name.startswith(begin)
        }
        parts.append(f"**{task}** ({summary['simulator']})")
        parts += _policies(figures, seeds)
        parts += _rewards(figures, seeds)
        parts.append(f"Compute, s per data seed: {_list(figures['compute_s_by_seed'], 0)}.\n")
    return "\n\n".join(parts)


def _policies(figures: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
    columns = [f"seed {seed}" for seed in seeds]
    rows = [
        _row(["policy", *columns, "success at the end", "95 %", "at any step", "normalised", "95 %"]),
        f"|---|{'---|' * (len(seeds) + 5)}",
    ]
    names = {name: title for name, title in ACTORS.items() if f"{name}_success_rate" in figures}
    every = sorted({name.split("/")[0] for name in figures if "/" in name})
    names |= {f"{sees}/{leg.name}": f"{leg.title}, sees {sees}" for sees in every for leg in LEGS}
    for name, title in names.items():
        rows.append(
            _row(
                [
                    title,
                    *(f"{rate:.2f}" for rate in figures[f"{name}_success_by_seed"]),
                    f"{figures[f'{name}_success_rate']:.2f}",
                    _interval(figures[f"{name}_success_interval_95"]),
                    f"{figures[f'{name}_ever_rate']:.2f}",
                    f"{figures[f'{name}_normalized']:.2f}",
                    _interval(figures[f"{name}_normalized_interval_95"]),
                ]
            )
        )
    leads = [_row(["learned reward less", "success", "95 %", "normalised", "95 %"]), f"|---|{'---|' * 4}"]
    for sees in every:
        for other, title in AGAINST.items():
            at = f"{sees}/learned_minus_{other}"
            cells = [f"{title}, sees {sees}"]
            for key in (at, f"{at}_normalized"):
                cells += [f"{figures[key]:.2f}", _interval(figures[f"{key}_interval_95"])]
            leads.append(_row(cells))
    return ["\n".join(rows), "\n".join(leads)]


def _rewards(figures: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
    rows = [
        _row(["learned reward, on held-out episodes", *(f"seed {seed}" for seed in seeds)]),
        f"|---|{'---|' * len(seeds)}",
    ]
    rows += [
        _row([title, *("–" if value is None else f"{value:.3f}" for value in figures[name])])
        for name, title in QUALITY.items()
    ]
    return ["\n".join(rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def _list(values: Sequence[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
