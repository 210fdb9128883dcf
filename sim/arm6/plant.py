"""The physics of the arm: setpoints in, joint positions, speeds and efforts out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.arm6.model import ACTION_NAMES, CUBE_HALF_M, HOME, JOINTS, arm6_xml
from sim.gl import RendererName, load_mujoco

Vector = NDArray[np.float64]


class Plant:
    """One scene. The order of all seven-vectors is `ACTION_NAMES`: six joints (rad), then the opening (m).

    Raises:
        ConfigError: no such task.
        MachineError: mujoco is not installed.
    """

    def __init__(self, task: str, renderer: RendererName = "auto") -> None:
        self._mujoco = mujoco = load_mujoco(renderer)
        self.version = str(mujoco.__version__)
        self.model = mujoco.MjModel.from_xml_string(arm6_xml(task))
        self.data = mujoco.MjData(self.model)
        self._joints = np.array([int(self.model.joint(j.name).qposadr[0]) for j in JOINTS])
        self._fingers = np.array(
            [int(self.model.joint(f"finger_{side}").qposadr[0]) for side in ("left", "right")]
        )
        # A cube has 7 positions and 6 velocities, so the two kinds of addresses differ.
        self._dofs = np.array([int(self.model.joint(j.name).dofadr[0]) for j in JOINTS])
        self._finger_dofs = np.array(
            [int(self.model.joint(f"finger_{side}").dofadr[0]) for side in ("left", "right")]
        )
        self.task = task
        self.has_cube = task in ("pick-place", "push")
        """Whether there is something that lies free on the table: the cube, or the puck."""
        self.has_drawer = task == "drawer"
        self._drawer_at, self._drawer_dof, self._handle = 0, 0, 0
        if self.has_drawer:
            self._drawer_at = int(self.model.joint("drawer").qposadr[0])
            self._drawer_dof = int(self.model.joint("drawer").dofadr[0])
            self._handle = int(self.model.site("handle").id)
        self._cube_at, self._cube_dof = 0, 0
        if self.has_cube:
            self._cube_at = int(self.model.joint("cube").qposadr[0])
            self._cube_dof = int(self.model.joint("cube").dofadr[0])
        self._tool = int(self.model.site("tool").id)
        self._state_size = int(mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION))

    def reset(self, goal_m: Vector, cube_m: Vector, cube_yaw_rad: float) -> None:
        """At rest in the home pose, gripper open; goal (3,) and cube (3,) are put where they are said to
        be. The cube is the puck in push; in drawer it is the cabinet's place on the table, and its yaw where
        the closed drawer opens to."""
        data = self.data
        self._mujoco.mj_resetData(self.model, data)
        data.qpos[self._joints] = HOME[:6]
        data.qpos[self._fingers] = HOME[6] / 2
        data.mocap_pos[0] = goal_m - (0.0, 0.0, CUBE_HALF_M) if self.has_cube else goal_m
        half = cube_yaw_rad / 2
        if self.has_drawer:
            data.mocap_pos[1] = cube_m
            data.mocap_quat[1] = (np.cos(half), 0.0, 0.0, np.sin(half))
        if self.has_cube:
            at = self._cube_at
            data.qpos[at : at + 3] = cube_m
            data.qpos[at + 3 : at + 7] = (np.cos(half), 0.0, 0.0, np.sin(half))
        data.ctrl[:] = HOME
        self._mujoco.mj_forward(self.model, data)
        data.qacc_warmstart[:] = 0.0

    def step(self, setpoint: Vector) -> None:
        """One physics step with the servos' setpoints (7,)."""
        self.data.ctrl[:] = setpoint
        self._mujoco.mj_step(self.model, self.data)

    def settle(self) -> None:
        """Compute what is drawn and measured from the positions; a physics step leaves it one step behind."""
        settle(self._mujoco, self.model, self.data)

    @property
    def positions(self) -> Vector:
        """(7,) Joint positions and opening."""
        qpos = self.data.qpos
        return np.append(qpos[self._joints], qpos[self._fingers].sum())

    @property
    def velocities(self) -> Vector:
        """(7,) Speeds of the joints and of the opening."""
        qvel = self.data.qvel
        return np.append(qvel[self._dofs], qvel[self._finger_dofs].sum())

    @property
    def efforts(self) -> Vector:
        """(7,) Torques (Nm) and grip force (N) of the servos in the last physics step, less the weight that
        is fed forward."""
        return np.array(self.data.actuator_force[: len(ACTION_NAMES)])

    @property
    def tool_m(self) -> Vector:
        """(3,) The point between the fingertips; `settle` first."""
        return np.array(self.data.site_xpos[self._tool])

    @property
    def tool_quaternion(self) -> Vector:
        """(4,) Orientation of the tool as x, y, z, w with w >= 0; `settle` first."""
        quaternion = np.empty(4)
        self._mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._tool])
        return _xyzw(quaternion)

    @property
    def cube(self) -> tuple[Vector, Vector, float]:
        """Centre (3,), orientation (4,) as x, y, z, w, and speed in m/s."""
        at = self._cube_at
        qpos, qvel = self.data.qpos, self.data.qvel
        speed = float(np.linalg.norm(qvel[self._cube_dof : self._cube_dof + 3]))
        return np.array(qpos[at : at + 3]), _xyzw(qpos[at + 3 : at + 7]), speed

    @property
    def drawer(self) -> tuple[Vector, Vector, float]:
        """Middle of the handle (3,), orientation (4,) as x, y, z, w, and speed in m/s; `settle` first."""
        quaternion = np.empty(4)
        self._mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._handle])
        speed = abs(float(self.data.qvel[self._drawer_dof]))
        return np.array(self.data.site_xpos[self._handle]), _xyzw(quaternion), speed

    @property
    def state(self) -> Vector:
        """Everything that the physics' future depends on."""
        state = np.empty(self._state_size)
        self._mujoco.mj_getState(self.model, self.data, state, self._mujoco.mjtState.mjSTATE_INTEGRATION)
        return state

    @state.setter
    def state(self, state: Vector) -> None:
        # mj_forward fills what is measured and drawn, but moves the solver's warm start, which the next step
        # reads: so the state goes in twice.
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        self._mujoco.mj_setState(self.model, self.data, state, kind)
        self._mujoco.mj_forward(self.model, self.data)
        self._mujoco.mj_setState(self.model, self.data, state, kind)

    @property
    def state_size(self) -> int:
        """Length of `state`."""
        return self._state_size


def settle(mujoco: Any, model: Any, data: Any) -> None:
    """Compute what is drawn and measured from the positions in `data`."""
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)
    mujoco.mj_tendon(model, data)


def _xyzw(wxyz: Vector) -> Vector:
    quaternion = np.array([wxyz[1], wxyz[2], wxyz[3], wxyz[0]])
    return -quaternion if quaternion[3] < 0.0 else quaternion
