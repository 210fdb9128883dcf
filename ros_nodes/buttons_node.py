"""A joystick's buttons or a pedal for the recorder: each press calls one of its services.

    subscribes  joy Joy, episode/status
    calls       recorder/start, recorder/success, ...
    services    ~/ready Trigger

A pedal that shows up as a joystick goes through `joy_node`; one that types keys works in `armchair record`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import Joy

from episodes.errors import ConfigError, did_you_mean
from ros_nodes import qos
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.recorder.remote import COMMANDS, RemoteRecorder
from ros_nodes.recorder.status import RECORDING
from ros_nodes.shell import run_node

TOGGLE = "toggle"
"""Starts an episode, and ends it as a success: all that a single pedal needs."""


@dataclass(frozen=True)
class ButtonsConfig:
    """Parameters of the buttons node."""

    recorder: str = "recorder"
    """Name of the recorder, with its namespace where that is another one."""
    buttons: tuple[str, ...] = ("start=7", "success=0", "failure=1", "discard=2", "rerecord=3")
    """What the buttons do: action=number, with an action of start, success, failure, stop, discard, rerecord
    or toggle (start, then success). Numbers count from 0 as in the Joy message."""
    again_s: float = 0.3
    """A button that bounces, or is pressed again within this time, counts once."""


def parse_buttons(entries: Sequence[str]) -> dict[int, str]:
    """Action of each button.

    Raises:
        ConfigError: an entry does not read action=number, or a button is there twice.
    """
    actions: dict[int, str] = {}
    for entry in entries:
        action, _, number = entry.partition("=")
        if action not in (*COMMANDS, TOGGLE):
            raise ConfigError(f"parameter 'buttons': {entry!r}: {did_you_mean(action, (*COMMANDS, TOGGLE))}")
        if not number.isdecimal() or int(number) in actions:
            raise ConfigError(f"parameter 'buttons': {entry!r}: write action=number, each number once.")
        actions[int(number)] = action
    return actions


class Presses:
    """Presses out of the states of the buttons; what is held down when it begins is no press."""

    def __init__(self, actions: Mapping[int, str], again_ns: int) -> None:
        self._actions = actions
        self._again_ns = again_ns
        self._before: list[int] | None = None
        self._last_ns: dict[int, int] = {}

    def __call__(self, buttons: Sequence[int], now_ns: int) -> list[str]:
        """Actions of the buttons that went down, at `now_ns` of the monotonic clock."""
        before, self._before = self._before, list(buttons)
        found = []
        for number, action in self._actions.items():
            if before is None or number >= min(len(before), len(buttons)):
                continue
            pressed = buttons[number] and not before[number]
            if pressed and now_ns - self._last_ns.get(number, -self._again_ns) >= self._again_ns:
                self._last_ns[number] = now_ns
                found.append(action)
        return found


class ButtonsNode:
    """Calls services; what the recorder answers is logged."""

    def __init__(self, node: Node, loop: TakeLoop, config: ButtonsConfig) -> None:
        self._node = node
        self._presses = Presses(parse_buttons(config.buttons), round(config.again_s * 1e9))
        self._recorder = RemoteRecorder(node, loop, config.recorder)
        loop.subscribe(Joy, "joy", qos.RECORD_VECTORS, self._receive)
        loop.trigger("~/ready", self._ready)

    def _ready(self, reply: Reply) -> None:
        there = self._recorder.is_there
        reply(there, "ready" if there else f"waiting for the recorder {self._recorder.name!r}")

    def _receive(self, message: Joy) -> None:
        for action in self._presses(message.buttons, time.monotonic_ns()):
            self._do(action)

    def _do(self, action: str) -> None:
        log = self._node.get_logger()
        if not self._recorder.is_there:
            log.error(f"{action}: the recorder {self._recorder.name!r} is not there")
            return
        if action == TOGGLE:
            status = self._recorder.status
            action = "success" if status is not None and status.state == RECORDING else "start"

        def answered(ok: bool, text: str) -> None:
            if ok:
                log.info(f"{action}: {text}")
            else:
                log.error(f"{action}: {text}")

        self._recorder.ask(action, answered)

    def close(self, reason: str) -> None:
        """Nothing to release."""


def main() -> int:
    """Entry point of the executable `buttons_node`."""
    return run_node("buttons", ButtonsConfig, ButtonsNode)


if __name__ == "__main__":
    sys.exit(main())
