"""A robot of MuJoCo Menagerie as an `Env`: its joints are brought into a pose that the goal says.

The task needs nothing that the model does not have, so every robot has it: a pose near the model's home, the
reward minus the distance to it, success when every joint is there. A model without position servos has no
pose to reach: reward 0, and no success.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError, MachineError
from sim.appearance import Appearance
from sim.env import ActionChannel, EnvSpec, Split, Step, checked_action
from sim.gl import Choice, RendererName, load_mujoco
from sim.gym.camera import pose
from sim.gym.tasks import View
from sim.menagerie.models import PREFIX, Drive, drives_of, scene_file
from sim.render import Quality, Renderer
from sim.states import packed, unpacked

WHOLE = "whole"
"""The camera that sees all of the robot at its home."""
PERIOD_S = 0.05
REACH, FARTHEST = 0.25, 0.8
"""How far a goal is from home at most: a share of each joint's range, and rad or m."""
TOLERANCE_RAD, TOLERANCE_M = 0.1, 0.01
_SALT = 11
_FOV_DEG, _ROOM = 45.0, 1.2
Vector = NDArray[np.float64]


class MenagerieEnv:
    """One model of the user's Menagerie.

    The action is a number for every actuator, in its own unit: of a joint's position servo the position (rad
    or m), under the joint's name. `state` holds the joints (position, then velocity) and the goal as an
    action; `joints` the positions of those that have a position servo.

    Args:
        model: MODEL or MODEL/SCENE, as folder and file are called.
        horizon: steps per episode.
        split: which goals; the two share none.
        renderer: which library draws; nothing is loaded before the first `render`.
        quality: `fast`, or `default` for shadows and multi-sampling.

    Raises:
        ConfigError: no such model, one that cannot act, an unknown split, or a horizon below 1.
        MachineError: there is no Menagerie here.
    """

    def __init__(
        self,
        model: str,
        *,
        horizon: int = 150,
        split: Split = "train",
        renderer: RendererName = "auto",
        quality: Quality = "fast",
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        if split not in ("train", "evaluation"):
            raise ConfigError(f"split {split!r} is unknown: write 'train' or 'evaluation'.")
        self._mujoco = mujoco = load_mujoco(renderer)
        self._wanted: RendererName = renderer
        self._quality: Quality = quality
        self._split: Split = split
        name = PREFIX + model
        self._model = _compiled(mujoco, model, name)
        self._data = mujoco.MjData(self._model)
        self._drives = drives_of(mujoco, self._model, name)
        self._substeps = max(1, round(PERIOD_S / self._model.opt.timestep))
        self._singles = [j for j in range(self._model.njnt) if self._model.jnt_type[j] >= 2]
        self._rest = self._home()
        position, quaternion = pose(_whole(mujoco, self._model, self._data))
        self._model.cam_pos[self._model.camera(WHOLE).id] = position
        self._model.cam_quat[self._model.camera(WHOLE).id] = quaternion
        servos = [d for d in self._drives if d.kind == "joint_position"]
        self._servos = np.array([d.position for d in servos], dtype=np.int64)
        self._ranges = np.array([d.upper - d.lower for d in servos])
        self._is_servo = np.array([d.kind == "joint_position" for d in self._drives])
        names = tuple(d.name for d in self._drives)
        observed = {"state": (*_state_names(self._model), *(f"{entry}_goal" for entry in names))}
        if servos:
            observed["joints"] = tuple(d.name for d in servos)
        self._tolerance = np.array([_tolerance(mujoco, self._model, d) for d in servos])
        cameras = (self._model.camera(i).name for i in range(self._model.ncam))
        self._spec = EnvSpec(
            name=name,
            period_ns=round(self._substeps * self._model.opt.timestep * 1e9),
            horizon=horizon,
            action_lower=np.array([d.lower for d in self._drives]),
            action_upper=np.array([d.upper for d in self._drives]),
            action_names=names,
            observation_names=observed,
            cameras=(WHOLE, *(camera for camera in cameras if camera and camera != WHOLE)),
            source=f"MuJoCo Menagerie's {model} on mujoco {mujoco.__version__}",
            channels=_channels(self._drives),
            rest_action=self._rest,
        )
        self._taken: int | None = None
        self._goal = self._rest
        self._renderer: Renderer | None = None
        self.appearance: Appearance | None = None
        """How pictures look other than modelled."""

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def renderer(self) -> Choice | None:
        """What draws and why, None before the first frame."""
        return None if self._renderer is None else self._renderer.choice

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Raises ConfigError when seed or episode is negative."""
        if seed < 0 or episode < 0:
            raise ConfigError(f"seed {seed} and episode {episode}: both are 0 or more.")
        rng = np.random.default_rng([_SALT, self._split == "evaluation", seed, episode])
        self._goal = self._draw(rng)
        self._home()
        if not len(self._servos):  # nothing else tells two episodes apart
            for joint in self._singles:
                self._data.qpos[self._model.jnt_qposadr[joint]] += rng.uniform(-0.01, 0.01)
        self._taken = 0
        self._settle()
        step = self._look()
        return Step(step.observation, 0.0, False, False, step.success)

    def step(self, action: ArrayLike) -> Step:
        """Advance by one period; see `Env.step`. Never terminates: success does not end an episode. Raises
        MachineError where the physics diverges."""
        taken = self._begun()
        if taken >= self._spec.horizon:
            raise RuntimeError(f"the episode ended after {taken} steps: reset before the next step")
        self._data.ctrl[:] = checked_action(action, self._spec)
        self._mujoco.mj_step(self._model, self._data, nstep=self._substeps)
        self._check_stable()
        self._taken = taken + 1
        self._settle()
        return self._look()

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state; see `Env.render`."""
        self._begun()
        if self._renderer is None:
            self._renderer = Renderer(self._model, self._wanted, self._quality)
        self._renderer.appearance = self.appearance
        return self._renderer.render(self._data, camera, height, width)

    def save_state(self) -> NDArray[np.uint8]:
        """The whole state; see `Env.save_state`."""
        return packed({
            "name": np.array(self._spec.name),
            "taken": np.array(self._begun()),
            "goal": self._goal,
            "physics": self._physics(),
        })  # fmt: skip

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another model."""
        mujoco = self._mujoco
        try:
            entries = unpacked(state)
            name, taken = str(entries["name"]), int(entries["taken"])
            goal, physics = entries["goal"], entries["physics"]
        except (ValueError, KeyError) as error:
            raise ConfigError(f"these bytes are no saved state of {self._spec.name} ({error}).") from error
        if (
            name != self._spec.name
            or physics.shape != (self._physics_size,)
            or goal.shape != self._goal.shape
        ):
            raise ConfigError(f"the saved state is one of {name}, this environment is {self._spec.name}.")
        mujoco.mj_setState(self._model, self._data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._taken, self._goal = taken, goal
        self._settle()
        return self._look()

    def close(self) -> None:
        """Free GL contexts; see `Env.close`."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._taken = None

    def _home(self) -> Vector:
        """Put the model where it begins, its keyframe `home`, else the first, else all joints at zero; the
        action that keeps it there."""
        mujoco, model, data = self._mujoco, self._model, self._data
        keys = [model.key(i).name for i in range(model.nkey)]
        if keys:
            mujoco.mj_resetDataKeyframe(model, data, keys.index("home") if "home" in keys else 0)
        else:
            mujoco.mj_resetData(model, data)
        action = data.ctrl.copy()
        for index, drive in enumerate(self._drives):
            if not keys and drive.kind == "joint_position":
                action[index] = data.qpos[drive.position]
            action[index] = min(max(action[index], drive.lower), drive.upper)
        data.ctrl[:] = action
        rest: Vector = action
        return rest

    def _draw(self, rng: np.random.Generator) -> Vector:
        lower, upper = self._spec.action_lower, self._spec.action_upper
        reach = np.minimum(REACH * (upper - lower), FARTHEST)
        moved = self._rest + reach * rng.uniform(-1.0, 1.0, len(lower))
        goal: Vector = np.where(self._is_servo, np.clip(moved, lower, upper), self._rest)
        return goal

    def _look(self) -> Step:
        positions = self._data.qpos[self._servos]
        observation = {"state": np.concatenate([self._data.qpos, self._data.qvel, self._goal])}
        if len(positions):
            observation["joints"] = positions.copy()
        off = np.abs(positions - self._goal[self._is_servo])
        reward = -float(np.mean(off / self._ranges)) if len(off) else 0.0
        success = bool(len(off) and (off <= self._tolerance).all())
        return Step(observation, reward, False, self._begun() >= self._spec.horizon, success)

    def _settle(self) -> None:
        """Where everything is follows from qpos, for pictures; nothing that the future depends on."""
        mujoco = self._mujoco
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_tendon):
            compute(self._model, self._data)

    @functools.cached_property
    def _physics_size(self) -> int:
        return int(self._mujoco.mj_stateSize(self._model, self._mujoco.mjtState.mjSTATE_INTEGRATION))

    def _check_stable(self) -> None:
        """MuJoCo puts a diverged state back to its beginning, which must not pass for the next step."""
        warnings, kinds = self._data.warning, self._mujoco.mjtWarning
        for kind in (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC):
            if warnings[kind].number:
                self._taken = None
                raise MachineError(
                    f"{self._spec.name}: the physics diverged at {self._data.time:g} s: this model does not "
                    f"bear such actions with its time step of {self._model.opt.timestep:g} s. Give it a "
                    "shorter one, or an implicit integrator."
                )

    def _physics(self) -> Vector:
        state = np.empty(self._physics_size)
        self._mujoco.mj_getState(self._model, self._data, state, self._mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    def _begun(self) -> int:
        if self._taken is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._taken


def goal_expert(environment: str) -> Any:
    """Acts by asking for the goal at once: a function of the observation `state` to an action."""
    count = _actuators(environment.removeprefix(PREFIX))
    return lambda state: state[-count:]


@functools.cache
def _actuators(model: str) -> int:
    return len(load_mujoco().MjSpec.from_file(str(scene_file(model))).actuators)


def _compiled(mujoco: Any, model: str, name: str) -> Any:
    """The scene with one camera more."""
    path = scene_file(model)
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.worldbody.add_camera(name=WHOLE, fovy=_FOV_DEG)
        return spec.compile()
    except ValueError as error:
        raise ConfigError(f"{name}: mujoco {mujoco.__version__} does not read {path} ({error}).") from error


def _whole(mujoco: Any, model: Any, data: Any) -> View:
    """From the side that the model's own free camera looks from, as far away as the robot in `data` needs."""
    mujoco.mj_kinematics(model, data)
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1)
    boxes = [
        data.geom_xpos[i][:, None]
        + data.geom_xmat[i].reshape(3, 3)
        @ (model.geom_aabb[i, :3, None] + model.geom_aabb[i, 3:, None] * corners)
        for i in range(model.ngeom)
        if model.geom_bodyid[i] > 0 and model.geom_type[i] != mujoco.mjtGeom.mjGEOM_PLANE
    ]
    points = np.concatenate(boxes, axis=1) if boxes else np.asarray(model.stat.center)[:, None]
    low, high = points.min(axis=1), points.max(axis=1)
    radius = 0.5 * float(np.linalg.norm(high - low)) or float(model.stat.extent)
    lookat = ((low + high) / 2.0).tolist()
    distance = _ROOM * radius / math.sin(math.radians(_FOV_DEG / 2.0))
    free = model.vis.global_
    return View((lookat[0], lookat[1], lookat[2]), distance, float(free.azimuth), float(free.elevation))


def _state_names(model: Any) -> tuple[str, ...]:
    """Names for qpos, then qvel."""
    positions: list[str] = []
    speeds: list[str] = []
    place, turn = ("x", "y", "z"), ("qw", "qx", "qy", "qz")
    for index in range(model.njnt):
        name = model.joint(index).name or f"joint_{index}"
        kind = int(model.jnt_type[index])  # free, ball, slide, hinge
        tail = ((*place, *turn), turn, ("",), ("",))[kind]
        rates = (("vx", "vy", "vz", "wx", "wy", "wz"), ("wx", "wy", "wz"), ("velocity",), ("velocity",))[kind]
        positions += [f"{name}_{part}" if part else name for part in tail]
        speeds += [f"{name}_{part}" for part in rates]
    return (*positions, *speeds)


def _tolerance(mujoco: Any, model: Any, drive: Drive) -> float:
    joint = int(np.flatnonzero(model.jnt_qposadr == drive.position)[0])
    return TOLERANCE_RAD if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE else TOLERANCE_M


def _channels(drives: tuple[Drive, ...]) -> tuple[ActionChannel, ...]:
    """How a contract names them: servos of joints, others that are held, and what stops at zero."""
    groups = (
        ("arm", "joint_position", [d for d in drives if d.kind == "joint_position"]),
        ("gripper", "gripper", [d for d in drives if d.kind == "gripper"]),
        ("motors", "cartesian_delta", [d for d in drives if d.kind == "torque"]),
    )
    return tuple(
        ActionChannel(
            name,
            kind,
            tuple(d.name for d in found),
            tuple(d.max_speed for d in found) if kind == "joint_position" else None,
            "joints" if kind == "joint_position" else None,
        )
        for name, kind, found in groups
        if found
    )
