"""Which pairs are worth an answer: the samplers of B-Pref, on frames of any kind.

Lee et al. 2021, "B-Pref: Benchmarking Preference-Based Reinforcement Learning", section 3 (disagreement,
entropy, k-centre and its hybrids); `top` is what the main job found necessary (docs/reward-recipe.md).

All need candidates, `candidates` times as many uniform pairs as are wanted. K-centre needs a space in which
two pairs are near each other: the features of both frames. Pixels alone are a poor one, since the largest
thing that moves decides every distance, so the penultimate features of the fitted reward model are taken
where there is one: what it reads off a picture, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

from episodes.errors import DatasetError
from reward.pairs import Pairs, top_rows, uniform_pairs

Selection = Literal[
    "uniform", "top", "disagreement", "entropy", "k-centre", "k-centre+disagreement", "k-centre+entropy"
]
Features = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Rows of frames (n,) → features (n, d) in which Euclidean distance means something."""

BY_REWARD: frozenset[Selection] = frozenset(
    {"top", "disagreement", "entropy", "k-centre+disagreement", "k-centre+entropy"}
)
"""Selections that need the rewards of a fitted ensemble."""
BY_FEATURES: frozenset[Selection] = frozenset({"k-centre", "k-centre+disagreement", "k-centre+entropy"})
"""Selections that need features."""
PIXELS = 16
"""Side of the thumbnails that stand for pictures where there are no better features."""
CHUNK = 512
"""Centres at a time, which bounds memory."""


def preferences(rewards: NDArray[np.floating], pairs: Pairs) -> NDArray[np.float64]:
    """(members, n) predicted P(second preferred) of each member; `rewards` (members, frames)."""
    difference = rewards[:, pairs[:, 1]].astype(np.float64) - rewards[:, pairs[:, 0]]
    return np.asarray(expit(difference))


def disagreement(rewards: NDArray[np.floating], pairs: Pairs) -> NDArray[np.float64]:
    """(n,) standard deviation over members of the predicted P(second preferred)."""
    return np.asarray(preferences(rewards, pairs).std(axis=0))


def entropy(rewards: NDArray[np.floating], pairs: Pairs) -> NDArray[np.float64]:
    """(n,) mean over members of the entropy of the predicted preference, in nats."""
    chance = preferences(rewards, pairs)
    return np.asarray((entr(chance) + entr(1 - chance)).mean(axis=0))


def k_centre(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    count: int,
    *,
    taken: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> NDArray[np.int64]:
    """Greedy k-centre: `count` pairs, each the one farthest from all chosen before it and from `taken`.

    The squared distance of pairs (a, b) and (c, d) is the smaller of |a−c|² + |b−d|² and |a−d|² + |b−c|²,
    since a label of a pair is a label of the pair the other way round. At most twice the best possible
    radius (Gonzalez 1985). Without `taken` the first centre is the pair farthest from the mean pair.

    Args:
        first: (n, d) features of the first frames.
        second: (n, d) features of the second frames.
        count: pairs wanted, at most n.
        taken: (m, d) features of the pairs that were asked about.

    Returns:
        (count,) numbers of the pairs, in the order in which they were chosen; of equals the first.

    Raises:
        DatasetError: fewer than `count` pairs.
    """
    if count > len(first):
        raise DatasetError(f"{len(first)} candidate pairs are fewer than the {count} wanted.")
    # Distances do not move with the origin, but the rounding of the products below does.
    origin = (first.mean(axis=0) + second.mean(axis=0)) / 2
    a, b = (np.asarray(side - origin, np.float32) for side in (first, second))
    size = (a * a).sum(axis=1) + (b * b).sum(axis=1)

    def nearest(c: NDArray[np.float32], d: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) squared distance to the nearest of the centres (m, d)."""
        lengths = (c * c).sum(axis=1) + (d * d).sum(axis=1)
        both = np.concatenate([c, d]).T
        of_a, of_b = a @ both, b @ both
        m = len(c)
        alike = np.maximum(of_a[:, :m] + of_b[:, m:], of_a[:, m:] + of_b[:, :m])
        return np.asarray((size[:, None] + lengths - 2 * alike).min(axis=1).clip(min=0))

    chosen: list[int] = []
    if taken is not None and len(taken[0]):
        c, d = (np.asarray(side - origin, np.float32) for side in taken)
        parts = [nearest(c[k : k + CHUNK], d[k : k + CHUNK]) for k in range(0, len(c), CHUNK)]
        distance = np.asarray(np.min(parts, axis=0))
    elif count:
        mean = np.zeros((1, a.shape[1]), np.float32)
        chosen = [int(np.argmax(nearest(mean, mean)))]
        distance = nearest(a[chosen], b[chosen])
    while len(chosen) < count:
        distance[chosen] = -1.0
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, nearest(a[chosen[-1:]], b[chosen[-1:]]))
    return np.array(chosen, np.int64)


def pixel_features(images: NDArray[np.uint8]) -> Features:
    """Thumbnails of `images` (rows, height, width, 3): all there is before a reward model is fitted."""

    def features(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        small = [cv2.resize(images[k], (PIXELS, PIXELS), interpolation=cv2.INTER_AREA) for k in rows.tolist()]
        return np.stack(small).reshape(len(rows), -1).astype(np.float32) / 255

    return features


def select_pairs(
    selection: Selection,
    count: int,
    rows: NDArray[np.int64],
    generator: np.random.Generator,
    *,
    rewards: NDArray[np.floating] | None = None,
    features: Features | None = None,
    top_fraction: float = 0.15,
    candidates: int = 10,
    same: Callable[[int, int], bool] | None = None,
    taken: Iterable[tuple[int, int]] = (),
) -> Pairs:
    """Pairs to ask about.

    - uniform: over all frames.
    - top: both frames from the best `top_fraction` by the members' mean reward. Frames of success are few
      (2 % in the main job), so uniform pairs compare them with each other or with near-successes once in
      hundreds of pairs.
    - disagreement, entropy: of `candidates` times as many uniform pairs those on which members differ most,
      or on which they are least sure.
    - k-centre: those that cover the candidates best, beside the pairs in `taken`.
    - k-centre+disagreement, k-centre+entropy: k-centre among the better half by the other measure.

    Args:
        selection: one of these.
        count: pairs wanted.
        rows: frames to draw from.
        generator: source of chance.
        rewards: (members, frames) of the fitted ensemble, in its log-odds.
        features: of frames, for k-centre.
        top_fraction: share of `rows` that counts as the top.
        candidates: candidates per wanted pair; `large_batch` in B-Pref.
        same: says that two frames show the same picture, or nearly.
        taken: pairs that were asked about.

    Raises:
        DatasetError: there are not that many pairs, or `rewards` or `features` are missing.
    """
    taken = list(taken)
    if selection == "uniform":
        return uniform_pairs(rows, count, generator, same=same, taken=taken)
    if selection in BY_FEATURES and features is None:
        raise DatasetError(f"selection {selection!r} needs features of the frames.")
    if rewards is None and selection in BY_REWARD:
        raise DatasetError(
            f"selection {selection!r} needs a fitted reward model: fit one first, or select uniform."
        )
    if rewards is not None and selection == "top":
        best_rows = top_rows(rewards.mean(axis=0), rows, top_fraction)
        return uniform_pairs(best_rows, count, generator, same=same, taken=taken)
    drawn = uniform_pairs(rows, count * candidates, generator, same=same, taken=taken, at_least=count)
    if rewards is None or selection == "k-centre":
        return drawn[np.sort(_centres(drawn, count, features, taken))]
    worth = disagreement if selection.endswith("disagreement") else entropy
    order = np.argsort(-worth(rewards, drawn), kind="stable")
    if selection in BY_FEATURES:
        half = drawn[np.sort(order[: max(count, len(drawn) // 2)])]
        return half[np.sort(_centres(half, count, features, taken))]
    return drawn[np.sort(order[:count])]


def _centres(
    drawn: Pairs, count: int, features: Features | None, taken: list[tuple[int, int]]
) -> NDArray[np.int64]:
    if features is None:
        raise DatasetError("k-centre needs features of the frames.")
    asked = np.array(taken, np.int64).reshape(-1, 2)
    rows, where = np.unique(np.concatenate([drawn, asked]), return_inverse=True)
    found, where = features(rows), where.reshape(-1, 2)
    new, old = where[: len(drawn)], where[len(drawn) :]
    return k_centre(found[new[:, 0]], found[new[:, 1]], count, taken=(found[old[:, 0]], found[old[:, 1]]))
