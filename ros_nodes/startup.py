"""What a node says at its start when its process lacks the settings that camera pictures need."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from rclpy.node import Node

from ros_nodes.dds import MALLOC, SEGMENT_BYTES

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def missing_settings(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What the environment of a process lacks, one sentence each; nothing under `armchair up`.

    All of it must be there before the process starts: Fast DDS and malloc read it once.
    """
    found = []
    middleware = environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if middleware.startswith("rmw_fastrtps"):
        problem = _profile_problem(environment.get(PROFILE_VARIABLE, ""))
        if problem:
            found.append(
                f"{problem}: the default shared memory of 512 KiB loses camera pictures (11 of 30 a second "
                "arrive at 640x480). Start the node with `armchair up` or `ros2 launch armchair`, or set "
                f"{PROFILE_VARIABLE}=launch/fastdds.xml."
            )
    unset = [name for name in MALLOC if not environment.get(name)]
    if unset:
        found.append(
            f"not set: {', '.join(unset)}. malloc gives the memory of each picture back to the kernel, which "
            f"costs 2 to 3 times the latency: set them to {MALLOC[unset[0]]}."
        )
    return tuple(found)


def _profile_problem(file: str) -> str:
    """What is wrong with a Fast DDS profile, or nothing."""
    if not file:
        return f"{PROFILE_VARIABLE} is not set"
    try:
        text = Path(file).read_text()
    except OSError as error:
        return f"{PROFILE_VARIABLE} is {file}, which cannot be read ({error.strerror})"
    sizes = [int(size) for size in re.findall(r"<segment_size>\s*(\d+)\s*<", text)]
    if not sizes:
        return f"{PROFILE_VARIABLE} is {file}, which sets no segment_size"
    if max(sizes) < SEGMENT_BYTES:
        return f"{PROFILE_VARIABLE} is {file}, with {max(sizes) >> 10} KiB instead of {SEGMENT_BYTES >> 10}"
    return ""


def warn_of_missing_settings(node: Node, environment: Mapping[str, str] = os.environ) -> None:
    """Log one warning for each; call it once, when the node begins."""
    for text in missing_settings(environment):
        node.get_logger().warning(text)
