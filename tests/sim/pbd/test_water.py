"""Water keeps its volume, stays in its glass, and does the same again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from episodes.errors import ConfigError
from sim.pbd.water import Liquid, Water

LIQUID = Liquid(radius_m=0.03, spacing_m=0.015)
WALL_M = 0.045
SIDE_M = 0.12
HEIGHT_M = 0.3


def glass(x: float = 0.0, turn_rad: float = 0.0) -> np.ndarray:
    """An open glass of five walls whose floor's centre is at (x, 0.2 where it is turned, else 0)."""
    far, half = (SIDE_M + WALL_M) / 2.0, WALL_M / 2.0
    outer, up = SIDE_M / 2.0 + WALL_M, HEIGHT_M / 2.0
    walls = [
        ((0.0, 0.0, 0.0), (outer, half, outer)),
        ((-far, up, 0.0), (half, up, outer)),
        ((far, up, 0.0), (half, up, outer)),
        ((0.0, up, -far), (SIDE_M / 2.0, up, half)),
        ((0.0, up, far), (SIDE_M / 2.0, up, half)),
    ]
    co, si = np.cos(turn_rad), np.sin(turn_rad)
    lift = 0.0 if turn_rad == 0.0 else 0.3
    return np.array([
        [x + co * cx + si * cy, lift - si * cx + co * cy, cz, *half_edges, turn_rad]
        for (cx, cy, cz), half_edges in walls
    ])  # fmt: skip


def filled(particles: int = 300) -> Water:
    """Water that has come to rest in the glass."""
    k, n = np.arange(particles), 7
    points = np.stack([
        (k % n - 3) * 0.0145, WALL_M / 2.0 + 0.01 + k // (n * n) * 0.013, (k // n % n - 3) * 0.0145,
    ])  # fmt: skip
    water = Water(LIQUID, points)
    for _ in range(80):
        water.step(glass(), glass())
    return water


@pytest.fixture(scope="module")
def rested() -> Water:
    """Shared, not to be changed."""
    return filled()


def inside(water: Water, x: float = 0.0) -> np.ndarray:
    """Which particles are between the walls."""
    half = SIDE_M / 2.0
    return (np.abs(water.p[0] - x) < half) & (np.abs(water.p[2]) < half) & (water.p[1] > WALL_M / 2.0)


def copy_of(water: Water) -> Water:
    other = Water(LIQUID, water.p)
    other.v[:] = water.v
    return other


def volume_m3(water: Water) -> float:
    """Of the water in the glass, by the height of its surface."""
    surface = np.sort(water.p[1])[-water.count // 12 :].mean() + LIQUID.spacing_m / 2.0
    return float((surface - WALL_M / 2.0) * SIDE_M**2)


def test_water_comes_to_rest_in_the_glass_with_the_volume_of_its_particles(rested: Water) -> None:
    assert inside(rested).all()
    per_particle = volume_m3(rested) / rested.count / LIQUID.spacing_m**3
    assert 0.45 < per_particle < 0.75, "the closest packing has 0.707"
    assert np.abs(rested.v).mean() < 0.05


def test_water_keeps_its_volume_while_it_is_carried(rested: Water) -> None:
    water = copy_of(rested)
    before, x = volume_m3(water), 0.0
    for step in range(60):
        dx = 0.002 * min(step, 20, 60 - step) / 20.0
        water.step(glass(x), glass(x + dx))
        x += dx
    for _ in range(30):
        water.step(glass(x), glass(x))
    assert inside(water, x).all()
    assert volume_m3(water) == pytest.approx(before, rel=0.08)


def test_no_particle_goes_through_glass_or_floor_however_the_glass_is_thrown(rested: Water) -> None:
    water = copy_of(rested)
    rng, x = np.random.default_rng(0), 0.0
    for _ in range(60):
        dx = rng.uniform(-0.011, 0.011)
        before, after = glass(x), glass(x + dx)
        x += dx
        water.step(before, after)
        assert np.isfinite(water.p).all()
        assert water.p[1].min() >= LIQUID.gap_m - 1e-12
        for cx, cy, cz, hx, hy, hz, _ in after:
            depth = np.minimum.reduce([
                hx - np.abs(water.p[0] - cx), hy - np.abs(water.p[1] - cy), hz - np.abs(water.p[2] - cz),
            ])  # fmt: skip
            assert depth.max() < 1e-9, "inside a wall"
    below_rim = water.p[1] < HEIGHT_M
    assert inside(water, x)[below_rim].all(), "what never rose above the rim is between the walls"


def test_a_turned_glass_pours(rested: Water) -> None:
    water = copy_of(rested)
    upright = glass(0.0, 1e-9)
    water.p[1] += 0.3
    for step in range(150):
        turn = 2.2 * min(step, 90) / 90.0 + 1e-9
        after = glass(0.0, turn)
        water.step(upright, after)
        upright = after
    assert (water.p[1] < 0.1).mean() > 0.9
    assert np.median(water.p[0]) > 0.1, "it turns about -z: to the side of +x"


def test_falling_water_keeps_its_momentum() -> None:
    rng = np.random.default_rng(2)
    water = Water(LIQUID, rng.uniform(-0.04, 0.04, (3, 120)) + np.array([[0.0], [3.0], [0.0]]))
    water.v[0] = 0.3
    far = glass(50.0)
    water.step(far, far)
    begun = water.v.mean(axis=1)
    for _ in range(10):
        water.step(far, far)
    np.testing.assert_allclose(water.v[[0, 2]].mean(axis=1), begun[[0, 2]], atol=2e-3)


def test_cohesion_holds_falling_water_together_and_does_not_move_it() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.04, 0.04, (3, 120)) + np.array([[0.0], [3.0], [0.0]])
    spread, far = {}, glass(50.0)
    for cohesion in (0.0, 0.05):
        water = Water(replace(LIQUID, cohesion=cohesion), points)
        for _ in range(20):
            water.step(far, far)
        spread[cohesion] = water.p.std(axis=1).mean()
        np.testing.assert_allclose(water.p[[0, 2]].mean(axis=1), points[[0, 2]].mean(axis=1), atol=1e-3)
    assert spread[0.05] < 0.9 * spread[0.0]


def test_the_same_beginning_leads_to_the_same_bytes(rested: Water) -> None:
    ends = []
    for _ in range(2):
        water = copy_of(rested)
        for step in range(15):
            water.step(glass(0.005 * step), glass(0.005 * (step + 1)))
        ends.append(water.p.tobytes() + water.v.tobytes())
    assert ends[0] == ends[1]


def test_more_neighbours_than_expected_cost_time_and_change_nothing(rested: Water) -> None:
    crowded, roomy = copy_of(rested), copy_of(rested)
    crowded._room(3)
    for water in (crowded, roomy):
        water.step(glass(), glass(0.005))
    np.testing.assert_array_equal(crowded.p, roomy.p)


def test_water_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="one or more"):
        Water(LIQUID, np.zeros((3, 0)))
