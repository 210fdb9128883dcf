"""The simulation as a robot: it publishes the contract's observations and is moved by its actuator topics.

    publishes   observation topics of the contract, tickets of their pictures (real time, asfast), /clock (all
                but real time, there where asked for), episode/truth, sim/status (latched), /diagnostics (all
                but lock-step)
    subscribes  actuator topics of the contract, control/command (lock-step), the topics of the barrier
    services    ~/reset Trigger (by the parameters seed, episode and split), ~/pause SetBool, ~/step Trigger,
                ~/limits_seen Trigger, ~/ready Trigger, and those of simulation_interfaces (`sim_services`)

`lockstep`: the simulation owns time. A tick publishes /clock and the observations of t_k and waits for the
answer to t_k, so that load and scheduling cannot change an episode. `realtime`: paced on the monotonic
clock, times `speed`, and stamped with ROS time, joints and cameras each at a rate of their own; it holds by
itself when commands stop, as a driver does, and shows faults on demand (`sim_faults`). `asfast`: the same
without a pace, one step after the other on simulated time: nobody is waited for. After a reset nothing is
published until it is unpaused.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from episodes.contract import Contract, ObservationStream
from episodes.errors import ConfigError
from episodes.writer import HORIZON, TERMINATED
from ros_nodes import qos
from ros_nodes.convert import set_stamp
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.parameters import current
from ros_nodes.shell import Readiness, run_node
from ros_nodes.sim_clocks import Lockstep, SimClock
from ros_nodes.sim_desk import SimDesk
from ros_nodes.sim_fault_desk import FaultDesk
from ros_nodes.sim_faults import FAULT_PARAMETERS, Faults
from ros_nodes.sim_limits import limits_seen
from ros_nodes.sim_realtime import Realtime
from ros_nodes.sim_services import (
    serve_own,
    serve_standard,
    serve_triggers,
    service_type_in_use,
    standard_types,
)
from ros_nodes.stacks.process import resolved
from ros_nodes.streams import TopicEncoder, by_topic
from sim.arm6.env import Arm6Env
from sim.contracts import contract_of, shipped_for
from sim.env import Env
from sim.make import make_env
from sim.randomise import Randomisation
from sim.world import TRUTH_NAMES, World

MODES = ("lockstep", "realtime", "asfast")
SETTABLE = ("seed", "episode", "split", "steps", "state", *FAULT_PARAMETERS)
"""Parameters that may be changed while the node runs."""


@dataclass(frozen=True)
class SimConfig:
    """Parameters of the simulation node."""

    contract: str = ""
    """Robot contract, a YAML file; empty: that of the environment's family, or one made for the environment
    (armchair sim show NAME --contract FILE writes the same for other nodes)."""
    environment: str = ""
    """Environment to run; empty: the one that the contract's 'simulation' names."""
    mode: str = "lockstep"
    """'lockstep' (waits for the answer to each tick), 'realtime' (paces on the monotonic clock) or 'asfast'
    (neither)."""
    horizon: int = 0
    """Steps per episode; 0: the environment's own, and in real time no end."""
    split: str = "train"
    """Which goals the next reset draws from: 'train' or 'evaluation'."""
    renderer: str = "auto"
    """What draws: auto, egl, osmesa or raycast."""
    seed: int = 0
    """Seed of the next reset."""
    episode: int = 0
    """Number of the next reset's episode."""
    steps: int = 1
    """How many steps ~/step_simulation takes where it is a Trigger."""
    state: str = ""
    """What ~/set_simulation_state sets where it is a Trigger: stopped, playing, paused or quitting."""
    randomise: Randomisation = field(default_factory=Randomisation)
    """Lock-step: what differs from episode to episode, a function of seed and episode."""
    barrier: tuple[str, ...] = ()
    """Lock-step: topics of std_msgs/Header on which a node acknowledges every tick, such as recorder/ack."""
    listeners: tuple[str, ...] = ()
    """Nodes that must be there before the first tick."""
    autostart: bool = False
    """Begin by itself, and the next episode when one is over."""
    timeout_s: float = 30.0
    """Lock-step: wall time after which an unanswered tick is an error."""
    command_timeout_s: float = 0.2
    """Real time: age of the last actuator message, in simulated seconds, after which the arm holds."""
    interpolation_s: float = 0.0
    """Real time: time in which the arm's driver goes to a command; 0 is a period of the contract."""
    rt_priority: int = 10
    """Real time: SCHED_FIFO priority of the arm's driver where permitted, below control's; 0 for none."""
    speed: float = 1.0
    """Real time: simulated seconds per second; other than 1 only with publish_clock."""
    publish_clock: bool = False
    """Real time: publish /clock and stamp with simulated time (set use_sim_time on all other nodes), as
    asfast always does."""
    joint_rate_hz: float = 200.0
    """Real time: joint states per simulated second, 200 or a whole part of it."""
    camera_rate_hz: float = 0.0
    """Real time: pictures of each camera per simulated second; 0 is the contract's rate."""
    camera_faults: tuple[str, ...] = ()
    """Real time, for drills: front=drop, front=freeze, front=stuck or front=delay:SECONDS, by stream."""
    driver_fault: str = ""
    """Real time, for drills: silent (no joint states), ignore (takes no commands) or stall (both)."""
    clock_jump_s: float = 0.0
    """Real time, for drills: how far /clock and all stamps are off; a change makes them jump."""

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown mode, what the mode does not have, or a speed that is none or
        would not fit the stamps."""
        if self.mode not in MODES:
            raise ConfigError(f"parameter 'mode' is {self.mode!r}: write {', '.join(MODES)}.")
        if self.horizon < 0:
            raise ConfigError(f"parameter 'horizon' is {self.horizon}: write 0 or more.")
        if self.mode != "lockstep" and self.randomise.as_dict():
            raise ConfigError(
                f"randomise: {', '.join(self.randomise.as_dict())} can be had in mode 'lockstep' alone; "
                "in the others camera_faults shows late and missing pictures."
            )
        if self.mode == "asfast" and self.speed != 1.0:
            raise ConfigError(f"speed is {self.speed:g}: asfast has none; write mode realtime for a speed.")
        if not 0.0 < self.speed < float("inf") or (self.speed != 1.0 and not self.publish_clock):
            raise ConfigError(
                f"speed is {self.speed:g}: write a number above 0, and let publish_clock be true where it is "
                "not 1, with use_sim_time for all other nodes: the wall clock's stamps would not fit."
            )

    @property
    def lockstep(self) -> bool:
        """Whether every tick waits for its answer."""
        return self.mode == "lockstep"

    @property
    def simulated_stamps(self) -> bool:
        """Whether /clock is published beside what is stamped with it."""
        return self.mode != "realtime" or self.publish_clock


class SimNode:
    """Builds the world and its publishers; a `SimClock` decides when a tick happens."""

    def __init__(self, node: Node, loop: TakeLoop, config: SimConfig) -> None:
        self.node, self.loop, self.config = node, loop, config
        path = Path(config.contract) if config.contract else shipped_for(config.environment)
        self.contract = contract_of(config.environment, None if path is None else Path(resolved(path)))
        self.world = World(self.contract, _make(self.contract, config))
        self._split = config.split
        self._truth = node.create_publisher(JointState, "episode/truth", qos.STREAM)
        self._truth_message = JointState(name=list(TRUTH_NAMES))
        self._status = node.create_publisher(DiagnosticStatus, "sim/status", qos.LATCHED)
        cameras = [s.name for s in self.contract.observations.values() if s.is_image]
        faults = FaultDesk(node, cameras, lockstep=config.lockstep, publish_clock=config.simulated_stamps)
        self._clock = node.create_publisher(Clock, "/clock", qos.STREAM) if config.lockstep else None
        self._realtime = None if config.lockstep else Realtime(self, faults.now())
        self.clock: SimClock = self._realtime or Lockstep(self)
        self._outlets = [
            (
                frozenset(s.name for s in group),
                encoder,
                node.create_publisher(encoder.type, encoder.topic, qos.STREAM),
            )
            for group in by_topic(self._ordered_streams()).values()
            for encoder in [TopicEncoder(group)]
        ]
        faults.changed = self._take_faults
        self._serve(SimDesk(self, time_restarts=config.lockstep))
        loop.trigger("~/limits_seen", self._tell_limits)
        self.readiness = Readiness(node, loop, config.listeners, self.clock.topics)
        self._began_ns = 0
        if config.autostart:
            self._begin(config.episode)
            loop.at(0, self.run)

    def _ordered_streams(self) -> list[ObservationStream]:
        """What is published once per tick, the reference stream last: when it comes the others are likely
        there."""
        at_ticks = None if self._realtime is None else self._realtime.at_ticks
        streams = [s for s in self.contract.observations.values() if at_ticks is None or s.name in at_ticks]
        return sorted(streams, key=lambda s: s.name == self.contract.reference)

    def publish(self, stamp_ns: int, streams: frozenset[str] | None = None) -> None:
        """Publish the present state (of `streams` alone), all of it stamped `stamp_ns`."""
        if self._clock is not None:
            message = Clock()
            set_stamp(message.clock, stamp_ns)
            self._clock.publish(message)
        if self.world.tick > 0:
            truth = self._truth_message
            set_stamp(truth.header.stamp, stamp_ns)
            truth.position = self.world.truth.tolist()
            self._truth.publish(truth)
        samples = self.world.samples(streams)
        for names, encoder, publisher in self._outlets:
            if names <= samples.keys():
                publisher.publish(encoder.encode(samples, stamp_ns))

    def report(self, state: str, **extra: float) -> None:
        """Publish `sim/status`: state is paused, running or done."""
        config, world = current(self.node, SimConfig), self.world
        values = {
            "seed": config.seed,
            "episode": config.episode,
            "ticks": world.tick,
            "success": int(world.success_tick is not None),
            "ended_by": (TERMINATED if world.step.terminated else HORIZON) if world.over else "",
            "success_tick": "" if world.success_tick is None else world.success_tick,
            "return": repr(world.return_),
            "wall_s": f"{(time.monotonic_ns() - self._began_ns) / 1e9:.6f}",
            **{key: f"{value:.10g}" for key, value in extra.items()},
        }
        status = DiagnosticStatus(level=DiagnosticStatus.OK, name="sim", message=state)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        self._status.publish(status)

    def finished(self, **figures: float) -> None:
        """The clock says that the episode is over."""
        self.report("done", **figures)
        if self.config.autostart:
            self._begin(current(self.node, SimConfig).episode + 1)
            self.loop.at(0, self.run)

    def _begin(self, episode: int) -> None:
        self.clock.abandon()
        config = current(self.node, SimConfig)
        if config.split != self._split:
            env = _make(self.contract, config)  # a wrong split is refused here, and the old world stays
            self.world.close()
            self.world, self._split = World(self.contract, env), config.split
        self.world.reset(config.seed, episode)
        self.clock.attach(self.world)
        if episode != config.episode:
            self.node.set_parameters([Parameter("episode", value=episode)])
        self._began_ns = time.monotonic_ns()
        self.report("paused")

    def run(self) -> None:
        """Publish the waiting tick and go on."""
        if self.world.tick == 0:
            self._began_ns = time.monotonic_ns()
        self.report("running")
        self.clock.run()

    def _serve(self, desk: SimDesk) -> None:
        spec, types = self.world.env.spec, standard_types()
        about = f"armchair, {spec.name}: {spec.source}; mode {self.config.mode}"
        serve_own(self.loop, desk)
        if types is not None:
            serve_standard(self.loop, desk, types, about)
        else:
            serve_triggers(self.loop, desk, self._asked, about)
        self.node.get_logger().info(f"{about}; {service_type_in_use()}")

    def _asked(self) -> tuple[int, str]:
        config = current(self.node, SimConfig)
        return config.steps, config.state

    @property
    def running(self) -> bool:
        """Whether time goes on."""
        return self.clock.running

    @property
    def begun(self) -> bool:
        """Whether there is an episode."""
        return self.world.begun

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.world.over

    @property
    def tick(self) -> int:
        """Steps of the episode."""
        return self.world.tick

    def missing(self) -> tuple[str, ...]:
        """See Readiness."""
        return self.readiness.missing()

    def begin(self) -> str:
        """Begin the episode that the parameters name. Raises ArmchairError where there is none."""
        config = current(self.node, SimConfig)
        self._begin(config.episode)
        return f"episode {config.episode} of seed {config.seed}"

    def pause(self) -> None:
        """Stand still once the tick that is under way is over."""
        self.clock.pause()

    def tick_once(self, then: Callable[[], None]) -> None:
        """Take one step, then call `then` and stand still."""
        self.clock.run(once=then)

    def stop(self, reason: str) -> None:
        """End the process after this request."""
        self.loop.stop(reason)

    def _take_faults(self, faults: Faults) -> None:
        if self._realtime is not None:
            self._realtime.faults = faults

    def _tell_limits(self, reply: Reply) -> None:
        env = self.world.env
        seen = limits_seen(self.contract, env.driver) if isinstance(env, Arm6Env) else None
        if seen is None:
            reply(False, f"{env.spec.name} has no joints with limits")
        else:
            slipped_s = 0.0 if self._realtime is None else self._realtime.pace.slipped_ns / 1e9
            reply(not seen.excess, seen.as_json(slipped_s))

    def close(self, reason: str) -> None:
        """End the drawing and free the environment."""
        self.clock.close()
        self.world.close()


def _make(contract: Contract, config: SimConfig) -> Env:
    name = config.environment or (contract.simulation.environment if contract.simulation else "")
    if not name:
        raise ConfigError(
            f"{contract.source}: no environment: write 'simulation: environment:' in the contract or set the "
            "parameter 'environment'."
        )
    horizon = config.horizon
    if horizon == 0 and config.mode == "realtime":
        horizon = sys.maxsize
    env = make_env(
        name,
        horizon=horizon or None,
        split=config.split,  # type: ignore[arg-type]
        renderer=config.renderer,  # type: ignore[arg-type]
        randomise=config.randomise,
    )
    if isinstance(env, Arm6Env):
        env.driver.watch()
    return env


def main() -> int:
    """Entry point of the executable `sim_node`."""
    return run_node("sim", SimConfig, SimNode, settable=SETTABLE)


if __name__ == "__main__":
    sys.exit(main())
