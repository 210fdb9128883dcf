"""A process that writes pictures into a ring without a pause; each pixel says the picture's number."""

from __future__ import annotations

import sys

import numpy as np

from ros_nodes.pictures.ring import RingWriter


def main() -> int:
    """Print the first ticket, then write until killed."""
    height, width = int(sys.argv[1]), int(sys.argv[2])
    ring = RingWriter(height * width * 3)
    pictures = [np.full((height, width, 3), value, np.uint8) for value in range(7)]
    number = 1
    print(ring.write(pictures[number % 7], number, "rgb8").text(), flush=True)
    while True:
        number += 1
        ring.write(pictures[number % 7], number, "rgb8")


if __name__ == "__main__":
    sys.exit(main())
