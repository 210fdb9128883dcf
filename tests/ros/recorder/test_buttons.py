"""Buttons of a joystick drive a recorder."""

from __future__ import annotations

import pytest
from sensor_msgs.msg import Joy
from std_srvs.srv import Trigger

from bench.record_stand import end
from episodes.dataset import Dataset
from episodes.errors import ConfigError
from ros_nodes import qos
from ros_nodes.buttons_node import Presses, parse_buttons

from ..conftest import Peer
from ..test_failures import call
from .conftest import Stand, recorder_of


def test_a_press_is_an_edge_and_a_bounce_is_none() -> None:
    presses = Presses({0: "start", 2: "success"}, again_ns=100)
    assert presses([1, 0, 0], 0) == [], "held down when it begins"
    assert presses([0, 0, 0], 10) == []
    assert presses([1, 0, 1], 200) == ["start", "success"]
    assert presses([0, 0, 0], 210) == []
    assert presses([1, 0, 0], 220) == [], "it bounced"
    assert presses([0, 0, 0], 320) == []
    assert presses([1, 0, 0], 330) == ["start"]
    assert presses([1], 340) == [], "another device has fewer buttons"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("strat=1",), "did you mean 'start'"),
        (("start",), "write action=number"),
        (("start=x",), "write action=number"),
        (("start=1", "success=1"), "each number once"),
    ],
)
def test_buttons_that_cannot_work_are_refused(entries: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_buttons(entries)


def test_one_pedal_starts_and_ends_episodes(small: Stand) -> None:
    joy = small.node.create_publisher(Joy, "joy", qos.STREAM)
    buttons = small.start_module("ros_nodes.buttons_node", "-p", "buttons:=['toggle=1','discard=0']")
    peer = Peer(small.node, small.loop)

    def press(*states: int) -> None:
        joy.publish(Joy(axes=[0.0], buttons=[0, 0]))
        joy.publish(Joy(axes=[0.0], buttons=list(states)))

    with recorder_of(small) as running:
        running.ready()
        running.wait(lambda: joy.get_subscription_count() > 0)
        running.wait(lambda: call(peer, Trigger, "buttons/ready")[0])
        press(0, 1)
        running.until(lambda status: status.state == "recording")
        running.samples("front", 20)  # longer than a bounce
        press(0, 1)
        running.until(lambda status: status.note.startswith("kept"))
        running.until(lambda status: status.streams[0].samples > 40)
        press(0, 1)
        running.until(lambda status: status.state == "recording" and status.elapsed_s > 0.5)
        press(1, 0)
        running.until(lambda status: status.note.startswith("discarded"))
    assert end(buttons) == 0, small.log("ros_nodes.buttons_node")
    (info,) = Dataset.open(small.folder / "dataset").infos()
    assert (info.outcome, info.attrs["outcome_source"]) == ("success", "operator")
