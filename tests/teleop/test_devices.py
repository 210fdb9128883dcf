"""Joysticks, SpaceMice, keyboards and leader arms: what they say, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.errors import ConfigError
from ros_nodes.teleop.axes import AxesDevice, parse_axes, shaped
from ros_nodes.teleop.keys import KeyDevice, parse_keys
from ros_nodes.teleop.leader import AlignConfig, Alignment, leader_pose, parse_joints
from ros_nodes.teleop.reading import Engagement

KNOWN = ("j0", "j1", "finger", "gripper", "tool.x")
MS = 1_000_000


# -------------------------------------------------------------------------------------------- the dead-man


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "", "", "silent"])), max_size=60))
def test_nothing_is_engaged_that_is_not_held_or_was_not_released_since_the_last_problem(
    words: list[tuple[bool, str]],
) -> None:
    engagement, released, lost = Engagement(), False, False
    for held, problem in words:
        before = engagement.engaged
        rises = engagement.update(held, problem)
        released = not problem and (released or not held)
        lost = (lost or before) if problem else lost and held
        assert engagement.engaged == (held and not problem and released)
        assert rises == (engagement.engaged and not before)
        assert engagement.engaged == (engagement.why == "")
        assert engagement.lost == lost, "torn open in motion, and not released by hand since"


@pytest.mark.parametrize("moved", [False, True])
def test_a_refusal_asks_for_a_release_and_only_what_breaks_off_a_motion_is_a_loss(moved: bool) -> None:
    engagement = Engagement()
    engagement.update(False, "")
    assert engagement.update(True, "")
    (engagement.open if moved else engagement.refuse)("too far apart")
    assert not engagement.update(True, "")
    assert engagement.why == "too far apart"
    assert engagement.lost == moved
    engagement.update(False, "")
    assert not engagement.lost
    assert engagement.update(True, "")


# ------------------------------------------------------------------------------------------ axes and buttons


def test_axes_buttons_and_gains_add_up_to_rates() -> None:
    entries = ("j0=0", "j0=-1*0.5", "finger=b2", "finger=-b3", "tool.x=+4")
    device = AxesDevice(parse_axes(entries, KNOWN), deadman=5, deadzone=0.0, expo=0.0)
    reading = device.read([0.5, 0.4, 0.0, 0.0, -0.25], [0, 0, 1, 0, 0, 1])
    assert reading.held
    assert reading.rates == {"j0": pytest.approx(0.3), "finger": 1.0, "tool.x": pytest.approx(-0.25)}


@pytest.mark.parametrize(
    ("axes", "buttons"),
    [
        ([0.0], [0, 1]),
        ([], []),
        ([0.0, 0.0], [0]),
        ([math.nan, 0.0], [0, 1]),
        ([0.0, 7.0], [0, 1]),
        ([math.inf] * 2, [0, 1]),
    ],
    ids=["few axes", "nothing", "few buttons", "NaN", "beyond the end", "infinite"],
)
def test_a_joy_that_is_short_or_holds_no_positions_of_axes_is_refused(
    axes: list[float], buttons: list[int]
) -> None:
    device = AxesDevice(parse_axes(("j0=0", "j1=1"), KNOWN), deadman=1, deadzone=0.1, expo=0.3)
    reading = device.read(axes, buttons)
    assert reading.problem
    assert not reading.held
    assert not reading.rates


def test_axes_that_are_not_mapped_may_hold_anything() -> None:
    device = AxesDevice(parse_axes(("j0=0",), KNOWN), deadman=0, deadzone=0.1, expo=0.3)
    assert device.read([0.5, math.nan], [1]).held


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 0.9), st.floats(0, 1))
def test_a_shaped_axis_is_odd_bounded_and_zero_in_the_middle(
    value: float, deadzone: float, expo: float
) -> None:
    rate = shaped(value, deadzone, expo)
    assert abs(rate) <= 1.0 + 1e-12
    assert rate == -shaped(-value, deadzone, expo)
    assert rate * value >= 0.0
    assert rate == 0.0 or abs(value) > deadzone
    assert shaped(1.0, deadzone, expo) == pytest.approx(1.0)


def test_a_toggle_closes_then_opens_and_what_is_pressed_at_the_start_toggles_nothing() -> None:
    device = AxesDevice(parse_axes(("gripper=t0",), KNOWN), deadman=1, deadzone=0.1, expo=0.0)
    rates = [device.read([], [down, 1]).rates["gripper"] for down in (1, 1, 0, 1, 1, 0, 1)]
    assert rates == [0.0, 0.0, 0.0, -1.0, -1.0, -1.0, 1.0]


@pytest.mark.parametrize("entry", ["j0", "j0=x", "j0=1*2", "j0=b", "leg=1", "j0=1*0"])
def test_a_mapping_that_cannot_be_read_is_refused_by_its_entry(entry: str) -> None:
    with pytest.raises(ConfigError, match=entry.partition("=")[0]):
        parse_axes((entry,), KNOWN)


# ------------------------------------------------------------------------------------------------ keyboard


def keyboard(repeat_s: float = 0.2, first_s: float = 0.7) -> KeyDevice:
    return KeyDevice(parse_keys(("w=j0", "s=-j0"), KNOWN), repeat_s, first_s)


def test_a_tap_moves_for_the_repeat_time_and_holds_the_dead_man_until_a_repeat_could_come() -> None:
    keys = keyboard()
    keys.press("s", 0)
    assert keys.read(0).rates == {"j0": -1.0}
    assert keys.read(200 * MS).rates == {"j0": -1.0}
    assert keys.read(201 * MS).rates == {}
    assert keys.read(700 * MS).held
    assert not keys.read(701 * MS).held
    assert not keys.read(300 * MS).held, "open is open"


def test_a_key_that_repeats_opens_the_dead_man_soon_after_the_last_byte() -> None:
    keys = keyboard()
    keys.press("w", 0)
    for k in range(10):
        now_ns = (500 + 33 * k) * MS
        keys.press("w", now_ns)
        assert keys.read(now_ns).rates == {"j0": 1.0}
    assert keys.read(now_ns + 400 * MS).held
    assert not keys.read(now_ns + 401 * MS).held


@pytest.mark.parametrize("key", [" ", "x", "\t", "9"])
def test_space_and_any_key_that_means_nothing_opens_the_dead_man_at_once(key: str) -> None:
    keys = keyboard()
    keys.press("ww" + key, 0)
    assert not keys.read(1).held


def test_speed_keys_change_the_rate_within_bounds_and_move_nothing() -> None:
    keys = keyboard()
    keys.press("-" * 40, 0)
    assert not keys.read(1).held
    assert keys.speed == pytest.approx(0.1)
    keys.press("w", 0)
    assert keys.read(1).rates == {"j0": pytest.approx(0.1)}
    keys.press("+" * 40, 0)
    assert keys.speed == 1.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 900 * MS), st.text(max_size=3)), max_size=30))
def test_no_keys_move_for_longer_than_the_repeat_time_nor_hold_for_longer_than_the_first(
    presses: list[tuple[int, str]],
) -> None:
    keys, now_ns = keyboard(), 0
    for wait_ns, text in presses:
        now_ns += wait_ns
        keys.press(text, now_ns)
        assert not (reading := keys.read(now_ns + 201 * MS)).rates, reading
        assert not keys.read(now_ns + 701 * MS).held


@pytest.mark.parametrize("entry", ["w", "ww=j0", " =j0", "w=leg", "W=j0", "+=j0"])
def test_a_key_that_cannot_be_mapped_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="keys"):
        parse_keys((entry,), KNOWN)


# ---------------------------------------------------------------------------------------------- leader arm

NAMES = ("j0", "j1", "finger")
MAPS = parse_joints(("j0=left_1", "j1=-left_2+1.5", "finger=0.05*trigger-0.01"), NAMES)


def test_a_leaders_joints_are_mapped_by_name_with_sign_scale_and_offset() -> None:
    reading = leader_pose(MAPS, ["trigger", "left_2", "left_1", "other"], [0.8, 0.5, -0.2, 9.0])
    assert reading.pose == {"j0": -0.2, "j1": pytest.approx(1.0), "finger": pytest.approx(0.03)}


@pytest.mark.parametrize(
    ("names", "positions"),
    [(["left_1", "left_2"], [0.0, 0.0]), (["left_1", "left_2", "trigger"], [0.0, 0.0]),
     (["left_1", "left_2", "trigger"], [0.0, math.nan, 0.0])],
)  # fmt: skip
def test_a_leaders_message_that_is_short_or_not_finite_is_refused(
    names: list[str], positions: list[float]
) -> None:
    reading = leader_pose(MAPS, names, positions)
    assert reading.problem
    assert not reading.pose


@pytest.mark.parametrize(
    "entries",
    [
        ("j0=a",),
        ("j0=a", "j1=b", "finger=c", "j0=d"),
        ("j0=a", "j1=b", "leg=c"),
        ("j0=2*", "j1=b", "finger=c"),
    ],
)
def test_a_joint_mapping_that_is_not_whole_is_refused(entries: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="joints"):
        parse_joints(entries, NAMES)


def test_without_a_mapping_equal_names_follow() -> None:
    assert leader_pose(parse_joints((), NAMES), list(NAMES), [1.0, 2.0, 3.0]).pose["j1"] == 2.0


def test_a_leader_that_is_too_far_away_is_refused_by_the_worst_joint_but_for_the_gripper() -> None:
    alignment = Alignment(NAMES, ("finger",), AlignConfig(bound=0.1))
    why = alignment.engage(np.array([0.05, 0.5, 0.9]), np.zeros(3))
    assert "0.500 at j1" in why
    assert alignment.engage(np.array([0.05, 0.0, 0.9]), np.zeros(3)) == ""


@settings(deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.floats(0.01, 0.1),
)
def test_a_ramp_begins_at_the_follower_and_ends_at_the_leader_at_the_stated_speed(
    leader: list[float], follower: list[float], dt_s: float
) -> None:
    alignment = Alignment(NAMES, (), AlignConfig(mode="ramp", speed=0.5))
    at, target = np.array(leader), np.array(follower)
    assert alignment.engage(at, target) == ""
    for _ in range(int(np.abs(at - target).max() / (0.5 * dt_s)) + 2):
        stepped = alignment.step(at, dt_s)
        assert (np.abs(stepped - target) <= 0.5 * dt_s + 1e-9).all()
        target = stepped
    assert alignment.aligned
    assert target == pytest.approx(at)
