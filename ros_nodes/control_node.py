"""The control process: action chunks in, limited commands out. One thread, no image and no inference in it.

    subscribes  policy/action_chunk, the streams that measure a channel, the contract's e-stop topics (Bool);
                in real time also teleop/enable, teleop/command and policy/info
    publishes   actuator topics of the contract, then control/command (their stamped record), control/state,
                /diagnostics
    services    ~/enable SetBool, ~/clear_fault Trigger, ~/ready

In lock-step it ticks once for each simulated tick that the policy answers, in simulated time. In real time
it ticks at absolute deadlines on the monotonic clock, on which every watchdog counts: stamps are moved onto
it when they are received, so that a jump of the ROS clock is not taken for motion. It begins disabled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import load_contract
from episodes.errors import ConfigError
from episodes.messages import COMMAND_TOPIC, Decoder, MessageError, decode_tags, message_stamp_ns
from episodes.picture_messages import decoder
from policy.runtime.control import Controller, OperatorCommand
from policy.runtime.measured import Measured
from policy.runtime.state import State
from ros_nodes import qos
from ros_nodes.chunk_bytes import ChunkBytes
from ros_nodes.commands import CHUNK_TOPIC, CommandPublisher
from ros_nodes.control_clocks import ControlClock, LockstepControl, RealtimeControl
from ros_nodes.control_config import SETTABLE, ControlNodeConfig, changed
from ros_nodes.control_reporting import STATE_TOPIC, Reporting
from ros_nodes.convert import ChunkDecoder, message_type
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.shell import Readiness, is_lockstep, run_node
from ros_nodes.streams import by_topic
from ros_nodes.teleop.messages import ENABLE_TOPIC, TeleopDecoder, teleop_topics
from ros_nodes.timing import LoopTiming

__all__ = ["STATE_TOPIC", "ControlNode", "ControlNodeConfig"]

POLICY_INFO_TOPIC = "policy/info"
MAX_POINTS = 1000
"""Longest chunk that is decoded: an endless one would cost ticks."""


class ControlNode:
    """Feeds a Controller with what has arrived and publishes what it decides."""

    def __init__(self, node: Node, loop: TakeLoop, config: ControlNodeConfig) -> None:
        self.node, self.loop, self.config = node, loop, config
        self.contract = contract = load_contract(config.contract)
        self.controller = self.new_controller()
        self.commands = CommandPublisher(node, contract)
        self.reporting = Reporting(node, contract.robot)
        self.notes: tuple[str, ...] = ()
        lockstep = is_lockstep(config.mode)
        self.timing = LoopTiming(Path(config.timing_file)) if config.timing_file and not lockstep else None
        self._clock: ControlClock
        self._operator_topics: tuple[str, ...] = ()
        if lockstep:
            self._clock = LockstepControl(self)
        else:
            self._clock = clock = RealtimeControl(self)
        self._chunks = ChunkDecoder(contract.action_names, CHUNK_TOPIC)
        self._chunk_bytes = ChunkBytes(contract.action_names, CHUNK_TOPIC)
        receive = self._receive_chunk if lockstep else self._receive_chunk_bytes
        self.chunks = loop.subscribe(
            JointTrajectory,
            CHUNK_TOPIC,
            qos.STREAM,
            receive,
            newest=not lockstep,
            info=True,
            raw=not lockstep,
        )
        if not lockstep:
            self._hear_operator(clock)
            loop.subscribe(
                DiagnosticArray, POLICY_INFO_TOPIC, qos.STREAM, partial(_hear_policy, clock), newest=True
            )
        profile = qos.STREAM if lockstep else qos.NEWEST
        measured = [contract.observations[name] for name in self.controller.measured_streams]
        for topic, streams in by_topic(measured).items():
            receive = partial(self._measure, [(stream.name, decoder(stream)) for stream in streams])
            loop.subscribe(message_type(streams[0].type), topic, profile, receive, newest=not lockstep)
        self.estop_topics = tuple(dict.fromkeys((*contract.estop, *config.estop)))
        for topic in self.estop_topics:
            loop.subscribe(Bool, topic, qos.LATCHED, partial(self._hear_estop, topic))
        loop.switch("~/enable", self._enable)
        loop.trigger("~/clear_fault", self._clear_fault)
        node.add_on_set_parameters_callback(self._check_parameters)
        node.add_post_set_parameters_callback(self._take_parameters)
        # Whoever may command: in lock-step the policy, on a robot the policy or an operator.
        anyone = (CHUNK_TOPIC,) if lockstep else (CHUNK_TOPIC, ENABLE_TOPIC)
        self._readiness = AnyPublisher(node, loop, config.listeners, anyone, self._clock.waits_for)

    def new_controller(self) -> Controller:
        """A controller in DISABLED that knows nothing."""
        return Controller(self.contract, self.config.control())

    def _hear_operator(self, clock: RealtimeControl) -> None:
        decode = TeleopDecoder(self.contract)

        def command(topic: str, message: Any) -> None:
            try:
                found = decode.decode(topic, message)
            except MessageError as error:
                clock.teleop(OperatorCommand({}, 0, str(error)))
            else:
                if found is not None:
                    clock.teleop(OperatorCommand(found[0], found[1] or 0))

        for topic, kind in teleop_topics(self.contract).items():
            self.loop.subscribe(kind, topic, qos.NEWEST, partial(command, topic), newest=True)
            self._operator_topics += (topic,)
        self.loop.subscribe(Bool, ENABLE_TOPIC, qos.STREAM, lambda m: clock.deadman(m.data), newest=True)
        self._operator_topics += (ENABLE_TOPIC,)

    def _measure(self, decoders: list[tuple[str, Decoder]], message: Any) -> None:
        for name, decode in decoders:
            try:
                sample = Measured(decode(message), message_stamp_ns(message) or 0)
            except MessageError as error:
                self._clock.report(str(error))
            else:
                self._clock.measured(name, sample)

    def _hear_estop(self, topic: str, message: Bool) -> None:
        self._clock.estop(topic, message.data)

    def _receive_chunk_bytes(self, data: bytes, info: Mapping[str, Any]) -> None:
        found = self._chunk_bytes.read(data)
        if found is not None:
            chunk, times = found
            self._clock.chunk(chunk, times["tick_ns"])
            if self.timing is not None:
                self.timing.chunk(chunk.observation_ns, times.get("inference_ns", 0), info)
            return
        try:
            message = deserialize_message(data, JointTrajectory)
        except RuntimeError as error:  # rclpy's RMWError, which it does not export
            self._clock.report(f"{CHUNK_TOPIC}: a message that is no JointTrajectory ({error})")
        else:
            self._receive_chunk(message, info)

    def _receive_chunk(self, message: JointTrajectory, info: Mapping[str, Any]) -> None:
        if len(message.points) > MAX_POINTS:
            self._clock.report(
                f"{CHUNK_TOPIC}: {len(message.points)} points: a chunk has {MAX_POINTS} at most."
            )
            return
        try:
            chunk, tick_ns = self._chunks.decode(message)
        except MessageError as error:
            self._clock.report(str(error))
        else:
            self._clock.chunk(chunk, tick_ns)
            if self.timing is not None and chunk is not None:
                times = decode_tags(message.header.frame_id, CHUNK_TOPIC)[1]
                self.timing.chunk(chunk.observation_ns, times.get("inference_ns", 0), info)

    def _enable(self, enable: bool, reply: Reply) -> None:
        if enable and (missing := self._readiness.missing()):
            reply(False, f"waiting for {', '.join(missing)}")
        elif enable and (second := self.second_publishers()):
            reply(False, second)
        else:
            answer = self._clock.enable() if enable else self._clock.disable()
            reply(answer.accepted, answer.why or str(self.controller.state))

    def _clear_fault(self, reply: Reply) -> None:
        answer = self._clock.clear_fault()
        reply(answer.accepted, answer.why or str(self.controller.state))

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in SETTABLE}
        if not changes:
            return SetParametersResult(successful=True)
        try:
            self.controller.reconfigured(changed(self.config, changes).control())
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take_parameters(self, parameters: list[Parameter]) -> None:
        changes = {p.name: p.value for p in parameters if p.name in SETTABLE}
        if changes and self.controller.state is State.DISABLED:
            self.config = changed(self.config, changes)
            self.controller = self.controller.reconfigured(self.config.control())
            self._clock.reconfigured()
            self.log(f"changed: {', '.join(f'{name} = {value}' for name, value in changes.items())}")

    def second_publishers(self) -> str:
        """Who else publishes what only one node may, as text; empty if nobody.

        That holds for an e-stop too: a second source on one topic would hide the silence of the first.
        """
        actuators = (c.topic for c in self.contract.actions.values())
        topics = (CHUNK_TOPIC, COMMAND_TOPIC, *actuators, *self._operator_topics, *self.estop_topics)
        found = [topic for topic in topics if self.node.count_publishers(topic) > 1]
        return f"more than one node publishes on {', '.join(found)}: stop the other one" if found else ""

    def log(self, text: str) -> None:
        """One line at level INFO."""
        self.node.get_logger().info(text)

    def close(self, reason: str) -> None:
        """Say what was clamped, and write the times."""
        if self.timing is not None:
            self.timing.write()
        if self.controller.counts:
            self.log(f"clamped and dropped: {dict(self.controller.counts)}")


class AnyPublisher(Readiness):
    """Ready once one of the topics, and not each of them, has a publisher, and nothing else is waited for."""

    def __init__(
        self,
        node: Node,
        loop: TakeLoop,
        listeners: tuple[str, ...],
        topics: tuple[str, ...],
        waits_for: Callable[[], tuple[str, ...]],
    ) -> None:
        super().__init__(node, loop, listeners, topics)
        self._waits_for = waits_for

    def missing(self) -> tuple[str, ...]:
        """See Readiness."""
        missing = super().missing()
        topics = [f"a publisher of {topic}" for topic in self._topics]
        others = (*(text for text in missing if text not in topics), *self._waits_for())
        if all(text in missing for text in topics):
            return (*others, f"a publisher of {' or '.join(self._topics)}")
        return others


def _hear_policy(clock: RealtimeControl, message: DiagnosticArray) -> None:
    """What the policy reports of itself: an error means that it must not be followed."""
    errors = [status.message for status in message.status if status.level == DiagnosticStatus.ERROR]
    clock.policy("; ".join(errors))


def main() -> int:
    """Entry point of the executable `control_node`."""
    return run_node("control", ControlNodeConfig, ControlNode, settable=SETTABLE)


if __name__ == "__main__":
    sys.exit(main())
