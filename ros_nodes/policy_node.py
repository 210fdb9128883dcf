"""Runs a policy bundle: aligned observations in, action chunks out. Its own process: inference never blocks
control.

    subscribes  the observation topics that the bundle reads, the contract's reference stream, control/state;
                task (String, latched) where the policy takes an instruction; in real time what measures the
                joints, where it reads pictures, and these by ticket where a camera of this host hands
                them out (`pictures.inlet`)
    publishes   policy/action_chunk JointTrajectory, stamped with the time of its observation;
                policy/info DiagnosticArray (inputs, inference, bundle), also on /diagnostics
    services    ~/reset Trigger (a new episode), ~/load Trigger (the parameter bundle), ~/ready

In lock-step every tick is answered, by a chunk or by an empty message while the last one still runs. In
real time an input that is missing, too old, frozen or unreadable means no inference; it is counted and told,
and nothing is ever filled in. Pictures are judged after the answer is out, so a frozen camera is noticed one
frame later and costs no latency.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from episodes.align import CausalAligner, NotReady
from episodes.contract import ObservationStream, Source, load_contract
from episodes.errors import ArmchairError
from episodes.messages import Array, MessageError, message_stamp_ns
from episodes.picture_messages import decoder
from policy.runtime.chunks import Chunk
from policy.runtime.freshness import FreezeConfig
from policy.runtime.infer import ObservationError
from policy.runtime.manifest import TASK_STREAM
from policy.runtime.state import State
from ros_nodes import qos
from ros_nodes.chunk_bytes import ChunkBytes
from ros_nodes.commands import CHUNK_TOPIC
from ros_nodes.convert import encode_chunk, message_type
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.parameters import current
from ros_nodes.pictures.handed import Handed
from ros_nodes.pictures.inlet import PictureInlet
from ros_nodes.pictures.ring import Lease
from ros_nodes.policy_info import PolicyInfo
from ros_nodes.policy_inputs import FreezeWatch, Reason, Refusals, Why, instruction, of_alignment
from ros_nodes.policy_plans import OwnPlans
from ros_nodes.policy_slot import Slot
from ros_nodes.shell import Readiness, is_lockstep, run_node
from ros_nodes.streams import by_topic

CONTROL_STATE_TOPIC = "control/state"
TASK_TOPIC = "task"
AHEAD_NS = 20_000_000
"""Real time: a message that is stamped further ahead of the clock than this is not used."""
INFO_PERIOD_NS = 100_000_000
_REPLACED = "a picture was replaced while the policy looked at it: this process was held up"
_AT_REST = ("", State.DISABLED, State.FAULT)
"""States of control in which nobody follows the policy."""


@dataclass(frozen=True)
class PolicyConfig:
    """Parameters of the policy node."""

    contract: str = ""
    """Robot contract, a YAML file."""
    bundle: str = ""
    """Bundle folder that `armchair export` wrote. May be changed: ~/load takes it."""
    mode: str = "lockstep"
    """'lockstep' (answers every simulated tick) or 'realtime'."""
    allow_looser_limits: bool = False
    """Take a bundle that was trained under tighter limits than this robot's."""
    threads: int = 1
    """Threads of one inference."""
    providers: tuple[str, ...] = ()
    """Execution providers of onnxruntime in order, such as TensorrtExecutionProvider, CUDAExecutionProvider,
    CPUExecutionProvider; each must be on this machine. Empty: those of the manifest that are."""
    frozen_frames: int = 5
    """Real time: identical pictures in a row from which a camera may count as frozen."""
    frozen_motion: float = 0.02
    """Real time: motion of one measured joint meanwhile (rad or m) from which it does."""
    latency_s: float = 0.0
    """Real time: control's chunk.latency_s, for a policy that goes on with its plan (real-time chunking)."""
    listeners: tuple[str, ...] = ()
    """Nodes that must be there before the first tick."""


class PolicyNode:
    """Infers once per tick, or once per `execute` ticks of the bundle."""

    def __init__(self, node: Node, loop: TakeLoop, config: PolicyConfig) -> None:
        self._node, self._loop, self._config = node, loop, config
        self._lockstep = is_lockstep(config.mode)
        self._contract = load_contract(config.contract)
        self._refusals = Refusals()
        self._publisher = node.create_publisher(JointTrajectory, CHUNK_TOPIC, qos.STREAM)
        self._chunk_bytes = ChunkBytes(self._contract.action_names, CHUNK_TOPIC)
        self._info = PolicyInfo(node)
        self._control_state = self._task = ""
        self._plans = OwnPlans(self._contract, round(config.latency_s * 1e9))
        self._subscriptions: list[Subscription] = []
        self._inlets: list[PictureInlet] = []
        self._unjudged: list[tuple[str, int, Array]] = []
        self._lease: Lease | None = None
        self._topics: tuple[str, ...] = ()
        loop.subscribe(DiagnosticStatus, CONTROL_STATE_TOPIC, qos.LATCHED, self._hear_control)
        loop.trigger("~/reset", self._reset)
        loop.trigger("~/load", self._load)
        self._install(self._open(config.bundle))
        self._readiness = Readiness(node, loop, config.listeners, self._topics)
        loop.at(0, self._tell)

    def _open(self, path: str) -> Slot:
        config = self._config
        return Slot.load(
            path,
            self._contract,
            allow_looser_limits=config.allow_looser_limits,
            threads=config.threads,
            providers=config.providers,
        )

    def _install(self, slot: Slot) -> None:
        """Run this bundle from here on, and read what it reads."""
        contract, config = self._contract, self._config
        for subscription in self._subscriptions:
            self._loop.unsubscribe(subscription)
        for inlet in self._inlets:
            inlet.close()
        self._slot = slot
        self._streams = {name: contract.observations[name] for name in slot.streams}
        self._aligner = CausalAligner(self._streams, contract.reference)
        cameras = [name for name, stream in self._streams.items() if stream.is_image]
        freeze = FreezeConfig(config.frozen_frames, config.frozen_motion)
        self._watch = FreezeWatch(contract, [] if self._lockstep else cameras, freeze)
        wanted = {*self._streams, *self._watch.motion}
        groups = by_topic([s for s in contract.observations.values() if s.name in wanted])
        self._subscriptions, self._inlets = [], []
        for topic in sorted(groups, key=lambda t: groups[t][0].is_image):
            self._subscribe(topic, groups[topic])
        if slot.instruction_bytes:
            self._subscriptions.append(self._loop.subscribe(String, TASK_TOPIC, qos.LATCHED, self._hear_task))
        self._topics = tuple(groups)
        self._begin()
        self._node.get_logger().info(slot.label)

    def _subscribe(self, topic: str, streams: list[ObservationStream]) -> None:
        """Read a topic; of those that wait, vectors come before the frame that they are interpolated to.

        A vector that is skipped because a newer one waits would be in a recording: the policy would be fed
        something else than what it learns from.
        """
        receive = partial(self._observe, [(stream.name, decoder(stream)) for stream in streams])
        kind, subscribe = message_type(streams[0].type), self._loop.subscribe
        if self._lockstep:
            self._subscriptions.append(subscribe(kind, topic, qos.STREAM, receive))
        elif any(stream.is_image for stream in streams):
            refuse = partial(self._refuse, Why.UNREADABLE)
            lent = any(stream.name == self._contract.reference for stream in streams)
            inlet = PictureInlet(
                self._node, self._loop, topic, streams[0].type,
                partial(self._observe_lent, receive), refuse, self._needed_ns if lent else lambda: None,
            )  # fmt: skip
            self._inlets.append(inlet)
        elif any(stream.name == self._contract.reference for stream in streams):
            self._subscriptions.append(subscribe(kind, topic, qos.NEWEST, receive, newest=True))
        else:
            self._subscriptions.append(subscribe(kind, topic, qos.EACH_VECTOR, receive, drain=True))

    def _begin(self) -> None:
        self._aligner.reset()
        self._watch.restart()
        self._refusals.restart()
        self._unjudged.clear()
        self._plans.restart()
        self._stamps: dict[str, int] = {}
        self._next_ns: int | None = None
        self._last_ns: int | None = None
        self._points: list[JointTrajectoryPoint] | None = None

    def _reset(self, reply: Reply) -> None:
        self._begin()
        reply(True, "a new episode may begin")

    def _load(self, reply: Reply) -> None:
        # From a deadline: subscriptions must not go while messages are being taken.
        self._loop.at(0, partial(self._exchange, reply))

    def _exchange(self, reply: Reply) -> None:
        """Answer ~/load; a bundle that is refused leaves everything as it was."""
        heard = self._node.count_publishers(CONTROL_STATE_TOPIC) > 0
        if heard and self._control_state not in _AT_REST:
            reply(
                False, f"control is in {self._control_state}: disable it, then load; {self._slot.label} stays"
            )
            return
        try:
            slot = self._open(current(self._node, PolicyConfig).bundle)
            self._install(slot)
        except ArmchairError as error:
            reply(False, f"{error} The old one stays: {self._slot.label}.")
        else:
            reply(True, slot.label)
        self._publish_info()

    def _hear_control(self, message: DiagnosticStatus) -> None:
        self._control_state = message.message
        self._plans.hear(message.message)

    def _hear_task(self, message: String) -> None:
        self._task = message.data

    def _needed_ns(self) -> int | None:
        """How long the reference's picture is looked at; None where it must be copied before. A plan that is
        to be continued is noted before it is sent, so it must not turn out to be worthless."""
        policy = self._slot.policy
        return None if policy.continues_plans else policy.last_ns

    def _observe_lent(self, receive: Callable[[Any], None], message: Any) -> None:
        """A picture that may lie where its camera will write again: own it once the answer is out."""
        lease = message.lease if isinstance(message, Handed) else None
        if lease is None:
            receive(message)
            return
        self._lease = lease
        try:
            receive(message)
        finally:
            self._lease = None
            self._judge()
            for name in self._streams:
                self._aligner.keep(name, lease.pixels)
            if not lease.intact():
                self._begin()
                self._refuse(Why.UNREADABLE, _REPLACED)

    def _observe(self, decoders: list[tuple[str, Callable[[Any], Array]]], message: Any) -> None:
        now_ns = 0 if self._lockstep else self._now_ns()
        stamp_ns = message_stamp_ns(message) or now_ns
        if not self._lockstep and stamp_ns - now_ns > AHEAD_NS:
            # Taken for the newest observation, it would keep every later one from being used.
            ahead_s = (stamp_ns - now_ns) / 1e9
            self._refuse(Why.AHEAD, f"{decoders[0][0]} is stamped {ahead_s:.3f} s ahead of the clock")
            return
        for name, decode in decoders:
            try:
                value = decode(message)
            except MessageError as error:
                if self._lockstep:
                    raise
                self._refuse(Why.UNREADABLE, str(error))
                return
            self._take(name, value, stamp_ns, now_ns)
        if self._lockstep:
            # A tick is whole when every stream has its sample of t_k: an older one must not stand in for it.
            if len(self._stamps) == len(self._streams) and all(s == stamp_ns for s in self._stamps.values()):
                self._tick(stamp_ns)
        elif any(name == self._contract.reference for name, _ in decoders):
            self._tick(now_ns)

    def _take(self, name: str, value: Array, stamp_ns: int, now_ns: int) -> None:
        if name in self._watch.motion:
            self._watch.measured(name, value)
        if name not in self._streams:
            return
        self._aligner.push(name, value, stamp_ns, stamp_ns if self._lockstep else now_ns)
        self._stamps[name] = stamp_ns
        if self._streams[name].is_image and self._watch.motion:
            if not self._unjudged:
                self._loop.at(0, self._judge)
            self._unjudged.append((name, stamp_ns, value))

    def _judge(self) -> None:
        """Look at the pictures that came, after whatever waited for them."""
        for camera, stamp_ns, pixels in self._unjudged:
            self._watch.saw(camera, stamp_ns, pixels)
        self._unjudged.clear()

    def _tick(self, tick_ns: int) -> None:
        names, slot = self._contract.action_names, self._slot
        if self._last_ns is not None and tick_ns < self._last_ns:
            self._begin()
            self._refuse(Why.CLOCK_BACK, "the clock went back: waiting for new observations")
            return
        self._last_ns = tick_ns
        # Half a period of slack: in real time ticks come with the reference stream, whose rate wavers.
        slack_ns = 0 if self._lockstep else self._contract.period_ns // 2
        due = self._next_ns is None or tick_ns >= self._next_ns - slack_ns
        if self._lockstep and not due:
            self._publisher.publish(encode_chunk(None, names, tick_ns))
            return
        aligned = self._aligner.at(tick_ns)
        if isinstance(aligned, NotReady):
            self._refuse_for(of_alignment(aligned))
            return
        if (reason := self._watch.reason()) is not None:
            self._refuse_for(reason)
            return
        if not due:
            self._refusals.fresh(time.monotonic_ns())
            return
        try:
            observation = aligned.values
            if slot.instruction_bytes:
                observation = {**observation, TASK_STREAM: instruction(self._task, slot.instruction_bytes)}
            chunk = self._plan(observation, aligned.observation_ns, tick_ns)
        except ObservationError as error:
            if self._lockstep:
                raise
            self._refuse(Why.UNUSABLE, str(error))
            return
        if self._lease is not None and not self._lease.intact():
            self._refuse(Why.UNREADABLE, _REPLACED)
            return
        self._next_ns = tick_ns + slot.execute_ns
        if self._lockstep:
            # Without the time of inference: the same episode is the same bytes.
            message = encode_chunk(chunk, names, tick_ns, None, self._points)
            self._publisher.publish(message)
            self._points = message.points
        else:
            self._publisher.publish(self._chunk_bytes.write(chunk, tick_ns, slot.policy.last_ns))
        self._refusals.fresh(time.monotonic_ns(), answered=True)

    def _plan(self, observation: Mapping[str, Array], observation_ns: int, tick_ns: int) -> Chunk:
        """A chunk that begins at this tick, or one that goes on with the plan under way. In lock-step no time
        passes meanwhile, so nothing of that plan is decided."""
        policy, period_ns = self._slot.policy, self._contract.period_ns
        if self._lockstep or not policy.continues_plans:
            return Chunk(observation_ns, tick_ns, period_ns, policy.infer(observation), Source.POLICY)
        request = self._plans.request(observation_ns, tick_ns, policy.timing())
        chunk = policy.continue_plan(observation, request)
        self._plans.sent(chunk, tick_ns)
        return chunk

    def _refuse(self, why: Why, text: str) -> None:
        self._refuse_for(Reason(why, text))

    def _refuse_for(self, reason: Reason) -> None:
        """No inference: count it, and tell it when the reason is a new one."""
        if self._refusals.refuse(reason):
            self._node.get_logger().warning(f"no inference: {reason.text}")
            self._publish_info()

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _tell(self) -> None:
        self._publish_info()
        self._loop.at(time.monotonic_ns() + INFO_PERIOD_NS * (10 if self._lockstep else 1), self._tell)

    def _publish_info(self) -> None:
        # In lock-step nothing is overdue: time stands still while nobody answers.
        now_ns = 0 if self._lockstep else time.monotonic_ns()
        self._info.publish(self._slot, self._refusals, now_ns, self._task)

    def close(self, reason: str) -> None:
        """Log the inference times."""
        timing = self._slot.policy.timing()
        if timing is not None:
            self._node.get_logger().info(
                f"{timing.count} inferences, p50 {timing.p50_ns / 1e3:.0f} µs, p99 "
                f"{timing.p99_ns / 1e3:.0f} µs"
            )


def main() -> int:
    """Entry point of the executable `policy_node`."""
    return run_node("policy", PolicyConfig, PolicyNode, settable=("bundle",))


if __name__ == "__main__":
    sys.exit(main())
