"""Reads one topic of pictures in real time: by ticket where a camera of this host hands them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import String

from episodes.bags.cdr import read_cdr
from episodes.messages import MessageError, message_stamp_ns
from ros_nodes import qos
from ros_nodes.convert import message_type
from ros_nodes.loop import TakeLoop
from ros_nodes.pictures.handed import Handing
from ros_nodes.pictures.ticket import SUFFIX

LOOK_NS = 100_000_000
"""How often it looks who publishes, and whether the way is to be changed."""
TELL_NS = 5_000_000_000
"""How often it says at most why pictures do not come by ticket, where the reason is another one."""
IMAGE = "sensor_msgs/msg/Image"
_UNKNOWN = "_NODE_NAME_UNKNOWN_"


class PictureInlet:
    """The newest picture of a topic, whichever way it comes: `receive` gets it with its message's fields.

    While pictures come by ticket the topic itself is not subscribed to, so that a camera to which nobody
    else listens makes no message. A picture that comes both ways is received once.
    """

    def __init__(
        self,
        node: Node,
        loop: TakeLoop,
        topic: str,
        kind: str,
        receive: Callable[[Any], None],
        refuse: Callable[[str], None],
        needed_ns: Callable[[], int | None],
    ) -> None:
        """`kind` is the full type name; `refuse` is told of messages that cannot be read; `needed_ns` says
        for how long a picture that may be lent (`Handed.lease`) is looked at, None where it is copied."""
        self._node, self._loop, self._topic, self._kind = node, loop, topic, kind
        self._receive, self._refuse, self._needed_ns = receive, refuse, needed_ns
        self._handing = Handing()
        self._tell_ns, self._told = 0, ""
        self._last: tuple[str, int] = ("", 0)
        self._closed = False
        self._tickets_topic = f"{topic}/{SUFFIX}"
        self._tickets: Subscription | None = None
        self._messages: Subscription | None = None
        if kind == IMAGE:
            take = self._take_ticket
            self._tickets = loop.subscribe(String, self._tickets_topic, qos.NEWEST, take, newest=True)
        self._subscribe()
        if self._tickets is not None:
            self._look()

    def close(self) -> None:
        """Take the subscriptions back; not from a message's handler."""
        self._closed = True
        for subscription in filter(None, (self._tickets, self._messages)):
            self._loop.unsubscribe(subscription)
        self._tickets = self._messages = None
        self._handing.close()

    def _subscribe(self) -> None:
        # As serialised bytes: the pixels are read where they lie.
        kind, read = message_type(self._kind), self._take_message
        self._messages = self._loop.subscribe(kind, self._topic, qos.NEWEST, read, newest=True, raw=True)

    def _take_ticket(self, message: String) -> None:
        now_ns = self._loop.now_ns()
        picture = self._handing.take(message.data, now_ns, needed_ns=self._needed_ns())
        if picture is not None:
            self._receive_once("ticket", picture)

    def _take_message(self, data: bytes) -> None:
        if self._handing.works(self._loop.now_ns()):
            return
        try:
            message = read_cdr(data, self._kind, self._topic)
        except MessageError as error:
            self._refuse(str(error))
        else:
            self._receive_once("message", message)

    def _receive_once(self, way: str, message: Any) -> None:
        """A camera that repeats a stamp is for others to judge: only what came the other way is a double."""
        before, self._last = self._last, (way, message_stamp_ns(message) or 0)
        if before[0] == way or before[1] != self._last[1] or not before[1]:
            self._receive(message)

    def _look(self) -> None:
        if self._closed:
            return
        pictures, tickets = self._publishers(self._topic), self._publishers(self._tickets_topic)
        named = [name for name in (*pictures, *tickets) if name is not None]
        if len(named) == len(pictures) + len(tickets):
            self._handing.publishers(named[: len(pictures)], named[len(pictures) :])
        else:
            self._handing.publishers((), ())
        now_ns = self._loop.now_ns()
        works = self._handing.works(now_ns)
        if works and self._messages is not None:
            self._loop.unsubscribe(self._messages)
            self._messages = None
            self._log("pictures come through shared memory")
        elif not works and self._messages is None:
            self._subscribe()
            self._log(f"not through shared memory any more: {self._handing.problem or 'nothing comes'}")
        elif not works and now_ns >= self._tell_ns and self._handing.problem not in ("", self._told):
            self._tell_ns, self._told = now_ns + TELL_NS, self._handing.problem
            self._log(f"not through shared memory: {self._told}")
        self._loop.at(now_ns + LOOK_NS, self._look)

    def _publishers(self, topic: str) -> list[str | None]:
        """The nodes that publish a topic; None for one that has been heard of and not been named yet."""
        found = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        return [
            None if i.node_name == _UNKNOWN else f"{i.node_namespace.rstrip('/')}/{i.node_name}"
            for i in found
        ]

    def _log(self, text: str) -> None:
        self._node.get_logger().info(f"{self._topic}: {text}")
