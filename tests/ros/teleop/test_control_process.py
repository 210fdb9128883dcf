"""The control process by itself: parameters, diagnostics, inputs that fail."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from episodes.errors import ConfigError
from ros_nodes import qos
from ros_nodes.control_config import ControlNodeConfig, changed
from ros_nodes.teleop.messages import ENABLE_TOPIC

from ..test_failures import call
from .stand import POSE, Beats, Stand, set_parameters
from .test_takeover import enable

Standing = Callable[..., Stand]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_hz", 0.5),
        ("rate_hz", math.nan),
        ("rate_hz", 2000.0),
        ("speed_scale", 0.0),
        ("speed_scale", 1.1),
        ("starved_s", math.inf),
        ("estop_silence_s", 5.0),
        ("chunk.blend_steps", -1),
        ("teleop.silence_s", 0.0),
    ],
)
def test_a_parameter_outside_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        changed(ControlNodeConfig(), {name: value})


def test_parameters_change_while_disabled_with_their_ranges_and_are_locked_while_active(
    standing: Standing,
) -> None:
    stand = standing()
    peer = stand.peer
    results = set_parameters(
        peer, "control", rate_hz=100.0, speed_scale=0.5, teleop__silence_s=0.4, starved_s=99.0,
        contract="other.yaml", rt_priority=5, estop_silence_s="text",
    )  # fmt: skip
    assert [ok for ok, _ in results] == [True, True, True, False, False, False, False]
    assert "write a number from" in results[3][1]
    assert "locked while the node runs" in results[4][1]
    peer.until(lambda: _figure(stand, "control: timing", "rate_hz") == "100")
    peer.until(lambda: stand.watch.values.get("speed_scale") == "0.5")
    stand.follow(np.array([0.8, 0.0, 0.1, 0.04]))
    enable(stand)
    stand.watch.until("POLICY")
    (refused,) = set_parameters(peer, "control", speed_scale=1.0)
    assert not refused[0]
    assert "change in DISABLED only" in refused[1]
    peer.until(lambda: stand.watch.pose()[0] > 0.79)
    assert stand.watch.worst(0.01)[0] <= 0.5 + 1e-6, "half the speed"
    assert call(peer, SetBool, "control/enable", data=False)[0]
    stand.watch.until("DISABLED")
    assert set_parameters(peer, "control", speed_scale=1.0)[0][0]


def _figure(stand: Stand, status: str, key: str) -> str:
    found = stand.watch.diagnostics.get(status, DiagnosticStatus())
    return next((pair.value for pair in found.values if pair.key == key), "")


def test_diagnostics_tell_state_timing_inputs_and_the_age_of_chunks(standing: Standing) -> None:
    stand = standing(rate_hz=100.0)
    stand.follow(POSE)
    enable(stand)
    stand.watch.until("POLICY")
    found = stand.watch.diagnostics
    stand.peer.until(lambda: _figure(stand, "control: policy", "chunk_age_p50_ms") != "")
    stand.peer.until(lambda: float(_figure(stand, "control: timing", "ticks") or 0) > 100)
    assert float(_figure(stand, "control: policy", "chunk_age_p50_ms")) < 100.0
    assert float(_figure(stand, "control: timing", "period_error_p50_us")) < 10_000.0
    assert "garbage collector off" in _figure(stand, "control: timing", "settings")
    assert _figure(stand, "control: inputs", "estop_age_ms")
    assert _figure(stand, "control: inputs", "state_age_ms")
    stand.peer.until(lambda: found["control: state"].message == "POLICY")
    assert found["control: state"].level == DiagnosticStatus.OK


def test_what_the_policy_reports_of_itself_stops_the_arm(standing: Standing) -> None:
    stand = standing()
    stand.follow(POSE)
    level = {"now": DiagnosticStatus.WARN}
    Beats(
        stand.peer, DiagnosticArray, "policy/info",
        lambda: DiagnosticArray(status=[DiagnosticStatus(level=level["now"], message="front is frozen")]), 20,
    )  # fmt: skip
    enable(stand)
    stand.watch.until("POLICY")
    level["now"] = DiagnosticStatus.ERROR
    stand.watch.until("FAULT")
    assert stand.watch.values["fault"] == "policy: front is frozen"


@pytest.mark.long
def test_a_driver_that_falls_silent_is_a_fault(standing: Standing) -> None:
    stand = standing()
    stand.follow(POSE)
    enable(stand)
    stand.watch.until("POLICY")
    stand.driver.end()  # type: ignore[attr-defined]
    stand.watch.until("FAULT")
    assert "state was measured" in stand.watch.values["fault"]
    assert stand.watch.values["fault_code"] == "measured_stale"


def test_an_estop_source_that_falls_silent_or_is_pressed_or_is_two_is_a_fault(standing: Standing) -> None:
    stand = standing(estop_silence_s=0.3)
    Beats(stand.peer, Bool, ENABLE_TOPIC, lambda: Bool(data=False), 25)
    enable(stand)
    stand.watch.until("HOLD")
    stand.estop.on = False
    stand.watch.until("FAULT")
    assert "e-stop is silent: estop" in stand.watch.values["fault"]
    stand.estop.on = True
    stand.peer.until(lambda: call(stand.peer, Trigger, "control/clear_fault")[0])
    enable(stand)
    stand.pressed = True
    stand.watch.until("FAULT")
    stand.peer.until(lambda: "e-stop is pressed" in stand.watch.values["fault"])
    stand.pressed = False
    stand.peer.until(lambda: call(stand.peer, Trigger, "control/clear_fault")[0])
    assert stand.watch.state != "HOLD", "a release clears nothing by itself"
    enable(stand)
    other = stand.peer.node.create_publisher(Bool, "estop", qos.LATCHED)
    stand.watch.until("FAULT")
    assert "more than one node publishes on estop" in stand.watch.values["fault"]
    stand.peer.node.destroy_publisher(other)


@pytest.mark.long
def test_a_second_dead_man_is_a_fault(standing: Standing) -> None:
    stand = standing()
    stand.follow(POSE)
    Beats(stand.peer, Bool, ENABLE_TOPIC, lambda: Bool(data=False), 25)
    enable(stand)
    stand.watch.until("POLICY")
    stand.peer.node.create_publisher(Bool, ENABLE_TOPIC, qos.STREAM)
    stand.watch.until("FAULT")
    assert f"more than one node publishes on {ENABLE_TOPIC}" in stand.watch.values["fault"]
