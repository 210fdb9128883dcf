"""Legs `render` and `collect` of bench `sim`: frames of MetaWorld's Sawyer scene, and episodes on disk.

Drawing is compared with MuJoCo's default quality, and collection with drawing, in one run: other work on the
machine moves the figures, and their ratios little. Rates per second of processor time stand beside those of
the wall clock: software GL draws in the calling thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.collect import CollectConfig, collect
from sim.env import Env
from sim.metaworld_env import MetaWorldEnv

TASK, CAMERA, FRAME = "metaworld/drawer-open-v3", "corner2", 84
CONTRACTS = Path(__file__).resolve().parent.parent / "launch" / "contracts"
STATE, PICTURES = CONTRACTS / "sawyer_sim_state.yaml", CONTRACTS / "sawyer_sim.yaml"
STEPS = 150
RENDER_BOUNDS = {
    "sawyer_frames_per_s": {"at_least": 200.0},
    "sawyer_times_default_quality": {"at_least": 10.0},
    "sawyer_raycast_frames_per_s": {"at_least": 100.0},
}
COLLECT_BOUNDS = {
    "state_100_episodes_s": {"at_most": 4.0},
    "pictures_times_drawing_alone": {"at_most": 1.1},
}


def measure_render(turns: int = 5) -> tuple[dict[str, float], str]:
    """(figures, what drew): frames/s of 84x84, the best of `turns` turns for each way to draw, by the wall
    clock and by processor time."""
    fast, default = MetaWorldEnv(_task()), MetaWorldEnv(_task(), quality="default")
    rays = MetaWorldEnv(_task(), renderer="raycast")
    ways: tuple[tuple[str, Env, int], ...] = (("fast", fast, 40), ("default", default, 4), ("rays", rays, 20))
    best = dict.fromkeys(("fast", "default", "rays"), (0.0, 0.0))
    try:
        for _, env, _ in ways:
            env.reset(seed=0, episode=0)
            env.render(CAMERA, FRAME, FRAME)
        for _ in range(turns):
            for name, env, frames in ways:
                found = _frames_per_s(env, frames)
                best[name] = (max(best[name][0], found[0]), max(best[name][1], found[1]))
        drew = "" if fast.renderer is None else fast.renderer.name
    finally:
        for _, env, _ in ways:
            env.close()
    return {
        "sawyer_frames_per_s": best["fast"][0],
        "sawyer_frames_per_processor_s": best["fast"][1],
        "sawyer_default_quality_frames_per_s": best["default"][0],
        "sawyer_default_quality_frames_per_processor_s": best["default"][1],
        "sawyer_times_default_quality": best["fast"][0] / best["default"][0],
        "sawyer_raycast_frames_per_s": best["rays"][0],
        "sawyer_raycast_frames_per_processor_s": best["rays"][1],
    }, drew


def measure_collect(episodes: int, pictured: int, workers: int) -> dict[str, float]:
    """Seconds for `episodes` episodes without pictures by `workers` processes, from the call to the last
    file; and the processor time of an episode with 84x84 pictures over that of the drawing in it.

    The latter is taken in this process, of `pictured` episodes but the first, which loads and compiles.
    """
    with tempfile.TemporaryDirectory(prefix="armchair-bench-") as folder:
        path = Path(folder)
        config = CollectConfig(path / "state", STATE, episodes=episodes, horizon=STEPS, workers=workers)
        plain_s = collect(config).seconds
        busy_s: list[tuple[float, float]] = []
        with _drawing_timed() as drawn:
            collect(
                CollectConfig(path / "pictures", PICTURES, episodes=pictured, horizon=STEPS, workers=1),
                lambda done, total: busy_s.append((time.process_time(), sum(drawn))),
            )
    (begun_s, drawn_before_s), (ended_s, drawn_s) = busy_s[1], busy_s[-1]
    count = pictured - 1
    episode_s, alone_s = (ended_s - begun_s) / count, (drawn_s - drawn_before_s) / count
    return {
        f"state_{episodes}_episodes_s": plain_s,
        "pictures_episode_processor_s": episode_s,
        "pictures_drawing_processor_s": alone_s,
        "pictures_times_drawing_alone": episode_s / alone_s,
    }


@contextmanager
def _drawing_timed() -> Iterator[list[float]]:
    """The processor time of every picture that MetaWorld's environments draw in this process meanwhile, s."""
    spent: list[float] = []
    plain = MetaWorldEnv.render

    def timed(env: MetaWorldEnv, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        begun_s = time.process_time()
        try:
            return plain(env, camera, height, width)
        finally:
            spent.append(time.process_time() - begun_s)

    MetaWorldEnv.render = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        MetaWorldEnv.render = plain  # type: ignore[method-assign]


def _frames_per_s(env: Env, frames: int) -> tuple[float, float]:
    """Of the camera alone, wall clock and processor time; the scene moves between the frames."""
    spent_s = busy_s = 0.0
    env.reset(seed=0, episode=0)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (frames, 4)):
        env.step(action)
        begun_s = time.process_time()
        spent_s += _timed(env)
        busy_s += time.process_time() - begun_s
    return frames / spent_s, frames / busy_s


def _timed(env: Env) -> float:
    begun = time.perf_counter()
    env.render(CAMERA, FRAME, FRAME)
    return time.perf_counter() - begun


def _task() -> str:
    return TASK.partition("/")[2]
