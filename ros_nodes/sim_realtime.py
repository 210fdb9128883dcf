"""The simulation that waits for nobody: a stand-in for a robot, with its driver, its cameras, their faults.

Everything has a rate of its own, as on a robot: joint states, each camera, and what only a simulation knows
once per tick of the contract. Stamps are those of the moment that was sampled, so what is published late is
old and not wrong. In real time steps are paced on the monotonic clock; as fast as it goes, one follows the
other, and every picture is drawn before time goes on, so that none is left out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rosgraph_msgs.msg import Clock

from episodes.messages import MessageError
from ros_nodes import qos
from ros_nodes.actuators import actuator_decoder
from ros_nodes.convert import message_type, set_stamp
from ros_nodes.sim_bodies import DRIVER_STREAM, Body, DrivenArm, WholeSteps, steps_between
from ros_nodes.sim_cameras import CameraOutlet, DrawingThread, Eye
from ros_nodes.sim_faults import Faults
from ros_nodes.sim_joints import JointOutlet
from ros_nodes.sim_pace import Pace, Pacing, Unpaced, go_first
from ros_nodes.sim_report import REPORT_PERIOD_NS, RealtimeReport
from sim.arm6.env import Arm6Env
from sim.world import World

if TYPE_CHECKING:
    from ros_nodes.sim_node import SimNode

CLOCK_START_NS = 1_000_000_000
"""Simulated time at which /clock begins; it goes on through resets and stands still in pauses."""
LONGEST_WAY_NS = 500_000_000
"""How long a command can have been on its way, or waiting for this process."""
_ARRIVED = 4096


class Realtime:
    """Paces the world on the monotonic clock and publishes what is due after each step."""

    def __init__(self, sim: SimNode, faults: Faults) -> None:
        self._sim = sim
        contract, config, node = sim.contract, sim.config, sim.node
        timeout_ns = round(config.command_timeout_s * 1e9)
        self._arm: DrivenArm | None = None
        if isinstance(sim.world.env, Arm6Env):
            interpolation_ns = round(config.interpolation_s * 1e9) or contract.period_ns
            self._arm = DrivenArm(contract, timeout_ns, interpolation_ns)
        self.body: Body = self._arm or WholeSteps(contract, timeout_ns)
        paced = config.mode == "realtime"
        step_ns = self.body.step_ns
        self.pace: Pacing = (
            Pace(step_ns, config.speed, self.body.catch_up_steps) if paced else Unpaced(step_ns)
        )
        self.refused = 0
        """Actuator messages that could not be read or held a non-finite number."""
        self._faults = faults
        stamps = config.simulated_stamps
        self._clock = node.create_publisher(Clock, "/clock", qos.STREAM) if stamps else None
        streams = contract.observations.values()
        driven = {s.name for s in streams if s.name == DRIVER_STREAM and self._arm is not None}
        self._joints = JointOutlet(node, contract.observations[DRIVER_STREAM]) if driven else None
        self._joint_steps = steps_between(config.joint_rate_hz) if driven else 0
        images = {s.name: Eye(s, contract.simulation.camera(s.name)) for s in streams
                  if s.is_image and contract.simulation}  # fmt: skip
        self.cameras = {name: CameraOutlet(node, eye) for name, eye in images.items()}
        self._camera_ns = round(1e9 / (config.camera_rate_hz or contract.rate_hz))
        self.at_ticks = frozenset(s.name for s in streams) - set(driven) - set(images)
        """Streams that are published once per tick."""
        vectors = frozenset(s.name for s in streams if not s.is_image)
        self._measured = vectors & {DRIVER_STREAM} or vectors
        """What falls silent with the driver: its joints, or of an environment without, all vectors."""
        self._thread: DrawingThread | None = None
        self._aside = paced and self._arm is not None
        # A whole step may draw, for longer than a thread that goes first may take.
        self._priority = config.rt_priority if self._aside and config.speed <= 1.0 else 0
        self._next_frame_ns: dict[str, int] = {}
        self._flushing: set[str] = set()
        """Cameras with a deadline for delayed frames."""
        self._elapsed_ns = 0
        self._total_ns = 0
        self._run = 0
        self._once: Callable[[], None] | None = None
        self._arrived: deque[tuple[int, str, NDArray[np.float64]]] = deque(maxlen=_ARRIVED)
        self.running = False
        self.topics: tuple[str, ...] = ()
        for name, channel in contract.actions.items():
            receive = partial(self._actuator, name, actuator_decoder(channel))
            kind = message_type(channel.type)
            sim.loop.subscribe(kind, channel.topic, qos.RECORD_VECTORS, receive, info=True, drain=True)
        self._report = RealtimeReport(sim, self)
        sim.loop.at(0, self._tell)

    @property
    def faults(self) -> Faults:
        """The faults that are in force."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if self._thread is not None:
            self._thread.set_faults(faults.cameras)
        else:
            for name, outlet in self.cameras.items():
                outlet.faulty.fault = faults.cameras.get(name)

    @property
    def arm(self) -> DrivenArm | None:
        """The arm behind its driver, where the environment has one."""
        return self._arm

    def attach(self, world: World) -> None:
        """See SimClock."""
        self.body.attach(world)
        self._elapsed_ns = 0
        self._next_frame_ns = dict.fromkeys(self.cameras, 0)
        if self._aside and self.cameras and self._thread is None and isinstance(world.env, Arm6Env):
            self._thread = DrawingThread(self.cameras, world.env.view, world.env.snapshot())
        self.faults = self._faults
        if self._priority > 0:
            note, self._priority = go_first(self._priority), 0
            self._sim.node.get_logger().info(f"driver at {1e9 / self.body.step_ns:g} Hz; {note}")

    def run(self, once: Callable[[], None] | None = None) -> None:
        """Go on in real time; with `once` for a single tick, then call it."""
        self._once = once
        if self.running:
            return
        self.running = True
        self._run += 1
        self._arrived.clear()
        now_ns = time.monotonic_ns()
        self.pace.begin(now_ns)
        if self._elapsed_ns == 0:
            self._publish(now_ns, tick=True)
        self._sim.loop.at(self.pace.next_ns, partial(self._advance, self._run))

    def pause(self) -> None:
        """Stand still."""
        self.running = False
        self._run += 1

    def abandon(self) -> None:
        """See SimClock."""
        self.pause()
        self.pace.forget()
        self.refused = 0

    def close(self) -> None:
        """End the drawing."""
        if self._thread is not None:
            self._thread.close()

    def figures(self) -> dict[str, float]:
        """What was late, left out, held and refused since the reset."""
        return {**self.pace.figures(), **self.body.figures(), "refused_messages": float(self.refused)}

    def _actuator(
        self, name: str, decode: Callable[[Any], NDArray[np.float64]], message: Any, info: dict[str, int]
    ) -> None:
        """Keep a command until the step in which it came: a late step must not see several of them as one."""
        if self._faults.ignores:
            return
        try:
            values = decode(message)
        except MessageError as error:
            self._refuse(str(error))
            return
        if not np.isfinite(values).all():
            self._refuse(f"action channel {name!r}: {values.tolist()} holds a non-finite number")
            return
        ago_ns = time.time_ns() - info["source_timestamp"]
        if not 0 <= ago_ns <= LONGEST_WAY_NS:  # another host's clock, or a jump of this one
            ago_ns = 0
        self._arrived.append((time.monotonic_ns() - ago_ns, name, values))

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if self.refused == 1:
            self._sim.node.get_logger().warning(f"command refused: {why} (the next ones are only counted)")

    def _advance(self, run: int) -> None:
        world = self._sim.world
        for deadline_ns in self.pace.due(time.monotonic_ns()):
            if run != self._run:
                return
            while self._arrived and self._arrived[0][0] <= deadline_ns:
                _, name, values = self._arrived.popleft()
                self.body.receive(name, values, self._elapsed_ns)
            ticked = self.body.step(self._elapsed_ns)
            self._elapsed_ns += self.body.step_ns
            self._total_ns += self.body.step_ns
            self._publish(deadline_ns, tick=ticked)
            if ticked and (world.over or self._once is not None):
                self._stand()
                return
        if run == self._run:
            self._sim.loop.at(self.pace.next_ns, partial(self._advance, run))

    def _stand(self) -> None:
        """The episode is over, or the single tick that was asked for is."""
        self.pause()
        if self._sim.world.over:
            self._sim.finished(**self.figures())
        else:
            self._sim.report("paused", **self.figures())
        if self._once is not None:
            once, self._once = self._once, None
            once()

    def _publish(self, deadline_ns: int, *, tick: bool) -> None:
        """What is due after the step whose deadline it was."""
        stamp_ns = self._stamp_ns(deadline_ns)
        if self._clock is not None:
            message = Clock()
            set_stamp(message.clock, stamp_ns)
            self._clock.publish(message)
        if tick:
            silent = self._measured if self._faults.silent else frozenset()
            self._sim.publish(stamp_ns, self.at_ticks - silent)
        steps = self._elapsed_ns // self.body.step_ns
        if self._joints is not None and self._arm is not None and steps % self._joint_steps == 0:
            # What is measured is as old as the part of the step that makes no step of the physics.
            driver = self._arm.driver
            if not self._faults.silent:
                self._joints.publish(driver.joint_state(), stamp_ns - driver.carry_ns)
        self._look(stamp_ns)

    def _look(self, stamp_ns: int) -> None:
        """Ask for the frames that are due; cameras take turns, as nothing triggers them together."""
        env = self._sim.world.env
        due = [name for name, next_ns in self._next_frame_ns.items() if self._elapsed_ns >= next_ns]
        for name in due:
            late = self._next_frame_ns[name] == 0
            turn_ns = list(self.cameras).index(name) * self._camera_ns // len(self.cameras) if late else 0
            self._next_frame_ns[name] += self._camera_ns + turn_ns
        if not due:
            return
        if self._thread is not None and isinstance(env, Arm6Env):
            snapshot = env.snapshot()
            for name in due:
                self._thread.request(name, stamp_ns, snapshot)
            return
        pictures = self._sim.world.samples(frozenset(due))
        for name in due:
            self.cameras[name].take(pictures[name], stamp_ns)
            self._later(self.cameras[name])

    def _later(self, camera: CameraOutlet) -> None:
        """Frames that a fault delays leave when they are due, and not with the next one."""
        next_ns = camera.faulty.next_ns
        if next_ns is not None and camera.eye.stream.name not in self._flushing:
            self._flushing.add(camera.eye.stream.name)
            self._sim.loop.at(next_ns, partial(self._flush, camera))

    def _flush(self, camera: CameraOutlet) -> None:
        self._flushing.discard(camera.eye.stream.name)
        camera.flush()
        self._later(camera)

    def _stamp_ns(self, deadline_ns: int) -> int:
        if self._clock is not None:
            return CLOCK_START_NS + self._total_ns + self._faults.clock_jump_ns
        now_ns = int(self._sim.node.get_clock().now().nanoseconds)
        return now_ns - (time.monotonic_ns() - deadline_ns)

    def _tell(self) -> None:
        self._report.publish()
        self._sim.loop.at(time.monotonic_ns() + REPORT_PERIOD_NS, self._tell)
