"""The parts of the simulation in real time, without ROS: pace, faults, commands, limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.contract import load_contract
from episodes.errors import ConfigError
from ros_nodes.sim_actuators import Inbox
from ros_nodes.sim_bodies import steps_between
from ros_nodes.sim_faults import CameraFault, FaultyCamera, parse_faults
from ros_nodes.sim_limits import braking, limits_seen
from ros_nodes.sim_node import SimConfig
from ros_nodes.sim_pace import Pace
from sim.arm6.env import Arm6Env
from sim.arm6.model import ACTION_NAMES

from .conftest import ARM_CONTRACT

MS = 1_000_000
CONTRACT = load_contract(ARM_CONTRACT)
ARM, GRIP = np.arange(6.0), np.array([0.05])
STILL = np.full(7, -1.0)


def test_steps_come_at_their_deadlines_and_late_ones_are_made_up_for() -> None:
    pace = Pace(5 * MS, 1.0, catch_up_steps=50)
    pace.begin(1_000 * MS)
    assert pace.next_ns == 1_005 * MS
    assert pace.due(1_004 * MS) == []
    assert pace.due(1_005 * MS) == [1_005 * MS]
    assert pace.due(1_023 * MS) == [1_010 * MS, 1_015 * MS, 1_020 * MS]
    figures = pace.figures()
    assert (figures["steps"], figures["slips"], figures["late_worst_ms"]) == (4, 0, 13.0)


def test_what_cannot_be_made_up_for_is_left_out_and_counted() -> None:
    pace = Pace(5 * MS, 1.0, catch_up_steps=50)
    pace.begin(0)
    assert pace.due(1_001 * MS) == [1_000 * MS], "one step; the simulated robot stood still before"
    figures = pace.figures()
    assert (figures["steps"], figures["slips"], figures["slipped_s"]) == (1, 1, 0.995)
    assert figures["late_worst_ms"] >= 995.0
    assert pace.due(1_005 * MS) == [1_005 * MS], "the pace recovers instead of racing"
    pace.forget()
    assert pace.figures()["slipped_s"] == 0.0


def test_half_speed_takes_twice_as_long() -> None:
    pace = Pace(5 * MS, 0.5, catch_up_steps=50)
    pace.begin(0)
    assert pace.due(40 * MS) == [10 * MS, 20 * MS, 30 * MS, 40 * MS]


def test_a_speed_or_rate_that_cannot_work_is_refused() -> None:
    assert steps_between(100.0) == 2
    for rate_hz in (150.0, 0.0, -1.0, 400.0):
        with pytest.raises(ConfigError, match="joint_rate_hz"):
            steps_between(rate_hz)
    for speed in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="speed"):
            SimConfig(speed=speed, publish_clock=True)
    with pytest.raises(ConfigError, match="publish_clock"):
        SimConfig(speed=2.0)


@given(st.lists(st.integers(0, 400 * MS), max_size=60), st.sampled_from([0.3, 1.0, 3.0]))
def test_simulated_time_is_wall_time_less_what_was_left_out(gaps: list[int], speed: float) -> None:
    pace, now_ns, taken = Pace(5 * MS, speed, catch_up_steps=20), 0, 0
    pace.begin(0)
    for gap_ns in gaps:
        now_ns += gap_ns
        deadlines = pace.due(now_ns)
        assert len(deadlines) <= 21
        assert all(deadline <= now_ns for deadline in deadlines)
        assert pace.next_ns > now_ns
        taken += len(deadlines)
    simulated_ns = taken * 5 * MS + pace.slipped_ns
    assert abs(simulated_ns - now_ns * speed) <= 5 * MS + 10 * len(gaps)


def frames(camera: FaultyCamera, numbers: range) -> list[tuple[int, int]]:
    """(what is seen, stamp) of the frames that leave the camera, one taken every 50 ms."""
    found = []
    for k in numbers:
        leaving = camera.take(np.full((1, 1, 3), k, np.uint8), k * 50 * MS, k * 50 * MS)
        found += [(int(pixels[0, 0, 0]), stamp // (50 * MS)) for pixels, stamp in leaving]
    return found


def test_each_fault_of_a_camera_is_what_it_says_and_ends_when_it_is_taken_back() -> None:
    camera = FaultyCamera()
    assert frames(camera, range(2)) == [(0, 0), (1, 1)]
    camera.fault = CameraFault("freeze")
    assert frames(camera, range(2, 4)) == [(1, 2), (1, 3)], "old pixels, new stamps"
    camera.fault = CameraFault("stuck")
    assert frames(camera, range(4, 6)) == [(1, 3), (1, 3)], "old pixels, old stamp"
    camera.fault = CameraFault("drop")
    assert frames(camera, range(6, 8)) == []
    camera.fault = CameraFault("delay", 0.1)
    assert frames(camera, range(8, 12)) == [(8, 8), (9, 9)], "true stamps, 100 ms late"
    assert camera.next_ns == 600 * MS
    assert [stamp for _, stamp in camera.due(600 * MS)] == [500 * MS]
    camera.fault = None
    assert frames(camera, range(13, 15)) == [(13, 13), (14, 14)], "what waited is lost, never late"


def test_faults_are_read_from_parameters_and_wrong_ones_are_refused_by_name() -> None:
    def parse(lockstep: bool = False, clock: bool = True, **values: object) -> object:
        given = {"camera_faults": (), "driver_fault": "", "clock_jump_s": 0.0, **values}
        return parse_faults(given, ("front", "wrist"), lockstep=lockstep, publish_clock=clock)

    faults = parse_faults(
        {"camera_faults": ["front=freeze", "wrist=delay:0.5"], "driver_fault": "stall", "clock_jump_s": -2.0},
        ("front", "wrist"), lockstep=False, publish_clock=True,
    )  # fmt: skip
    assert faults.cameras == {"front": CameraFault("freeze"), "wrist": CameraFault("delay", 0.5)}
    assert (faults.silent, faults.ignores, faults.clock_jump_ns) == (True, True, -2_000 * MS)
    parse(lockstep=True, camera_faults=[""])
    for match, settings in {
        "did you mean 'front'": {"camera_faults": ["frnt=drop"]},
        "front=delay:SECONDS": {"camera_faults": ["front=freeze:1"]},
        "above 0": {"camera_faults": ["front=delay:-1"]},
        "in seconds": {"camera_faults": ["front=delay:nan"]},
        "named twice": {"camera_faults": ["front=drop", "front=freeze"]},
        "silent, ignore or stall": {"driver_fault": "dead"},
        "the modes 'realtime' and": {"driver_fault": "stall", "lockstep": True},
        "publish_clock": {"clock_jump_s": 1.0, "clock": False},
    }.items():
        with pytest.raises(ConfigError, match=match):
            parse(**settings)  # type: ignore[arg-type]


def test_a_command_is_handed_on_once_whole_and_a_channel_without_one_stays_where_it_is() -> None:
    inbox = Inbox(CONTRACT, 200 * MS)
    assert inbox.take(STILL, 0) is None
    inbox.receive("arm", ARM, 0)
    command = inbox.take(STILL, 5 * MS)
    assert command is not None
    assert command.tolist() == [*ARM, -1.0]
    assert inbox.take(STILL, 10 * MS) is None, "nothing new"
    inbox.receive("gripper", GRIP, 10 * MS)
    assert inbox.take(STILL, 10 * MS) is None, "the arm's part of the same tick is on its way"
    inbox.receive("arm", ARM + 1, 10 * MS)
    command = inbox.take(STILL, 15 * MS)
    assert command is not None
    assert command.tolist() == [*(ARM + 1), 0.05]


def test_a_gripper_that_goes_on_does_not_keep_an_arm_alive_whose_commands_stopped() -> None:
    inbox = Inbox(CONTRACT, 200 * MS)
    inbox.receive("arm", ARM, 0)
    for now_ns in range(0, 1_000 * MS, 50 * MS):
        inbox.receive("gripper", GRIP, now_ns)
        handed_on = inbox.take(STILL, now_ns + 20 * MS)
        assert (handed_on is not None) == (now_ns <= 150 * MS)
    inbox.receive("arm", ARM, 1_000 * MS)
    assert inbox.take(STILL, 1_020 * MS) is not None
    for now_ns in range(1_050 * MS, 2_000 * MS, 50 * MS):
        inbox.receive("arm", ARM, now_ns)
        assert inbox.take(STILL, now_ns + 20 * MS) is not None, (
            "a gripper that is told nothing keeps its grip"
        )


def test_the_rate_of_the_commands_is_known() -> None:
    inbox = Inbox(CONTRACT, 10_000 * MS)
    assert inbox.period_ns is None
    for k in range(12):
        inbox.receive("arm", ARM, k * 25 * MS)
        inbox.take(STILL, k * 25 * MS)
    assert inbox.period_ns == 25 * MS


def test_what_the_joints_did_is_told_against_the_limits_of_the_contract() -> None:
    env = Arm6Env("reach", watch=True)
    start = env.reset(seed=0, episode=0).observation["joints"]
    target = start.copy()
    target[0] += 2.0
    for _ in range(40):
        env.step(target)
    seen = limits_seen(CONTRACT, env.driver)
    assert seen is not None
    (excess,) = seen.excess
    assert excess.startswith("joint1: velocity 2.0")
    told = json.loads(seen.as_json())
    assert told["inside"] is False
    assert list(told["measured"]) == list(CONTRACT.action_names)
    assert told["measured"]["joint1"]["max_acceleration"] == 6.0
    assert seen.shares()["velocity_share"] > 1.3
    assert told["setpoint"]["joint2"]["velocity"] < 0.05
    env.reset(seed=0, episode=1)
    fresh = limits_seen(CONTRACT, env.driver)
    assert fresh is not None
    assert fresh.excess == ()
    brake = braking(CONTRACT)
    assert brake is not None
    assert dict(zip(ACTION_NAMES, brake.tolist(), strict=True))["joint4"] == 10.0
