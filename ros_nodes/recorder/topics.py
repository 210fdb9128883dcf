"""The recorder's subscriptions: one per topic, fitted to what its publishers offer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from episodes.contract_model import IMAGE_TYPES
from episodes.errors import ContractError
from ros_nodes import qos
from ros_nodes.convert import message_type
from ros_nodes.loop import TakeLoop
from ros_nodes.recorder.parts import Part, Picture, Text
from ros_nodes.recorder.watching import StreamWatch

LOOK_NS = 250_000_000


@dataclass
class Topic:
    """One topic with the parts that its messages bring."""

    name: str
    type: str
    parts: list[Part] = field(default_factory=list)
    required: set[str] = field(default_factory=set)
    """Parts without whose first sample nothing is recorded."""
    patience_ns: int | None = None
    """How long it may be silent by the contract; None where it may be so for ever."""
    delivered: set[str] = field(default_factory=set)
    """Parts of which a sample has come that fits the contract."""
    problem: str = ""
    """Why the last message was refused, or what is odd about it; empty for neither."""
    watch: StreamWatch = field(default_factory=StreamWatch)
    profile: QoSProfile = field(default_factory=lambda: qos.RECORD_VECTORS)
    subscription: Subscription | None = None
    alone: bool = False
    """Whether one publisher has the topic to itself, so that the numbers of its messages tell losses."""

    @property
    def is_picture(self) -> bool:
        """Whether its messages are pictures."""
        return self.type in IMAGE_TYPES

    @property
    def kept_share(self) -> float:
        """How much of its messages goes to the disk, about: of pictures that become JPEG a quarter."""
        shares = [part.kept_share for part in self.parts if isinstance(part, Picture)]
        return max(shares, default=1.0)

    @property
    def blamed(self) -> set[str]:
        """Streams of the file that lack a sample when a message is lost; texts are events and have none."""
        return {part.name for part in self.parts if not isinstance(part, Text)}

    def sequence(self, info: dict[str, Any]) -> int | None:
        """The number that the publisher gave the message, where it tells of losses."""
        return info.get("publication_sequence_number") if self.alone else None


class Topics:
    """All of them."""

    def __init__(
        self, node: Node, loop: TakeLoop, receive: Callable[[Topic, Any, dict[str, Any]], None]
    ) -> None:
        """`receive` is called with every message, its topic and rmw's info."""
        self._node = node
        self._loop = loop
        self._receive = receive
        self._topics: dict[str, Topic] = {}
        self._looked_ns = 0

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def add(
        self, name: str, kind: str, part: Part, *, required: bool, patience_ns: int | None = None
    ) -> None:
        """A part that messages on topic `name` bring; ContractError where it is there with another type.

        Args:
            name: of the topic.
            kind: its type.
            part: what becomes of its messages.
            required: whether nothing is recorded without its first sample.
            patience_ns: how old a sample may be by the contract, None where it may be of any age.
        """
        topic = self._topics.setdefault(name, Topic(name, kind))
        if topic.type != kind:
            raise ContractError(
                f"topic {name} is {topic.type} in one place of the contract and {kind} in another."
            )
        topic.parts.append(part)
        if required:
            topic.required.add(part.name)
        if patience_ns is not None:
            topic.patience_ns = max(patience_ns, topic.patience_ns or 0)

    def subscribe(self) -> None:
        """Subscribe to everything that was added."""
        for topic in self:
            self._subscribe(topic, qos.RECORD if topic.is_picture else qos.RECORD_VECTORS)

    def _subscribe(self, topic: Topic, profile: QoSProfile) -> None:
        if topic.subscription is not None:
            self._loop.unsubscribe(topic.subscription)
        topic.profile = profile
        topic.subscription = self._loop.subscribe(
            message_type(topic.type), topic.name, profile, partial(self._receive, topic), info=True
        )

    def look(self) -> None:
        """Fit the subscriptions of silent topics to their publishers, now and then."""
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        for topic in self:
            topic.alone = self._node.count_publishers(topic.name) == 1
            if topic.watch.last_ns is None:
                self._fit(topic)

    def _fit(self, topic: Topic) -> None:
        offered = [
            info.qos_profile
            for info in self._node.get_publishers_info_by_topic(topic.name)
            if info.topic_type == topic.type
        ]
        wanted = qos.as_published(topic.profile, offered)
        fits = (wanted.reliability, wanted.durability) == (
            topic.profile.reliability,
            topic.profile.durability,
        )
        if offered and not fits:
            kind = f"{wanted.reliability.name}, {wanted.durability.name}".lower()
            self._node.get_logger().warning(f"{topic.name} is published {kind}: subscribing alike.")
            self._subscribe(topic, wanted)

    def why_nothing(self, topic: Topic) -> str:
        """Why no message of a topic has come, as far as the graph tells."""
        infos = self._node.get_publishers_info_by_topic(topic.name)
        if not infos:
            return "nobody publishes there"
        names = sorted({info.node_name for info in infos if info.topic_type == topic.type})
        if not names:
            others = sorted({info.topic_type for info in infos})
            return f"published as {', '.join(others)}, the contract says {topic.type}"
        return f"{', '.join(names)} publishes there, but no message has come"
