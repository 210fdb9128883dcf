"""An operator's device: dead-man and commands from a joystick, keyboard, leader arm or SpaceMouse.

    subscribes  the device's topic (joy, leader/joint_states, spacenav/joy), the dead-man's where it is
                another one, the streams that measure a channel, control/state
    publishes   teleop/command, teleop/enable Bool at its own rate, /diagnostics
    services    ~/ready Trigger

Nothing moves without a dead-man, and it must be seen released before it engages: at the start, after the
device was silent or wrong, after a leader was refused. Commands begin at the measured pose. A device that
fails while it moves the robot is no release: teleop/enable falls silent then, which control takes for a fault
where a policy would go on.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import Bool

from episodes.contract import Contract, load_contract
from episodes.errors import ConfigError
from episodes.messages import Decoder, MessageError, message_stamp_ns
from episodes.picture_messages import decoder
from policy.runtime.measured import Measured, MeasuredPose
from ros_nodes import qos
from ros_nodes.convert import message_type, set_stamp
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.shell import run_node
from ros_nodes.streams import by_topic
from ros_nodes.teleop.config import TeleopConfig
from ros_nodes.teleop.jog import Jog
from ros_nodes.teleop.leader import Alignment
from ros_nodes.teleop.messages import ENABLE_TOPIC, TeleopEncoder, teleop_topics
from ros_nodes.teleop.reading import Engagement, Reading
from ros_nodes.teleop.sources import Keyboard, make_source

SKEW_NS = 20_000_000
DIAGNOSTICS_NS = 1_000_000_000
LONGEST_STEP_S = 0.1
"""A tick that comes later than this counts as this: a process that was stopped must not leap."""
Vector = NDArray[np.float64]


class Mover(Protocol):
    """Readings to commands."""

    def engage(self, reading: Reading, pose: Vector) -> str:
        """Begin at `pose`; why not, empty when begun."""
        ...

    def step(self, reading: Reading, measured: Vector, dt_s: float) -> Vector:
        """The command (dim,)."""
        ...


class Hand:
    """Rates."""

    def __init__(self, contract: Contract, config: TeleopConfig) -> None:
        self._jog = Jog(contract, config.speed)

    def engage(self, reading: Reading, pose: Vector) -> str:
        """See Mover."""
        self._jog.engage(pose)
        return ""

    def step(self, reading: Reading, measured: Vector, dt_s: float) -> Vector:
        """See Mover."""
        return self._jog.step(reading.rates, measured, dt_s)


class Leader:
    """A leader arm, inside the contract's box."""

    def __init__(self, contract: Contract, config: TeleopConfig) -> None:
        odd = [c.name for c in contract.actions.values() if c.kind not in ("joint_position", "gripper")]
        if odd:
            raise ConfigError(
                f"{contract.source}: channel {odd[0]!r} takes no positions, which is all that a leader arm "
                "tells: choose another device."
            )
        grippers = [n for c in contract.actions.values() if c.kind == "gripper" for n in c.names]
        self._names = contract.action_names
        self._lower, self._upper = contract.action_lower, contract.action_upper
        self._alignment = Alignment(self._names, grippers, config.align)

    def _pose(self, reading: Reading) -> Vector:
        return np.array([reading.pose[name] for name in self._names])

    def engage(self, reading: Reading, pose: Vector) -> str:
        """See Mover."""
        return self._alignment.engage(self._pose(reading), pose)

    def step(self, reading: Reading, measured: Vector, dt_s: float) -> Vector:
        """See Mover."""
        target = self._alignment.step(self._pose(reading), dt_s)
        return np.minimum(np.maximum(target, self._lower), self._upper)


class TeleopNode:
    """Reads the device at its own rate, and publishes what it asks for."""

    def __init__(self, node: Node, loop: TakeLoop, config: TeleopConfig) -> None:
        self._node, self._loop = node, loop
        self._contract = contract = load_contract(config.contract)
        rate_hz = config.rate_hz
        if any(c.kind == "cartesian_delta" for c in contract.actions.values()):
            rate_hz = max(20.0, contract.rate_hz)
        self._period_ns = round(1e9 / rate_hz)
        self._pose = MeasuredPose(contract, {})
        self._mover: Mover = (Leader if config.device == "leader" else Hand)(contract, config)
        self._source = make_source(node, loop, config, contract)
        self._engagement = Engagement()
        self._encoder = TeleopEncoder(contract)
        self._publishers = {
            topic: node.create_publisher(kind, topic, qos.STREAM)
            for topic, kind in teleop_topics(contract).items()
        }
        self._enable = node.create_publisher(Bool, ENABLE_TOPIC, qos.STREAM)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", qos.STREAM)
        measured = [contract.observations[name] for name in self._pose.streams]
        for topic, streams in by_topic(measured).items():
            decoders = [(stream.name, decoder(stream)) for stream in streams]
            loop.subscribe(
                message_type(streams[0].type), topic, qos.NEWEST,
                lambda m, d=decoders: self._measure(d, m), newest=True,
            )  # fmt: skip
        self._control = ""
        loop.subscribe(DiagnosticStatus, "control/state", qos.LATCHED, self._hear_control)
        loop.trigger("~/ready", self._ready)
        self._last_ns = time.monotonic_ns()
        self._told = ("", 0)
        self._sent = 0
        self._log(f"{config.device}: {self._legend()}")
        loop.at(0, self._tick)

    def _log(self, text: str) -> None:
        self._node.get_logger().info(text)

    def _legend(self) -> str:
        if isinstance(self._source, Keyboard):
            return f"{' '.join(self._source.entries)}; + and - change the speed, space stops"
        return "hold the dead-man to move the robot"

    def _hear_control(self, message: DiagnosticStatus) -> None:
        self._control = message.message

    def _measure(self, decoders: list[tuple[str, Decoder]], message: object) -> None:
        for name, decode in decoders:
            try:
                self._pose.hear({name: Measured(decode(message), message_stamp_ns(message) or 0)})
            except MessageError as error:
                self._engagement.open(str(error))

    def _problem(self, reading: Reading) -> str:
        now_ns = int(self._node.get_clock().now().nanoseconds)
        return reading.problem or self._pose.invalid() or self._pose.stale(now_ns, SKEW_NS) or ""

    def _ready(self, reply: Reply) -> None:
        problem = self._problem(self._source.read(time.monotonic_ns()))
        reply(not problem, problem or "ready")

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        dt_s = min((now_ns - self._last_ns) * 1e-9, LONGEST_STEP_S)
        self._last_ns = now_ns
        reading = self._source.read(now_ns)
        engagement = self._engagement
        if engagement.update(reading.held, self._problem(reading)):
            why = self._mover.engage(reading, self._pose.start())
            if why:
                engagement.refuse(why)
        if engagement.engaged:
            values = self._mover.step(reading, self._pose.vector(), dt_s)
            stamp_ns = int(self._node.get_clock().now().nanoseconds)
            for topic, message in self._encoder.encode(values, stamp_ns).items():
                self._publishers[topic].publish(message)
            self._sent += 1
        if not engagement.lost:
            self._enable.publish(Bool(data=engagement.engaged))
        self._tell(now_ns)
        # A late tick is not made up for: what counts is that heartbeats go on.
        self._loop.at(max(now_ns, self._last_ns) + self._period_ns, self._tick)

    def _tell(self, now_ns: int) -> None:
        """Diagnostics once a second and at every change, and one line in the log for the latter."""
        text = "engaged" if self._engagement.engaged else self._engagement.why
        changed = text.partition("silent for")[0] != self._told[0].partition("silent for")[0]
        if isinstance(self._source, Keyboard):
            speed = self._source.device.speed
            self._source.show(f"{text}   speed {speed:.0%}   control {self._control or 'is not there'}")
        if not changed and now_ns < self._told[1]:
            return
        if changed and not isinstance(self._source, Keyboard):
            self._log(text)
        self._told = (text, now_ns + DIAGNOSTICS_NS)
        waits = text in ("engaged", "the dead-man is open")
        status = DiagnosticStatus(
            name=f"{self._node.get_name()}: device", hardware_id=self._contract.robot, message=text,
            level=DiagnosticStatus.OK if waits else DiagnosticStatus.WARN,
        )  # fmt: skip
        status.values = [
            KeyValue(key="commands", value=str(self._sent)),
            KeyValue(key="control", value=self._control),
        ]
        message = DiagnosticArray(status=[status])
        set_stamp(message.header.stamp, time.time_ns())
        self._diagnostics.publish(message)

    def close(self, reason: str) -> None:
        """Put the terminal back; who ends while the robot is moved has not released the dead-man."""
        if not (self._engagement.engaged or self._engagement.lost):
            self._enable.publish(Bool(data=False))
        self._source.close()


def main() -> int:
    """Entry point of the executable `teleop_node`."""
    return run_node("teleop", TeleopConfig, TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
