"""Everything that `reward eval` found, as an object and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reward.agreement import Agreement
from reward.evaluate.advice import advice, headline
from reward.evaluate.decisions import Confusion
from reward.evaluate.ground import Ground
from reward.evaluate.judges import JudgeFigures
from reward.evaluate.measure import AgainstLabels, Measured

SCHEMA = "armchair/reward-eval/1"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found."""

    dataset: str
    created_utc: str
    episodes: int
    ground: Ground
    held_out: float
    """Share of the pairs that counts as held out."""
    gamma: float
    resamples: int
    measured: tuple[Measured, ...]
    """In the order in which they are shown: the best headline first."""
    judges: tuple[JudgeFigures, ...]
    agreements: tuple[Agreement, ...]
    """Between people, and between people and other judges."""

    @property
    def success_known(self) -> bool:
        """Some frame is known to show success, or that it does not."""
        return bool(self.ground.known.any())

    def advice_for(self, measured: Measured) -> tuple[str, ...]:
        """What to change about a labeller."""
        return advice(measured, self.success_known)


def as_json(found: Evaluation) -> dict[str, Any]:
    """All figures, without the rewards."""
    return {
        "schema": SCHEMA,
        "dataset": found.dataset,
        "created_utc": found.created_utc,
        "episodes": found.episodes,
        "success_from": found.ground.success_from or None,
        "episode_success_from": found.ground.episodes_from or None,
        "true_reward": found.ground.truth is not None,
        "held_out": found.held_out,
        "gamma": found.gamma,
        "resamples": found.resamples,
        "labellers": [_labeller(found, each) for each in found.measured],
        "judges": [_judge(each) for each in found.judges],
        "agreement": [asdict(each) for each in found.agreements],
    }


def _labeller(found: Evaluation, each: Measured) -> dict[str, Any]:
    top = headline(each)
    return {
        "labeller": each.labeller,
        "basis": each.basis,
        "episodes": each.episodes,
        "frames": each.frames,
        "headline": {"name": top.name, **asdict(top.figure)},
        "figures": {name: asdict(figure) for name, figure in each.figures.items()},
        "labels": [_against(one) for one in each.against],
        "success_confusion": None
        if each.detection is None
        else {
            "thresholds": list(each.detection.thresholds),
            "frames": counts(each.detection.frames),
            "episodes": counts(each.detection.episodes),
        },
        "advice": list(found.advice_for(each)),
    }


def _against(one: AgainstLabels) -> dict[str, Any]:
    c = one.calibration
    return {
        "labels": one.labels,
        "question": one.question,
        "fitted": one.fitted,
        "accuracy": asdict(one.accuracy),
        "accuracy_fitted_pairs": asdict(one.accuracy_seen),
        "equal_rewards": one.ties,
        "pearson_distance": asdict(one.distance),
        "calibration": None if c is None else {"slope": c.slope, "brier": c.brier, **c.curve.as_json()},
    }


def _judge(each: JudgeFigures) -> dict[str, Any]:
    return {
        "labels": each.labels,
        "question": each.question,
        "items": each.items,
        "usable": each.usable,
        "tasks": [asdict(task) for task in each.tasks],
        "swap_consistency": asdict(each.swap_consistency),
        "self_agreement": asdict(each.self_agreement),
        "accuracy": asdict(each.accuracy),
        "success_confusion": None if each.success is None else counts(each.success),
        "advice": list(each.advice),
    }


def counts(found: Confusion) -> dict[str, float | int | None]:
    """A confusion with what follows from it."""
    return {**asdict(found), "precision": found.precision, "recall": found.recall, "f1": found.f1}


def in_order(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """Best headline first, those without one last, by name among equals."""

    def place(each: Measured) -> tuple[float, str]:
        value = headline(each).figure.value
        return (-value if value is not None else 1.0, each.labeller)

    return tuple(sorted(measured, key=place))
