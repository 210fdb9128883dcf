"""Environments by name."""

from __future__ import annotations

from episodes.errors import ConfigError
from sim.env import Env, Split
from sim.gl import RendererName
from sim.randomise import Randomisation, RandomisedEnv
from sim.render import Quality

HORIZON = 150
"""Steps per episode of environments that have no horizon of their own."""


def make_env(
    name: str,
    *,
    horizon: int | None = None,
    split: Split = "train",
    renderer: RendererName = "auto",
    quality: Quality = "fast",
    randomise: Randomisation | None = None,
) -> Env:
    """Make an environment; the heavy imports happen here.

    Args:
        name: family/task, for example metaworld/drawer-open-v3, arm6/pick-place,
            softgym-equivalent/RopeFlatten, gymnasium/Humanoid-v5 or, through an installation of the user's,
            softgym/RopeFlatten or maniskill/PickCube-v1; `sim.catalogue` lists them.
        horizon: steps per episode; None for the environment's own, of MetaWorld, arm6 and Menagerie 150.
        split: training or evaluation goals; the two share none.
        renderer: which library draws; SoftGym and ManiSkill draw themselves.
        quality: `fast`, or `default` for MuJoCo's own shadows and multi-sampling.
        randomise: what differs from episode to episode; None for nothing.

    Raises:
        ConfigError: no such environment, or one whose looks cannot be randomised.
        MachineError: the simulator, or a GL library that was asked for, is missing.
    """
    env = _plain(name, horizon, split, renderer, quality)
    return RandomisedEnv(env, randomise) if randomise is not None and randomise.as_dict() else env


def _plain(name: str, horizon: int | None, split: Split, renderer: RendererName, quality: Quality) -> Env:
    family, _, task = name.partition("/")
    if family == "softgym-equivalent" and task:
        from sim.softgym.env import SoftGymEnv

        return SoftGymEnv(task, horizon=horizon, split=split, renderer=renderer, quality=quality)
    if family == "softgym" and task:
        from sim.softgym_real.env import RealSoftGymEnv

        return RealSoftGymEnv(task, horizon=horizon, split=split)
    if family == "maniskill" and task:
        from sim.maniskill.env import ManiSkillEnv

        return ManiSkillEnv(task, horizon=horizon, split=split)
    if family in ("gymnasium", "vlmrm", "rl-vlm-f") and task:
        from sim.gym.env import GymEnv

        return GymEnv(name, horizon=horizon, split=split, renderer=renderer, quality=quality)
    horizon = HORIZON if horizon is None else horizon
    if family == "metaworld" and task:
        from sim.metaworld_env import MetaWorldEnv

        return MetaWorldEnv(task, horizon=horizon, split=split, renderer=renderer, quality=quality)
    if family == "menagerie" and task:
        from sim.menagerie.env import MenagerieEnv

        return MenagerieEnv(task, horizon=horizon, split=split, renderer=renderer, quality=quality)
    if family == "arm6" and task:
        from sim.arm6.env import Arm6Env

        return Arm6Env(task, horizon=horizon, split=split, renderer=renderer, quality=quality)
    raise ConfigError(
        f"environment {name!r} is unknown: write metaworld/TASK, for example metaworld/drawer-open-v3, or "
        "arm6/pick-place, or softgym-equivalent/TASK, for example "
        "softgym-equivalent/RopeFlatten, or gymnasium/ID, or menagerie/MODEL, or softgym/TASK or "
        "maniskill/ID where those are installed. All of them: armchair sim list."
    )


def horizon_of(name: str) -> int:
    """Steps per episode that `make_env` takes for `horizon=None`, without making the environment.

    Raises:
        ConfigError: no such environment.
    """
    family, _, task = name.partition("/")
    if family == "softgym-equivalent":
        from sim.softgym.registry import make_task

        return make_task(task).task.horizon
    if family == "softgym":
        from sim.softgym_real.install import horizon_of as softgym_horizon_of

        return softgym_horizon_of(task)
    if family == "maniskill":
        from sim.maniskill.install import horizon_of as maniskill_horizon_of

        return maniskill_horizon_of(task)
    if family in ("gymnasium", "vlmrm", "rl-vlm-f"):
        from sim.gym.tasks import horizon_of as gym_horizon_of

        return gym_horizon_of(name)
    return HORIZON
