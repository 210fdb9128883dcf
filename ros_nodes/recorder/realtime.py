"""A robot's streams as they arrive: each message with its source stamp and the time of its receipt."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from episodes.command_parts import CommandParts
from episodes.contract import Contract
from episodes.errors import ArmchairError
from episodes.messages import (
    COMMAND_TOPIC,
    CommandDecoder,
    MessageError,
    actuator_decoder,
    message_stamp_ns,
)
from episodes.picture_messages import decoder
from episodes.recorded_messages import recorded_decoder
from episodes.writer import EpisodeWriter
from ros_nodes.loop import TakeLoop
from ros_nodes.recorder.parts import (
    COMMANDS,
    ChannelCommand,
    OwnCommand,
    Part,
    Picture,
    PictureSettings,
    Text,
    Vector,
)
from ros_nodes.recorder.recording import Recording
from ros_nodes.recorder.status import StreamStatus
from ros_nodes.recorder.topics import Topic, Topics
from ros_nodes.recorder.watching import ClockWatch

FAR_NS = 600_000_000_000
"""A source stamp this far from the receive stamp is damaged, or of a clock of its own."""
_COMMAND_TYPE = "trajectory_msgs/msg/JointTrajectory"


@dataclass(frozen=True)
class SourceSettings:
    """How the streams are taken."""

    pictures: PictureSettings
    stamps: str
    """header, or receive: the time of receipt is the source stamp too."""
    silent_ns: int
    """A stream from which nothing came for so long is silent."""
    dead_ns: int
    """One that is silent for so long is dead, and ends the episode; 0: never."""
    clock_jump_ns: int
    """How far the clock may move against the monotonic one between two messages."""


class RealtimeSources:
    """Subscribes to what the contract names, and hands it to a recording while there is one."""

    def __init__(self, node: Node, loop: TakeLoop, contract: Contract, settings: SourceSettings) -> None:
        """Subscribe; `node` may use simulated time, which is then what samples are stamped with."""
        self._node = node
        self._settings = settings
        self._recording: Recording | None = None
        self._commands = CommandParts(contract)
        self._simulated = bool(node.get_parameter("use_sim_time").value)
        self._clock = ClockWatch(settings.clock_jump_ns, simulated=self._simulated)
        self._late: deque[tuple[Part, MessageError]] = deque()
        self._silent: dict[str, int] = {}
        self.undecodable = 0
        """Messages that did not fit the contract."""
        self.trouble = ""
        """Why the episode under way cannot go on; empty while it can."""
        self._topics = Topics(node, loop, self._receive)
        for topic, kind, part, required in self._parts(contract):
            stream = contract.observations.get(part.name)
            patience_ns = None if stream is None else stream.max_age_ns
            self._topics.add(topic, kind, part, required=required, patience_ns=patience_ns)
        self._topics.subscribe()

    def _parts(self, contract: Contract) -> Iterator[tuple[str, str, Part, bool]]:
        """Every (topic, type, part, whether recording waits for it)."""
        for stream in contract.observations.values():
            watched = self._commands if stream.name in self._commands.measured_streams else None
            part: Part = Vector(stream.name, decoder(stream), watched)
            if stream.is_image:
                part = Picture(stream, decoder(stream), self._settings.pictures, self._refuse_later)
            yield stream.topic, stream.type, part, True
        origins = {channel.record_from for channel in contract.actions.values()}
        if "command" in origins:
            own = OwnCommand(CommandDecoder(contract.action_names, COMMAND_TOPIC), self._commands)
            # Control sends nothing before it is enabled, which may be after the start of the recording.
            yield COMMAND_TOPIC, _COMMAND_TYPE, own, False
        # The first channel leads: it comes last, when the others have their values of the same message.
        for name, channel in reversed(contract.actions.items()):
            if channel.record_from == "topic":
                decode = actuator_decoder(channel)
                yield (
                    channel.record_topic or "",
                    channel.recorded_type,
                    ChannelCommand(name, decode, self._commands),
                    True,
                )
        for name, topic in contract.recorded.items():
            stream = topic.stream
            if topic.is_text:
                part = Text(name)
            elif stream.is_image:
                part = Picture(stream, recorded_decoder(topic), self._settings.pictures, self._refuse_later)
            else:
                part = Vector(name, recorded_decoder(topic))
            yield stream.topic, stream.type, part, topic.required

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics without whose first message nothing is recorded."""
        return tuple(topic.name for topic in self._topics if topic.required)

    def missing(self) -> tuple[str, ...]:
        """Topics that bring nothing now, each with what is known of it."""
        now_ns = time.monotonic_ns()
        found = []
        if self._simulated and not self._node.get_clock().now().nanoseconds:
            found.append("clock (use_sim_time is set, but no time has come)")
        for topic in self._topics:
            age_ns = self._silent_for_ns(topic, now_ns)
            if topic.required - topic.delivered:
                found.append(f"{topic.name} ({topic.problem or self._topics.why_nothing(topic)})")
            elif age_ns:
                found.append(f"{topic.name} (the last message came {age_ns / 1e9:.1f} s ago)")
        return tuple(found)

    def begin(self, recording: Recording) -> None:
        """Record everything from now on."""
        # A jump before it, such as that from no time at all to the first simulated time, is none in it.
        self._clock.restart()
        self._clock.jump_ns(*self._read_clocks())
        self._commands.restart()
        self._silent.clear()
        self._late.clear()
        for topic in self._topics:
            topic.watch.restart_counts()
        self.trouble = ""
        self._recording = recording

    def end(self) -> None:
        """Record nothing more."""
        self._recording = None

    def bytes_per_s(self) -> float:
        """What an episode takes of the disk in a second, estimated."""
        now_ns = time.monotonic_ns()
        return sum(topic.watch.bytes_per_s(now_ns) * topic.kept_share for topic in self._topics)

    def rows(self) -> tuple[StreamStatus, ...]:
        """Every stream, for the status."""
        now_ns = time.monotonic_ns()
        return tuple(
            StreamStatus.of(part.name, topic.watch, now_ns, topic.problem)
            for topic in self._topics
            for part in topic.parts
        )

    def look(self) -> None:
        """To be called now and then: notices silences, and publishers that ask for another QoS."""
        self._topics.look()
        while self._late:
            part, error = self._late.popleft()
            self._refuse(next(t for t in self._topics if part in t.parts), part, error, count=False)
        if self._recording is None:
            return
        now_ns = time.monotonic_ns()
        for topic in self._topics:
            age_ns = self._silent_for_ns(topic, now_ns)
            if age_ns and topic.name not in self._silent:
                self._event("stream_silent", topic, {"for_s": round(age_ns / 1e9, 3)})
                self._node.get_logger().error(f"{topic.name}: nothing came for {age_ns / 1e9:.1f} s")
            if age_ns:
                self._silent[topic.name] = age_ns
            if self._settings.dead_ns and age_ns > max(self._settings.dead_ns, topic.patience_ns or 0):
                self._stop(f"{topic.name} brought nothing for {age_ns / 1e9:.1f} s")

    def silent(self) -> tuple[str, ...]:
        """Topics that are silent now, each with how long."""
        return tuple(f"{name} for {age_ns / 1e9:.1f} s" for name, age_ns in self._silent.items())

    def _silent_for_ns(self, topic: Topic, now_ns: int) -> int:
        """How long a topic that must not be silent is, 0 while it is not."""
        if topic.patience_ns is None:
            return 0
        return topic.watch.silent_for_ns(now_ns, max(self._settings.silent_ns, topic.patience_ns))

    def _receive(self, topic: Topic, message: Any, info: dict[str, Any]) -> None:
        recv_ns, now_ns, apart_ns = self._read_clocks()
        jump_ns = self._clock.jump_ns(recv_ns, now_ns, apart_ns)
        if jump_ns and self._recording is not None:
            self._stop(
                f"the clock was set {'forward' if jump_ns > 0 else 'back'} by {abs(jump_ns) / 1e9:.3f} s: "
                "stamps from before and after do not fit together"
            )
        try:
            stamp_ns = self._stamp(topic, message, recv_ns)
        except MessageError as error:
            for part in topic.parts:
                self._refuse(topic, part, error)
            return
        size = len(message.data) if topic.is_picture else 64
        lost = topic.watch.note(now_ns, stamp_ns, size, topic.sequence(info), self._settings.silent_ns)
        self._note_source(topic, stamp_ns, recv_ns, lost)
        problems = []
        for part in topic.parts:
            records = self._recording is not None
            try:
                if self._recording is not None:
                    part.record(self._recording, message, stamp_ns, recv_ns)
                elif part.name not in topic.delivered:
                    part.probe(message)
            except MessageError as error:
                self._refuse(topic, part, error)
                problems.append(str(error))
            except ArmchairError:
                self._recording = None  # the node finds the error in the recording
            else:
                topic.delivered.add(part.name)
                problems.append(part.odd if records else "")
        topic.problem = "; ".join(filter(None, problems))

    def _read_clocks(self) -> tuple[int, int, int]:
        """ROS time, monotonic time, and how much time may have passed between the two readings, ns."""
        before_ns = time.monotonic_ns()
        ros_ns = int(self._node.get_clock().now().nanoseconds)
        after_ns = time.monotonic_ns()
        return ros_ns, after_ns, after_ns - before_ns

    def _stamp(self, topic: Topic, message: Any, recv_ns: int) -> int:
        stamp_ns = message_stamp_ns(message) if self._settings.stamps == "header" else None
        if stamp_ns is None:
            return recv_ns
        if stamp_ns < 0 or abs(stamp_ns - recv_ns) > FAR_NS:
            raise MessageError(
                f"{topic.name}: the source stamp {stamp_ns} ns is {abs(stamp_ns - recv_ns) / 1e9:.0f} s from "
                "the receive stamp: it is damaged, or of a clock of its own. In the latter case set the "
                "recorder's parameter 'stamps' to 'receive'."
            )
        return stamp_ns

    def _note_source(self, topic: Topic, stamp_ns: int, recv_ns: int, lost: int) -> None:
        """What the stamps and numbers of a message tell besides."""
        jump_ns = topic.watch.jump_of_source_ns(stamp_ns, recv_ns)
        if self._recording is None:
            return
        silent_ns = self._silent.pop(topic.name, 0)
        if silent_ns:
            self._event("stream_back", topic, {"after_s": round(silent_ns / 1e9, 3)})
            self._node.get_logger().warning(f"{topic.name}: back after {silent_ns / 1e9:.1f} s")
        elif jump_ns:
            self._event("stamp_jump", topic, {"by_s": round(jump_ns / 1e9, 3)})
            self._node.get_logger().error(
                f"{topic.name}: the clock that stamps it jumped by {jump_ns / 1e9:.3f} s against ours"
            )
        if lost:
            for name in topic.blamed:
                self._tell_recording(EpisodeWriter.count_drop, name, lost)

    def _event(self, name: str, topic: Topic, value: dict[str, Any]) -> None:
        stamp_ns = int(self._node.get_clock().now().nanoseconds)
        self._tell_recording(EpisodeWriter.event, name, {"topic": topic.name, **value}, stamp_ns)

    def _tell_recording(self, method: Any, *arguments: Any) -> None:
        if self._recording is not None:
            try:
                self._recording.put([(method, arguments)], 0, stream=COMMANDS, wait=False)
            except ArmchairError:
                self._recording = None

    def _stop(self, why: str) -> None:
        """The episode cannot go on; what has come so far is kept."""
        self.trouble = self.trouble or why
        self._recording = None

    def _refuse_later(self, part: Part, error: MessageError) -> None:
        """From the pool: a deque takes it without a lock."""
        self._late.append((part, error))

    def _refuse(self, topic: Topic, part: Part, error: MessageError, *, count: bool = True) -> None:
        """A message did not fit; to the recording it is one that was dropped."""
        topic.problem = str(error)
        self.undecodable += 1
        if count and part.name in topic.blamed:
            self._tell_recording(EpisodeWriter.count_drop, part.name, 1)
        if self.undecodable & (self.undecodable - 1) == 0:  # at 1, 2, 4, 8, ...: a camera sends 30 a second
            self._node.get_logger().error(f"{error} ({self.undecodable} messages so far)")
