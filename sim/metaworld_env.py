"""MetaWorld's Sawyer tasks (all fifty of MT50, v3) as an `Env`.

Facts that decide the adapter (MetaWorld 3.1.1 on MuJoCo 3.3.0):

- one step is five physics steps of 2.5 ms: 80 Hz;
- `env.reset(seed=...)` does not choose the goal; `set_task` does. Goals come from
  `MT1(seed=k).train_tasks`, with k from `sim.goals`;
- these tasks show the goal: the last three of the 39 numbers are its position, in training and evaluation
  alike (the ML benchmarks would zero them);
- the first observation of MetaWorld is not clipped to its observation space and all later ones are; here
  all are;
- `corner2_cropped` is the part of `corner2` that RL-VLM-F shows its judge of drawer and sweep: rows and
  columns 100 to 399 of 480, its columns counted in the mirrored picture;
- the corner cameras are mounted upside down. They are rolled by 180° in the model, which, unlike flipping
  the rows of the picture, does not mirror it: seen from `corner2` the drawer is on the right.
"""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean
from sim.appearance import Appearance
from sim.crop import Crop
from sim.env import EnvSpec, Split, Step, checked_action
from sim.gl import Choice, RendererName, load_mujoco
from sim.goals import goal_seed
from sim.render import Quality, Renderer

PREFIX = "metaworld/"
_FRAME = (
    *("hand_x", "hand_y", "hand_z", "gripper_opening"),
    *(f"object{i}_{part}" for i in (1, 2) for part in ("x", "y", "z", "qx", "qy", "qz", "qw")),
)
STATE_NAMES = (*_FRAME, *(f"previous_{name}" for name in _FRAME), "goal_x", "goal_y", "goal_z")
JOINT_NAMES = (*(f"right_j{i}" for i in range(7)), "r_close", "l_close")
ACTION_NAMES = ("dx", "dy", "dz", "effort")
CROPS = {"corner2_cropped": Crop("corner2", 100 / 480, 400 / 480, 80 / 480, 380 / 480)}
_MAX_PATH_LENGTH = "max_path_length"


class MetaWorldEnv:
    """One task of MT50.

    Args:
        task: MetaWorld's name, for example drawer-open-v3.
        horizon: steps per episode.
        split: which goals, training or evaluation; the two share none.
        renderer: which library draws; nothing is loaded before the first `render`.
        quality: `fast`, or `default` for MuJoCo's own shadows and multi-sampling.

    Raises:
        ConfigError: unknown task, or a horizon below 1.
        MachineError: metaworld is not installed.
    """

    def __init__(
        self,
        task: str,
        *,
        horizon: int = 150,
        split: Split = "train",
        renderer: RendererName = "auto",
        quality: Quality = "fast",
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        self._mujoco = load_mujoco(renderer)
        goal_seed(split, 0, 0)
        self._split: Split = split
        self._wanted: RendererName = renderer
        self._quality: Quality = quality
        self._env = _new_env(task)
        setattr(self._env, _MAX_PATH_LENGTH, max(horizon + 1, self._env.max_path_length))
        _turn_cameras_upright(self._mujoco, self._env)
        from sim.metaworld_state import Pristine

        self._pristine = Pristine(self._env)
        model = self._env.model
        self._joint_addresses = np.array([int(model.joint(name).qposadr[0]) for name in JOINT_NAMES])
        self._spec = EnvSpec(
            name=PREFIX + task,
            period_ns=round(self._env.frame_skip * model.opt.timestep * 1e9),
            horizon=horizon,
            action_lower=np.full(4, -1.0),
            action_upper=np.full(4, 1.0),
            action_names=ACTION_NAMES,
            observation_names={"state": STATE_NAMES, "joints": JOINT_NAMES},
            cameras=(*(model.camera(i).name for i in range(model.ncam)), *CROPS),
            source=f"metaworld {version('metaworld')} on mujoco {self._mujoco.__version__}",
        )
        self._task = task
        self._goal: tuple[int, int] | None = None
        self._taken = 0
        self._state = np.zeros(len(STATE_NAMES))
        self._last: tuple[float, bool] = (0.0, False)
        self._renderer: Renderer | None = None
        self.appearance: Appearance | None = None
        """How pictures look other than modelled."""

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def goal(self) -> NDArray[np.float64]:
        """MetaWorld's random vector of the present episode: positions of object and, for some tasks,
        target."""
        self._need_episode()
        return np.array(self._env._last_rand_vec, dtype=np.float64)

    @property
    def renderer(self) -> Choice | None:
        """What draws and why, None before the first frame."""
        return None if self._renderer is None else self._renderer.choice

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Raises ConfigError when seed or episode is out of range."""
        self._begin(goal_seed(self._split, seed, episode))
        return self._step_result()

    def step(self, action: ArrayLike) -> Step:
        """Advance by 12.5 ms; see `Env.step`. Never terminates: success does not end a MetaWorld episode."""
        self._need_episode()
        if self._taken >= self._spec.horizon:
            raise RuntimeError(f"the episode ended after {self._taken} steps: reset before the next step")
        observation, reward, _, _, info = self._env.step(checked_action(action, self._spec))
        self._taken += 1
        self._state = np.asarray(observation, dtype=np.float64)
        self._last = (float(reward), bool(info["success"]))
        return self._step_result()

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state; see `Env.render`."""
        self._need_episode()
        if self._renderer is None:
            self._renderer = Renderer(self._env.model, self._wanted, self._quality, CROPS)
        self._renderer.appearance = self.appearance
        return self._renderer.render(self._env.data, camera, height, width)

    def save_state(self) -> NDArray[np.uint8]:
        """The whole state; see `Env.save_state`."""
        from sim import metaworld_state

        header = {
            "task": np.array(self._task),
            "goal": np.array(self._need_episode()),
            "taken": np.array(self._taken),
            "state": self._state,
            "last": np.array(self._last),
        }
        return metaworld_state.save(self._env, header)

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another task."""
        from sim import metaworld_state

        header = metaworld_state.read_header(state)
        if (task := str(header["task"])) != self._task:
            raise ConfigError(f"the saved state is one of {task}, this environment is {self._task}.")
        k, index = (int(v) for v in header["goal"])
        if (k, index) != self._goal:
            self._begin((k, index))
        metaworld_state.restore(self._env, state)
        self._taken = int(header["taken"])
        self._state = np.array(header["state"])
        self._last = (float(header["last"][0]), bool(header["last"][1]))
        return self._step_result()

    def close(self) -> None:
        """Free GL contexts; see `Env.close`."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._goal = None

    def _begin(self, goal: tuple[int, int]) -> None:
        k, index = goal
        self._pristine.wash(self._env)
        self._env.set_task(_tasks(self._task, k)[index])
        observation, _ = self._env.reset()
        space = self._env.sawyer_observation_space
        self._state = np.clip(observation, space.low, space.high)
        # MetaWorld leaves positions one physics step behind the joints here, and nowhere else.
        self._mujoco.mj_kinematics(self._env.model, self._env.data)
        self._goal, self._taken, self._last = goal, 0, (0.0, False)

    def _step_result(self) -> Step:
        joints = np.array(self._env.data.qpos[self._joint_addresses], dtype=np.float64)
        reward, success = self._last
        truncated = self._taken >= self._spec.horizon
        return Step({"state": self._state.copy(), "joints": joints}, reward, False, truncated, success)

    def _need_episode(self) -> tuple[int, int]:
        if self._goal is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._goal


def task_names() -> tuple[str, ...]:
    """Names of all tasks, as `make_env` takes them."""
    return tuple(PREFIX + name for name in _metaworld().ALL_V3_ENVIRONMENTS)


def _metaworld() -> Any:
    load_mujoco()
    try:
        import metaworld
    except ModuleNotFoundError as error:
        raise MachineError(f"{error.name} is not installed: install armchair's requirements.lock.") from error
    return metaworld


def _new_env(task: str) -> Any:
    known = _metaworld().ALL_V3_ENVIRONMENTS
    if task not in known:
        raise ConfigError(f"MetaWorld has no task {task!r}: {did_you_mean(task, known)}")
    return known[task]()


@functools.lru_cache(maxsize=64)
def _tasks(task: str, k: int) -> list[Any]:
    """The goals of task set `k`; drawing them takes half a second."""
    tasks: list[Any] = _metaworld().MT1(task, seed=k).train_tasks
    return tasks


def _turn_cameras_upright(mujoco: Any, env: Any) -> None:
    """Roll every camera of the world whose up axis points down by half a turn about its line of sight."""
    half_turn = np.array([0.0, 0.0, 0.0, 1.0])
    for camera in range(env.model.ncam):
        up_z = env.data.cam_xmat[camera].reshape(3, 3)[2, 1]
        if env.model.cam_bodyid[camera] == 0 and up_z < -0.01:
            rolled = np.empty(4)
            mujoco.mju_mulQuat(rolled, env.model.cam_quat[camera], half_turn)
            env.model.cam_quat[camera] = rolled
