"""ManiSkill's adapter on a double of its modules; the real one is in tests/peers/test_maniskill.py.

What SAPIEN draws with Vulkan is not covered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import armchair
from episodes.errors import ConfigError, MachineError
from sim.conformance import EnvConformance
from sim.env import Env
from sim.make import horizon_of, make_env
from sim.maniskill.env import ManiSkillEnv
from sim.maniskill.install import PYTHON, TASKS, note, python

DOUBLE = str(Path(__file__).resolve().parent / "double")


def made(task: str = "PushPoint-v1", **options: Any) -> ManiSkillEnv:
    return ManiSkillEnv(task, interpreter=sys.executable, pythonpath=DOUBLE, **options)


def test_a_batch_of_one_becomes_an_environment_without_pictures_where_there_is_no_vulkan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DOUBLE_VULKAN", raising=False)
    env = made(horizon=30)
    spec = env.spec
    assert spec.observation_names["state"] == (
        "agent_qpos_0", "agent_qpos_1", "agent_qvel_0", "agent_qvel_1", "extra_is_near_0", "extra_goal_pos_0",
        "extra_goal_pos_1",
    )  # fmt: skip
    assert (spec.period_ns, spec.horizon, spec.cameras) == (50_000_000, 30, ())
    assert "no pictures without Vulkan (vk::createInstanceUnique" in spec.source
    step = env.reset(seed=0, episode=0)
    while not (step.terminated or step.truncated):
        state = step.observation["state"]
        ahead = 10.0 * (state[5:7] - state[:2]) - 10.0 * state[2:4]
        step = env.step([*np.clip(ahead, -1.0, 1.0), 0.0])
    assert step.terminated
    assert step.success
    assert not step.truncated
    assert step.observation["state"][4] == 1.0
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(3))
    env.reset(seed=0, episode=0)
    with pytest.raises(MachineError, match=r"draws by Vulkan.*ErrorIncompatibleDriver.*nvidia_icd.json"):
        env.render("render_camera", 8, 8)
    env.close()


def test_pictures_are_the_render_cameras_where_vulkan_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOUBLE_VULKAN", "1")
    env = made()
    env.reset(seed=0, episode=0)
    first = env.render("render_camera", 32, 48)
    assert first.shape == (32, 48, 3)
    assert first.std() > 1.0
    env.step(np.ones(3))
    assert not np.array_equal(env.render("render_camera", 32, 48), first)
    with pytest.raises(ConfigError, match="no camera 'top'"):
        env.render("top", 8, 8)
    env.close()


def test_what_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'PushPint-v1': did you mean PushPoint-v1"):
        made("PushPint-v1")
    with pytest.raises(MachineError, match=r"ManiSkill cannot be imported .*pip install mani_skill"):
        ManiSkillEnv("PickCube-v1", interpreter=sys.executable, pythonpath=str(tmp_path))
    for wrong in ({"horizon": 0}, {"split": "test"}):
        with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
            made(**wrong)


@pytest.mark.long
def test_assets_that_are_missing_and_actions_without_a_box_are_told() -> None:
    with pytest.raises(MachineError, match="download_asset PickYCB-v1 --yes"):
        made("PickYCB-v1")
    with pytest.raises(ConfigError, match="no bounds"):
        made(settings={"control_mode": "free"})
    with pytest.raises(ConfigError, match="armchair takes one box"):
        made(settings={"control_mode": "both arms"})


def test_sim_list_says_where_maniskill_is_or_what_to_export(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    assert armchair.main(["sim", "list"]) == 0
    assert f"not installed: export {PYTHON}=" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(MachineError, match="pip install mani_skill torch"):
        make_env("maniskill/PickCube-v1")
    monkeypatch.setenv(PYTHON, sys.executable)
    assert armchair.main(["sim", "list", "--only", "maniskill/*"]) == 0
    page = capsys.readouterr().out
    assert all(f"maniskill/{task}" in page for task in TASKS)
    assert python({PYTHON: "p"}) == "p"
    assert "/nowhere is no program" in note({PYTHON: "/nowhere"})
    assert horizon_of("maniskill/PlugCharger-v1") == 200
    with pytest.raises(ConfigError, match="--horizon"):
        horizon_of("maniskill/Own-v1")


@pytest.mark.long
class TestConformance(EnvConformance):
    """What every environment promises, over the double; each test starts processes of its own."""

    camera = "render_camera"
    steps = 4
    # SoftGym's double opens as many through the same bridge.
    test_opening_and_closing_200_times_leaks_no_memory_and_no_context = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True)
    def vulkan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOUBLE_VULKAN", "1")

    def make(self) -> Env:
        return made(horizon=12)
