"""A ROS domain of a bench's own, with a node of the bench in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from ros_nodes import dds
from ros_nodes.stacks import launch_folder


@contextlib.contextmanager
def own_domain(
    purpose: str, folder: Path, processes: int, name: str
) -> Iterator[tuple[dict[str, str], Node]]:
    """(environment of the processes, node); what killed processes leave in shared memory goes at the end.

    Args:
        purpose: for whoever finds the domain taken.
        folder: for a Fast DDS profile that fits a small /dev/shm.
        processes: how many there will be.
        name: of the node.

    Raises:
        MachineError: no domain is free.
    """
    since_s = time.time() - 1.0
    with contextlib.ExitStack() as stack:
        domain = stack.enter_context(dds.hold_domain(None, purpose))
        profile, _ = dds.fitting_profile(launch_folder() / "fastdds.xml", processes, folder)
        environment = dds.environment(domain, profile)
        stack.callback(dds.clean_segments, since_s, domain)
        stack.enter_context(dds.variables(environment))
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(context.try_shutdown)
        node = Node(name, context=context)
        stack.callback(node.destroy_node)
        yield environment, node
