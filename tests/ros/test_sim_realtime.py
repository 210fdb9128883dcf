"""The arm's simulation in real time, over DDS: what a robot would publish, take, refuse and survive.

Judged by stamps and counts: the machine may be busy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from episodes.messages import to_ns
from ros_nodes import qos
from sim.arm6.model import HOME

from .conftest import ARM_CAMERA_CONTRACT, ARM_CONTRACT, NodeProcess, Peer
from .test_failures import call

MS = 1_000_000
CAMERAS = ("front", "side", "wrist")
Start = Callable[..., NodeProcess]


class Rig:
    """Listens to everything of a simulation, and commands it when told."""

    def __init__(self, peer: Peer, sim: NodeProcess, cameras: tuple[str, ...] = ()) -> None:
        self.peer, self.sim = peer, sim
        self.joints: list[JointState] = []
        self.ticks: list[int] = []
        self.clock: list[int] = []
        self.told: dict[str, dict[str, str]] = {}
        self.frames: dict[str, list[tuple[int, bytes, int]]] = {name: [] for name in cameras}
        loop = peer.loop
        loop.subscribe(JointState, "joint_states", qos.STREAM, self.joints.append)
        loop.subscribe(
            JointState, "sim/observation", qos.STREAM, lambda m: self.ticks.append(to_ns(m.header.stamp))
        )
        loop.subscribe(Clock, "/clock", qos.STREAM, lambda m: self.clock.append(to_ns(m.clock)))
        loop.subscribe(DiagnosticArray, "/diagnostics", qos.STREAM, self._hear)
        for name in cameras:
            loop.subscribe(Image, f"camera/{name}/image_raw", qos.STREAM, partial(self._see, name))
        self.arm = peer.node.create_publisher(
            Float64MultiArray, "forward_position_controller/commands", qos.STREAM
        )
        self.gripper = peer.node.create_publisher(
            Float64MultiArray, "gripper_controller/commands", qos.STREAM
        )
        peer.matched(self.arm, self.gripper)

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.told[status.name] = {"message": status.message, **{v.key: v.value for v in status.values}}

    def _see(self, name: str, message: Image) -> None:
        now_ns = int(self.peer.node.get_clock().now().nanoseconds)
        self.frames[name].append((to_ns(message.header.stamp), bytes(message.data), now_ns))

    def position(self) -> NDArray[np.float64]:
        return np.array(self.joints[-1].position)

    def send(self, command: NDArray[np.float64]) -> None:
        self.arm.publish(Float64MultiArray(data=command[:6].tolist()))
        self.gripper.publish(Float64MultiArray(data=command[6:].tolist()))

    def drive(self, target: NDArray[np.float64], until: Callable[[], bool]) -> None:
        """Command `target`, a bit nearer with each joint state, until the condition holds."""
        count, at = -1, self.position()

        def driven() -> bool:
            nonlocal count, at
            if len(self.joints) != count:
                count = len(self.joints)
                at = at + np.clip(target - at, -0.002, 0.002)
                self.send(at)
            return until()

        self.peer.until(driven)

    def set(self, **values: object) -> tuple[bool, str]:
        client = self.peer.loop.client(SetParameters, "sim/set_parameters")
        self.peer.until(client.service_is_ready)
        changes = [
            Parameter(k, Parameter.Type.STRING_ARRAY if k == "camera_faults" else None, v).to_parameter_msg()
            for k, v in values.items()
        ]
        future = client.call_async(SetParameters.Request(parameters=changes))
        self.peer.until(future.done)
        results = future.result().results
        return all(r.successful for r in results), " ".join(r.reason for r in results)

    def trigger(self, name: str) -> tuple[bool, str]:
        return call(self.peer, Trigger, f"sim/{name}")

    def go(self) -> None:
        assert self.trigger("reset")[0]
        assert call(self.peer, SetBool, "sim/pause", data=False)[0]
        self.peer.until(lambda: bool(self.joints))

    def until_more(self, count: int, series: Callable[[], int]) -> None:
        begin = series()
        self.peer.until(lambda: series() >= begin + count)

    def until_told(self, name: str, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        self.peer.until(lambda: name in self.told and condition(self.told[name]))
        return self.told[name]


def test_the_arm_in_real_time_is_driven_measured_stopped_and_reset_like_a_robot(
    peer: Peer, start: Start
) -> None:
    rig = Rig(peer, start("sim_node", contract=ARM_CONTRACT, mode="realtime", horizon=0))
    assert call(peer, SetBool, "sim/pause", data=False) == (False, "no episode has begun: call ~/reset first")
    rig.go()

    rig.until_more(100, lambda: len(rig.joints))
    stamps = np.array([to_ns(m.header.stamp) for m in rig.joints])
    slipped = float(rig.until_told("sim: pace", lambda told: True)["slipped_s"])
    gaps = np.diff(stamps)
    assert (gaps > 0).all()
    if slipped == 0.0:
        assert abs(np.median(gaps) - 5 * MS) <= 1.1 * MS, "200 Hz; the physics has steps of 2 ms"
    assert [len(getattr(rig.joints[0], f)) for f in ("name", "position", "velocity", "effort")] == [7] * 4
    np.testing.assert_allclose(rig.position(), HOME, atol=1e-6)
    rig.until_more(4, lambda: len(rig.ticks))
    assert abs(np.median(np.diff(rig.ticks)) - 50 * MS) < 2 * MS, (
        "what only a simulation knows, once per tick"
    )

    target = HOME + np.array([0.3, -0.1, 0.1, 0.2, -0.1, 0.3, -0.03])
    rig.drive(target, lambda: bool(np.abs(rig.position() - target).max() < 2e-3))
    moved = rig.until_told("sim: driver", lambda told: told["holding"] == "0")
    assert moved["refused_messages"] == "0"
    moving = max(abs(m.velocity[0]) for m in rig.joints)
    assert moving > 0.05

    # Wrong messages while a right command is in force change nothing but a counter.
    for data in ([0.0] * 5, [float("nan")] * 6, []):
        rig.arm.publish(Float64MultiArray(data=data))
        rig.until_more(2, lambda: len(rig.ticks))
    rig.gripper.publish(Float64MultiArray(data=[float("inf")]))
    held = rig.until_told(
        "sim: driver", lambda told: told["refused_messages"] == "4" and told["holding"] == "1"
    )
    assert int(held["holds"]) >= 1, "commands stopped"
    rest = rig.position()
    rig.until_more(60, lambda: len(rig.joints))
    np.testing.assert_allclose(rig.position(), rest, atol=1e-3)

    inside, text = rig.trigger("limits_seen")
    seen = json.loads(text)
    assert inside == seen["inside"]
    assert seen["measured"]["joint1"]["highest"] == pytest.approx(
        max(m.position[0] for m in rig.joints), abs=1e-2
    )
    assert seen["measured"]["joint1"]["velocity"] > 0.0
    assert seen["measured"]["joint1"]["max_velocity"] == 1.5

    assert call(peer, SetBool, "sim/pause", data=True)[0]
    count = len(rig.ticks)
    assert rig.trigger("step")[0]
    peer.until(lambda: len(rig.ticks) == count + 1)
    assert rig.trigger("reset")[0]
    rig.joints.clear()
    assert json.loads(rig.trigger("limits_seen")[1])["measured"]["joint1"]["velocity"] == 0.0
    assert call(peer, SetBool, "sim/pause", data=False)[0]
    peer.until(lambda: bool(rig.joints))
    np.testing.assert_allclose(rig.joints[0].position, HOME, atol=1e-6)
    code, text = rig.sim.end()
    assert code == 0, text
    assert "command refused" in text


def test_a_driver_that_falls_silent_ignores_commands_or_stalls_does_so_until_it_is_told_otherwise(
    peer: Peer, start: Start
) -> None:
    rig = Rig(peer, start("sim_node", contract=ARM_CONTRACT, mode="realtime", horizon=0))
    rig.go()
    accepted, reason = rig.set(driver_fault="dead")
    assert not accepted
    assert "silent, ignore or stall" in reason
    target = HOME + np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    assert rig.set(driver_fault="ignore")[0]
    count = len(rig.joints)
    rig.drive(target, lambda: len(rig.joints) >= count + 100)
    np.testing.assert_allclose(rig.position(), HOME, atol=1e-6)

    assert rig.set(driver_fault="silent")[0]
    rig.until_more(2, lambda: len(rig.ticks))
    rig.joints.clear()
    for _ in range(20):
        rig.send(target)
        rig.until_more(1, lambda: len(rig.ticks))
    assert rig.joints == [], "no joint states"
    assert rig.told["sim: driver"]["message"] == "fault shown: silent"
    assert rig.set(driver_fault="")[0]
    peer.until(lambda: bool(rig.joints))
    assert rig.position()[0] > 0.1, "commands were followed all the same"

    assert rig.set(driver_fault="stall")[0]
    rig.until_more(10, lambda: len(rig.ticks))
    rig.joints.clear()
    for _ in range(10):
        rig.send(HOME)
        rig.until_more(1, lambda: len(rig.ticks))
    assert rig.joints == []
    assert rig.set(driver_fault="")[0]
    peer.until(lambda: bool(rig.joints))
    assert rig.position()[0] > 0.1, "commands were not taken"


def test_three_cameras_see_the_arm_and_fail_one_by_one_on_demand(peer: Peer, start: Start) -> None:
    sim = start("sim_node", contract=ARM_CAMERA_CONTRACT, mode="realtime", horizon=0)
    rig = Rig(peer, sim, CAMERAS)
    rig.go()
    front, side, wrist = (rig.frames[name] for name in CAMERAS)
    peer.until(lambda: min(len(front), len(side), len(wrist)) >= 10)
    for frames in (front, side, wrist):
        gaps = np.diff([stamp for stamp, _, _ in frames])
        assert (gaps > 0).all()
        assert np.median(gaps) == pytest.approx(50 * MS, abs=6 * MS), "the contract's rate"
        assert len({pixels for _, pixels, _ in frames[-3:]}) == 1, "a still arm before a still camera"
    assert front[0][1] != side[0][1] != wrist[0][1]
    assert not rig.set(camera_faults=["frnt=drop"])[0]

    assert rig.set(camera_faults=["front=freeze", "side=drop", "wrist=delay:0.5"])[0]
    rig.until_more(3, lambda: len(front))
    begin = len(front)
    dropped = len(side)
    target = HOME + np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    rig.drive(target, lambda: len(front) >= begin + 15 and rig.position()[0] > 0.2)
    assert len({pixels for _, pixels, _ in front[begin:]}) == 1, "the joints moved, the picture did not"
    assert (np.diff([stamp for stamp, _, _ in front[begin:]]) > 0).all()
    assert len(side) == dropped
    rig.until_more(3, lambda: len(wrist))
    assert all(received - stamp >= 500 * MS for stamp, _, received in wrist[-3:])
    assert len({pixels for _, pixels, _ in wrist[-3:]}) > 1 or rig.position()[0] > 0.39

    assert rig.set(camera_faults=["front=stuck"])[0]
    rig.until_more(5, lambda: len(front))
    assert len({stamp for stamp, _, _ in front[-3:]}) == 1, "the stamp stands still"
    assert rig.set(camera_faults=[])[0]
    rig.until_more(5, lambda: len(side))
    frozen = front[begin][1]
    peer.until(lambda: front[-1][1] != frozen)
    assert rig.told["sim: camera front"].keys() >= {"sent", "skipped", "drawing_ms"}


def test_simulated_time_may_run_faster_and_jump_where_everybody_hears_the_clock(
    peer: Peer, start: Start
) -> None:
    sim = start(
        "sim_node", contract=ARM_CONTRACT, mode="realtime", horizon=0, publish_clock=True, speed=2.0,
        joint_rate_hz=100.0,
    )  # fmt: skip
    rig = Rig(peer, sim)
    rig.go()
    rig.until_more(50, lambda: len(rig.joints))
    stamps = [to_ns(m.header.stamp) for m in rig.joints]
    assert set(np.diff(stamps).tolist()) == {10 * MS}, "simulated time is exact"
    assert stamps[0] < 10_000 * MS
    assert set(stamps[:40]) <= set(rig.clock)
    for jump_s in (5.0, -3.0):
        assert rig.set(clock_jump_s=jump_s)[0]
        rig.until_more(20, lambda: len(rig.clock))
    # A tick that the machine brings late leaves some out, which is a gap too, but no jump.
    jumps = sorted(gap for gap in np.diff(rig.clock).tolist() if abs(gap) > 1_000 * MS)
    assert jumps == pytest.approx([-8_000 * MS + 5 * MS, 5_000 * MS + 5 * MS], abs=200 * MS)


def test_faults_are_refused_in_lock_step(start: Start) -> None:
    code, text = start("sim_node", contract=ARM_CONTRACT, driver_fault="stall").finish()
    assert code == 1
    assert "the modes 'realtime' and 'asfast'" in text
