"""A process that subscribes to pictures reliably and takes them: for the test to stop it, in mid-stream."""

from __future__ import annotations

import sys

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from ros_nodes import qos
from ros_nodes.loop import TakeLoop, stop_signals


def main() -> int:
    """Listen to the topic that is named until a signal comes."""
    with stop_signals() as stop:
        rclpy.init()
        node = Node("listener")
        loop = TakeLoop(node, stop)
        said: list[bool] = []

        def hear(message: Image) -> None:
            if not said:
                said.append(True)
                print("listening", flush=True)

        loop.subscribe(Image, sys.argv[1], qos.RECORD, hear)
        loop.spin()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
