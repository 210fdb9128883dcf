"""When control ticks: with each simulated tick that the policy answers, or at deadlines in real time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from episodes.errors import StackError
from policy.runtime.chunks import Chunk
from policy.runtime.control import Inputs
from policy.runtime.measured import Measured
from policy.runtime.operator import OperatorCommand
from policy.runtime.state import Heartbeat, State
from policy.runtime.state import Reply as Answer
from ros_nodes.control_reporting import DIAGNOSTICS_NS, STATE_PERIOD_NS, LoopFigures
from ros_nodes.realtime import Deadlines, Garbage, enter_realtime

if TYPE_CHECKING:
    from ros_nodes.control_node import ControlNode

STOP_NS = 2_000_000_000
"""How long a node that is told to end goes on sending the commands of its stop."""
JUMP_NS = 200_000_000
"""Change of the ROS clock against the monotonic one within a tick from which it has jumped."""
_OBSERVATIONS_KEPT = 128


class ControlClock(Protocol):
    """What arrives, and what is asked for, goes to the one that decides when a tick is."""

    def measured(self, name: str, sample: Measured) -> None:
        """A stream that measures channels has brought a sample."""
        ...

    def estop(self, topic: str, pressed: bool) -> None:
        """An e-stop source has spoken."""
        ...

    def chunk(self, chunk: Chunk | None, tick_ns: int) -> None:
        """The policy has answered the tick `tick_ns`, with nothing new where the chunk is None."""
        ...

    def waits_for(self) -> tuple[str, ...]:
        """What must be heard before control can be enabled; a refusal to enable may name more."""
        ...

    def report(self, text: str) -> None:
        """Something that must stop the robot was found."""
        ...

    def reconfigured(self) -> None:
        """Control has another controller, in DISABLED, and perhaps another rate."""
        ...

    def enable(self) -> Answer:
        """Somebody asks for commands to be sent."""
        ...

    def disable(self) -> Answer:
        """Somebody asks for a stop."""
        ...

    def clear_fault(self) -> Answer:
        """Somebody acknowledges a fault."""
        ...


class LockstepControl:
    """One tick per simulated tick, once the policy's answer and every measured stream of that tick are there.

    Each episode gets a new Controller: simulated time begins again, and nothing of the last one may be left.
    """

    def __init__(self, control: ControlNode) -> None:
        self._control = control
        self._measured: dict[str, Measured] = {}
        self._heartbeats: dict[str, bool] = {}
        self._pending: tuple[Chunk | None, int] | None = None
        self._begins = False
        self._state = State.DISABLED
        self._tick_ns = 0
        control.loop.at(0, self._tell)

    def measured(self, name: str, sample: Measured) -> None:
        """See ControlClock."""
        self._measured[name] = sample
        self._tick_if_complete()

    def estop(self, topic: str, pressed: bool) -> None:
        """See ControlClock."""
        self._heartbeats[topic] = pressed

    def chunk(self, chunk: Chunk | None, tick_ns: int) -> None:
        """See ControlClock."""
        self._pending = (chunk, tick_ns)
        self._tick_if_complete()

    def waits_for(self) -> tuple[str, ...]:
        """See ControlClock. Time stands still, so a source that was not heard would be silent for ever."""
        return tuple(
            f"e-stop {topic}" for topic in self._control.estop_topics if topic not in self._heartbeats
        )

    def report(self, text: str) -> None:
        """Raises StackError: in simulation a message that cannot be read is a mistake to be mended."""
        raise StackError(text)

    def reconfigured(self) -> None:
        """Nothing to do: the next tick takes the controller that is there."""

    def enable(self) -> Answer:
        """From the next tick on, whose time is not known yet."""
        control = self._control
        state = control.controller.state
        if state in (State.HOLD, State.POLICY, State.TELEOP):
            # A new controller begins at rest: in mid-episode it would tear the arm back.
            return Answer(False, f"control is in {state}: disable it first")
        if (fault := control.controller.fault) is not None:
            return Answer(False, f"a fault is latched: {fault.message}; call ~/clear_fault")
        if pressed := sorted(topic for topic, is_pressed in self._heartbeats.items() if is_pressed):
            return Answer(False, f"e-stop is pressed: {', '.join(pressed)}")
        control.controller = control.new_controller()
        self._measured.clear()
        self._pending, self._begins = None, True
        return Answer(True, "from the next tick on")

    def disable(self) -> Answer:
        """At once: simulated time stands still when nobody answers."""
        fault = self._control.controller.fault
        if fault is None:
            self._control.controller = self._control.new_controller()
        self._begins = False
        self._show()
        return Answer(fault is None, "" if fault is None else f"a fault is latched: {fault.message}")

    def clear_fault(self) -> Answer:
        """Begin anew; the simulated arm stands still meanwhile."""
        self._control.controller = self._control.new_controller()
        self._begins = False
        self._show()
        return Answer(True)

    def _tick_if_complete(self) -> None:
        if self._pending is None:
            return
        chunk, tick_ns = self._pending
        control = self._control
        controller = control.controller
        if any(self._stamp(name) != tick_ns for name in controller.measured_streams):
            return
        self._pending, self._tick_ns = None, tick_ns
        estop = {topic: Heartbeat(pressed, tick_ns) for topic, pressed in self._heartbeats.items()}
        inputs = Inputs(chunk=chunk, measured=self._measured, estop=estop, observation_ns=tick_ns)
        if self._begins:
            self._begins = False
            answer = controller.enable(tick_ns, inputs)
            if not answer.accepted:
                raise StackError(f"control cannot be enabled at the first tick: {answer.why}")
        command = controller.tick(tick_ns, inputs)
        if command.action is not None:
            control.commands.publish(
                command.action, stamp_ns=tick_ns, observation_ns=command.observation_ns, source=command.source
            )
        if command.state is not self._state:
            self._show()

    def _stamp(self, name: str) -> int | None:
        sample = self._measured.get(name)
        return None if sample is None else sample.stamp_ns

    def _show(self) -> None:
        controller = self._control.controller
        self._state = controller.state
        self._control.reporting.state(controller)

    def _tell(self) -> None:
        """Diagnostics go by the wall clock: whether the process lives is no matter of simulated time."""
        self._control.reporting.diagnostics(self._control.controller, self._tick_ns)
        self._control.loop.at(time.monotonic_ns() + DIAGNOSTICS_NS, self._tell)


class RealtimeControl:
    """Ticks at absolute deadlines, with what waits at the start of each; nothing is taken in between."""

    def __init__(self, control: ControlNode) -> None:
        self._control = control
        self._chunk: Chunk | None = None
        self._teleop: OperatorCommand | None = None
        self._deadman: Heartbeat | None = None
        self._policy: str | None = None
        self._measured: dict[str, Measured] = {}
        self._estop: dict[str, Heartbeat] = {}
        self._faults: list[str] = []
        self._observed_ns: dict[int, int] = {}
        self._now_ns = time.monotonic_ns()
        self._last_shift_ns: int | None = None
        self.reconfigured()
        control.loop.at(0, self._run)

    def reconfigured(self) -> None:
        """Begin counting anew, at the rate that is asked for."""
        rate_hz, config = self._control.config.rate_hz, self._control.config
        period_ns = round(1e9 / rate_hz) if rate_hz else self._control.contract.period_ns
        wishes = config.rt_priority > 0 or config.rt_lock_memory
        self._deadlines = Deadlines(period_ns)
        self._figures = LoopFigures(period_ns, self._control.notes, wishes)

    def measured(self, name: str, sample: Measured) -> None:
        """See ControlClock."""
        self._measured[name] = Measured(sample.values, sample.stamp_ns + self._shift_ns())

    def estop(self, topic: str, pressed: bool) -> None:
        """See ControlClock."""
        self._estop[topic] = Heartbeat(pressed, self._now_ns)

    def chunk(self, chunk: Chunk | None, tick_ns: int) -> None:
        """Take the chunk onto the monotonic clock, remembering the stamp that its observation had."""
        if chunk is None:
            return
        shift_ns = self._shift_ns()
        observation_ns = chunk.observation_ns + shift_ns
        self._figures.chunk_age.add(self._now_ns - observation_ns)
        self._observed_ns[observation_ns] = chunk.observation_ns
        while len(self._observed_ns) > _OBSERVATIONS_KEPT:
            del self._observed_ns[next(iter(self._observed_ns))]
        start_ns = chunk.start_ns + shift_ns
        self._chunk = replace(chunk, observation_ns=observation_ns, start_ns=start_ns)

    def teleop(self, command: OperatorCommand) -> None:
        """An operator asks for something; `issued_ns` in ROS time, 0 where the message had no stamp."""
        shift_ns = self._shift_ns() if command.issued_ns else self._now_ns
        self._teleop = OperatorCommand(command.values, command.issued_ns + shift_ns, command.problem)

    def deadman(self, held: bool) -> None:
        """The dead-man has spoken."""
        self._deadman = Heartbeat(held, self._now_ns)

    def policy(self, problem: str) -> None:
        """The policy says what is wrong with it, '' for nothing."""
        self._policy = problem

    def waits_for(self) -> tuple[str, ...]:
        """See ControlClock: whether an e-stop is alive now is asked when control is enabled."""
        return ()

    def report(self, text: str) -> None:
        """A fault from the next tick on."""
        self._faults.append(text)

    def enable(self) -> Answer:
        """See ControlClock."""
        return self._control.controller.enable(self._now_ns, self._inputs())

    def disable(self) -> Answer:
        """Within the limits, which takes some ticks."""
        return self._control.controller.disable(self._now_ns)

    def clear_fault(self) -> Answer:
        """See ControlClock."""
        return self._control.controller.clear_fault(self._now_ns)

    def _shift_ns(self) -> int:
        """From ROS time to the time of this tick.

        A tick that begins late has the time of its deadline: what is taken in it would seem to come from the
        future by as much as it is late, had it the clock's reading.
        """
        return self._now_ns - int(self._control.node.get_clock().now().nanoseconds)

    def _watch_clock(self) -> None:
        """A jump of the ROS clock is a fault, in either direction.

        Everything here counts on the monotonic clock, but what the policy plans from and the drivers stamp
        does not, and whether the jump shows in a stamp depends on which message is taken first. The clocks
        are compared by their readings: how late a tick is, is no jump.
        """
        began_ns = time.monotonic_ns()
        ros_ns = int(self._control.node.get_clock().now().nanoseconds)
        ended_ns = time.monotonic_ns()
        if ended_ns - began_ns > JUMP_NS // 4:
            return  # this process was not run in between, which is no jump of a clock
        shift_ns = ended_ns - ros_ns
        before_ns, self._last_shift_ns = self._last_shift_ns, shift_ns
        if before_ns is not None and abs(shift_ns - before_ns) > JUMP_NS:
            self._faults.append(f"the ROS clock jumped by {(before_ns - shift_ns) / 1e9:.3f} s")

    def _inputs(self) -> Inputs:
        """What has come in since it was last asked for."""
        inputs = Inputs(
            chunk=self._chunk,
            teleop=self._teleop,
            deadman=self._deadman,
            policy=self._policy,
            measured=dict(self._measured),
            estop=dict(self._estop),
            faults=tuple(self._faults),
        )
        self._chunk = self._teleop = self._deadman = self._policy = None
        self._measured.clear()
        self._estop.clear()
        self._faults.clear()
        return inputs

    def _rehearse(self) -> None:
        """Report once before the first tick: what is done for the first time loads code, for ticks on end."""
        controller, figures = self._control.controller, self._figures
        for window in (figures.period_error, figures.work, figures.chunk_age):
            window.add(0)
        self._control.reporting.state(controller, **figures.period_error.percentiles("period_error"))
        self._control.reporting.diagnostics(controller, self._now_ns, figures)

    def _run(self) -> None:
        control, loop = self._control, self._control.loop
        self._rehearse()
        control.notes = enter_realtime(control.config.rt_priority, control.config.rt_lock_memory)
        self.reconfigured()
        control.log(f"{1e9 / self._figures.period_ns:g} Hz; {'; '.join(control.notes)}")
        garbage, timing = Garbage(), control.timing
        simulated = bool(control.node.get_clock().ros_time_is_active)
        shown: tuple[int, State | None] = (0, None)
        told_ns = 0
        stop_by_ns: int | None = None
        while True:
            self._now_ns = self._deadlines.wait()
            woke_ns = time.monotonic_ns()
            self._figures.woke(woke_ns, self._deadlines.missed)
            if not simulated:
                # First, since it is what is waited for from the camera to the arm. Under simulated time the
                # /clock that waits beside it must come before it, or its times count from an old one.
                loop.take(control.chunks)
            loop.spin_once(0)
            self._watch_clock()
            if loop.stopped_by is not None and stop_by_ns is None:
                # To fall silent in motion would leave a velocity standing: stop within the limits first.
                stop_by_ns = self._now_ns + STOP_NS
                control.controller.disable(self._now_ns)
            command = control.controller.tick(self._now_ns, self._inputs())
            if stop_by_ns is not None and (command.action is None or self._now_ns >= stop_by_ns):
                return
            if command.action is not None:
                control.commands.publish(
                    command.action,
                    stamp_ns=int(control.node.get_clock().now().nanoseconds),
                    observation_ns=self._observed_ns.get(command.observation_ns, 0),
                    source=command.source,
                )
            self._figures.work.add(time.monotonic_ns() - woke_ns)
            if self._now_ns >= shown[0] or command.state is not shown[1]:
                changed = command.state is not shown[1]
                shown = (self._now_ns + STATE_PERIOD_NS, command.state)
                if command.state is not State.DISABLED and (second := control.second_publishers()):
                    self._faults.append(second)
                figures = {"collections": garbage.runs, "collection_max_us": garbage.worst_ns / 1e3}
                figures |= self._deadlines.lateness_us()
                figures |= self._figures.period_error.percentiles("period_error")
                control.reporting.state(control.controller, missed=self._figures.missed, **figures)
                if changed or self._now_ns >= told_ns:
                    told_ns = self._now_ns + DIAGNOSTICS_NS
                    control.reporting.diagnostics(control.controller, self._now_ns, self._figures)
            if timing is not None:
                timing.tick(self._now_ns, self._deadlines.woke_ns, sends=command.action is not None)
            garbage.collect_before(self._deadlines.next_ns)
