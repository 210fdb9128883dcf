"""For all tests: Ctrl-C reaches the processes that they start, how busy the machine is fails none, and of
two workers ROS has one to itself.

`make test` runs two pytest workers. Tests with real nodes mostly wait, for discovery and for an arm to stand
still, and two of them side by side would be late by each other's doing: they all go to one worker, one after
another. The other worker takes everything else, file by file, at a lower priority.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

NICE = 10
_ROS = ("tests/ros/", "tests/bench/test_control.py", "tests/bench/test_drills.py")

# A background job of a shell without job control ignores SIGINT, and so would every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis times its examples by the wall clock: beside other work a process may not run for seconds.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def _is_ros(nodeid: str) -> bool:
    return nodeid.startswith(_ROS)


class _RosApart(LoadScopeScheduling):  # type: ignore[misc]
    """All tests with real nodes are one piece of work, the others one for each file."""

    def _split_scope(self, nodeid: str) -> str:
        return "ros" if _is_ros(nodeid) else nodeid.split("::", 1)[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _RosApart:
    """Which tests go to the same worker."""
    return _RosApart(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A worker that has begun with what is not ROS gives way from then on."""
    working = "PYTEST_XDIST_WORKER" in os.environ
    if working and not _is_ros(item.nodeid) and os.getpriority(os.PRIO_PROCESS, 0) < NICE:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
