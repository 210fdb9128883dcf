"""When a simulated tick happens: in lock-step with whoever answers, or in real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import Contract
from episodes.errors import StackError
from ros_nodes import qos
from ros_nodes.actuators import actuator_decoder
from ros_nodes.barrier import Barrier
from ros_nodes.commands import COMMAND_TOPIC
from ros_nodes.convert import CommandDecoder, message_type, to_ns

if TYPE_CHECKING:
    from ros_nodes.sim_node import SimNode


class SimClock(Protocol):
    """Decides when the world takes a step."""

    running: bool
    topics: tuple[str, ...]
    """Topics that must have a publisher before the first tick."""

    def run(self, once: Callable[[], None] | None = None) -> None:
        """Go on; with `once` for a single tick, then call it."""
        ...

    def pause(self) -> None:
        """Stand still once the tick that is under way is over."""
        ...

    def abandon(self) -> None:
        """Forget the tick that is under way: the world is being reset."""
        ...


class Lockstep:
    """Publishes t_k, waits for the whole barrier, steps. The wall clock is a time-out and nothing else.

    The barrier is awaited at the last observation too, whose answer moves nothing: so that no message of an
    episode is still on its way when the next one begins.
    """

    def __init__(self, sim: SimNode) -> None:
        self._sim = sim
        contract, config = sim.contract, sim.config
        self._barrier = Barrier(contract, config.barrier)
        self._timeout_ns = round(config.timeout_s * 1e9)
        self._deadline_ns: int | None = None
        self._watching = False
        self._once: Callable[[], None] | None = None
        self.running = False
        loop = sim.loop
        for name, channel in contract.actions.items():
            decode = actuator_decoder(channel)
            loop.subscribe(
                message_type(channel.type), channel.topic, qos.STREAM, partial(self._actuator, name, decode)
            )
        for topic in config.barrier:
            loop.subscribe(Header, topic, qos.STREAM, partial(self._acknowledge, topic))
        self._decoder = CommandDecoder(contract.action_names, COMMAND_TOPIC)
        loop.subscribe(JointTrajectory, COMMAND_TOPIC, qos.STREAM, self._command)
        self.topics = (*(c.topic for c in contract.actions.values()), *config.barrier, COMMAND_TOPIC)

    def run(self, once: Callable[[], None] | None = None) -> None:
        """Publish the waiting tick and go on; with `once` for a single tick, then call it."""
        self._once = once
        self.running = True
        if self._deadline_ns is None:
            self._publish()

    def pause(self) -> None:
        """Stand still once the tick that is under way has been answered."""
        self.running = False

    def abandon(self) -> None:
        """Forget the tick that is under way."""
        self._barrier.abandon()
        self._deadline_ns = None
        self.running = False

    def _publish(self) -> None:
        sim = self._sim
        stamp_ns = sim.world.stamp_ns
        self._barrier.open(stamp_ns)
        self._deadline_ns = time.monotonic_ns() + self._timeout_ns
        if not self._watching:
            self._watching = True
            sim.loop.at(self._deadline_ns, self._watch)
        sim.publish(stamp_ns)

    def _watch(self) -> None:
        """One timer for all ticks: it looks again when the deadline has moved on."""
        self._watching = False
        if self._deadline_ns is None:
            return
        if time.monotonic_ns() >= self._deadline_ns:
            raise StackError(
                f"tick {self._sim.world.tick} was not answered within {self._timeout_ns / 1e9:g} s: "
                f"nothing came on {', '.join(self._barrier.missing())}. Look at the logs of the nodes that "
                "publish there."
            )
        self._watching = True
        self._sim.loop.at(self._deadline_ns, self._watch)

    def _actuator(self, name: str, decode: Callable[[Any], NDArray[np.float64]], message: Any) -> None:
        self._barrier.actuator(name, decode(message))
        self._advance()

    def _command(self, message: JointTrajectory) -> None:
        self._barrier.command(self._decoder.decode(message))
        self._advance()

    def _acknowledge(self, topic: str, message: Header) -> None:
        self._barrier.acknowledge(topic, to_ns(message.stamp))
        self._advance()

    def _advance(self) -> None:
        action = self._barrier.action()
        if action is None:
            return
        self._barrier.abandon()
        self._deadline_ns = None
        world = self._sim.world
        if world.over:
            self.running = False
            self._sim.finished()
        else:
            world.apply(action)
            if self.running and self._once is None:
                self._publish()
                return
            self.running = False
            self._sim.report("paused")
        if self._once is not None:
            once, self._once = self._once, None
            once()


class Realtime:
    """One step per period on the monotonic clock, with the newest actuator message of each channel.

    Periods that pass while a step is late are left out and counted, so that the pace recovers instead of
    racing.
    """

    def __init__(self, sim: SimNode) -> None:
        self._sim = sim
        self._period_ns = sim.contract.period_ns
        self._driver = HoldingDriver(sim.contract, round(sim.config.command_timeout_s * 1e9))
        self._next_ns = 0
        self._run = 0
        self._once: Callable[[], None] | None = None
        self.overruns = 0
        self.worst_overrun_ns = 0
        self.running = False
        self.topics: tuple[str, ...] = ()
        for name, channel in sim.contract.actions.items():
            receive = partial(self._actuator, name, actuator_decoder(channel))
            sim.loop.subscribe(message_type(channel.type), channel.topic, qos.STREAM, receive, newest=True)

    def run(self, once: Callable[[], None] | None = None) -> None:
        """Go on in real time; with `once` for a single tick, then call it."""
        self._once = once
        if self.running:
            return
        self.running = True
        self._run += 1
        if self._sim.world.tick == 0:
            self._publish()
        self._next_ns = time.monotonic_ns() + self._period_ns
        self._sim.loop.at(self._next_ns, partial(self._tick, self._run))

    def pause(self) -> None:
        """Stand still."""
        self.running = False
        self._run += 1

    def abandon(self) -> None:
        """Forget commands and counters."""
        self.pause()
        self._driver.reset()
        self.overruns = self.worst_overrun_ns = 0

    def _publish(self) -> None:
        self._sim.publish(self._sim.node.get_clock().now().nanoseconds)

    def _actuator(self, name: str, decode: Callable[[Any], NDArray[np.float64]], message: Any) -> None:
        self._driver.receive(name, decode(message), time.monotonic_ns())

    def _tick(self, run: int) -> None:
        if run != self._run:
            return
        now_ns = time.monotonic_ns()
        skipped = (now_ns - self._next_ns) // self._period_ns
        self.overruns += skipped
        self.worst_overrun_ns = max(self.worst_overrun_ns, now_ns - self._next_ns)
        self._next_ns += (skipped + 1) * self._period_ns
        sim = self._sim
        sim.world.apply(self._driver.action(now_ns))
        self._publish()
        if not sim.world.over and self._once is None:
            sim.loop.at(self._next_ns, partial(self._tick, run))
            return
        self.running = False
        figures = {
            "overruns": self.overruns,
            "worst_overrun_ns": self.worst_overrun_ns,
            "holds": self._driver.holds,
        }
        if sim.world.over:
            sim.finished(**figures)
        else:
            sim.report("paused", **figures)
        if self._once is not None:
            once, self._once = self._once, None
            once()


class HoldingDriver:
    """A robot driver's watchdog: the newest command of each channel, or a hold when they stop. Pure.

    To hold is to keep a position or a gripper's command, and to command zero velocity, twist or delta.
    """

    def __init__(self, contract: Contract, timeout_ns: int) -> None:
        self._contract = contract
        self._timeout_ns = timeout_ns
        self._newest: dict[str, tuple[NDArray[np.float64], int]] = {}
        self.holds = 0
        """Ticks on which a channel that had been commanded was held."""

    def reset(self) -> None:
        """Forget all commands."""
        self._newest.clear()
        self.holds = 0

    def receive(self, channel: str, values: NDArray[np.float64], now_ns: int) -> None:
        """A command (channel dim,) has arrived."""
        self._newest[channel] = (values, now_ns)

    def action(self, now_ns: int) -> NDArray[np.float64]:
        """What moves the arm now, (dim,)."""
        contract = self._contract
        action: NDArray[np.float64] = np.clip(0.0, contract.action_lower, contract.action_upper)
        for name, (values, received_ns) in self._newest.items():
            stale = now_ns - received_ns > self._timeout_ns
            self.holds += stale
            if not stale or contract.actions[name].kind in ("joint_position", "gripper"):
                action[contract.action_slices[name]] = values
        return action
