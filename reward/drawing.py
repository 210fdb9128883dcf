"""Draws: which pairs are put to a judge, fixed once and kept in the label store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError
from reward.clients.protocol import Judge, identity
from reward.frames import Frames, digests
from reward.pairs import LabelledPairs, Pairs, Selection, select_pairs, uniform_pairs
from reward.store import DrawnPair, LabelStore, answer_key


@dataclass(frozen=True)
class DrawConfig:
    """Which pairs to ask about."""

    pairs: int = 1500
    """Pairs to draw."""
    selection: Selection = "uniform"
    """uniform: over all frames. top: from the frames that the fitted reward ranks highest. disagreement:
    where the members of the fitted ensemble differ most."""
    share: float = 0.5
    """Share of the pairs that top or disagreement selects; the rest is uniform, which keeps the whole in
    sight."""
    top_fraction: float = 0.15
    """Frames that count as the top."""
    seed: int = 0
    """Seed of the draw; another seed draws further pairs."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"pairs {self.pairs} is out of range: 1 or more.")
        if not 0 < self.top_fraction <= 1 or not 0 <= self.share <= 1:
            raise ConfigError("share and top-fraction are shares: from 0 (top-fraction: above 0) to 1.")


def draw_pairs(
    store: LabelStore,
    labels: str,
    frames: Frames,
    judge: Judge,
    config: DrawConfig,
    *,
    rewards: NDArray[np.floating] | None = None,
    model: str = "",
) -> tuple[DrawnPair, ...]:
    """The pairs of a draw: drawn once, then read back, so that an interrupted run goes on with the same ones.

    Args:
        store: remembers draws.
        labels: name of the label set that the draw belongs to.
        frames: what to draw from; pairs of the set's earlier draws and of equal pictures are left out.
        judge: who will be asked.
        config: how to draw.
        rewards: (members, rows) of the fitted ensemble, for the selections that need it.
        model: what names that ensemble.

    Raises:
        DatasetError: there are not that many pairs, or `rewards` is missing.
    """
    who = identity(judge)
    settings = {
        "draw": asdict(config),
        "judge": asdict(who),
        "model": model if config.selection != "uniform" else "",
    }
    draw = f"{config.selection}-{config.pairs}-{_fingerprint(settings)}"
    found = store.draw(labels, draw)
    if found is None:
        taken = [(frames.row(pair.first), frames.row(pair.second)) for pair in store.drawn(labels)]
        rows = _select(frames, config, rewards, taken)
        content = digests(frames, rows.ravel())
        pairs = [
            DrawnPair(frames.id(a), frames.id(b), answer_key(content[a], content[b], who))
            for a, b in rows.tolist()
        ]
        store.add_draw(labels, draw, settings, pairs)
        found = tuple(pairs)
    return found


def labelled_pairs(
    store: LabelStore, pairs: Sequence[DrawnPair], frames: Frames, held_out: float
) -> LabelledPairs:
    """Those of `pairs` that have a label; which are held out depends on the key of the answer alone."""
    outcomes = store.outcomes({pair.key for pair in pairs})
    kept = [(pair, label) for pair in pairs if (label := _label(outcomes, pair)) is not None]
    return LabelledPairs(
        first=np.array([frames.row(pair.first) for pair, _ in kept], np.int64),
        second=np.array([frames.row(pair.second) for pair, _ in kept], np.int64),
        label=np.array([label for _, label in kept], np.float32),
        held_out=np.array([int(pair.key[:8], 16) < held_out * 2**32 for pair, _ in kept], np.bool_),
    )


def _label(outcomes: Mapping[str, object], pair: DrawnPair) -> float | None:
    outcome = outcomes.get(pair.key)
    return getattr(outcome, "label", None)


def _select(
    frames: Frames, config: DrawConfig, rewards: NDArray[np.floating] | None, taken: list[tuple[int, int]]
) -> Pairs:
    generator = np.random.default_rng([config.seed, config.pairs, len(taken)])
    selected = 0 if config.selection == "uniform" else round(config.share * config.pairs)
    drawn = uniform_pairs(frames.judged, config.pairs - selected, generator, same=frames.same, taken=taken)
    if not selected:
        return drawn
    more = select_pairs(
        config.selection,
        selected,
        frames.judged,
        generator,
        rewards=rewards,
        top_fraction=config.top_fraction,
        same=frames.same,
        taken=[*taken, *((a, b) for a, b in drawn.tolist())],
    )
    return np.concatenate([drawn, more])


def _fingerprint(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
