"""How initial states are made: picked up at random, dropped, waited for, centred."""

from __future__ import annotations

import numpy as np

from sim.pbd.body import STEP_S, Body


def random_picks(body: Body, rng: np.random.Generator, *, picks: int, scale_m: float) -> None:
    """Pull `picks` random particles, one after the other, 60 steps up and away by `scale_m` a step at most,
    and let each fall; then wait until nothing moves."""
    for _ in range(picks):
        particle = int(rng.integers(body.count))
        way = rng.uniform(-1.0, 1.0, 3)
        way[1] += 1.0
        body.hold(particle)
        for _ in range(60):
            body.v[:, particle] = way * scale_m / STEP_S
            body.step()
        body.release(particle)
        wait(body, steps=100, speed_m_s=0.01)
    wait(body, steps=500, speed_m_s=0.01)


def wait(body: Body, *, steps: int, speed_m_s: float, least: int = 1) -> bool:
    """Step until no particle is faster than `speed_m_s`, at least `least` and at most `steps` times; whether
    it came to rest."""
    for step in range(1, steps + 1):
        body.step()
        if step >= least and body.speed_m_s() < speed_m_s:
            return True
    return False


def centre_over_origin(body: Body) -> None:
    """Move the body sideways until its mean is over the origin."""
    body.p[[0, 2]] -= body.p[[0, 2]].mean(axis=1, keepdims=True)
    body.v[:] = 0.0
