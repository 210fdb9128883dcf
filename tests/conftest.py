"""For all tests: Ctrl-C reaches the processes that they start, how busy the machine is fails none, and of
two workers ROS has one to itself.

`make test` runs two pytest workers. Tests with real nodes mostly wait, for discovery and for an arm to stand
still, and two of them side by side would be late by each other's doing: they all go to one worker, one after
another. The other worker takes everything else, file by file, at a lower priority.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

NICE = 5
_ROS = ("tests/ros/", "tests/bench/")

# A background job of a shell without job control ignores SIGINT, and so would every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis times its examples by the wall clock: beside other work a process may not run for seconds.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def _file(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests go to the same worker, before xdist reads it."""
    for item in items:
        file = _file(item)
        item.add_marker(pytest.mark.xdist_group("ros" if file.startswith(_ROS) else file))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A worker that has begun with what is not ROS gives way from then on."""
    working = "PYTEST_XDIST_WORKER" in os.environ
    if working and not _file(item).startswith(_ROS) and os.getpriority(os.PRIO_PROCESS, 0) < NICE:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
