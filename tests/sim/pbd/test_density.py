"""Neighbours in water are exactly those within reach, and what they do to each other cancels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.pbd.contact import bin_particles
from sim.pbd.density import list_neighbours, solve_density, stir

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]


def listed(p: np.ndarray, reach: float, cells: int = 1 << 12, room: int | None = None) -> Neighbours | None:
    """Positions by cells, and near and first as the kernels take them; None where room is too short."""
    n = p.shape[1]
    origin, shape, start = np.zeros(3), np.zeros(3, dtype=np.int64), np.zeros(cells + 1, dtype=np.int64)
    order, first = np.zeros(n, dtype=np.int64), np.zeros(n + 1, dtype=np.uint64)
    near = np.zeros(n * n if room is None else room, dtype=np.uint32)
    bin_particles(p, n, reach, origin, shape, start, order)
    q = (p[:, order] - origin[:, None]).astype(np.float32)
    return (q, near, first) if list_neighbours(q, reach, shape, start, near, first) else None


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 60), st.floats(0.01, 0.5), st.sampled_from([1, 8, 1 << 12])
)  # fmt: skip
def test_exactly_the_pairs_within_reach_are_listed_once(seed: int, n: int, reach: float, cells: int) -> None:
    made = listed(np.random.default_rng(seed).uniform(-0.5, 0.5, (3, n)), reach, cells)
    assert made is not None
    q, near, first = made
    pairs = [(s, int(t)) for s in range(n) for t in near[int(first[s]) : int(first[s + 1])]]
    assert len(pairs) == len(set(pairs))
    assert all(s < t for s, t in pairs)
    apart = np.linalg.norm(q[:, :, None] - q[:, None], axis=0)
    sure, never = apart < reach - 1e-6, apart > reach + 1e-6
    assert set(zip(*np.nonzero(np.triu(sure, 1)), strict=True)) <= set(pairs)
    assert not any(never[s, t] for s, t in pairs)


def test_too_little_room_for_neighbours_is_told() -> None:
    p = np.random.default_rng(0).uniform(0.0, 0.01, (3, 8))
    assert listed(p, 0.1, room=27) is None
    assert listed(p, 0.1, room=28) is not None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_crowded_water_spreads_and_stirring_evens_speeds_without_moving_the_whole(seed: int) -> None:
    rng, n, reach = np.random.default_rng(seed), 60, 0.03
    made = listed(rng.uniform(0.0, 0.04, (3, n)), reach)
    assert made is not None
    q, near, first = made
    walls, sums = np.zeros((4, n), dtype=np.float32), np.zeros((6, n), dtype=np.float32)
    pairs = np.zeros((5, len(near)), dtype=np.float32)
    solve_density(q, near, first, reach, 5.0, 1.0, 0.0, walls, pairs, sums)
    moved = sums[2:5].copy()
    assert np.abs(moved).max() > 1e-4
    np.testing.assert_allclose(moved.sum(axis=1), 0.0, atol=1e-6)
    middle = q.mean(axis=1, keepdims=True)
    assert ((q - middle) * moved).sum() > 0.0, "away from where it is crowded"
    u = rng.normal(0.0, 1.0, (3, n)).astype(np.float32)
    stir(u, near, first, 0.02, pairs[3], sums)
    np.testing.assert_allclose(sums[:3].sum(axis=1), 0.0, atol=1e-4)
    assert np.var(u + sums[:3]) < np.var(u)
