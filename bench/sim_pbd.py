"""Leg `pbd` of bench `sim`: how much faster than real time soft bodies are on one core, and their pictures.

Physics is timed in processor time of this process, which runs one thread: other work on the machine moves it
little. Compiling comes before the clock starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

FRAME = 84
BOUNDS = {
    "cloth_40x40_real_time_factor": 2.0,
    "rope_41_real_time_factor": 100.0,
    "water_2000_real_time_factor": 1.5,
    "rope_frames_per_s": 500.0,
    "cloth_40x40_frames_per_s": 500.0,
}
"""At least."""


def measure(seconds: float) -> tuple[dict[str, float], str]:
    """(figures, what drew) with about `seconds` of simulated time per body."""
    figures = {
        "cloth_40x40_real_time_factor": _factor(_cloth(), seconds),
        "rope_41_real_time_factor": _factor(_rope(), 20.0 * seconds),
        "water_1000_real_time_factor": _factor(_water(1000), seconds),
        "water_2000_real_time_factor": _factor(_water(2000), seconds),
        "water_4000_real_time_factor": _factor(_water(4000), 0.5 * seconds),
    }
    renderer = ""
    for figure, task in (("rope", "RopeFlattenEasy"), ("cloth_40x40", "ClothFoldDiagonal")):
        figures[f"{figure}_frames_per_s"], renderer = _frames_per_s(task)
    return figures, renderer


def _factor(step: Callable[[int], None], seconds: float) -> float:
    """Simulated time over processor time; `step` takes the number of a step of 10 ms."""
    steps = max(round(seconds / 0.01), 10)
    step(0)
    begun = time.process_time()
    for number in range(1, steps + 1):
        step(number)
    return 0.01 * steps / (time.process_time() - begun)


def _cloth() -> Callable[[int], None]:
    """A cloth of 40 by 40 that is folded corner to corner and back, again and again, with self-collision."""
    from sim.pbd.body import STEP_S
    from sim.softgym.cloth_fold import ClothFoldDiagonal

    task = ClothFoldDiagonal()
    body = task.new_body(40, 40)
    body.hold(0)
    half = -float(body.p[0, 0])

    def step(number: int) -> None:
        turn = np.pi * (number + np.arange(2)) / 100.0
        body.v[[0, 2], 0] = -half * np.diff(np.cos(turn))[0] / STEP_S
        body.v[1, 0] = 0.1 * np.diff(np.abs(np.sin(turn)))[0] / STEP_S
        body.step()

    return step


def _rope() -> Callable[[int], None]:
    """A rope of 41 particles that one end draws over itself."""
    from sim.softgym.rope import RopeFlattenEasy

    task = RopeFlattenEasy()
    task.begin(task.generate(0))
    body = task.body

    def step(number: int) -> None:
        body.v[:, 0] = 0.3 * np.array([np.cos(0.02 * number), 0.0, np.sin(0.03 * number)])
        body.step()

    return step


def _water(particles: int) -> Callable[[int], None]:
    """Water in a glass of the size of its particles that moves to and fro, once it has come to rest."""
    from sim.pbd.water import Liquid, Water

    liquid = Liquid(radius_m=0.03, spacing_m=0.015)
    across = round((particles / 4.0) ** (1.0 / 3.0))
    inner, wall, height = (across + 4) * liquid.spacing_m, 0.045, 0.8
    k, row = np.arange(particles), across + 2
    points = np.stack([
        (k % row - (row - 1) / 2.0) * liquid.spacing_m,
        0.5 * wall + 0.01 + k // row**2 * 0.8 * liquid.spacing_m,
        (k // row % row - (row - 1) / 2.0) * liquid.spacing_m,
    ])  # fmt: skip
    water = Water(liquid, points)
    far, up, edge = (inner + wall) / 2.0, height / 2.0, inner / 2.0 + wall
    glass = np.array([
        [0.0, 0.0, 0.0, edge, wall / 2.0, edge, 0.0],
        [-far, up, 0.0, wall / 2.0, up, edge, 0.0],
        [far, up, 0.0, wall / 2.0, up, edge, 0.0],
        [0.0, up, -far, inner / 2.0, up, wall / 2.0, 0.0],
        [0.0, up, far, inner / 2.0, up, wall / 2.0, 0.0],
    ])  # fmt: skip
    for _ in range(60):
        water.step(glass, glass)

    def step(number: int) -> None:
        after = glass.copy()
        after[:, 0] += 0.003 * np.sign(np.sin(0.1 * number))
        water.step(glass, after)
        glass[:] = after

    return step


def _frames_per_s(task: str) -> tuple[float, str]:
    """Best of five runs of 60 frames of the task's first camera, in wall-clock time, and what drew."""
    from sim.softgym.env import SoftGymEnv

    env = SoftGymEnv(task)
    env.reset(seed=0, episode=0)
    camera = env.spec.cameras[0]
    env.render(camera, FRAME, FRAME)
    rates = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(60):
            env.render(camera, FRAME, FRAME)
        rates.append(60 / (time.perf_counter() - begun))
    renderer = "" if env.renderer is None else env.renderer.name
    env.close()
    return max(rates), renderer
