"""All figures of one labeller."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.evaluate.agreement import preference_accuracy
from reward.evaluate.decisions import Detection, detect
from reward.evaluate.distance import canonical_frames, pearson_distance
from reward.evaluate.ground import Ground
from reward.evaluate.judges import LabelSet
from reward.evaluate.order import along_episodes
from reward.evaluate.reliability import Reliability, fitted_slope, reliability
from reward.evaluate.resampling import UNKNOWN, Figure, Resampling
from reward.frames import DIGEST, Frames, question_digests
from reward.labelled import LabelledRewards, in_words
from reward.model import CARD
from reward.pairs import LabelledPairs
from reward.quality import above_best_decile, probability_above, spearman

HELD_OUT = 0.1
"""Share of the pairs that `armchair fit` holds out by default."""
STRATA = 10


@dataclass(frozen=True)
class MeasureConfig:
    """How figures are made."""

    held_out: float | None = None
    """Share of the labelled pairs that counts as held out; the fitted model's own, else 0.1, when left
    out."""
    gamma: float = 0.99
    """Discount factor of EPIC's canonical form."""
    resampling: Resampling = field(default_factory=Resampling)
    """Intervals over episodes."""

    def __post_init__(self) -> None:
        if self.held_out is not None and not 0 < self.held_out <= 1:
            raise ConfigError(f"held-out {self.held_out} is a share: above 0, up to 1.")
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma {self.gamma}: write a discount factor from 0 to 1.")


@dataclass(frozen=True, eq=False)
class AgainstLabels:
    """A reward against one label set."""

    labels: str
    question: str
    fitted: bool
    """The reward may have been fitted to it, so only what was held out is a test."""
    accuracy: Figure
    """Preferences that the reward agrees with: held-out ones where fitted, else all."""
    accuracy_seen: Figure
    """Those that were not held out, where fitted."""
    ties: float
    """Share of all usable pairs whose frames have equal rewards, 0 without a pair."""
    distance: Figure
    """Pearson distance to the values of rated frames (what vlmrm calls EPIC, with a person's labels):
    held-out ones where fitted, else all."""
    calibration: Reliability | None


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything about one labeller."""

    labeller: str
    basis: str
    episodes: int
    """With a label file."""
    of_episodes: int
    frames: int
    """With a valid reward."""
    figures: Mapping[str, Figure]
    """By name, those of docs/reward-eval.md."""
    against: tuple[AgainstLabels, ...]
    detection: Detection | None
    rewards: LabelledRewards


def measure(
    found: LabelledRewards,
    frames: Frames,
    ground: Ground,
    sets: Sequence[LabelSet],
    config: MeasureConfig,
    trained: frozenset[str] | None = None,
) -> Measured:
    """Figures of a labeller over its valid rewards.

    Args:
        found: its rewards.
        frames: of the dataset.
        ground: what is known of the truth.
        sets: label sets, with what counts as held out of each where `trained` is None.
        config: how figures are made.
        trained: digests of the questions that the model behind it was fitted to (`trained_by_model`);
            whatever is not among them is a test.
    """
    rows = np.flatnonzero(found.valid)
    return Measured(
        labeller=found.labeller,
        basis=in_words(found),
        episodes=found.episodes,
        of_episodes=len(frames.episode_ids),
        frames=len(rows),
        figures={
            **_control(found, frames, ground, rows, config.resampling),
            **_order(found, frames, ground, rows, config.resampling),
            **_distances(found, frames, ground, rows, config),
        },
        against=tuple(_against(found, frames, each, config.resampling, trained) for each in sets),
        detection=_detection(found, frames, ground),
        rewards=found,
    )


def _control(
    found: LabelledRewards, frames: Frames, ground: Ground, rows: NDArray[np.int64], resampling: Resampling
) -> dict[str, Figure]:
    """Is the top right?"""
    judged = rows[ground.known[rows]]
    reward, success = found.rewards[judged], ground.success[judged]

    def on_top(k: NDArray[np.int64]) -> float | None:
        return above_best_decile(reward[k][success[k]], reward[k][~success[k]])

    numbers = np.unique(frames.episode[rows])
    numbers = numbers[~np.isnan(ground.episode_success[numbers])]
    returns = np.bincount(frames.episode[rows], found.rewards[rows], minlength=len(frames.episode_ids))
    won = ground.episode_success == 1

    def ranked(k: NDArray[np.int64]) -> float | None:
        drawn = numbers[k]
        return probability_above(returns[drawn[won[drawn]]], returns[drawn[~won[drawn]]])

    return {
        "success_above_best_decile": resampling.figure(on_top, frames.episode[judged]),
        "successful_episode_rank": resampling.figure(ranked, numbers),
    }


def _order(
    found: LabelledRewards, frames: Frames, ground: Ground, rows: NDArray[np.int64], resampling: Resampling
) -> dict[str, Figure]:
    """Does it rise along episodes? Means over the episodes in which it is defined."""
    truth = None if ground.truth is None else ground.truth[rows]
    order = along_episodes(found.rewards[rows], frames.episode[rows], truth)
    won = ground.episode_success[order.episode]

    def mean(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> Figure:
        kept = kept & ~np.isnan(values)
        defined = values[kept]
        return resampling.figure(lambda k: float(defined[k].mean()), order.episode[kept])

    everyone = np.ones(len(won), np.bool_)
    return {
        "voc_successful": mean(order.voc, won == 1),
        "voc_others": mean(order.voc, won != 1),
        "tau_time_successful": mean(order.tau_time, won == 1),
        "tau_time_others": mean(order.tau_time, won != 1),
        "tau_truth": mean(order.tau_truth, everyone),
    }


def _distances(
    found: LabelledRewards, frames: Frames, ground: Ground, rows: NDArray[np.int64], config: MeasureConfig
) -> dict[str, Figure]:
    figure = config.resampling.figure
    made: dict[str, Figure] = {}
    judged = rows[ground.known[rows]]
    reward, success = found.rewards[judged], ground.success[judged].astype(np.float64)
    made["pearson_distance_success"] = figure(
        lambda k: pearson_distance(reward[k], success[k]), frames.episode[judged]
    )
    if ground.truth is None:
        return made
    own, truth, episode = found.rewards[rows], ground.truth[rows], frames.episode[rows]
    made["pearson_distance"] = figure(lambda k: pearson_distance(own[k], truth[k]), episode)

    def epic(k: NDArray[np.int64]) -> float | None:
        zero = np.zeros(len(k))
        left, right = (canonical_frames(r[k], zero, r[k], zero, config.gamma) for r in (own, truth))
        return pearson_distance(left, right, balanced(truth[k]))

    made["epic"] = figure(epic, episode)
    # Without interval: a figure that flatters needs no more digits.
    made["rank_correlation"] = Figure(spearman(own, truth), count=len(own))
    return made


def balanced(truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weights (n,) by which each of STRATA equal ranges of the true reward that holds a frame counts alike: a
    coverage in which the rare frames of success say as much as the many of the beginning."""
    low, high = float(truth.min()), float(truth.max())
    if high <= low:
        return np.ones(len(truth))
    place = np.minimum(((truth - low) / (high - low) * STRATA).astype(np.int64), STRATA - 1)
    return 1.0 / np.bincount(place, minlength=STRATA)[place]


def _detection(found: LabelledRewards, frames: Frames, ground: Ground) -> Detection | None:
    rows = np.flatnonzero(found.valid & ground.known)
    return detect(found.rewards[rows], frames.episode[rows], ground.success[rows])


def _against(
    found: LabelledRewards,
    frames: Frames,
    labels: LabelSet,
    resampling: Resampling,
    trained: frozenset[str] | None,
) -> AgainstLabels:
    fitted = found.basis.get("kind", "model") == "model"
    p, held_out, kept_out = labels.pairs, labels.pairs.held_out, labels.kept_out
    if fitted and trained is not None:
        held_out = _not_among(trained, question_digests(frames, p.first, p.second))
        kept_out = _not_among(trained, question_digests(frames, labels.rows))
        fitted = not (held_out.all() and kept_out.all())
    usable = found.valid[p.first] & found.valid[p.second]
    p = LabelledPairs(p.first[usable], p.second[usable], p.label[usable], held_out[usable])
    unseen, seen = p.part(held_out=True), p.part(held_out=False)
    rated = found.valid[labels.rows] & (kept_out | (not fitted))
    rows, values = labels.rows[rated], labels.values[rated]
    return AgainstLabels(
        labels=labels.labels,
        question=labels.kind.value,
        fitted=fitted,
        accuracy=_accuracy(found, frames, unseen if fitted else p, resampling),
        accuracy_seen=_accuracy(found, frames, seen, resampling) if fitted else UNKNOWN,
        ties=float((found.rewards[p.first] == found.rewards[p.second]).mean()) if len(p) else 0.0,
        distance=resampling.figure(
            lambda k: pearson_distance(found.rewards[rows[k]], values[k]), frames.episode[rows]
        ),
        calibration=_calibration(found, seen, unseen),
    )


def _not_among(trained: frozenset[str], digests: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([digest not in trained for digest in digests], np.bool_)


def _accuracy(found: LabelledRewards, frames: Frames, pairs: LabelledPairs, resampling: Resampling) -> Figure:
    decided = pairs.label != 0.5
    first, second, label = pairs.first[decided], pairs.second[decided], pairs.label[decided]
    reward = found.rewards
    return resampling.figure(
        lambda k: preference_accuracy(reward[first[k]], reward[second[k]], label[k]),
        frames.episode[first],
        frames.episode[second],
    )


def _calibration(found: LabelledRewards, seen: LabelledPairs, unseen: LabelledPairs) -> Reliability | None:
    def difference(pairs: LabelledPairs) -> NDArray[np.float64]:
        return found.rewards[pairs.second] - found.rewards[pairs.first]

    slope = fitted_slope(difference(seen), seen.label) if len(seen) else None
    return None if slope is None else reliability(difference(unseen), unseen.label, slope)


def held_out_share(cards: Sequence[Mapping[str, Any]], config: MeasureConfig) -> float:
    """The share of pairs that counts as held out where no model's card tells: what is asked for, else the one
    that every model behind these labellers held out, else HELD_OUT. Pairs are held out by the key of their
    answer, so those of a smaller share are among those of a larger one."""
    if config.held_out is not None:
        return config.held_out
    shares = [float(card["fit"]["config"]["held_out"]) for card in cards]
    return min((share for share in shares if share > 0), default=HELD_OUT)


def model_cards(dataset: Dataset, found: Sequence[LabelledRewards]) -> dict[str, Mapping[str, Any]]:
    """Cards of the models behind labellers, by their hash: those in the dataset's folder "rewards"."""
    wanted = {str(each.basis["model"]) for each in found if "model" in each.basis}
    cards = {}
    for path in sorted((dataset.path / "rewards").glob(f"*/{CARD}")):
        try:
            card = json.loads(path.read_text())
            float(card["fit"]["config"]["held_out"])
            if card["sha256"] in wanted:
                cards[str(card["sha256"])] = card
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return cards


def trained_by_model(
    found: LabelledRewards, cards: Mapping[str, Mapping[str, Any]], config: MeasureConfig
) -> frozenset[str] | None:
    """Digests of the questions that the model behind a labeller was fitted to; None where no card says, or
    where a share was asked for."""
    text = cards.get(str(found.basis.get("model")), {}).get("fit", {}).get("trained_on")
    if config.held_out is not None or not isinstance(text, str):
        return None
    return frozenset(text[k : k + DIGEST] for k in range(0, len(text), DIGEST))
