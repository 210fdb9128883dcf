"""Hands pictures to processes of this host: into a ring first, then the ticket."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import String

from ros_nodes import qos
from ros_nodes.pictures.ring import RingError, RingWriter
from ros_nodes.pictures.ticket import SUFFIX


class PictureOutlet:
    """Tickets of one topic of pictures. Nothing is copied while nobody listens to them.

    Where the machine gives no shared memory the log says so once, and the ordinary topic remains.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node, self._topic = node, topic
        self._publisher = node.create_publisher(String, f"{topic}/{SUFFIX}", qos.STREAM)
        self._ring: RingWriter | None = None
        self._possible = True

    def publish(self, pixels: NDArray[Any], stamp_ns: int, encoding: str, frame_id: str) -> None:
        """Hand out one picture (H, W, C); call it before the message of the ordinary topic is made."""
        if not self._possible or not self._publisher.get_subscription_count():
            return
        if self._ring is None or not self._ring.fits(pixels.nbytes):
            self.close()
            try:
                self._ring = RingWriter(pixels.nbytes)
            except RingError as error:
                self._possible = False
                self._node.get_logger().warning(f"{self._topic}: {error}; pictures go over DDS alone.")
                return
        # The copy takes about as long as the ticket's way: both at once.
        ticket = self._ring.begin(pixels, stamp_ns, encoding, frame_id)
        self._publisher.publish(String(data=ticket.text()))
        self._ring.fill(pixels)

    def close(self) -> None:
        """Let go of the ring."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
