"""Where a recorder's samples come from: whole simulated ticks, or a robot's streams as they arrive."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import Contract, Source
from episodes.errors import ArmchairError, ConfigError
from episodes.writer import EpisodeWriter
from ros_nodes import qos
from ros_nodes.actuators import actuator_decoder
from ros_nodes.commands import COMMAND_TOPIC
from ros_nodes.convert import (
    CommandDecoder,
    CommandMessage,
    MessageError,
    message_stamp_ns,
    message_type,
    set_stamp,
    to_ns,
)
from ros_nodes.loop import TakeLoop
from ros_nodes.recording import Item, Recording
from ros_nodes.streams import Decoder, by_topic, decoder
from ros_nodes.ticks import Tick, TickAssembler, nbytes
from sim.world import TRUTH_STREAM

ACK_TOPIC = "recorder/ack"
TRUTH_TOPIC = "episode/truth"


class LockstepSources:
    """Assembles whole ticks and acknowledges each; what is received at t_k was received at t_k."""

    def __init__(self, node: Node, loop: TakeLoop, contract: Contract) -> None:
        self._node = node
        self._streams = tuple(contract.observations)
        self._recording: Recording | None = None
        self._assembler = TickAssembler(self._streams, TRUTH_STREAM)
        self.undecodable = 0
        self._ack = node.create_publisher(Header, ACK_TOPIC, qos.STREAM)
        groups = by_topic(list(contract.observations.values()))
        for topic, streams in groups.items():
            decoders = [(stream.name, decoder(stream)) for stream in streams]
            loop.subscribe(message_type(streams[0].type), topic, qos.RECORD, partial(self._sample, decoders))
        loop.subscribe(JointState, TRUTH_TOPIC, qos.RECORD, self._truth)
        self._decoder = CommandDecoder(contract.action_names, COMMAND_TOPIC)
        loop.subscribe(JointTrajectory, COMMAND_TOPIC, qos.RECORD, self._command)
        self.topics = (*groups, TRUTH_TOPIC, COMMAND_TOPIC)

    def missing(self) -> tuple[str, ...]:
        """Topics that nobody publishes; a paused simulation has not sent anything yet."""
        return tuple(topic for topic in self.topics if self._node.count_publishers(topic) == 0)

    def begin(self, recording: Recording) -> None:
        """Record from the next tick on, which is the first of its episode."""
        self._assembler = TickAssembler(self._streams, TRUTH_STREAM)
        self._recording = recording

    def end(self) -> None:
        """Record nothing more."""
        self._recording = None

    def _sample(self, decoders: list[tuple[str, Decoder]], message: Any) -> None:
        if self._recording is not None:
            stamp_ns = to_ns(message.header.stamp)
            for name, decode in decoders:
                self._record(self._assembler.sample(name, decode(message), stamp_ns))

    def _truth(self, message: JointState) -> None:
        if self._recording is not None:
            value = np.array(message.position, dtype=np.float64)
            self._record(self._assembler.sample(TRUTH_STREAM, value, to_ns(message.header.stamp)))

    def _command(self, message: JointTrajectory) -> None:
        if self._recording is not None:
            self._record(self._assembler.command(self._decoder.decode(message)))

    def _record(self, tick: Tick | None) -> None:
        if tick is None or self._recording is None:
            return
        # The acknowledgement goes out first: the simulation need not wait while the tick is written.
        acknowledgement = Header()
        set_stamp(acknowledgement.stamp, tick.stamp_ns)
        self._ack.publish(acknowledgement)
        at_ns = tick.stamp_ns
        items: list[Item] = [
            (EpisodeWriter.append, (name, value, at_ns, at_ns)) for name, value in tick.samples.items()
        ]
        if (command := tick.command) is not None:
            items.insert(0, _command_item(command, command.stamp_ns))
        self._recording.put(items, nbytes(tick.samples.values()), stream=TRUTH_STREAM, wait=True)


class RealtimeSources:
    """Records each message as it comes, with its source stamp and the time of its receipt, both ROS time."""

    def __init__(self, node: Node, loop: TakeLoop, contract: Contract) -> None:
        self._node = node
        self._contract = contract
        self._recording: Recording | None = None
        self._delivered: set[str] = set()
        self._parts: dict[str, NDArray[np.float64]] = {}
        self.undecodable = 0
        groups = by_topic(list(contract.observations.values()))
        for topic, streams in groups.items():
            decoders = [(stream.name, decoder(stream)) for stream in streams]
            loop.subscribe(
                message_type(streams[0].type), topic, qos.RECORD, partial(self._sample, topic, decoders)
            )
        self.topics = (*groups, *self._subscribe_actions(loop))

    def _subscribe_actions(self, loop: TakeLoop) -> tuple[str, ...]:
        """Topics that the action comes from, by the contract's `record_from`."""
        contract = self._contract
        origins = {channel.record_from for channel in contract.actions.values()}
        if len(origins) > 1:
            raise ConfigError(
                f"{contract.source}: 'record_from' is {sorted(origins)} for different channels; one "
                "command vector is recorded, so write the same for all."
            )
        if origins == {"command"}:
            self._decoder = CommandDecoder(contract.action_names, COMMAND_TOPIC)
            loop.subscribe(JointTrajectory, COMMAND_TOPIC, qos.RECORD, self._command)
        elif origins == {"topic"}:
            for name, channel in contract.actions.items():
                receive = partial(self._part, name, actuator_decoder(channel))
                loop.subscribe(message_type(channel.type), channel.record_topic or "", qos.RECORD, receive)
            return tuple(channel.record_topic or "" for channel in contract.actions.values())
        return ()

    def missing(self) -> tuple[str, ...]:
        """Topics on which no message has come yet."""
        return tuple(topic for topic in self.topics if topic not in self._delivered)

    def begin(self, recording: Recording) -> None:
        """Record everything from now on."""
        self._parts.clear()
        self._recording = recording

    def end(self) -> None:
        """Record nothing more."""
        self._recording = None

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _sample(self, topic: str, decoders: list[tuple[str, Decoder]], message: Any) -> None:
        recv_ns = self._now_ns()
        self._delivered.add(topic)
        if self._recording is None:
            return
        stamp_ns = message_stamp_ns(message) or recv_ns
        for name, decode in decoders:
            try:
                value = decode(message)
            except MessageError as error:
                self._tell(error)
                continue
            self._put(name, (EpisodeWriter.append, (name, value, stamp_ns, recv_ns)), value.nbytes)

    def _command(self, message: JointTrajectory) -> None:
        recv_ns = self._now_ns()
        if self._recording is None:
            return
        try:
            command = self._decoder.decode(message)
        except MessageError as error:
            self._tell(error)
            return
        self._put("commands", _command_item(command, recv_ns), command.values.nbytes)

    def _part(self, channel: str, decode: Decoder, message: Any) -> None:
        """A vendor's topic brought one channel; the vector is recorded with the first channel's messages."""
        recv_ns = self._now_ns()
        contract = self._contract
        self._delivered.add(contract.actions[channel].record_topic or "")
        try:
            self._parts[channel] = decode(message)
        except MessageError as error:
            self._tell(error)
            return
        first = next(iter(contract.actions))
        if self._recording is None or channel != first or len(self._parts) < len(contract.actions):
            return
        values = np.concatenate([self._parts[name] for name in contract.actions])
        stamp_ns = message_stamp_ns(message) or recv_ns
        command = CommandMessage(values, stamp_ns, 0, Source.TELEOP)
        self._put("commands", _command_item(command, recv_ns), values.nbytes)

    def _put(self, stream: str, item: Item, size: int) -> None:
        """Hand a sample over; a recording that has failed gets no more, and its status says why."""
        if self._recording is None:
            return
        try:
            self._recording.put([item], size, stream=stream, wait=False)
        except ArmchairError as error:
            self._recording = None
            self._node.get_logger().error(str(error))

    def _tell(self, error: MessageError) -> None:
        self.undecodable += 1
        if self.undecodable & (self.undecodable - 1) == 0:  # at 1, 2, 4, 8, ...: a camera sends 30 a second
            self._node.get_logger().error(f"{error} ({self.undecodable} messages so far)")


def _command_item(command: CommandMessage, recv_ns: int) -> Item:
    return (
        EpisodeWriter.append_command,
        (command.values, command.stamp_ns, recv_ns, command.observation_ns, command.source),
    )
