"""Pictures of every soft task: where it begins, and what its expert (or chance) makes of it.

python -m sim.softgym.pictures FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from sim.softgym.env import SoftGymEnv
from sim.softgym.experts import EXPERTS, expert
from sim.softgym.registry import TASKS


@dataclass(frozen=True)
class PicturesConfig:
    """Draw the tasks, one PNG each: first camera at the beginning, in the middle and at the end, then the
    second camera."""

    folder: tyro.conf.Positional[Path]
    """Where the pictures go."""
    tasks: tuple[str, ...] = tuple(name for name in TASKS if not name.endswith(("-full", "PPP")))
    """Which tasks."""
    size: int = 320
    """Height and width of a picture."""
    episode: int = 0
    """Which initial state."""


def main(config: PicturesConfig) -> int:
    """Draw and write."""
    config.folder.mkdir(parents=True, exist_ok=True)
    for task in config.tasks:
        strip = draw(task, config.size, config.episode)
        path = config.folder / f"{task}.png"
        cv2.imwrite(str(path), strip[:, :, ::-1])
        print(path)
    return 0


def draw(task: str, size: int, episode: int) -> NDArray[np.uint8]:
    """(size, 4 size, 3) uint8 RGB strip of one episode; of one step, (size, 3 size, 3)."""
    env = SoftGymEnv(task, split="evaluation")
    act = expert(task) if task in EXPERTS else None
    rng = np.random.default_rng(0)
    cameras, horizon = env.spec.cameras, env.spec.horizon
    step = env.reset(seed=0, episode=episode)
    frames = [env.render(cameras[0], size, size)]
    for taken in range(1, horizon + 1):
        drawn = rng.uniform(-1.0, 1.0, len(env.spec.action_names))
        step = env.step(drawn if act is None else act(step.observation["state"]))
        if taken == horizon // 2:
            frames.append(env.render(cameras[0], size, size))
    frames += [env.render(cameras[0], size, size), env.render(cameras[min(1, len(cameras) - 1)], size, size)]
    env.close()
    return np.concatenate(frames, axis=1)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(PicturesConfig)))
