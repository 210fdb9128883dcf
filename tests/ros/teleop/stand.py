"""What the tests of control, teleoperation and supervisor stand on: contracts, beats, a policy's chunks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from bench.drills.handover import steps
from episodes.contract import Contract, Source
from episodes.messages import CommandDecoder, CommandMessage
from policy.runtime.chunks import Chunk
from policy.runtime.limits import Limits
from ros_nodes import qos
from ros_nodes.convert import encode_chunk

from ..conftest import ROOT, Peer

ARM = """
robot: arm3
rate_hz: 50
reference: state
estop: [estop]
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [finger, j2, j1, j0], max_age_ms: 800}
actions:
  arm: {kind: joint_position, topic: arm/commands, type: std_msgs/msg/Float64MultiArray, names: [j0, j1, j2],
        lower: [-1.0, -2.0, -0.5], upper: [1.0, 2.0, 0.5], max_velocity: [1.0, 1.0, 0.5],
        max_acceleration: [8.0, 20.0, 3.0], measured_by: state}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [finger],
            lower: [0.0], upper: [0.08], max_velocity: [0.2], measured_by: state}
"""
"""A three-joint arm with a gripper; the driver names its joints in another order."""
START = "0.04,0.1,0.0,0.2"
"""Where the driver begins, in its own order: j0 0.2, j1 0, j2 0.1, finger 0.04."""
POSE = np.array([0.2, 0.0, 0.1, 0.04])

VELOCITIES = (
    ARM.replace("kind: joint_position", "kind: joint_velocity")
    .replace(
        "lower: [-1.0, -2.0, -0.5], upper: [1.0, 2.0, 0.5], max_velocity: [1.0, 1.0, 0.5],",
        "lower: [-1.0, -1.0, -0.5], upper: [1.0, 1.0, 0.5], max_velocity: [8.0, 8.0, 8.0],",
    )
    .replace("max_acceleration: [8.0, 20.0, 3.0], ", "")
)
"""The same arm, driven by joint velocities."""
TRAJECTORY = ARM.replace(
    "topic: arm/commands, type: std_msgs/msg/Float64MultiArray",
    "topic: arm_controller/joint_trajectory, type: trajectory_msgs/msg/JointTrajectory",
)
"""The same arm behind a JointTrajectory controller."""
TWIST = """
robot: servo
rate_hz: 50
reference: state
estop: [estop]
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [finger], max_age_ms: 800}
actions:
  tool: {kind: twist, topic: servo_node/delta_twist_cmds, type: geometry_msgs/msg/TwistStamped,
         names: [vx, vy, vz, wx, wy, wz], lower: [-0.2, -0.2, -0.2, -1, -1, -1],
         upper: [0.2, 0.2, 0.2, 1, 1, 1],
         max_velocity: [1, 1, 1, 5, 5, 5]}
  gripper: {kind: gripper, topic: gripper/commands, type: std_msgs/msg/Float64MultiArray, names: [finger],
            lower: [0.0], upper: [0.08], measured_by: state}
"""
"""A tool behind MoveIt Servo, with a gripper."""


class Driver:
    """The driver's process."""

    def __init__(self, contract: Path, start: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py")), str(contract), start],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.terminate()
        self.popen.wait(30)


class Beats:
    """Publishes a message again and again from the test's own loop, while `on`."""

    def __init__(
        self, peer: Peer, message_type: type, topic: str, make: Callable[[], Any], hz: float
    ) -> None:
        profile = qos.LATCHED if message_type is Bool else qos.STREAM
        self.publisher = peer.node.create_publisher(message_type, topic, profile)
        self._peer, self._make, self._period_ns = peer, make, round(1e9 / hz)
        self.on, self.count = True, 0
        peer.loop.at(0, self._beat)

    def more(self, count: int) -> None:
        """Wait until so many more have been sent."""
        goal = self.count + count
        self._peer.until(lambda: self.count >= goal)

    def _beat(self) -> None:
        if self.on and (message := self._make()) is not None:
            self.publisher.publish(message)
            self.count += 1
        self._peer.loop.at(time.monotonic_ns() + self._period_ns, self._beat)


class Watcher:
    """What control says and does."""

    def __init__(self, peer: Peer, contract: Contract) -> None:
        self.peer, self.contract = peer, contract
        self.commands: list[CommandMessage] = []
        self.states: list[str] = []
        self.values: dict[str, str] = {}
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        decoder = CommandDecoder(contract.action_names, "control/command")
        subscribe = peer.loop.subscribe
        subscribe(
            JointTrajectory, "control/command", qos.RECORD_VECTORS,
            lambda m: self.commands.append(decoder.decode(m)),
        )  # fmt: skip
        subscribe(DiagnosticStatus, "control/state", qos.LATCHED, self._state)
        subscribe(DiagnosticArray, "/diagnostics", qos.RECORD, self._diagnose)

    def _state(self, message: DiagnosticStatus) -> None:
        self.values = {pair.key: pair.value for pair in message.values}
        if not self.states or self.states[-1] != message.message:
            self.states.append(message.message)

    def _diagnose(self, message: DiagnosticArray) -> None:
        self.diagnostics.update({status.name: status for status in message.status})

    @property
    def state(self) -> str:
        return self.states[-1] if self.states else ""

    def until(self, *states: str) -> None:
        """Wait for one of the states; a fault that is not waited for is told."""
        self.peer.until(lambda: self.state in (*states, "FAULT"))
        assert self.state in states, f"{self.values.get('fault')}; {self.diagnostics.get('teleop: device')}"

    def sources(self) -> list[Source]:
        """Sources of the commands, in order, each once per run."""
        found: list[Source] = []
        for command in self.commands:
            if not found or found[-1] is not command.source:
                found.append(command.source)
        return found

    def pose(self) -> np.ndarray:
        """(dim,) the last command."""
        return self.commands[-1].values

    def worst(self, period_s: float) -> tuple[float, float]:
        """Largest step per period and largest change of it, of all commands, as shares of what limits allow.

        Limits hold per tick; `bench.drills.handover` says what can be judged.
        """
        values = np.array([command.values for command in self.commands])
        stamps = np.array([command.stamp_ns for command in self.commands])
        found = steps(values, stamps, Limits.of(self.contract, round(1e9 * period_s)))
        assert found.judged > 20, "this machine is too busy to tell"
        return found.velocity, found.acceleration


class Stand:
    """A contract on disk, its driver, the e-stop's heartbeat, and control."""

    def __init__(self, peer: Peer, contract: Contract, path: Path) -> None:
        self.peer, self.contract, self.path = peer, contract, path
        self.watch = Watcher(peer, contract)
        self.estop = Beats(peer, Bool, "estop", lambda: Bool(data=self.pressed), 25)
        self.pressed = False

    def follow(self, action: np.ndarray) -> Beats:
        """A policy that asks for `action` (dim,) 25 times a second, in chunks of five actions."""
        target = np.asarray(action)

        def make() -> JointTrajectory:
            now_ns = int(self.peer.node.get_clock().now().nanoseconds)
            chunk = Chunk(now_ns, now_ns, self.contract.period_ns, np.tile(target, (20, 1)), Source.POLICY)
            return encode_chunk(chunk, self.contract.action_names, now_ns)

        return Beats(self.peer, JointTrajectory, "policy/action_chunk", make, 25)


def set_parameters(peer: Peer, node: str, **values: object) -> list[tuple[bool, str]]:
    """Set parameters of a node one by one; `__` in a name stands for the dot of a group."""
    client = peer.loop.client(SetParameters, f"{node}/set_parameters")
    peer.until(client.service_is_ready)
    changes = [Parameter(name.replace("__", "."), value=v).to_parameter_msg() for name, v in values.items()]
    future = client.call_async(SetParameters.Request(parameters=changes))
    peer.until(future.done)
    return [(result.successful, result.reason) for result in future.result().results]
