"""ManiSkill 3 itself, in an environment of its own: PhysX on the CPU, state observations.

It runs without Vulkan as well, which it does not by itself; what it draws with Vulkan is not covered.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.peers.environment import MANISKILL, peer_python
from sim.conformance import EnvConformance
from sim.env import Env
from sim.maniskill.env import ManiSkillEnv
from sim.maniskill.install import TASKS

pytestmark = [pytest.mark.peers, pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def python() -> str:
    return str(peer_python(ROOT / "runs" / "peers" / "maniskill", MANISKILL).absolute())


class TestPickCube(EnvConformance):
    """The interpreter is made once."""

    steps = 6

    @pytest.fixture(autouse=True)
    def interpreter(self, python: str) -> None:
        self.python = python

    def make(self) -> Env:
        return ManiSkillEnv("PickCube-v1", horizon=12, interpreter=self.python)

    # Each is a process that takes seconds to start; SoftGym's double opens 200 through the same bridge.
    test_opening_and_closing_200_times_leaks_no_memory_and_no_context = None  # type: ignore[assignment]


@pytest.mark.parametrize("task", TASKS)
def test_every_listed_task_runs_with_the_horizon_of_the_list(task: str, python: str) -> None:
    env = ManiSkillEnv(task, interpreter=python)
    try:
        assert env.spec.horizon == TASKS[task][1]
        step = env.reset(seed=0, episode=0)
        for _ in range(3):
            step = env.step(0.5 * env.spec.action_upper)
        assert np.isfinite(step.observation["state"]).all()
        assert np.isfinite(step.reward)
    finally:
        env.close()
