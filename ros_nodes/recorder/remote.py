"""A running recorder, seen from another process: its status, its services, its parameters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from episodes.errors import StackError
from ros_nodes import qos
from ros_nodes.loop import TakeLoop
from ros_nodes.recorder.status import RecorderStatus, from_pairs

COMMANDS = ("start", "success", "failure", "stop", "discard", "rerecord")
"""Trigger services of the recorder."""
Answer = Callable[[bool, str], None]


class RemoteRecorder:
    """Talks to the recorder node `name` from the loop of another node."""

    def __init__(self, node: Node, loop: TakeLoop, name: str = "recorder") -> None:
        """`name` may carry a namespace: the status is that of the same one."""
        self._loop = loop
        self.name = name
        self.status: RecorderStatus | None = None
        """What it said last, None before it was heard."""
        self.heard_ns = 0
        """When, monotonic ns."""
        space = name.rpartition("/")[0]
        topic = f"{space}/episode/status" if space else "episode/status"
        loop.subscribe(DiagnosticStatus, topic, qos.LATCHED, self._hear)
        self._clients = {command: loop.client(Trigger, f"{name}/{command}") for command in COMMANDS}
        self._switch = loop.client(SetBool, f"{name}/record")
        self._setter = loop.client(SetParameters, f"{name}/set_parameters")

    def _hear(self, message: DiagnosticStatus) -> None:
        self.status = from_pairs(message.message, [(pair.key, pair.value) for pair in message.values])
        self.heard_ns = time.monotonic_ns()

    @property
    def is_there(self) -> bool:
        """Whether it was heard, and its services are there."""
        return self.status is not None and all(client.service_is_ready() for client in self._clients.values())

    @property
    def rivals(self) -> int:
        """How many recorders of this name there are beside one."""
        return max(0, self._loop.node.count_services(f"{self.name}/start") - 1)

    def ask(self, command: str, answer: Answer) -> None:
        """Call one of `COMMANDS`; `answer` is called from the loop once it has answered."""
        future = self._clients[command].call_async(Trigger.Request())
        future.add_done_callback(lambda done: answer(done.result().success, done.result().message))

    def call(self, command: str, patience_s: float = 30.0) -> tuple[bool, str]:
        """Call one of `COMMANDS` and wait for the answer.

        Raises:
            StackError: it does not answer.
        """
        return self._wait(self._clients[command], Trigger.Request(), command, patience_s)

    def set(self, **values: str | int | float) -> None:
        """Set parameters of the recorder.

        Raises:
            StackError: it refuses, or does not answer.
        """
        messages = [Parameter(key, value=value).to_parameter_msg() for key, value in values.items()]
        response = self._response(self._setter, SetParameters.Request(parameters=messages), "set", 30.0)
        for key, result in zip(values, response.results, strict=True):
            if not result.successful:
                raise StackError(f"{self.name} refused parameter {key}: {result.reason}.")

    def _wait(self, client: Any, request: Any, what: str, patience_s: float) -> tuple[bool, str]:
        response = self._response(client, request, what, patience_s)
        return bool(response.success), str(response.message)

    def _response(self, client: Any, request: Any, what: str, patience_s: float) -> Any:
        deadline_ns = time.monotonic_ns() + round(patience_s * 1e9)
        if self._loop.spin_until(client.service_is_ready, deadline_ns):
            future = client.call_async(request)
            if self._loop.spin_until(future.done, deadline_ns):
                return future.result()
        raise StackError(f"{self.name}/{what} did not answer within {patience_s:g} s: does it run?")
