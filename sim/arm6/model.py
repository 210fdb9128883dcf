"""The arm as MJCF: primitive shapes and numbers, no foreign assets.

Six revolute joints in the order yaw, pitch, pitch, roll, pitch, roll (a spherical wrist), 0.81 m from the
shoulder to the point between the fingertips, 8.4 kg. All links hang under gravity; the joint servos feed
forward the weight of the arm, as the firmware of a real one does, but not that of what it holds. The base
stands on a table whose top is z = 0; x points away from the base, over the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, did_you_mean
from sim.arm6.furniture import DRAWER_SCENE, PUSH_SCENE

TASKS = ("reach", "pick-place", "push", "drawer")
TIMESTEP_NS = 2_000_000
"""Step of the physics."""
CAMERAS = ("front", "side", "wrist")
CUBE_HALF_M = 0.02
PAD_HALF_M = 0.045
TARGET_RADIUS_M = 0.02


@dataclass(frozen=True)
class JointSpec:
    """One joint with its servo. The contract's limits lie inside these."""

    name: str
    lower: float
    """Smallest command, rad; the mechanical stop lies `STOP_RAD` beyond."""
    upper: float
    """Largest command, rad."""
    velocity: float
    """Largest speed of the servo, rad/s."""
    acceleration: float
    """Largest acceleration of the servo's setpoint, rad/s²."""
    deceleration: float
    """Deceleration with which the driver stops by itself, rad/s²."""
    torque: float
    """Largest torque, Nm."""
    armature: float
    """Inertia of rotor and gears at the joint, kg m²."""
    stiffness: float
    """Gain of the position servo, Nm/rad."""
    damping: float
    """Gain of the servo on the joint's speed, Nms/rad."""


JOINTS = (
    JointSpec("joint1", -2.85, 2.85, 2.0, 25.0, 8.0, 80.0, 0.40, 3000.0, 130.0),
    JointSpec("joint2", -1.75, 1.75, 2.0, 25.0, 8.0, 100.0, 0.40, 3600.0, 150.0),
    JointSpec("joint3", -0.35, 2.55, 2.0, 25.0, 8.0, 60.0, 0.40, 2600.0, 110.0),
    JointSpec("joint4", -2.85, 2.85, 3.2, 40.0, 12.0, 20.0, 0.06, 240.0, 9.0),
    JointSpec("joint5", -2.05, 2.05, 3.2, 40.0, 12.0, 20.0, 0.06, 240.0, 9.0),
    JointSpec("joint6", -2.95, 2.95, 3.2, 40.0, 12.0, 12.0, 0.03, 90.0, 3.2),
)
"""From the base to the tool."""
STOP_RAD = 0.05
GRIPPER = JointSpec("gripper", 0.0, 0.085, 0.3, 6.0, 6.0, 40.0, 0.0, 2500.0, 60.0)
"""The opening between the fingers: m, m/s, m/s², N, N/m, Ns/m."""
ACTION_NAMES = (*(joint.name for joint in JOINTS), GRIPPER.name)
HOME = np.array([0.0, 0.2452, 1.4591, 0.0, 1.4373, 0.0, 0.075])
"""(7,) Joints and opening at the start: the tool points down, 0.3 m above the table."""
ORIGINS_M = (
    (0.0, 0.0, 0.09),
    (0.0, 0.0, 0.09),
    (0.0, 0.0, 0.34),
    (0.0, 0.0, 0.14),
    (0.0, 0.0, 0.16),
    (0.0, 0.0, 0.06),
)
"""Where each joint stands in the link before it."""
AXES = ((0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 0, 1), (0, 1, 0), (0, 0, 1))
TOOL_M = (0.0, 0.0, 0.11)
"""The point between the fingertips in the last link."""


def arm6_xml(task: str) -> str:
    """The scene of `task` as MJCF.

    Raises:
        ConfigError: no such task.
    """
    if task not in TASKS:
        raise ConfigError(f"arm6 has no task {task!r}: {did_you_mean(task, TASKS)}")
    scenes = {
        "reach": _REACH_SCENE,
        "pick-place": _PICK_PLACE_SCENE,
        "push": PUSH_SCENE,
        "drawer": DRAWER_SCENE,
    }
    scene = scenes[task]
    front = _camera("front", (1.16, -0.46, 0.78), (0.31, 0.0, 0.185), 42)
    side = _camera("side", (0.30, 1.08, 0.50), (0.31, 0.0, 0.19), 44)
    return f"""<mujoco model="arm6-{task}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP_NS / 1e9}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <statistic center="0.35 0 0.2" extent="1.2"/>
  {_LOOKS}
  <worldbody>
    {_ROOM}
    {front}
    {side}
    {scene}
    {_arm()}
  </worldbody>
  <tendon>
    <fixed name="opening" limited="false">
      <joint joint="finger_left" coef="1"/>
      <joint joint="finger_right" coef="1"/>
    </fixed>
  </tendon>
  <equality>
    <joint joint1="finger_left" joint2="finger_right" polycoef="0 1 0 0 0" solref="0.005 1"/>
  </equality>
  <actuator>
    {"".join(_servo(joint, f'joint="{joint.name}"') for joint in JOINTS)}
    {_servo(GRIPPER, 'tendon="opening"')}
  </actuator>
</mujoco>"""


_LOOKS = """<visual>
    <headlight ambient="0.38 0.38 0.40" diffuse="0.30 0.30 0.30" specular="0.05 0.05 0.05"/>
    <map znear="0.01" zfar="20" shadowclip="2.2" shadowscale="0.8"/>
    <quality shadowsize="4096" offsamples="4"/>
    <global offwidth="640" offheight="480"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.80 0.86 0.93" rgb2="0.42 0.50 0.60"
      width="64" height="384"/>
    <texture name="planks" type="2d" builtin="checker" rgb1="0.86 0.80 0.71" rgb2="0.835 0.772 0.68"
      width="64" height="64"/>
    <material name="top" texture="planks" texrepeat="6 7" specular="0.1" shininess="0.1"/>
    <material name="wood" rgba="0.62 0.52 0.41 1" specular="0.1"/>
    <material name="floor" rgba="0.47 0.51 0.56 1" specular="0"/>
    <material name="shell" rgba="0.93 0.94 0.95 1" specular="0.4" shininess="0.5"/>
    <material name="housing" rgba="0.20 0.24 0.30 1" specular="0.4" shininess="0.5"/>
    <material name="accent" rgba="0.98 0.62 0.13 1" specular="0.3" shininess="0.4"/>
    <material name="rubber" rgba="0.11 0.12 0.14 1" specular="0.05"/>
    <material name="cube" rgba="0.86 0.13 0.14 1" specular="0.2" shininess="0.3"/>
    <material name="pad" rgba="0.10 0.36 0.83 1" specular="0.05"/>
    <material name="rim" rgba="0.98 0.98 0.98 1" specular="0.05"/>
  </asset>
  <default>
    <geom contype="0" conaffinity="0" condim="4" friction="1.2 0.02 0.0005"/>
    <joint damping="0.4" frictionloss="0.05" actuatorgravcomp="true"/>
    <default class="solid"><geom contype="1" conaffinity="3"/></default>
    <default class="link"><geom contype="2" conaffinity="1" material="shell"/></default>
  </default>"""

_ROOM = """<light name="key" pos="0.9 -1.2 2.2" dir="-0.32 0.55 -1" directional="true"
      diffuse="0.52 0.50 0.47" specular="0.12 0.12 0.12" castshadow="true"/>
    <light name="fill" pos="0.2 1.6 1.4" dir="0.1 -0.9 -0.6" directional="true"
      diffuse="0.16 0.18 0.21" specular="0 0 0" castshadow="false"/>
    <geom name="floor" type="plane" size="6 6 0.1" pos="0 0 -0.74" material="floor"/>
    <geom name="table" class="solid" type="box" size="0.45 0.55 0.02" pos="0.30 0 -0.02" material="top"/>
    <geom type="box" size="0.452 0.552 0.012" pos="0.30 0 -0.033" material="wood"/>
    <geom type="cylinder" size="0.028 0.34" pos="-0.08 0.46 -0.39" material="wood"/>
    <geom type="cylinder" size="0.028 0.34" pos="-0.08 -0.46 -0.39" material="wood"/>
    <geom type="cylinder" size="0.028 0.34" pos="0.68 0.46 -0.39" material="wood"/>
    <geom type="cylinder" size="0.028 0.34" pos="0.68 -0.46 -0.39" material="wood"/>"""

_REACH_SCENE = f"""<body name="goal" mocap="true" pos="0.4 0 0.2">
      <geom name="goal" type="sphere" size="{TARGET_RADIUS_M}" rgba="0.07 0.66 0.27 1"/>
    </body>"""

_PICK_PLACE_SCENE = f"""<body name="goal" mocap="true" pos="0.4 0.15 0">
      <geom type="box" size="{PAD_HALF_M} {PAD_HALF_M} 0.001" pos="0 0 0.0006" material="rim"/>
      <geom name="goal" type="box" size="{PAD_HALF_M - 0.006:.3f} {PAD_HALF_M - 0.006:.3f} 0.001"
        pos="0 0 0.001" material="pad"/>
    </body>
    <body name="cube" pos="0.4 -0.15 {CUBE_HALF_M}">
      <freejoint name="cube"/>
      <geom name="cube" class="solid" type="box" size="{CUBE_HALF_M} {CUBE_HALF_M} {CUBE_HALF_M}" mass="0.06"
        material="cube"/>
    </body>"""


def _arm() -> str:
    """The links, each inside the one before."""
    links = (
        """<geom type="cylinder" size="0.058 0.035" pos="0 0 0.0" mass="1.4" material="housing"/>
        <geom type="cylinder" size="0.0605 0.006" pos="0 0 0.041" mass="0.05" material="accent"/>
        <geom class="link" type="cylinder" size="0.052 0.03" pos="0 0 0.07" mass="0.5"/>""",
        """<geom class="link" type="cylinder" size="0.056 0.062" euler="1.5708 0 0" mass="1.2"
          material="housing"/>
        <geom type="cylinder" size="0.045 0.0645" euler="1.5708 0 0" mass="0.05" material="accent"/>
        <geom class="link" type="capsule" fromto="0 0 0.05 0 0 0.30" size="0.042" mass="1.5"/>""",
        """<geom class="link" type="cylinder" size="0.048 0.054" euler="1.5708 0 0" mass="0.9"
          material="housing"/>
        <geom type="cylinder" size="0.038 0.0565" euler="1.5708 0 0" mass="0.04" material="accent"/>
        <geom class="link" type="capsule" fromto="0 0 0.04 0 0 0.105" size="0.037" mass="0.6"/>""",
        """<geom class="link" type="cylinder" size="0.0375 0.012" mass="0.2" material="housing"/>
        <geom class="link" type="capsule" fromto="0 0 0.02 0 0 0.125" size="0.033" mass="0.6"/>""",
        """<geom class="link" type="cylinder" size="0.037 0.042" euler="1.5708 0 0" mass="0.45"
          material="housing"/>
        <geom type="cylinder" size="0.029 0.0445" euler="1.5708 0 0" mass="0.03" material="accent"/>
        <geom class="link" type="cylinder" size="0.031 0.016" pos="0 0 0.036" mass="0.2"/>""",
        f"""<geom class="link" type="cylinder" size="0.033 0.009" pos="0 0 0.0" mass="0.1"
          material="housing"/>
        <geom class="link" type="box" size="0.022 0.052 0.018" pos="0 0 0.027" mass="0.35"/>
        <geom class="link" type="box" size="0.013 0.014 0.011" pos="0.056 0 0.024" mass="0.05"
          material="housing"/>
        <geom type="box" size="0.022 0.006 0.005" pos="0.034 0 0.024" mass="0.02" material="housing"/>
        {_camera("wrist", (0.070, 0.0, 0.040), (0.006, 0.0, 0.140), 74)}
        <site name="tool" pos="{_numbers(TOOL_M)}" size="0.004" rgba="0 0 0 0"/>
        {_finger("left", 1)}
        {_finger("right", -1)}""",
    )
    text = ""
    for joint, origin, axis, shapes in reversed(list(zip(JOINTS, ORIGINS_M, AXES, links, strict=True))):
        text = f"""<body name="{joint.name}" pos="{_numbers(origin)}" gravcomp="1">
        <joint name="{joint.name}" axis="{_numbers(axis)}" armature="{joint.armature}"
          range="{joint.lower - STOP_RAD:.4f} {joint.upper + STOP_RAD:.4f}"/>
        {shapes}
        {text}
      </body>"""
    return f"""<body name="base">
      <geom type="cylinder" size="0.085 0.012" pos="0 0 0.012" mass="2" material="housing"/>
      <geom type="cylinder" size="0.062 0.022" pos="0 0 0.036" mass="2" material="shell"/>
      {text}
    </body>"""


def _finger(side: str, sign: int) -> str:
    """A finger whose inner face is at y = 0 when closed."""
    half = GRIPPER.upper / 2
    return f"""<body name="finger_{side}" pos="0 0 0.045" gravcomp="1">
          <joint name="finger_{side}" type="slide" axis="0 {sign} 0" range="-0.002 {half + 0.002}" damping="5"
            armature="0.05"/>
          <geom class="link" type="box" size="0.012 0.006 0.034" pos="0 {sign * 0.0075} 0.034" mass="0.06"
            material="housing"/>
          <geom class="link" type="box" size="0.011 0.0015 0.018" pos="0 {sign * 0.0015} 0.062" mass="0.01"
            material="rubber"/>
        </body>"""


def _servo(joint: JointSpec, on: str) -> str:
    """A position servo. Its own damping makes the response to a ramp free of overshoot."""
    return (
        f'<position name="{joint.name}" {on} kp="{joint.stiffness}" kv="{joint.damping}" '
        f'ctrlrange="{joint.lower} {joint.upper}" forcerange="{-joint.torque} {joint.torque}"/>\n    '
    )


def _camera(name: str, at: tuple[float, ...], target: tuple[float, ...], fovy: float) -> str:
    """A camera at `at` that looks at `target`, upright in the frame that it stands in.

    In the frame of the gripper, whose z points to the fingertips, up is towards +x: away from the fingers.
    """
    back = np.subtract(at, target)
    back /= np.linalg.norm(back)
    up = np.array([1.0, 0.0, 0.0] if name == "wrist" else [0.0, 0.0, 1.0])
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    axes = _numbers((*right, *np.cross(back, right)))
    return f'<camera name="{name}" pos="{_numbers(at)}" xyaxes="{axes}" fovy="{fovy}"/>'


def _numbers(values: tuple[float, ...] | NDArray[np.float64]) -> str:
    return " ".join(f"{float(value):.6g}" for value in values)
