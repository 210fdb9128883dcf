"""What the drills see: commands, states and motion, each with the time at which it was published.

All times are ns of the system clock, as the middleware stamps a message when it is sent. They hold on a busy
machine and under a simulated clock that jumps, where neither arrival nor header would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Header
from trajectory_msgs.msg import JointTrajectory

from bench.drills.impostor import BORN_TOPIC
from episodes.contract import Contract
from episodes.messages import COMMAND_TOPIC, CommandDecoder, to_ns
from ros_nodes import qos
from ros_nodes.commands import CHUNK_TOPIC
from ros_nodes.control_node import STATE_TOPIC
from ros_nodes.loop import TakeLoop
from ros_nodes.recorder.parts import COMMANDS
from ros_nodes.recorder.reporting import STATUS_TOPIC
from ros_nodes.recorder.status import from_pairs
from ros_nodes.teleop.messages import ENABLE_TOPIC

AT_REST = 0.02
"""Share of its speed limit below which a joint of the arm stands."""
RUN = 3
"""Samples in a row that make a state of motion."""
ABSURD = 1e3
"""rad or m, which nobody means."""
STILL = 1e-9
"""rad or m by which a standing command may differ from the next."""


@dataclass(frozen=True, eq=False)
class Sent:
    """A command on its way to the driver."""

    time_ns: int
    source: str
    values: NDArray[np.float64]
    stamp_ns: int = 0
    """What it says itself of when it was sent."""


@dataclass(frozen=True)
class Told:
    """A control/state."""

    time_ns: int
    state: str
    fault: str


class Watch:
    """Keeps what was published since `forget`."""

    def __init__(self, loop: TakeLoop, contract: Contract) -> None:
        self._decoder = CommandDecoder(contract.action_names, COMMAND_TOPIC)
        rows = [c.max_velocity or (np.inf,) * c.dim for c in contract.actions.values()]
        self._speeds = np.array([v for row in rows for v in row])
        self._names = list(contract.action_names)
        self.state = ""
        self.fault = ""
        self.born: dict[str, int] = {}
        """When a publisher of an impostor was made, by topic."""
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.commands: list[Sent] = []
        self.states: list[Told] = []
        self.motion: list[tuple[int, float]] = []
        """Largest share of a joint's speed limit."""
        self.absurd_ns: int | None = None
        """When the first chunk that no arm could follow was sent."""
        self.beats = 0
        """Of the operator's dead-man."""
        self.recorded = 0
        """Commands that the recorder has taken since its episode began."""
        loop.subscribe(JointTrajectory, COMMAND_TOPIC, qos.RECORD_VECTORS, self._command, info=True)
        loop.subscribe(DiagnosticStatus, STATE_TOPIC, qos.LATCHED, self._state, info=True)
        loop.subscribe(JointState, "joint_states", qos.RECORD_VECTORS, self._joints, info=True)
        loop.subscribe(JointState, "sim/observation", qos.RECORD_VECTORS, self._observation, info=True)
        loop.subscribe(DiagnosticArray, "/diagnostics", qos.RECORD, self._diagnose)
        loop.subscribe(JointTrajectory, CHUNK_TOPIC, qos.STREAM, self._chunk, info=True)
        loop.subscribe(Bool, ENABLE_TOPIC, qos.STREAM, self._deadman)
        loop.subscribe(DiagnosticStatus, STATUS_TOPIC, qos.LATCHED, self._recorder)
        loop.subscribe(Header, BORN_TOPIC, qos.LATCHED, self._hear_born)

    def forget(self) -> None:
        """Begin a new drill."""
        self.commands.clear()
        self.states.clear()
        self.motion.clear()
        self.born.clear()
        self.absurd_ns = None
        self.diagnostics.clear()

    @property
    def pace(self) -> float:
        """How fast the arm is: the least of the last samples, as a share of the speed limit."""
        return min((share for _, share in self.motion[-RUN:]), default=0.0)

    @property
    def stands(self) -> bool:
        """Whether the arm stands, by its last samples."""
        return len(self.motion) >= RUN and all(share <= AT_REST for _, share in self.motion[-RUN:])

    def reaction_ns(self, fault_ns: int) -> int | None:
        """When the first command after the fault that follows nobody was sent; None without one."""
        for sent in self.commands:
            if sent.time_ns > fault_ns and sent.source == "safety":
                return sent.time_ns
        return None

    def source_ns(self, since_ns: int, source: str) -> int | None:
        """When the first command of a source was sent after `since_ns`."""
        return next((c.time_ns for c in self.commands if c.time_ns > since_ns and c.source == source), None)

    def held_ns(self, fault_ns: int) -> int | None:
        """When commands came to rest after the fault: from there on all are the same. None while they
        move."""
        after = [sent for sent in self.commands if sent.time_ns > fault_ns]
        if len(after) <= RUN:
            return None
        last = after[-1].values
        for before, sent in zip(after[-2::-1], after[:0:-1], strict=True):
            if np.abs(before.values - last).max() > STILL:
                return sent.time_ns if after[-1].time_ns > sent.time_ns else None
        return after[0].time_ns

    def rest_ns(self, fault_ns: int) -> int | None:
        """When the arm itself came to rest after the fault; None while it moves."""
        found = None
        still = 0
        for time_ns, share in reversed(self.motion):
            if time_ns <= fault_ns or share > AT_REST:
                break
            found, still = time_ns, still + 1
        return found if still >= RUN else None

    def state_ns(self, fault_ns: int, state: str) -> int | None:
        """When control said `state` first after the fault."""
        return next((t.time_ns for t in self.states if t.time_ns > fault_ns and t.state == state), None)

    def _command(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        command = self._decoder.decode(message)
        source = command.source.name.lower()
        self.commands.append(Sent(info["source_timestamp"], source, command.values, command.stamp_ns))

    def _state(self, message: DiagnosticStatus, info: Mapping[str, Any]) -> None:
        values = {pair.key: pair.value for pair in message.values}
        self.state, self.fault = message.message, values.get("fault", "")
        self.states.append(Told(info["source_timestamp"], self.state, self.fault))

    def _joints(self, message: JointState, info: Mapping[str, Any]) -> None:
        velocity = dict(zip(message.name, message.velocity, strict=True))
        self._move([velocity[name] for name in self._names], info)

    def _observation(self, message: JointState, info: Mapping[str, Any]) -> None:
        """The simulation's own knowledge: it goes on when the driver is silent."""
        values = dict(zip(message.name, message.position, strict=True))
        self._move([values[f"{name}_velocity"] for name in self._names], info)

    def _move(self, velocity: list[float], info: Mapping[str, Any]) -> None:
        share = float((np.abs(velocity) / self._speeds).max())
        self.motion.append((info["source_timestamp"], share))

    def _chunk(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        values = np.array([value for point in message.points for value in point.positions])
        if self.absurd_ns is None and not (np.abs(values) < ABSURD).all():
            self.absurd_ns = info["source_timestamp"]

    def _deadman(self, message: Bool) -> None:
        self.beats += 1

    def _recorder(self, message: DiagnosticStatus) -> None:
        status = from_pairs(message.message, [(pair.key, pair.value) for pair in message.values])
        self.recorded = sum(row.samples for row in status.streams if row.name == COMMANDS)

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.diagnostics[status.name] = {"message": status.message, **values}

    def _hear_born(self, message: Header) -> None:
        self.born[message.frame_id] = to_ns(message.stamp)
