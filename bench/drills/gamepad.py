"""An operator's device as a process: a dead-man 50 times a second, and joint commands while it is held.

It asks for one pose, wherever the arm is. The parameter `held` is the dead-man.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Bool

from bench.drills.network import HOME
from episodes.contract import load_contract
from ros_nodes import qos
from ros_nodes.loop import TakeLoop
from ros_nodes.parameters import current
from ros_nodes.shell import run_node
from ros_nodes.teleop.messages import ENABLE_TOPIC, TeleopEncoder

PERIOD_NS = 20_000_000
TURNED = 0.9
"""rad, of joint1: where the operator wants the arm, with all other joints in the middle of their circles."""


@dataclass(frozen=True)
class HandConfig:
    """Parameters of the operator."""

    contract: str = ""
    """Robot contract."""
    held: bool = False
    """Whether the dead-man is held."""


class Hand:
    """Publishes dead-man and command."""

    def __init__(self, node: Node, loop: TakeLoop, config: HandConfig) -> None:
        self._node, self._loop = node, loop
        self._encoder = TeleopEncoder(load_contract(config.contract))
        self._target = np.array(HOME)
        self._target[0] = TURNED
        self._deadman = node.create_publisher(Bool, ENABLE_TOPIC, qos.STREAM)
        messages = self._encoder.encode(self._target, 0)
        self._commands = {t: node.create_publisher(type(m), t, qos.STREAM) for t, m in messages.items()}
        loop.at(0, self._beat)

    def _beat(self) -> None:
        held = current(self._node, HandConfig).held
        self._deadman.publish(Bool(data=held))
        if held:
            now_ns = int(self._node.get_clock().now().nanoseconds)
            for topic, message in self._encoder.encode(self._target, now_ns).items():
                self._commands[topic].publish(message)
        self._loop.at(self._loop.now_ns() + PERIOD_NS, self._beat)

    def close(self, reason: str) -> None:
        """Nothing is held."""


def main() -> int:
    """Entry point of `python -m bench.drills.hand`."""
    return run_node("hand", HandConfig, Hand, settable=("held",))


if __name__ == "__main__":
    sys.exit(main())
