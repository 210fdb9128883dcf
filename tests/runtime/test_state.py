"""The state machine allows only the drawn ways, and silence of an e-stop is a press."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError
from policy.runtime.state import EstopWatch, Fault, FaultCode, Heartbeat, State, StateMachine

FAULT = Fault(FaultCode.REPORTED, "drill", 7)
CALLS = {
    "enable": lambda m: m.enable(),
    "disable": lambda m: m.disable(),
    "policy": lambda m: m.follow(State.POLICY),
    "teleop": lambda m: m.follow(State.TELEOP),
    "hold": lambda m: m.follow(State.HOLD),
    "trip": lambda m: m.trip(FAULT),
    "clear": lambda m: m.clear(),
}


@given(calls=st.lists(st.sampled_from(sorted(CALLS)), max_size=40))
def test_only_clear_leaves_fault_and_only_enable_leaves_disabled(calls: list[str]) -> None:
    machine = StateMachine()
    for call in calls:
        before = machine.state
        try:
            CALLS[call](machine)
        except ConfigError:
            assert machine.state is before
        if before is State.FAULT and machine.state is not State.FAULT:
            assert (call, machine.state) == ("clear", State.DISABLED)
        if before is State.DISABLED and machine.state is not State.DISABLED:
            assert (call, machine.state) in {("enable", State.HOLD), ("trip", State.FAULT)}
        assert (machine.fault is None) == (machine.state is not State.FAULT)


def test_a_forbidden_way_names_both_ends() -> None:
    with pytest.raises(ConfigError, match="cannot go from DISABLED to POLICY; that needs HOLD or POLICY"):
        StateMachine().follow(State.POLICY)


def test_the_first_fault_is_the_one_that_stays() -> None:
    machine = StateMachine()
    machine.trip(FAULT)
    machine.trip(Fault(FaultCode.ESTOP, "later", 9))
    assert machine.fault is FAULT


def test_a_source_is_silent_when_unheard_late_or_from_before_the_clock_went_back() -> None:
    watch = EstopWatch(("pendant", "gate"), silence_ns=300, skew_ns=10)
    watch.hear({"pendant": Heartbeat(False, 1000)})
    assert watch.silent(1100) == ("gate (never heard)",)
    watch.hear({"gate": Heartbeat(False, 1100)})
    assert watch.silent(1300) == ()
    assert watch.silent(995) == ("gate (last heard -0 ms ago)",)
    assert [text.split()[0] for text in watch.silent(1301)] == ["pendant"]
    assert [text.split()[0] for text in watch.silent(1200, since_ns=1050)] == ["pendant"]


def test_a_press_is_reported_when_it_comes_and_remembered_until_released() -> None:
    watch = EstopWatch(("pendant",), silence_ns=300, skew_ns=10)
    assert watch.hear({"pendant": Heartbeat(True, 0), "phone": Heartbeat(True, 0)}) == ("pendant", "phone")
    assert watch.hear({}) == ()
    assert watch.pressed() == ("pendant", "phone")
    watch.hear({"pendant": Heartbeat(False, 1), "phone": Heartbeat(False, 1)})
    assert watch.pressed() == ()
