"""Cloth and rope obey what physics says of them, and do the same again."""

from __future__ import annotations

import numpy as np
import pytest

from episodes.errors import ConfigError
from sim.pbd.body import STEP_S, Body, Solid
from sim.softgym.rope import LENGTH_M, ROPE, RopeFlatten
from tests.sim.pbd.bodies import CLOTH, make_cloth, make_rope

GRAVITY = 9.8


def length_m(rope: Body) -> float:
    return float(np.linalg.norm(np.diff(rope.p, axis=1), axis=0).sum())


def edges(cloth: Body) -> np.ndarray:
    """Lengths of all edges of the grid, over their rest length."""
    grid = cloth.p.reshape(3, cloth.rows, cloth.columns)
    along = [np.linalg.norm(np.diff(grid, axis=axis), axis=0).ravel() for axis in (1, 2)]
    return np.concatenate(along) / cloth.solid.spacing_m


def nearest_layers_m(body: Body, apart: int) -> float:
    """Least distance of particles more than `apart` places apart along a rope."""
    far = np.abs(np.subtract.outer(np.arange(body.count), np.arange(body.count))) > apart
    return float(np.linalg.norm(body.p[:, :, None] - body.p[:, None], axis=0)[far].min())


def test_a_rope_keeps_its_length_within_two_percent_however_it_is_swung_and_dropped() -> None:
    rope = make_rope()
    rope.p[1] += 0.6
    rope.hold(0)
    for step in range(150):
        rope.v[:, 0] = [0.5 * np.sin(0.1 * step), 0.0, 0.3 * np.cos(0.2 * step)]
        rope.step()
        assert length_m(rope) == pytest.approx(LENGTH_M, rel=0.02)
    rope.release(0)
    for _ in range(100):
        rope.step()
        assert length_m(rope) == pytest.approx(LENGTH_M, rel=0.02)


def test_crumpled_ropes_lie_still_on_the_floor_and_on_themselves() -> None:
    task = RopeFlatten()
    for variation in range(6):
        task.begin(task.generate(variation))
        before = task.body.p.copy()
        assert length_m(task.body) == pytest.approx(LENGTH_M, rel=0.02)
        assert nearest_layers_m(task.body, 3) > 0.8 * ROPE.thickness_m
        task.body.step(50)
        assert np.abs(task.body.p - before).max() < 0.01


def test_a_rope_bends_no_sharper_than_it_may_and_springs_back_from_nothing_less() -> None:
    rope = make_rope()
    turn = np.linspace(0.0, 1.5 * np.pi, rope.count)
    rope.p[0], rope.p[2] = 0.1 * np.cos(turn), 0.1 * np.sin(turn)
    before = rope.p.copy()
    rope.step(100)
    assert np.abs(rope.p - before).max() < 0.01, "an arc wider than the sharpest bend stays"
    folded = make_rope()
    folded.p[0] = np.abs(folded.p[0] - 0.25)
    folded.p[2] = np.where(np.arange(folded.count) > 20, 0.005, 0.0)
    folded.step(100)
    way = np.diff(folded.p, axis=1)
    way /= np.linalg.norm(way, axis=0)
    turns = np.arccos(np.clip((way[:, 1:] * way[:, :-1]).sum(axis=0), -1.0, 1.0))
    assert turns.max() < ROPE.sharpest_bend_rad + 0.1


def test_a_hanging_cloth_stretches_by_a_few_percent_at_most() -> None:
    cloth = make_cloth(damping_hz=2.0)
    cloth.p[1] += 0.5
    for corner in (0, cloth.columns - 1):
        cloth.hold(corner)
    cloth.step(200)
    low, high = np.percentile(edges(cloth), [1.0, 99.0])
    assert low > 0.95
    assert high < 1.06


@pytest.mark.parametrize("make", [make_cloth, lambda **c: make_rope(**c)], ids=["cloth", "rope"])
def test_free_fall_keeps_momentum(make) -> None:  # type: ignore[no-untyped-def]
    body = make(damping_hz=0.0)
    rng = np.random.default_rng(0)
    body.p[1] += 2.0
    body.v[:] = rng.normal(0.0, 0.1, body.v.shape) + np.array([[0.4], [0.0], [-0.2]])
    begun = body.v.mean(axis=1)
    steps = 30
    body.step(steps)
    np.testing.assert_allclose(
        body.v.mean(axis=1), begun - np.array([0.0, GRAVITY * steps * STEP_S, 0.0]), atol=1e-9, rtol=1e-9
    )


def test_nothing_falls_through_the_floor() -> None:
    rng = np.random.default_rng(1)
    cloth = make_cloth()
    cloth.p[[0, 1]] = cloth.p[[1, 0]] + rng.normal(0.0, 1e-3, (2, cloth.count))
    cloth.p[1] += 0.3 - cloth.p[1].min()
    cloth.v[1] = -4.0
    for _ in range(120):
        cloth.step()
        assert cloth.p[1].min() >= CLOTH.lift_m - 1e-12
        assert np.isfinite(cloth.p).all()


def test_layers_of_a_cloth_lie_on_each_other_and_stay_apart() -> None:
    cloth = make_cloth(damping_hz=1.0)
    corners = [0, cloth.columns * (cloth.rows - 1)]
    radius = -cloth.p[0, 0]
    for corner in corners:
        cloth.hold(corner)
    for step in range(100):
        turn = np.pi * (np.array([step, step + 1])) / 100
        for corner in corners:
            cloth.v[0, corner] = -radius * np.diff(np.cos(turn))[0] / STEP_S
            cloth.v[1, corner] = radius * np.diff(np.sin(turn))[0] / STEP_S
        cloth.step()
    for corner in corners:
        cloth.release(corner)
    cloth.step(120)
    grid = cloth.p.reshape(3, cloth.rows, cloth.columns)
    quarter = cloth.columns // 4
    upper, lower = grid[:, :, :quarter], grid[:, :, ::-1][:, :, :quarter]
    assert np.linalg.norm(upper - lower, axis=0).mean() < 0.06, "it is folded"
    assert (upper[1] - lower[1]).min() > 0.5 * CLOTH.thickness_m
    assert cloth.speed_m_s() < 0.1


def test_friction_stops_a_sliding_rope_where_coulomb_says() -> None:
    rope = make_rope(friction=0.3, damping_hz=0.0, sleep_m_s=0.0, sharpest_bend_rad=0.0)
    rope.v[2] = 0.6
    rope.step(100)
    slid = rope.p[2]
    np.testing.assert_allclose(slid, 0.6**2 / (2.0 * 0.3 * GRAVITY), rtol=0.03)
    assert rope.speed_m_s() < 1e-6


def test_a_held_particle_goes_where_it_is_driven_and_no_force_moves_it() -> None:
    cloth = make_cloth()
    cloth.hold(0)
    start, risen = cloth.p[:, 0].copy(), np.array([0.0, 0.1, 0.04])
    for _ in range(20):
        cloth.v[:, 0] = [0.0, 0.5, 0.2]
        cloth.step()
    np.testing.assert_allclose(cloth.p[:, 0], start + risen, atol=1e-12)
    cloth.step(5)
    np.testing.assert_allclose(cloth.p[:, 0], start + risen, atol=1e-12)
    cloth.release(0)
    cloth.step(30)
    assert cloth.p[1, 0] < start[1] + 0.09


def test_the_same_beginning_leads_to_the_same_bytes() -> None:
    ends = []
    for _ in range(2):
        cloth = make_cloth()
        cloth.hold(5)
        for _ in range(40):
            cloth.v[:, 5] = [0.1, 0.6, -0.2]
            cloth.step()
        cloth.release(5)
        cloth.step(40)
        ends.append(cloth.p.tobytes() + cloth.v.tobytes())
    assert ends[0] == ends[1]


def test_more_contacts_than_expected_cost_time_and_change_nothing() -> None:
    heap, roomy = make_cloth(), make_cloth()
    for cloth in (heap, roomy):
        cloth.p[0] *= 0.2
        cloth.p[2] *= 0.2
        cloth.p[1] += np.random.default_rng(3).uniform(0.0, 0.02, cloth.count)
    heap._pairs = np.zeros((2, 1), dtype=np.int64)
    roomy._pairs = np.zeros((2, 200_000), dtype=np.int64)
    heap.step(3)
    roomy.step(3)
    np.testing.assert_array_equal(heap.p, roomy.p)


def test_bodies_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 x 5"):
        Body(CLOTH, 2, 5)
    with pytest.raises(ConfigError, match="in one column"):
        Body(ROPE, 5, 3)
    with pytest.raises(TypeError):
        Solid(kind="rope")  # type: ignore[call-arg]
