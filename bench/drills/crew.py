"""The processes of a rig, each started, ended, killed and stopped by name."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from ros_nodes import processes
from ros_nodes.processes import Running
from ros_nodes.stacks import Process
from ros_nodes.stacks.process import Value

PRIORITIES = {"sim": 30, "camera": 12, "policy": 11, "impostor": 11, "recorder": 10}
PRIORITIES |= dict.fromkeys(("pendant", "supervisor", "gamepad", "teleop"), 15)
"""SCHED_FIFO priorities; control gives itself 20."""
DRAWING = 12
"""Of threads that draw pictures: they must not get in the way of control."""


class Crew:
    """What runs, and what was stopped."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._running: dict[str, tuple[contextlib.ExitStack, Running]] = {}
        self._stopped: set[str] = set()
        self._starts = 0

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def start(self, name: str, module: str, parameters: Mapping[str, Value]) -> None:
        """Start a node with a folder of its own for its log."""
        self._starts += 1
        folder = self._folder / f"run{self._starts}"
        folder.mkdir()
        # What is killed on purpose must not count as a failure: each may end the stack.
        spec = Process(name, module, parameters, ends_stack=True)
        stack = contextlib.ExitStack()
        (running,) = stack.enter_context(processes.running((spec,), folder, self._environment))
        self._running[name] = (stack, running)

    def running(self, name: str) -> Running:
        """The process called `name`."""
        return self._running[name][1]

    def end(self, name: str) -> None:
        """End a process well, if it is there."""
        if name in self._running:
            self.resume(name)
            self._running.pop(name)[0].close()

    def kill(self, name: str) -> None:
        """SIGKILL."""
        stack, running = self._running.pop(name)
        running.popen.kill()
        running.popen.wait()
        self._stopped.discard(name)
        stack.close()

    def hang(self, name: str) -> None:
        """SIGSTOP."""
        self._stopped.add(name)
        self.running(name).popen.send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT for what was stopped."""
        if name in self._stopped:
            self._stopped.discard(name)
            self.running(name).popen.send_signal(signal.SIGCONT)

    def prioritise(self, is_up: Callable[[str], bool]) -> None:
        """Let nothing else on this machine starve the rig, where that is permitted: a robot's driver and its
        cameras do not share a processor with whatever else is running here.

        Not while a process still imports: the kernel lets all of them pay when one takes a whole core.
        """
        for name, (_, running) in self._running.items():
            priority = PRIORITIES.get(name)
            if priority is None or not is_up(name):
                continue
            pid = running.popen.pid
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(ProcessLookupError, PermissionError, FileNotFoundError):
                    comm = Path(f"/proc/{pid}/task/{task}/comm").read_text()
                    first = int(task) == pid or comm.startswith("dds.")
                    own = os.sched_param(priority if first else min(priority, DRAWING))
                    os.sched_setscheduler(int(task), os.SCHED_FIFO, own)

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"{name}:\n{process.tail()}" for name, (_, process) in self._running.items())

    def close(self) -> None:
        """End everything."""
        for name in list(self._running):
            self.end(name)
