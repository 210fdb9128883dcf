"""Hostile messages over DDS to real node processes: each lives, and control sends nothing that is unsafe."""

from __future__ import annotations

import array
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from episodes.contract import Contract, load_contract
from episodes.messages import to_ns
from policy.runtime.chunks import Chunk
from ros_nodes import processes, qos
from ros_nodes.convert import encode_chunk, set_stamp
from ros_nodes.processes import Running
from ros_nodes.stacks import Process
from tests.judge import Judge

from . import hostile
from .conftest import ROOT, NodeProcess, Peer
from .day import HOME, write_contract
from .picture_bundle import write_picture_bundle

RATE_HZ = 100.0
PERIOD_NS = round(1e9 / RATE_HZ)
COUNTS = [100, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]


class Robot:
    """A driver, a pendant and a policy in this process; one publisher per topic, for good and for hostile."""

    def __init__(self, peer: Peer, contract: Contract) -> None:
        self.peer, self.contract = peer, contract
        node = peer.node
        self.joints = node.create_publisher(JointState, "joint_states", qos.STREAM)
        self.pendant = node.create_publisher(Bool, "pendant", qos.LATCHED)
        self.chunks = node.create_publisher(JointTrajectory, "policy/action_chunk", qos.STREAM)
        self.deadman = node.create_publisher(Bool, "teleop/enable", qos.STREAM)
        self.operator = node.create_publisher(JointTrajectory, "teleop/command", qos.STREAM)
        self.info = node.create_publisher(DiagnosticArray, "policy/info", qos.STREAM)
        self.judge = Judge(contract, PERIOD_NS)
        self.pose, self.target = HOME.copy(), HOME.copy()
        self.rng = np.random.default_rng(8)
        self.state, self.states = "", Counter[str]()
        self.fault = self.answer = ""
        self.clears = self.left_fault = 0
        self.jumps = 0
        self.sent_ns: int | None = None
        self.tick = 0
        peer.loop.subscribe(DiagnosticStatus, "control/state", qos.LATCHED, self._note_state)
        peer.loop.subscribe(JointTrajectory, "control/command", QoSProfile(depth=1000), self._note_command)
        self.services = {
            "enable": peer.loop.client(SetBool, "control/enable"),
            "clear": peer.loop.client(Trigger, "control/clear_fault"),
        }

        self.hostile: list[Callable[[np.random.Generator], None]] = [
            lambda rng: self.chunks.publish(hostile.trajectory(self.good_chunk(), rng)),
            lambda rng: self.joints.publish(hostile.joint_state(self.good_joints(), rng)),
            self._hostile_operator,
            lambda rng: self.info.publish(hostile.diagnostics(self.good_info(), rng)),
            lambda rng: self.pendant.publish(Bool(data=bool(rng.random() < 0.1))),
        ]
        """One hostile message of each type that control reads."""

    def _hostile_operator(self, rng: np.random.Generator) -> None:
        self.deadman.publish(Bool(data=True))
        self.operator.publish(hostile.trajectory(self.good_command(), rng))

    def _note_state(self, message: DiagnosticStatus) -> None:
        self.left_fault += self.state == "FAULT" and message.message != "FAULT"
        self.state = message.message
        self.fault = {pair.key: pair.value for pair in message.values}.get("fault", "")
        self.states[self.state] += 1

    def _note_command(self, message: JointTrajectory) -> None:
        """Commands are judged tick by tick: what was skipped or begun anew starts from what was sent."""
        action, stamp_ns = np.array(message.points[0].positions), to_ns(message.header.stamp)
        gap_ns = PERIOD_NS if self.sent_ns is None else stamp_ns - self.sent_ns
        self.tick += 1
        if self.sent_ns is None or gap_ns > 1.6 * PERIOD_NS:
            # Missed ticks, or enabled anew from the measured pose: one step tells no acceleration.
            self.jumps += 1
            self.judge.start(self.tick * PERIOD_NS, action)
            self.judge.unknown_velocity()
        else:
            self.judge.check(self.tick * PERIOD_NS, action, may_have_stalled=True)
        self.sent_ns, self.pose = stamp_ns, action

    def good_joints(self) -> JointState:
        """What is true."""
        message = JointState(name=list(self.contract.action_names), position=self.pose.tolist())
        set_stamp(message.header.stamp, time.time_ns())
        return message

    def good_chunk(self) -> JointTrajectory:
        """A plan that moves the arm."""
        if self.rng.random() < 0.05:
            self.target = HOME + self.rng.uniform(-0.4, 0.4, 7) * np.array([1, 1, 1, 1, 1, 1, 0.1])
        now_ns = time.time_ns()
        chunk = Chunk(now_ns, now_ns, self.contract.period_ns, np.tile(self.target, (4, 1)))
        return encode_chunk(chunk, self.contract.action_names, now_ns, 1)

    def good_command(self) -> JointTrajectory:
        """What an operator asks for."""
        message = JointTrajectory(joint_names=list(self.contract.action_names))
        message.points = [JointTrajectoryPoint(positions=(self.target + 0.1).tolist())]
        set_stamp(message.header.stamp, time.time_ns())
        return message

    def good_info(self) -> DiagnosticArray:
        """A policy with which nothing is wrong."""
        return DiagnosticArray(status=[DiagnosticStatus(name="policy: inputs", level=DiagnosticStatus.OK)])

    def live(self, *, joints: bool = True, chunk: bool = True) -> None:
        """One round of good messages, and what comes back."""
        if joints:
            self.joints.publish(self.good_joints())
        self.pendant.publish(Bool(data=False))
        self.deadman.publish(Bool(data=False))
        self.info.publish(self.good_info())
        if chunk:
            self.chunks.publish(self.good_chunk())
        self.peer.loop.spin_until(lambda: False, time.monotonic_ns() + PERIOD_NS)

    def call(self, name: str, request: Any) -> bool:
        """A service, while the robot lives on."""
        future = self.services[name].call_async(request)
        deadline_ns = time.monotonic_ns() + 5_000_000_000
        while not future.done() and time.monotonic_ns() < deadline_ns:
            self.live()
        self.answer = f"{name}: {future.result().message if future.done() else 'no answer'}"
        return bool(future.done() and future.result().success)

    def get_going(self) -> None:
        """Clear and enable until control follows the policy; fails after two minutes."""
        deadline_ns = time.monotonic_ns() + 120_000_000_000
        while self.state != "POLICY":
            stays = f"control stays in {self.state} {self.fault}; {self.answer}"
            assert time.monotonic_ns() < deadline_ns, stays
            for _ in range(3):
                self.live()
            if self.state == "FAULT":
                self.clears += self.call("clear", Trigger.Request())
            if self.state != "POLICY":
                self.call("enable", SetBool.Request(data=True))
            for _ in range(3):
                self.live()


@pytest.mark.parametrize("count", COUNTS)
def test_control_outlives_fuzzed_messages_of_every_type_and_sends_nothing_unsafe(
    peer: Peer, start: Callable[..., NodeProcess], tmp_path: Path, count: int
) -> None:
    path = write_contract(tmp_path)
    robot = Robot(peer, load_contract(path))
    control = start("control_node", contract=path, mode="realtime", rate_hz=RATE_HZ, rt_priority=0)
    peer.until(lambda: all(client.service_is_ready() for client in robot.services.values()))
    peer.matched(robot.joints, robot.pendant, robot.chunks, robot.deadman, robot.operator, robot.info)
    rng = np.random.default_rng(9)
    for k in range(count):
        if k % 8 == 0:
            robot.get_going()
        # One of each per tick of control, which reads only the newest; to the moving arm one kind first.
        first = (k // 8) % len(robot.hostile)
        kinds = [first] if k % 8 == 0 else range(len(robot.hostile))
        for kind in kinds:
            robot.hostile[kind](rng)
        robot.peer.loop.spin_until(lambda: False, time.monotonic_ns() + PERIOD_NS)
    assert control.popen.poll() is None, control.finish()
    assert robot.left_fault <= robot.clears, "a fault is left by clear_fault alone"
    assert robot.judge.commands > count / 4
    assert robot.judge.stalls < robot.judge.commands / 4
    assert robot.states["FAULT"] > 0
    code, text = control.end()
    assert code == 0, text
    assert "Traceback" not in text


@pytest.mark.parametrize("count", COUNTS)
def test_a_policy_node_outlives_fuzzed_pictures_and_joint_states_and_goes_on(
    peer: Peer, tmp_path: Path, count: int
) -> None:
    content = yaml.safe_load((ROOT / "launch/contracts/arm6_sim.yaml").read_text())
    kept = {name: content["observations"][name] for name in ("front", "joints")}
    content["observations"] = {"front": kept["front"] | {"shape": [24, 32, 3]}, "joints": kept["joints"]}
    del content["simulation"]
    path = tmp_path / "arm6.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    contract = load_contract(path)
    bundle = write_picture_bundle(tmp_path / "bundle", contract)
    node = peer.node
    joints = node.create_publisher(JointState, "joint_states", qos.STREAM)
    camera = node.create_publisher(Image, "camera/front/image_raw", qos.STREAM)
    chunks: list[JointTrajectory] = []
    peer.loop.subscribe(JointTrajectory, "policy/action_chunk", QoSProfile(depth=1000), chunks.append)
    parameters = {"contract": str(path), "bundle": str(bundle), "mode": "realtime"}
    # Its log goes to a file: a pipe that nobody reads would hold the node up after 64 KiB of refusals.
    with processes.running(
        [Process("policy", "ros_nodes.policy_node", parameters)], tmp_path, dict(os.environ)
    ) as (policy,):
        peer.matched(joints, camera)
        fuzz_policy(peer, contract, count, joints, camera, chunks, policy)
    assert policy.popen.returncode == 0
    assert "Traceback" not in policy.log.read_text(errors="replace")


def fuzz_policy(
    peer: Peer,
    contract: Contract,
    count: int,
    joints: Publisher,
    camera: Publisher,
    chunks: list[JointTrajectory],
    policy: Running,
) -> None:
    """Hostile pictures and joint states; every hundred the policy must still infer on good ones."""
    rng = np.random.default_rng(10)

    def good() -> tuple[JointState, Image]:
        state = JointState(name=list(contract.action_names), position=HOME.tolist())
        pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image(height=24, width=32, step=96, encoding="rgb8", data=array.array("B", pixels.tobytes()))
        for message in (state, image):
            set_stamp(message.header.stamp, time.time_ns())
        return state, image

    def infers() -> bool:
        """Good messages lead to a chunk again."""
        before = len(chunks)
        for message, publisher in zip(good(), (joints, camera), strict=True):
            publisher.publish(message)
        peer.loop.spin_until(lambda: len(chunks) > before, time.monotonic_ns() + 50_000_000)
        return len(chunks) > before

    peer.until(infers)
    for k in range(count):
        state, image = good()
        joints.publish(hostile.joint_state(state, rng) if k % 2 else state)
        camera.publish(hostile.image(image, rng))
        peer.loop.spin_until(lambda: False, time.monotonic_ns() + 2_000_000)
        if k % 100 == 99 and not peer.loop.spin_until(infers, time.monotonic_ns() + 30_000_000_000):
            pytest.fail(f"no inference after {k + 1} messages:\n{policy.tail()}")
    assert policy.popen.poll() is None, policy.tail()
    for message in chunks:
        for point in message.points:
            assert np.isfinite(point.positions).all()
