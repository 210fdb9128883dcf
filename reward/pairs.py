"""Pairs of frames: how they are drawn, and what became of them. Rows are frames, of any episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import DatasetError

Pairs = NDArray[np.int64]
"""(n, 2) rows of frames: first, second."""

MOST_DRAWS = 50
"""Rounds of drawing before a dataset counts as exhausted."""


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs of frames with labels."""

    first: NDArray[np.int64]
    """(n,) rows of the frames."""
    second: NDArray[np.int64]
    label: NDArray[np.float32]
    """(n,) P(second preferred): 0, 1, or 0.5 for a tie."""
    held_out: NDArray[np.bool_]
    """(n,) never trained on."""

    def __len__(self) -> int:
        return len(self.label)

    def part(self, held_out: bool) -> LabelledPairs:
        """Only the held-out pairs, or only the others."""
        rows = self.held_out == held_out
        return LabelledPairs(self.first[rows], self.second[rows], self.label[rows], self.held_out[rows])

    @property
    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """Everything, for keys."""
        return (self.first, self.second, self.label, self.held_out)


def uniform_pairs(
    rows: NDArray[np.int64],
    count: int,
    generator: np.random.Generator,
    *,
    same: Callable[[int, int], bool] | None = None,
    taken: Iterable[tuple[int, int]] = (),
    at_least: int | None = None,
) -> Pairs:
    """`count` distinct pairs of two different frames, each frame uniform over `rows`.

    Args:
        rows: frames to draw from.
        count: pairs wanted.
        generator: source of chance.
        same: says that two frames show the same picture, so that asking would be money thrown away.
        taken: pairs (in either order) not to draw again.
        at_least: so many will do where there are no more; `count` when left out.

    Raises:
        DatasetError: there are not that many pairs.
    """
    if count == 0:
        return np.empty((0, 2), np.int64)
    if len(rows) < 2:
        raise DatasetError(f"{len(rows)} frames make no pair: collect or record episodes first.")
    known = {(min(a, b), max(a, b)) for a, b in taken}
    found: list[tuple[int, int]] = []
    for _ in range(MOST_DRAWS):
        drawn = rows[generator.integers(len(rows), size=(2 * (count - len(found)), 2))]
        for a, b in drawn.tolist():
            key = (min(a, b), max(a, b))
            if a == b or key in known or (same is not None and same(a, b)):
                continue
            known.add(key)
            found.append((a, b))
            if len(found) == count:
                return np.array(found, np.int64)
    if at_least is not None and len(found) >= at_least:
        return np.array(found, np.int64)
    wanted = count if at_least is None else at_least
    raise DatasetError(
        f"only {len(found)} of {wanted} pairs found among {len(rows)} frames that were not asked about and "
        "differ: ask for fewer pairs or collect more episodes."
    )


def top_rows(reward: NDArray[np.floating], rows: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """The best `fraction` of `rows` by `reward` (n frames,), two at least, best last."""
    count = min(max(2, round(fraction * len(rows))), len(rows))
    return rows[np.argsort(reward[rows], kind="stable")[len(rows) - count :]]
