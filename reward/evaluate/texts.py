"""The figures of a labeller in the order in which they are read: names, and what each says."""

from __future__ import annotations

from dataclasses import dataclass

from reward.evaluate.resampling import Figure


@dataclass(frozen=True)
class Reading:
    """How a figure is read."""

    name: str
    title: str
    chance: str
    """What a reward that says nothing gets."""
    says: str


READINGS = (
    Reading(
        "success_above_best_decile",
        "P(success frame above the best decile of the others)",
        "0.05",
        "what control needs: below 0.9 a policy tends to hover near success",
    ),
    Reading(
        "successful_episode_rank",
        "P(successful episode has a higher return than another)",
        "0.5",
        "does reaching the goal pay more than staying near it?",
    ),
    Reading(
        "voc_successful",
        "VOC along successful episodes",
        "0",
        "rank correlation of reward and time: does the reward rise as the task goes on?",
    ),
    Reading(
        "voc_others",
        "VOC along the other episodes",
        "0",
        "as high as along successful ones: the reward may tell the time",
    ),
    Reading("tau_time_successful", "Kendall's τ with time, successful episodes", "0", ""),
    Reading("tau_time_others", "Kendall's τ with time, other episodes", "0", ""),
    Reading(
        "tau_truth",
        "Kendall's τ with the true reward, mean over episodes",
        "0",
        "order within episodes, where early frames do not flatter it",
    ),
    Reading(
        "pearson_distance",
        "Pearson distance to the true reward",
        "0.707",
        "over recorded frames; vlmrm calls this EPIC. 0 equal but for scale, 1 opposite",
    ),
    Reading(
        "epic",
        "EPIC distance to the true reward",
        "0.707",
        "canonical rewards, every tenth of the true reward's range weighing alike",
    ),
    Reading(
        "pearson_distance_success",
        "Pearson distance to success (0 or 1)",
        "0.707",
        "vlmrm's figure against yes-or-no labels",
    ),
    Reading(
        "rank_correlation",
        "rank correlation with the true reward over all frames",
        "0",
        "flatters: high for useless rewards too",
    ),
)


def number(value: float | None) -> str:
    """Three digits, or a dash for what cannot be known."""
    return "–" if value is None else f"{value:.3f}"


def with_interval(figure: Figure) -> str:
    """A figure with its interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
