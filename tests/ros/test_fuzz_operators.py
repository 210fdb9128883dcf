"""Hostile messages to an operator's node and to the supervisor: both live, and ask for nothing unsafe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import load_contract
from ros_nodes import qos
from ros_nodes.convert import set_stamp
from ros_nodes.teleop.messages import ENABLE_TOPIC, TELEOP_TOPIC

from . import hostile
from .conftest import NodeProcess, Peer
from .teleop.stand import ARM, POSE
from .test_failures import call

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
PEDAL = {"deadman.source": "bool", "deadman.topic": "pedal"}
DEVICES: dict[str, dict[str, object]] = {
    "joystick": {},
    "leader": PEDAL,
    "spacemouse": PEDAL | {"spacemouse": "twist_stamped", "axes": ("j0=0", "j1=-1*0.5", "j2=4")},
}
"""Device: its parameters."""
CASES = [
    pytest.param("joystick", 150),
    *(pytest.param(device, 10_000, marks=LONG) for device in DEVICES),
]
STEP_NS = 3_000_000
DIAGNOSTICS = {"/diagnostics": qos.STREAM, "policy/info": qos.STREAM}
STATUSES = ("control/state", "episode/status", "sim/status")


class World:
    """Everything that the two nodes hear, good or hostile, and what they say."""

    def __init__(self, peer: Peer, device: str) -> None:
        self.peer, self.rng = peer, np.random.default_rng(12)
        self.device, self.held = device, False
        topics = {
            "joystick": ("joy", Joy),
            "leader": ("leader/joint_states", JointState),
            "spacemouse": ("spacenav/twist", TwistStamped),
        }
        make = peer.node.create_publisher
        topic, kind = topics[device]
        self._device = make(kind, topic, qos.STREAM)
        self._joints = make(JointState, "joint_states", qos.STREAM)
        self._arrays = [make(DiagnosticArray, topic, profile) for topic, profile in DIAGNOSTICS.items()]
        self._statuses = [make(DiagnosticStatus, topic, qos.LATCHED) for topic in STATUSES]
        self.publishers = [self._device, self._joints, *self._arrays, *self._statuses]
        if device != "joystick":
            self._pedal = make(Bool, "pedal", qos.STREAM)
            self.publishers.append(self._pedal)
        self.asked: list[np.ndarray] = []
        self.enables: list[bool] = []
        self.beats = 0
        subscribe = peer.loop.subscribe
        subscribe(JointTrajectory, TELEOP_TOPIC, QoSProfile(depth=1000), self._ask)
        subscribe(Bool, ENABLE_TOPIC, QoSProfile(depth=1000), lambda m: self.enables.append(m.data))
        subscribe(Bool, "estop", qos.LATCHED, self._beat)

    def _ask(self, message: JointTrajectory) -> None:
        self.asked.append(np.array(message.points[0].positions))

    def _beat(self, message: Bool) -> None:
        self.beats += 1

    def _good_device(self) -> Any:
        if self.device == "joystick":
            return Joy(axes=[0.0] * 8, buttons=[0, 0, 0, 0, int(self.held), 0])
        if self.device == "leader":
            return JointState(name=["j0", "j1", "j2", "finger"], position=POSE.tolist())
        return TwistStamped()

    def step(self, *, spoilt: bool, share: float = 1.0) -> None:
        """One message of each type; `share` of what device and driver say is hostile where it is spoilt."""
        rng = self.rng
        draws: dict[type, Callable[[Any, np.random.Generator], Any]] = {
            Joy: hostile.joy, JointState: hostile.joint_state, TwistStamped: hostile.spatial,
        }  # fmt: skip
        joints = JointState(name=["finger", "j2", "j1", "j0"], position=POSE[::-1].tolist())
        set_stamp(joints.header.stamp, time.time_ns())
        status = DiagnosticStatus(name="control: state", message="HOLD")
        for publisher, good in ((self._device, self._good_device()), (self._joints, joints)):
            bad = spoilt and rng.random() < share
            publisher.publish(draws[type(good)](good, rng) if bad else good)
        for publisher in self._arrays:
            array = DiagnosticArray(status=[status])
            publisher.publish(hostile.diagnostics(array, rng) if spoilt else array)
        for publisher in self._statuses:
            drawn = hostile.diagnostics(DiagnosticArray(status=[status]), rng).status if spoilt else [status]
            publisher.publish(drawn[0] if drawn else status)
        if self.device != "joystick":
            self._pedal.publish(Bool(data=self.held))
        self.peer.loop.spin_until(lambda: False, time.monotonic_ns() + STEP_NS)

    def until(self, condition: Callable[[], bool]) -> None:
        """Good messages until the condition holds."""

        def met() -> bool:
            self.step(spoilt=False)
            return condition()

        self.peer.until(met)


@pytest.mark.parametrize(("device", "count"), CASES)
def test_teleoperation_and_supervisor_outlive_fuzzed_messages_and_work_again_on_good_ones(
    peer: Peer, start: Callable[..., NodeProcess], tmp_path: Path, device: str, count: int
) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(ARM)
    contract = load_contract(path)
    nodes = (
        start("teleop_node", contract=path, device=device, silence_s=2.0, **DEVICES[device]),
        start("supervisor_node", contract=path, watch=("control",), silence_s=2.0),
    )
    world = World(peer, device)
    peer.matched(*world.publishers)
    for k in range(2 * count):
        # By turns: all of it, and so little that the operator gets to move something.
        world.held = k % 50 > 15
        world.step(spoilt=True, share=1.0 if k // 50 % 2 else 0.01)
        assert all(node.popen.poll() is None for node in nodes)
    assert world.beats > 5, "the e-stop's heart goes on"
    assert world.asked, "the operator never moved anything"
    for values in world.asked:
        assert np.isfinite(values).all()
        assert (values >= contract.action_lower).all()
        assert (values <= contract.action_upper).all()
    world.held = False
    world.enables.clear()
    world.until(lambda: len(world.enables) > 10 and not any(world.enables[-5:]))
    world.asked.clear()
    world.held = True
    world.until(lambda: bool(world.asked))
    assert world.asked[0] == pytest.approx(POSE, abs=1e-6), "it begins where the arm is"
    world.until(lambda: call(peer, Trigger, "supervisor/release")[0])
    for node in nodes:
        code, text = node.end()
        assert code == 0, text
        assert "Traceback" not in text
