"""A gamepad as a process: its state fifty times a second, as ROS's `joy_node` publishes it.

The parameter `held` is its left shoulder, which is `teleop_node`'s dead-man; `push` is how far its first
axis, which drives the first joint, is pushed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import Joy

from ros_nodes import qos
from ros_nodes.loop import TakeLoop
from ros_nodes.parameters import current
from ros_nodes.shell import run_node

PERIOD_NS = 20_000_000
AXES, BUTTONS = 8, 11
"""Of a common gamepad."""
SHOULDER = 4


@dataclass(frozen=True)
class GamepadConfig:
    """Parameters of the gamepad."""

    held: bool = False
    """Whether the left shoulder is pressed."""
    push: float = 0.0
    """First axis, -1 to 1."""


class Gamepad:
    """Says where its axes and buttons are."""

    def __init__(self, node: Node, loop: TakeLoop, config: GamepadConfig) -> None:
        self._node, self._loop = node, loop
        self._publisher = node.create_publisher(Joy, "joy", qos.STREAM)
        loop.at(0, self._beat)

    def _beat(self) -> None:
        config = current(self._node, GamepadConfig)
        message = Joy(axes=[0.0] * AXES, buttons=[0] * BUTTONS)
        message.axes[0], message.buttons[SHOULDER] = config.push, int(config.held)
        self._publisher.publish(message)
        self._loop.at(self._loop.now_ns() + PERIOD_NS, self._beat)

    def close(self, reason: str) -> None:
        """Nothing is held."""


def main() -> int:
    """Entry point of `python -m bench.drills.gamepad`."""
    return run_node("gamepad", GamepadConfig, Gamepad, settable=("held", "push"))


if __name__ == "__main__":
    sys.exit(main())
