"""Draws: which pairs are put to a judge, fixed once and kept in the label store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, DatasetError
from reward.ballots import Unsure, VoteConfig, label_of, read_back
from reward.clients.protocol import Judge, Kind, identity
from reward.frames import Frames
from reward.pairs import LabelledPairs, Pairs, Selection, select_pairs, uniform_pairs
from reward.records import Ballot, DrawnPair, answer_key
from reward.showing import Showing
from reward.store import LabelStore


@dataclass(frozen=True)
class DrawConfig:
    """Which pairs to ask about."""

    pairs: int = 1500
    """Pairs to draw; single frames for the questions about one picture."""
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
    frames: Frames | Showing,
    judge: Judge,
    config: DrawConfig,
    *,
    kind: Kind = Kind.PREFERENCE,
    votes: VoteConfig | None = None,
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
        kind: pairs for a preference, single frames otherwise.
        votes: how often each is asked about.
        rewards: (members, rows) of the fitted ensemble, for the selections that need it.
        model: what names that ensemble.

    Raises:
        DatasetError: there are not that many pairs, or `rewards` is missing.
    """
    show = frames if isinstance(frames, Showing) else Showing(frames)
    votes = votes or VoteConfig()
    who = identity(judge)
    settings: dict[str, object] = {
        "draw": asdict(config),
        "judge": asdict(who),
        "model": model if config.selection != "uniform" else "",
    }
    # Left out where they are the plain ones, so that draws of older stores are found again.
    if votes != VoteConfig():
        settings["votes"] = asdict(votes)
    if kind is not Kind.PREFERENCE:
        settings["kind"] = kind.value
    if show.config.frames > 1 or show.config.cameras or show.config.crop != "none":
        settings["show"] = asdict(show.config)
    draw = f"{config.selection}-{config.pairs}-{_fingerprint(settings)}"
    found = store.draw(labels, draw)
    if found is None:
        drawn = store.drawn(labels)
        rows = (
            _select(show, config, rewards, drawn)
            if kind is Kind.PREFERENCE
            else _select_single(show, config, drawn)
        )
        content = show.digests(rows.ravel())
        pairs = []
        for row in rows.tolist():
            shown = [content[k] for k in row] + [""] * (2 - len(row))
            ballots = tuple(
                Ballot(answer_key(*(reversed(shown) if swapped else shown), who, vote), swapped, vote)
                for swapped, vote in votes.orders(len(row))
            )
            ids = [show.frames.id(k) for k in row]
            pairs.append(DrawnPair(ids[0], ids[1] if len(ids) > 1 else None, ballots))
        store.add_draw(labels, draw, settings, pairs)
        found = tuple(pairs)
    return found


def labelled_pairs(
    store: LabelStore,
    pairs: Sequence[DrawnPair],
    frames: Frames,
    held_out: float,
    unsure: Unsure = "drop",
) -> LabelledPairs:
    """Those of `pairs` that have a label; where a person overruled the judge, theirs counts. Which are held
    out depends on the key of the first ballot alone."""
    both = [pair for pair in pairs if pair.second is not None]
    outcomes = store.outcomes({ballot.key for pair in both for ballot in pair.counted})
    kept = []
    for pair in both:
        answers = read_back(pair.counted, outcomes)
        label = None if answers is None else label_of(answers, unsure)
        if label is not None:
            kept.append((pair, label))
    return LabelledPairs(
        first=np.array([frames.row(pair.first) for pair, _ in kept], np.int64),
        second=np.array([frames.row(pair.second) for pair, _ in kept if pair.second], np.int64),
        label=np.array([label for _, label in kept], np.float32),
        held_out=np.array([int(pair.key[:8], 16) < held_out * 2**32 for pair, _ in kept], np.bool_),
    )


def rated_frames(
    store: LabelStore, pairs: Sequence[DrawnPair], frames: Frames
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) rows of single frames with a value, and the values, (n,), the mean over their votes."""
    single = [pair for pair in pairs if pair.second is None]
    values = store.values({ballot.key for pair in single for ballot in pair.counted})
    rows, found = [], []
    for pair in single:
        given = [values[ballot.key] for ballot in pair.counted if ballot.key in values]
        if given:
            rows.append(frames.row(pair.first))
            found.append(sum(given) / len(given))
    return np.array(rows, np.int64), np.array(found, np.float64)


def _select(
    show: Showing,
    config: DrawConfig,
    rewards: NDArray[np.floating] | None,
    drawn_before: Sequence[DrawnPair],
) -> Pairs:
    row, judged = show.frames.row, show.judged
    taken = [(row(pair.first), row(pair.second)) for pair in drawn_before if pair.second is not None]
    generator = np.random.default_rng([config.seed, config.pairs, len(taken)])
    selected = 0 if config.selection == "uniform" else round(config.share * config.pairs)
    drawn = uniform_pairs(judged, config.pairs - selected, generator, same=show.same, taken=taken)
    if not selected:
        return drawn
    more = select_pairs(
        config.selection,
        selected,
        judged,
        generator,
        rewards=rewards,
        top_fraction=config.top_fraction,
        same=show.same,
        taken=[*taken, *((a, b) for a, b in drawn.tolist())],
    )
    return np.concatenate([drawn, more])


def _select_single(show: Showing, config: DrawConfig, drawn_before: Sequence[DrawnPair]) -> Pairs:
    """(n, 1) rows, uniform without repetition."""
    if config.selection != "uniform":
        raise ConfigError(
            f"--selection {config.selection} chooses pairs; questions about one picture are drawn uniformly."
        )
    taken = [show.frames.row(pair.first) for pair in drawn_before if pair.second is None]
    rows = np.setdiff1d(show.judged, np.array(taken, np.int64))
    if len(rows) < config.pairs:
        raise DatasetError(
            f"only {len(rows)} frames were not asked about yet, not {config.pairs}: ask about fewer "
            "(--pairs), or collect more episodes."
        )
    generator = np.random.default_rng([config.seed, config.pairs, len(taken)])
    return generator.choice(rows, config.pairs, replace=False)[:, None]


def _fingerprint(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
