"""When a simulated tick happens: in lock-step with whoever answers. `sim_realtime` is the other way."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from episodes.errors import StackError
from episodes.messages import COMMAND_TOPIC, CommandDecoder, to_ns
from ros_nodes import qos
from ros_nodes.actuators import actuator_decoder
from ros_nodes.barrier import Barrier
from ros_nodes.convert import message_type
from sim.world import World

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

    def attach(self, world: World) -> None:
        """`world` stands at the start of an episode."""
        ...

    def close(self) -> None:
        """Free what is held."""
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

    def attach(self, world: World) -> None:
        """Nothing is kept of a world."""

    def close(self) -> None:
        """Nothing is held."""

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
            if self.running and (self._once is None or world.over):
                self._publish()
                return
            self.running = False
            self._sim.report("paused")
        if self._once is not None:
            once, self._once = self._once, None
            once()
