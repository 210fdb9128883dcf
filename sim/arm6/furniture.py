"""What stands on the table in the tasks push and drawer, as MJCF of primitive shapes."""

from __future__ import annotations

import math

PUCK_RADIUS_M = 0.035
PUCK_HALF_M = 0.02
RING_RADIUS_M = 0.05
CABINET_HALF_M = (0.075, 0.09, 0.052)
"""Half its depth, width and height; the drawer opens along x."""
HANDLE_OUT_M = 0.047
"""From the front of the closed drawer to the axis of its handle: a finger fits in between."""
HANDLE_HEIGHT_M = 0.066
HANDLE_RADIUS_M = 0.006
TRAVEL_M = 0.16
"""How far the drawer can be pulled."""

_FOOT_M = 0.004
_FEET = "".join(
    f"""<geom type="sphere" size="{_FOOT_M}" contype="0" conaffinity="1" mass="0.002" rgba="0 0 0 0"
        priority="1" friction="0.45 0.01 0.0002" pos="{0.03 * math.cos(turn):.5f} {0.03 * math.sin(turn):.5f}
        {_FOOT_M - PUCK_HALF_M:.5f}"/>
      """
    for turn in (k * math.pi / 3 for k in range(6))
)
"""The puck stands on six small spheres: between a cylinder and a box MuJoCo finds too few contacts, and the
puck would tilt and sink in. Fingers touch the cylinder, the table touches the feet."""
PUSH_SCENE = f"""<body name="goal" mocap="true" pos="0.45 0.15 0">
      <geom type="cylinder" size="{RING_RADIUS_M} 0.001" pos="0 0 0.001" material="rim"/>
      <geom type="cylinder" size="{RING_RADIUS_M - 0.008} 0.0014" pos="0 0 0.001" material="pad"/>
    </body>
    <body name="cube" pos="0.4 -0.15 {PUCK_HALF_M}">
      <freejoint name="cube"/>
      <geom name="puck" type="cylinder" size="{PUCK_RADIUS_M} {PUCK_HALF_M}" mass="0.12" contype="0"
        conaffinity="2" friction="0.45 0.01 0.0002" priority="1" material="cube"/>
      {_FEET}<geom type="cylinder" size="{PUCK_RADIUS_M * 0.6:.4f} 0.001" pos="0 0 {PUCK_HALF_M}" mass="0.001"
        material="rim"/>
    </body>"""

_DEPTH, _WIDTH, _HEIGHT = CABINET_HALF_M
_WALL = 0.006
_FRONT, _HANDLE = _DEPTH - 0.004, _DEPTH + HANDLE_OUT_M
_AT = HANDLE_HEIGHT_M
DRAWER_SCENE = f"""<body name="goal" mocap="true" pos="0.4 -0.05 {HANDLE_HEIGHT_M}">
      <geom type="sphere" size="0.008" rgba="0.16 0.70 0.30 1"/>
      <geom type="cylinder" size="0.002 {HANDLE_HEIGHT_M / 2:.4f}" pos="0 0 {-HANDLE_HEIGHT_M / 2:.4f}"
        rgba="0.16 0.70 0.30 1"/>
    </body>
    <body name="cabinet" mocap="true" pos="0.4 0.25 0">
      <geom class="solid" type="box" size="{_DEPTH} {_WALL} {_HEIGHT}" pos="0 {_WIDTH} {_HEIGHT}"
        material="housing"/>
      <geom class="solid" type="box" size="{_DEPTH} {_WALL} {_HEIGHT}" pos="0 {-_WIDTH} {_HEIGHT}"
        material="housing"/>
      <geom class="solid" type="box" size="{_WALL} {_WIDTH} {_HEIGHT}" pos="{-_DEPTH} 0 {_HEIGHT}"
        material="housing"/>
      <geom class="solid" type="box" size="{_DEPTH + _WALL} {_WIDTH + _WALL} {_WALL}"
        pos="0 0 {2 * _HEIGHT}" material="wood"/>
      <body name="drawer" pos="0 0 0">
        <joint name="drawer" type="slide" axis="1 0 0" range="0 {TRAVEL_M}" damping="6" frictionloss="1.2"
          armature="0.02"/>
        <geom class="solid" type="box" size="{_WALL} {_WIDTH - 0.008:.4f} {_HEIGHT - 0.012:.4f}"
          pos="{_DEPTH - _WALL:.4f} 0 {_HEIGHT}" mass="0.12" material="cube"/>
        <geom type="box" size="{_DEPTH - 0.012:.4f} {_WIDTH - 0.012:.4f} 0.003" pos="-0.004 0 0.016"
          mass="0.1" material="wood"/>
        <geom type="box" size="{_DEPTH - 0.012:.4f} 0.003 {_HEIGHT * 0.6:.4f}"
          pos="-0.004 {_WIDTH - 0.014:.4f} {_HEIGHT * 0.75:.4f}" mass="0.03" material="wood"/>
        <geom type="box" size="{_DEPTH - 0.012:.4f} 0.003 {_HEIGHT * 0.6:.4f}"
          pos="-0.004 {0.014 - _WIDTH:.4f} {_HEIGHT * 0.75:.4f}" mass="0.03" material="wood"/>
        <geom name="handle" class="solid" type="capsule" size="{HANDLE_RADIUS_M}" mass="0.04"
          fromto="{_HANDLE} -0.032 {_AT} {_HANDLE} 0.032 {_AT}"
          material="rim"/>
        <geom type="capsule" size="0.004" mass="0.01" material="rim"
          fromto="{_FRONT} 0.032 {_AT} {_HANDLE} 0.032 {_AT}"/>
        <geom type="capsule" size="0.004" mass="0.01" material="rim"
          fromto="{_FRONT} -0.032 {_AT} {_HANDLE} -0.032 {_AT}"/>
        <site name="handle" pos="{_HANDLE} 0 {HANDLE_HEIGHT_M}" size="0.003" rgba="0 0 0 0"/>
      </body>
    </body>"""
