"""What a bad figure means, and what to do, in words."""

from __future__ import annotations

from dataclasses import dataclass

from reward.evaluate.measure import AgainstLabels, Measured
from reward.evaluate.resampling import Figure
from reward.quality import ENOUGH

MANY_PAIRS = 30
"""Pairs below which accuracy and calibration say nothing."""
COIN = 0.6
MANY_TIES = 0.5
"""Share of pairs with equal rewards above which a low accuracy is that of a sparse reward, and no fault."""
GAP = 0.15
"""Accuracy on fitted pairs above that on held-out ones."""
MISCALIBRATED = 0.12
RISING = 0.3
"""Mean VOC of successful episodes below which a reward does not tell headway."""
CLOCK = 0.6
"""Mean VOC of the other episodes above which a reward may tell the time."""
FOLLOWS = 0.5
"""Mean τ with the true reward within episodes from which on a rise along failures is headway."""
FLATTERS = 0.8


@dataclass(frozen=True)
class Headline:
    """The one figure by which a labeller is judged."""

    name: str
    figure: Figure


def headline(measured: Measured) -> Headline:
    """What control needs where success is known, else held-out preferences, else nothing; never rank
    correlation over all frames, which is high for useless rewards."""
    top = measured.figures["success_above_best_decile"]
    if top.value is not None:
        return Headline("P(success frame above best decile of the others)", top)
    rank = measured.figures["successful_episode_rank"]
    if rank.value is not None:
        return Headline("P(successful episode above another)", rank)
    for each in measured.against:
        if each.accuracy.value is not None:
            kind = "held-out preference accuracy" if each.fitted else "preference accuracy"
            return Headline(f"{kind}, {each.labels}", each.accuracy)
    return Headline("nothing to hold it against", Figure(None))


def advice(measured: Measured, success_known: bool) -> tuple[str, ...]:
    """What to change about a labeller, the most important first; empty where nothing is wrong."""
    found = [*_whole(measured, success_known), *_top(measured), *_order(measured)]
    for each in measured.against:
        found += _labels(each)
    return tuple(found)


def _whole(measured: Measured, success_known: bool) -> list[str]:
    rewards = measured.rewards
    found = []
    if rewards.mixed:
        found.append(
            "The episodes were labelled with different settings, so their rewards do not compare: run "
            "armchair relabel once more for all of them."
        )
    values = rewards.rewards[rewards.valid]
    if not len(values):
        return [*found, "Not one reward is valid: nothing can be learned from it."]
    missing = measured.of_episodes - measured.episodes
    if missing:
        found.append(
            f"{missing} of {measured.of_episodes} episodes have no rewards, and training asks for all: run "
            "armchair relabel again."
        )
    if values.min() == values.max():
        found.append("The reward is the same for every frame: nothing can be learned from it.")
    if not success_known:
        found.append(
            "Nobody says which frames show success, so the figures that control needs are missing: armchair "
            "label DATA --question success --pairs 300 (a judge, or armchair review for yourself)."
        )
    return found


def _top(measured: Measured) -> list[str]:
    top = measured.figures["success_above_best_decile"].value
    rank = measured.figures["successful_episode_rank"].value
    found = []
    if top is not None and top < ENOUGH:
        found.append(
            f"A frame of success is above the best decile of the others only with probability {top:.2f}: a "
            "policy may learn to hover where it nearly succeeds. Look at the row 'highest without success' "
            "below, and label more pairs from the top (armchair label --selection top --reward MODEL)."
        )
    if rank is not None and rank < ENOUGH:
        found.append(
            f"An episode with success has the higher return only with probability {rank:.2f}: time "
            "spent near the goal pays more than reaching it. A higher --exponent of armchair relabel widens "
            "the gap at the top where the order there is right."
        )
    flattering = measured.figures.get("rank_correlation")
    if top is not None and top < ENOUGH and flattering and (flattering.value or 0) > FLATTERS:
        found.append(
            f"Do not be comforted by the rank correlation of {flattering.value:.2f}: most frames are early "
            "ones, easy to order."
        )
    return found


def _order(measured: Measured) -> list[str]:
    won, others = measured.figures["voc_successful"].value, measured.figures["voc_others"].value
    found = []
    if won is not None and won < RISING:
        found.append(
            f"Along successful episodes the reward hardly rises (VOC {won:.2f}): it does not tell headway. "
            "Fine for a sparse reward; else compare frames that lie further apart, or ask for progress "
            "(--question progress)."
        )
    follows = measured.figures["tau_truth"].value
    rises = others is not None and won is not None and others > CLOCK and others >= won - 0.1
    if rises and (follows is None or follows < FOLLOWS):
        found.append(
            f"The reward rises along episodes without success as well (VOC {others:.2f}). If those make no "
            "headway, it tells the time or the arm's pose, not the task: compare late frames of failures "
            "with late frames of successes."
        )
    return found


def _labels(each: AgainstLabels) -> list[str]:
    accuracy, seen = each.accuracy, each.accuracy_seen
    if accuracy.value is None or accuracy.count < MANY_PAIRS:
        return []
    found = []
    which = "held-out " if each.fitted else ""
    if accuracy.value < COIN and each.ties < MANY_TIES:
        found.append(
            f"{each.labels}: the reward agrees with {accuracy.value:.0%} of the {which}preferences, where a "
            "coin has 50%. Either the judge does not see the difference (see its −1 and swap figures), or "
            "the reward model has too few pairs."
        )
    if seen.value is not None and seen.value - accuracy.value > GAP:
        found.append(
            f"{each.labels}: {seen.value:.0%} of the fitted pairs but {accuracy.value:.0%} of the held-out "
            "ones: the reward model learned them by heart. Label more pairs, or raise --optimise.shift."
        )
    if each.calibration is not None and each.calibration.curve.expected_error > MISCALIBRATED:
        found.append(
            f"{each.labels}: calibration error {each.calibration.curve.expected_error:.2f}: the size of a "
            "difference in reward does not tell how sure it is. Raise --optimise.mistakes of armchair fit "
            "where the judge errs often."
        )
    return found
