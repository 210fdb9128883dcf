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
    """Tables of rewards on held-out episodes, of policies and of differences; a column per data seed.

    Args:
        summary: what `bench.learning.summarise` made; tasks may have different seeds.
        legs: the policies, in the order of the rows.
    """
    figures: Mapping[str, Any] = summary["figures"]
    tasks: Mapping[str, Sequence[int]] = summary["seeds"]
    seeds = sorted({seed for of_task in tasks.values() for seed in of_task})
    columns = [f"seed {seed}" for seed in seeds]
    rewards = [_row(["task", "learned reward, on held-out episodes", *columns]), _rule(2, len(seeds))]
    policies = [_row(["task", "policy", *columns, "mean", "95 %"]), _rule(2, len(seeds) + 2)]
    leads = [_row(["task", "learned reward less", "difference", "95 %"]), _rule(2, 2)]
    for task, done in tasks.items():

        def by_seed(name: str, task: str = task, done: Sequence[int] = done) -> list[str]:
            found = dict(zip(done, figures[f"{task}/{name}"], strict=True))
            return [_number(found.get(seed)) for seed in seeds]

        rewards += [_row([task, title, *by_seed(name)]) for name, title in TITLES.items()]
        for leg in legs:
            mean, interval = (
                figures[f"{task}/{leg.name}_{what}"] for what in ("success_rate", "success_interval_95")
            )
            cells = by_seed(f"{leg.name}_success_by_seed")
            policies.append(_row([task, leg.title, *cells, _number(mean), _interval(interval)]))
            lead = f"{task}/learned_minus_{leg.name}"
            if lead in figures:
                leads.append(
                    _row([task, leg.title, _number(figures[lead]), _interval(figures[f"{lead}_interval_95"])])
                )
    return "\n".join([*rewards, "", *policies, "", *leads, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(words: int, numbers: int) -> str:
    return f"|{'---|' * words}{'---:|' * numbers}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(bounds: Sequence[float]) -> str:
    return f"{bounds[0]:.2f} to {bounds[1]:.2f}"
