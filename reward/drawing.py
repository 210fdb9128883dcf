"""Draws: which pairs are put to a judge, fixed once and kept in the label store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from episodes.errors import ConfigError, DatasetError, LabelError
from reward.acquisition import BY_FEATURES, BY_REWARD, Features, Selection, pixel_features, select_pairs
from reward.ballots import Unsure, VoteConfig, label_of, read_back
from reward.clients.protocol import Judge, JudgeIdentity, Kind, identity
from reward.frames import Frames
from reward.pairs import LabelledPairs, Pairs, uniform_pairs
from reward.records import Ballot, DrawnPair, answer_key, present
from reward.scores import LabelledScores, targets
from reward.showing import Showing
from reward.store import LabelStore


@dataclass(frozen=True)
class DrawConfig:
    """Which pairs to ask about."""

    pairs: int = 1500
    """Pairs to draw; single frames for the questions about one picture."""
    selection: Annotated[Selection, tyro.conf.arg(aliases=("--select",))] = "uniform"
    """uniform: over all frames. top: from the frames that the fitted reward ranks highest. disagreement:
    where the members of the fitted ensemble differ most. entropy: where they are least sure. k-centre: what
    covers the dataset best. k-centre+disagreement, k-centre+entropy: k-centre among the better half by the
    other."""
    share: float = 0.5
    """Share of the pairs that is selected so; the rest is uniform, which keeps the whole in sight."""
    top_fraction: float = 0.15
    """Frames that count as the top."""
    seed: int = 0
    """Seed of the draw; another seed draws further pairs."""
    candidates: int = 10
    """Uniform pairs from which each selected one is chosen, for all selections but top."""
    difference: float = 0.0
    """Pairs whose pictures differ by no more than this are not drawn: root mean square over pixels and
    channels, in grey levels from 0 to 255. 0 leaves out equal pictures alone."""
    space: Literal["auto", "model", "pixels"] = "auto"
    """Features in which k-centre measures distance. model: the penultimate ones of the fitted reward model.
    pixels: thumbnails of the pictures, which need no model and are led by whatever moves most. auto: the
    model's where there is one."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"pairs {self.pairs} is out of range: 1 or more.")
        if not 0 < self.top_fraction <= 1 or not 0 <= self.share <= 1:
            raise ConfigError("share and top-fraction are shares: from 0 (top-fraction: above 0) to 1.")
        if self.candidates < 1:
            raise ConfigError(f"candidates {self.candidates} is out of range: 1 or more.")
        if not 0 <= self.difference < 255:
            raise ConfigError(f"difference {self.difference} is out of range: 0 to below 255 grey levels.")

    @property
    def needs_model(self) -> bool:
        """Whether the selection looks at a fitted reward model."""
        return self.selection in BY_REWARD or (self.selection in BY_FEATURES and self.space == "model")

    @property
    def may_use_model(self) -> bool:
        """Whether the selection can make use of one."""
        return self.needs_model or (self.selection in BY_FEATURES and self.space == "auto")

    def settings(self) -> dict[str, object]:
        """What names the draw; later fields are left out at their defaults, so that draws of older stores
        are found again."""
        found, plain = asdict(self), asdict(DrawConfig())
        for name in ("candidates", "difference", "space"):
            if found[name] == plain[name]:
                del found[name]
        return found


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
    features: Features | None = None,
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
        features: of the fitted ensemble, for k-centre; thumbnails when left out.
        model: what names that ensemble.

    Raises:
        DatasetError: there are not that many pairs, or `rewards` is missing.
    """
    show = frames if isinstance(frames, Showing) else Showing(frames)
    votes = votes or VoteConfig()
    who = identity(judge)
    settings: dict[str, object] = {
        "draw": config.settings(),
        "judge": asdict(who),
        "model": model if config.may_use_model else "",
    }
    # Left out where they are the plain ones, so that draws of older stores are found again.
    if votes != VoteConfig():
        settings["votes"] = asdict(votes)
    if kind is not Kind.PREFERENCE:
        settings["kind"] = kind.value
    if show.config.frames > 1 or show.config.cameras or show.config.crop != "none":
        settings["show"] = asdict(show.config)
    plain = f"{config.selection}-{config.pairs}-{_fingerprint(settings)}"
    draw, found = plain, None
    if show.named:
        settings["stream"] = show.named
        draw = f"{config.selection}-{config.pairs}-{_fingerprint(settings)}"
        # Draws of older stores do not say of which stream they are, but their keys are made of its pictures.
        older = store.draw(labels, plain)
        found = older if older is not None and _is_shown(store, show, who, older) else None
    found = found or store.draw(labels, draw)
    if found is None:
        if show.stream:
            settings["stream"] = show.stream
        drawn = store.drawn(labels)
        rows = (
            _select(show, config, rewards, None if config.space == "pixels" else features, drawn)
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
        found = store.add_draw(labels, draw, settings, pairs)
    return found


def _is_shown(store: LabelStore, show: Showing, who: JudgeIdentity, pairs: Sequence[DrawnPair]) -> bool:
    """Whether the pictures of a draw are those of `show`, by its first pair whose frames are there."""
    for pair in pairs:
        if not show.frames.has(pair.first, pair.second):
            continue
        ballot = pair.ballots[0]
        pictures = show.question(pair, ballot).digests
        said = store.rows("SELECT first_sha256, second_sha256 FROM answers WHERE key=?", (ballot.key,))
        return pictures in said if said else ballot.key == answer_key(*pictures, who, ballot.vote)
    return False


def labelled_pairs(
    store: LabelStore,
    pairs: Sequence[DrawnPair],
    frames: Frames,
    held_out: float,
    unsure: Unsure = "drop",
) -> LabelledPairs:
    """Those of `pairs` that have a label and whose frames are there; where a person overruled the judge,
    theirs counts. Which are held out depends on the key of the first ballot alone."""
    both = [pair for pair in present(pairs, frames) if pair.second is not None]
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


def question_of(store: LabelStore, labels: str) -> Kind:
    """The question that the draws of a label set ask.

    Raises:
        LabelError: different ones; answers to different questions are no one thing to fit.
    """
    kinds = {
        str(json.loads(settings).get("kind", Kind.PREFERENCE.value))
        for (settings,) in store.rows("SELECT settings FROM draws WHERE labels=?", (labels,))
    }
    if len(kinds) > 1:
        raise LabelError(
            f"{store.path}: the label set {labels!r} mixes the questions {', '.join(sorted(kinds))}: give "
            "each a set of its own (armchair label --labels)."
        )
    return Kind(kinds.pop()) if kinds else Kind.PREFERENCE


def labelled_scores(
    store: LabelStore, pairs: Sequence[DrawnPair], frames: Frames, kind: Kind, held_out: float
) -> LabelledScores:
    """Those of the single frames in `pairs` that are there and have a value, as targets of a regression;
    which are held out depends on the key of the answer alone.

    Raises:
        LabelError: a value is out of the range of its question.
    """
    single = {frames.row(pair.first): pair.key for pair in present(pairs, frames) if pair.second is None}
    rows, values = rated_frames(store, pairs, frames)
    kept_out = [int(single[row][:8], 16) < held_out * 2**32 for row in rows.tolist()]
    return LabelledScores(rows, targets(values, kind), np.array(kept_out, np.bool_))


def rated_frames(
    store: LabelStore, pairs: Sequence[DrawnPair], frames: Frames
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) rows of single frames with a value, and the values, (n,), the mean over their votes; frames that
    the dataset does not have are left out."""
    single = [pair for pair in present(pairs, frames) if pair.second is None]
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
    features: Features | None,
    drawn_before: Sequence[DrawnPair],
) -> Pairs:
    row, judged = show.frames.row, show.judged
    before = [pair for pair in drawn_before if pair.second is not None]
    taken = [
        (row(pair.first), row(pair.second))
        for pair in present(before, show.frames)
        if pair.second is not None
    ]
    generator = np.random.default_rng([config.seed, config.pairs, len(before)])
    selected = 0 if config.selection == "uniform" else round(config.share * config.pairs)
    same = alike(show, config.difference)
    drawn = uniform_pairs(judged, config.pairs - selected, generator, same=same, taken=taken)
    if not selected:
        return drawn
    more = select_pairs(
        config.selection,
        selected,
        judged,
        generator,
        rewards=rewards,
        features=features or pixel_features(show.frames.images),
        top_fraction=config.top_fraction,
        candidates=config.candidates,
        same=same,
        taken=[*taken, *((a, b) for a, b in drawn.tolist())],
    )
    return np.concatenate([drawn, more])


def alike(show: Showing, difference: float) -> Callable[[int, int], bool]:
    """Says that two rows show the same, or pictures that differ by at most `difference` grey levels in root
    mean square. Offline RL-VLM-F drops pairs whose pixels differ by an L2 norm below 1e-3, so equal ones."""
    if difference == 0:
        return show.same

    def near(first: int, second: int) -> bool:
        a, b = show.rows_of_clip(first), show.rows_of_clip(second)
        total = count = 0.0
        for images in (show.frames.images, *show.others.values()):
            gap = images[a].astype(np.float32) - images[b]
            total, count = total + float((gap * gap).sum()), count + gap.size
        return total <= difference**2 * count

    return near


def _select_single(show: Showing, config: DrawConfig, drawn_before: Sequence[DrawnPair]) -> Pairs:
    """(n, 1) rows, uniform without repetition."""
    if config.selection != "uniform":
        raise ConfigError(
            f"--selection {config.selection} chooses pairs; questions about one picture are drawn uniformly."
        )
    before = [pair for pair in drawn_before if pair.second is None]
    taken = [show.frames.row(pair.first) for pair in present(before, show.frames)]
    rows = np.setdiff1d(show.judged, np.array(taken, np.int64))
    if len(rows) < config.pairs:
        raise DatasetError(
            f"only {len(rows)} frames were not asked about yet, not {config.pairs}: ask about fewer "
            "(--pairs), or collect more episodes."
        )
    generator = np.random.default_rng([config.seed, config.pairs, len(before)])
    return generator.choice(rows, config.pairs, replace=False)[:, None]


def _fingerprint(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
