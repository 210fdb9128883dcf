"""The grid of cells finds the pairs that comparing all with all finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.pbd.contact import find_pairs


def found(p: np.ndarray, reach: float, columns: int, apart: int, cells: int) -> set[tuple[int, int]]:
    n = p.shape[1]
    pairs = np.zeros((2, n * n), dtype=np.int64)
    count = find_pairs(
        p, n, reach, columns, apart, np.zeros(3), np.zeros(3, dtype=np.int64),
        np.zeros(cells + 1, dtype=np.int64), np.zeros(n, dtype=np.int64), pairs,
    )  # fmt: skip
    listed = [(int(a), int(b)) for a, b in pairs[:, :count].T]
    assert len(listed) == len(set(listed))
    return set(listed)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(2, 60), st.floats(0.01, 0.5), st.sampled_from([0, 1, 4]),
    st.sampled_from([1, 8, 1 << 15]),
)  # fmt: skip
def test_exactly_the_pairs_within_reach_are_found(
    seed: int, n: int, reach: float, columns: int, cells: int
) -> None:
    p = np.random.default_rng(seed).uniform(-0.5, 0.5, (3, n))
    expected = set()
    for a in range(n):
        for b in range(a + 1, n):
            places = max(columns, 1)
            near = columns > 0 and b // places - a // places <= 2 and abs(b % places - a % places) <= 2
            if float(((p[:, a] - p[:, b]) ** 2).sum()) < reach * reach and not near:
                expected.add((a, b))
    assert found(p, reach, columns, 2, cells) == expected


def test_too_little_room_is_told_with_the_number_needed() -> None:
    p = np.zeros((3, 5)) + np.arange(5) * 1e-3
    arguments = (np.zeros(3), np.zeros(3, dtype=np.int64), np.zeros(9, dtype=np.int64))
    order, pairs = np.zeros(5, dtype=np.int64), np.zeros((2, 3), dtype=np.int64)
    assert find_pairs(p, 5, 1.0, 0, 0, *arguments, order, pairs) == -1 - 10
