"""Which Gymnasium environment a name means, and what armchair adds to it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium

from episodes.errors import ConfigError, MachineError, did_you_mean
from sim.gl import load_mujoco

PREFIXES = ("gymnasium/", "vlmrm/", "rl-vlm-f/")
_ROBOTICS = (
    "Fetch",
    "Hand",
    "Adroit",
    "FrankaKitchen",
    "PointMaze",
    "AntMaze",
    "MaMuJoCo",
)
"""What the ids of gymnasium-robotics begin with."""
_INSTALL = {
    "gymnasium-robotics": "pip install gymnasium-robotics==1.4.2, which runs on MuJoCo 3.3.0",
    "Box2D": 'pip install "gymnasium[box2d]"',
    "ale_py": 'pip install "gymnasium[atari]"',
}
_LONGEST = 1_000
"""Steps of an environment that declares no limit."""


@dataclass(frozen=True)
class View:
    """A camera as vlmrm and MuJoCo's viewers describe one."""

    lookat_m: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    elevation_deg: float


@dataclass(frozen=True)
class Made:
    """An environment that was made for a name."""

    env: gymnasium.Env[Any, Any]
    """Without a limit of time of its own."""
    horizon: int
    """Steps of an episode, where none are asked for."""
    source: str
    view: View | None = None
    """A camera called `default`, of MuJoCo's environments; None for their own."""


VLMRM_VIEW = View((0.0, 0.0, 1.0), 3.5, 180.0, -10.0)
"""The camera of vlmrm's published Humanoid task."""


def make_gym(name: str) -> Made:
    """Make the environment that `name` means: gymnasium/ID, vlmrm/TASK or rl-vlm-f/CartPole.

    Raises:
        ConfigError: no such environment.
        MachineError: what it needs is not installed; the message has the line that installs it.
    """
    load_mujoco()
    family, _, task = name.partition("/")
    if family == "gymnasium":
        return _by_id(task)
    if name not in _PAPERS:
        raise ConfigError(f"there is no environment {name!r}: {did_you_mean(name, _PAPERS)}")
    make, horizon, view, whose = _PAPERS[name]
    return Made(make(), horizon, f"{whose} on gymnasium {gymnasium.__version__}", view)


def horizon_of(name: str) -> int:
    """Steps of an episode of an environment. Raises as `make_gym`, but for what is not installed."""
    if name in _PAPERS:
        return _PAPERS[name][1]
    return _spec(name.partition("/")[2]).max_episode_steps or _LONGEST


def _cart_pole() -> gymnasium.Env[Any, Any]:
    from sim.gym.classic import ContinuousCartPole

    return ContinuousCartPole()


def _fixed_cart_pole() -> gymnasium.Env[Any, Any]:
    from sim.gym.classic import FixedCartPole

    return FixedCartPole()


def _fixed_mountain_car() -> gymnasium.Env[Any, Any]:
    from sim.gym.classic import FixedMountainCar

    return FixedMountainCar()


def _humanoid() -> gymnasium.Env[Any, Any]:
    from sim.gym.classic import humanoid

    return humanoid()


_PAPERS: dict[str, tuple[Callable[[], gymnasium.Env[Any, Any]], int, View | None, str]] = {
    "rl-vlm-f/CartPole": (_cart_pole, 100, None, "armchair after RL-VLM-F"),
    "vlmrm/CartPole": (_fixed_cart_pole, 200, None, "armchair after vlmrm"),
    "vlmrm/MountainCarContinuous": (_fixed_mountain_car, 200, None, "armchair after vlmrm"),
    "vlmrm/Humanoid": (_humanoid, 100, VLMRM_VIEW, "armchair after vlmrm"),
}


def _by_id(task: str) -> Made:
    spec = _spec(task)
    try:
        env = gymnasium.make(task, max_episode_steps=-1, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        wanted = next((line for package, line in _INSTALL.items() if package in str(error)), "")
        raise MachineError(f"gymnasium/{task}: {error}{'. ' + wanted if wanted else ''}") from error
    maker = str(spec.entry_point).partition(".")[0].replace("_", "-")
    try:
        source = f"{maker} {version(maker)}"
    except PackageNotFoundError:
        source = maker
    return Made(env, spec.max_episode_steps or _LONGEST, source)


def _spec(task: str) -> Any:
    """What gymnasium's registry says of an id."""
    if task.startswith(_ROBOTICS):
        if importlib.util.find_spec("gymnasium_robotics") is None:
            raise MachineError(
                f"gymnasium/{task} needs the package gymnasium-robotics, which is not installed: "
                f"{_INSTALL['gymnasium-robotics']}."
            )
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
    try:
        return gymnasium.spec(task)
    except gymnasium.error.Error as error:
        raise ConfigError(
            f"gymnasium knows no environment {task!r}: {did_you_mean(task, gymnasium.registry)}"
        ) from error
