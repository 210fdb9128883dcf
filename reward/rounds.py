"""Rounds of label → fit → select: later pairs come from where the present reward ranks frames highest.

Frames of success are few: of uniform pairs hardly any compares success with nearly that, which is the
comparison a policy needs. Half of each later round's pairs are drawn from the top by the reward of the
round before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.acquisition import Selection
from reward.asking import ask_pairs
from reward.ballots import Unsure, VoteConfig
from reward.clients.protocol import Judge
from reward.drawing import DrawConfig, draw_pairs, labelled_pairs
from reward.fitting import CHECKPOINT, RewardConfig, fit_reward
from reward.frames import image_stream
from reward.inputs import Inputs, load_inputs
from reward.judging import JudgeConfig, label_set_name, make_judge
from reward.model import CARD, RewardModel, load_model, pick_device, save_model
from reward.pairs import LabelledPairs
from reward.quality import Quality
from reward.records import Budget, DrawnPair
from reward.showing import ShowConfig, Showing, load_showing
from reward.store import FILE, LabelStore

PARTS = 100
"""Steps of the progress bar for the labels, and again for the fit, of a round."""


@dataclass(frozen=True)
class RoundsConfig:
    """Label, fit, select, again; the defaults are the recipe of docs/reward-recipe.md."""

    dataset: Path
    """The dataset folder."""
    out: Path | None = None
    """Folder of the reward model, with one folder per round inside; DATASET/rewards/LABELS when left out."""
    labels: str = ""
    """Name of the label set; the judge's name when left out."""
    stream: str = ""
    """Image stream to judge."""
    who: JudgeConfig = field(default_factory=JudgeConfig)
    """The judge; its question is the preference."""
    show: ShowConfig = field(default_factory=ShowConfig)
    """What is shown of a frame."""
    vote: VoteConfig = field(default_factory=VoteConfig)
    """How often each pair is asked about."""
    unsure: Unsure = "drop"
    """What becomes of unsure answers and split votes."""
    pairs: tuple[int, ...] = (1500, 1500, 1500)
    """Pairs of each round; the first round's are uniform."""
    selection: Selection = "top"
    """How the selected pairs of later rounds are chosen."""
    share: float = 0.5
    """Share of a later round's pairs that is selected; the rest is uniform."""
    top_fraction: float = 0.15
    """Frames that count as the top."""
    candidates: int = 10
    """Uniform pairs from which each selected one is chosen, for all selections but top."""
    difference: float = 0.0
    """Grey levels by which the pictures of a pair differ at least; see DrawConfig."""
    warm_start: bool = True
    """Go on from the weights of the round before."""
    model: RewardConfig = field(default_factory=RewardConfig)
    """The reward model."""
    budget: Budget = field(default_factory=Budget)
    """What all answers may take."""
    seed: int = 0
    """Seed of the draws; weights and judge have their own."""

    def __post_init__(self) -> None:
        if not self.pairs or min(self.pairs) < 1:
            raise ConfigError(f"pairs {self.pairs}: one number of pairs per round, each 1 or more.")
        if self.who.question != "preference":
            raise ConfigError(
                f"rounds compare pairs; the question {self.who.question!r} is about single frames."
            )


@dataclass(frozen=True)
class Round:
    """What came of one round."""

    pairs: int
    """Pairs of the round and of those before."""
    labelled: int
    """Those that got a label."""
    epochs: int
    """Passes of the round's fit."""
    quality: Quality
    """Of the reward after the round, before shaping."""


@dataclass(frozen=True)
class RoundsResult:
    """What came of all rounds."""

    model: Path
    """Folder of the reward model."""
    rounds: tuple[Round, ...]
    calls: int
    """Paid requests of everything in the label store."""
    cost_usd: float

    @property
    def quality(self) -> Quality:
        """Of the last round's reward, before shaping."""
        return self.rounds[-1].quality


def run(config: RoundsConfig, progress: Callable[[int, int], None] | None = None) -> RoundsResult:
    """Run all rounds; finished ones are taken from disk, an interrupted one goes on.

    Args:
        config: the rounds.
        progress: called with (done, total), over all rounds.

    Raises:
        DatasetError: no episodes or no pictures.
        LabelError: the judge or the store failed, too few labels, or the budget is used up.
    """
    dataset = Dataset.open(config.dataset)
    stream = image_stream(dataset, config.stream)
    judge = make_judge(config.who, dataset, layout=config.show.layout(stream), votes=config.vote)
    labels = label_set_name(config.labels, judge)
    out = config.out or dataset.path / "rewards" / labels
    device = pick_device(config.model.device)
    show = load_showing(dataset, stream, config.show)
    frames = show.frames
    wanted = config.model
    inputs = load_inputs(wanted.network, dataset, frames, encoder=wanted.encoder, crop=wanted.crop)
    report = progress or (lambda done, total: None)
    total = 2 * PARTS * len(config.pairs)
    rounds: list[Round] = []
    drawn: list[DrawnPair] = []
    state = _State("", None, None)
    with LabelStore(dataset.path / FILE) as store:
        for number in range(len(config.pairs)):
            at = 2 * PARTS * number
            asked = _part(report, at, total)
            drawn += _ask(config, number, store, labels, show, judge, state, inputs, asked)
            pairs = labelled_pairs(store, drawn, frames, config.model.held_out, config.unsure)
            folder = out / f"round-{number}"
            key = _key(config, number, state.key, pairs, show.named)
            model = _finished(folder, key, device)
            if model is None:
                fitted = fit_reward(
                    frames,
                    pairs,
                    config.model,
                    device,
                    stream=stream,
                    inputs=inputs,
                    start=state.model if config.warm_start else None,
                    checkpoint=folder / CHECKPOINT,
                    progress=_part(report, at + PARTS, total),
                )
                model = replace(fitted.model, card={**fitted.model.card, "round": key})
                save_model(folder, model)
                (folder / CHECKPOINT).unlink(missing_ok=True)
                state = _State(key, model, fitted.rewards)
            else:
                state = _State(key, model, None)
            rounds.append(_round(model, len(drawn)))
            report(at + 2 * PARTS, total)
        spent = store.spending()
        if state.model is not None:
            save_model(out, state.model)
    return RoundsResult(out, tuple(rounds), spent.calls, spent.cost_usd)


@dataclass(frozen=True, eq=False)
class _State:
    """Where the rounds stand."""

    key: str
    """What the model depends on."""
    model: RewardModel | None
    """Of the round before, None before the first."""
    rewards: NDArray[np.float32] | None
    """Its rewards where they are at hand."""


def _ask(
    config: RoundsConfig,
    number: int,
    store: LabelStore,
    labels: str,
    show: Showing,
    judge: Judge,
    state: _State,
    inputs: Inputs,
    progress: Callable[[int, int], None],
) -> tuple[DrawnPair, ...]:
    draw = DrawConfig(
        pairs=config.pairs[number],
        selection=config.selection if number else "uniform",
        share=config.share,
        top_fraction=config.top_fraction,
        seed=config.seed + number,
        candidates=config.candidates,
        difference=config.difference,
    )
    rewards, features, model = state.rewards, None, state.model
    if model is not None:
        if rewards is None and draw.needs_model:
            rewards = model.rewards(inputs.values)
        features = partial(model.features, inputs.values)
    pairs = draw_pairs(
        store,
        labels,
        show,
        judge,
        draw,
        votes=config.vote,
        rewards=rewards,
        features=features,
        model=state.key,
    )
    ask_pairs(store, show, judge, pairs, budget=config.budget, progress=progress)
    return pairs


def _part(report: Callable[[int, int], None], at: int, total: int) -> Callable[[int, int], None]:
    return lambda done, n: report(at + PARTS * done // max(n, 1), total)


def _key(config: RoundsConfig, number: int, before: str, pairs: LabelledPairs, stream: str) -> str:
    """What the model after a round depends on: its settings, its labels, the model before, and the stream
    where it is not the one that is judged when none is named."""
    settings: dict[str, object] = {
        "model": asdict(config.model),
        "warm_start": config.warm_start and number > 0,
        "before": before,
    }
    if stream:
        settings["stream"] = stream
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for column in pairs.columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _finished(folder: Path, key: str, device: torch.device) -> RewardModel | None:
    if not (folder / CARD).is_file():
        return None
    model = load_model(folder, device)
    return model if model.card.get("round") == key else None


def _round(model: RewardModel, pairs: int) -> Round:
    card = model.card
    return Round(pairs, int(card["pairs"]), len(card["epochs"]), Quality.from_json(card["quality"]))
