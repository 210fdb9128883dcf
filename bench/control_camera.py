"""A camera as a process for bench `control`: pictures at an even rate, stamped when publishing them begins.

It publishes through the same code as `camera_node`. A device would add its own delays, which are no part of
what is measured.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node

from bench.pictures import textured
from ros_nodes.cameras.topics import StreamTopics
from ros_nodes.loop import TakeLoop
from ros_nodes.shell import run_node

DISTINCT = 8
"""How many different pictures go round."""


@dataclass(frozen=True)
class BenchCameraConfig:
    """Parameters of the bench's camera."""

    topic: str = "camera/front/image_raw"
    """Where to publish."""
    height: int = 480
    """Rows."""
    width: int = 640
    """Columns."""
    rate_hz: float = 30.0
    """Pictures a second."""
    handed: bool = True
    """Whether processes of this host may take them from shared memory."""


class BenchCamera:
    """Publishes by deadlines on the monotonic clock."""

    def __init__(self, node: Node, loop: TakeLoop, config: BenchCameraConfig) -> None:
        rng = np.random.default_rng(0)
        self._pictures = textured(rng, DISTINCT, config.height, config.width)
        self._topics = StreamTopics(node, config.topic, "front", compressed=False, handed=config.handed)
        self._loop = loop
        self._period_ns = round(1e9 / config.rate_hz)
        self._next_ns = loop.now_ns()
        self._count = 0
        loop.at(self._next_ns, self._publish)

    def _publish(self) -> None:
        pixels = self._pictures[self._count % DISTINCT]
        self._count += 1
        self._topics.publish(pixels, time.time_ns(), None, 95)
        skipped = max(0, self._loop.now_ns() - self._next_ns) // self._period_ns
        self._next_ns += (skipped + 1) * self._period_ns
        self._loop.at(self._next_ns, self._publish)

    def close(self, reason: str) -> None:
        """Nothing is held."""


def main() -> int:
    """Entry point of `python -m bench.control_camera`."""
    return run_node("camera", BenchCameraConfig, BenchCamera)


if __name__ == "__main__":
    sys.exit(main())
