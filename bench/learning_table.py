"""The table of bench `learning` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.legs import Leg

TITLES = {
    "held_out_success_above_best_decile": "P(frame of success above the best decile of the others)",
    "held_out_successful_episode_rank": "P(episode with success above one without, by return)",
    "held_out_true_preference_accuracy": "pairs ordered as by the true reward",
    "held_out_rank_correlation": "rank correlation over all frames (never the headline)",
}


def table(summary: Mapping[str, Any], legs: Sequence[Leg]) -> str:
    """One table of rewards on held-out episodes and one of policies; a column per seed."""
    seeds = [f"seed {seed}" for seed in summary["seeds"]]
    figures: Mapping[str, Any] = summary["figures"]
    rewards = [_row(["task", "learned reward, on held-out episodes", *seeds]), _rule(2, len(seeds))]
    policies = [_row(["task", "policy", *seeds, "mean", "95 %"]), _rule(2, len(seeds) + 2)]
    leads = [_row(["task", "learned reward less", "difference", "95 %"]), _rule(2, 2)]
    for task in summary["tasks"]:
        for name, title in TITLES.items():
            rewards.append(_row([task, title, *map(_number, figures[f"{task}/{name}"])]))
        for leg in legs:
            by_seed = figures[f"{task}/{leg.name}_success_by_seed"]
            low, high = figures[f"{task}/{leg.name}_success_interval_95"]
            mean = figures[f"{task}/{leg.name}_success_rate"]
            policies.append(
                _row([task, leg.title, *map(_number, by_seed), _number(mean), f"{low:.2f} to {high:.2f}"])
            )
        for leg in legs:
            name = f"{task}/learned_minus_{leg.name}"
            if name in figures:
                low, high = figures[f"{name}_interval_95"]
                leads.append(_row([task, leg.title, _number(figures[name]), f"{low:.2f} to {high:.2f}"]))
    return "\n".join([*rewards, "", *policies, "", *leads, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(words: int, numbers: int) -> str:
    return f"|{'---|' * words}{'---:|' * numbers}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
