"""The take loop on real DDS."""

from __future__ import annotations

import array
import os
import signal
import time

from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from episodes.bags.cdr import read_cdr
from ros_nodes import qos
from ros_nodes.loop import Reply, TakeLoop, stop_signals
from ros_nodes.parameters import declare
from ros_nodes.session_node import SessionConfig

from .conftest import Peer


def publish_all(peer: Peer, topic: str, count: int) -> None:
    publisher = peer.node.create_publisher(Float64MultiArray, topic, qos.STREAM)
    peer.matched(publisher)
    for k in range(count):
        publisher.publish(Float64MultiArray(data=[float(k)]))


def test_a_queue_gets_every_message_in_order(peer: Peer) -> None:
    found: list[float] = []
    peer.loop.subscribe(Float64MultiArray, "x", qos.STREAM, lambda m: found.append(m.data[0]))
    publish_all(peer, "x", qos.LOCKSTEP_DEPTH)
    peer.until(lambda: len(found) == qos.LOCKSTEP_DEPTH)
    assert found == [float(k) for k in range(qos.LOCKSTEP_DEPTH)]


def test_newest_wins_and_what_is_older_is_never_seen(peer: Peer) -> None:
    found: list[float] = []
    peer.loop.subscribe(Float64MultiArray, "x", qos.STREAM, lambda m: found.append(m.data[0]), newest=True)
    publisher = peer.node.create_publisher(Float64MultiArray, "x", qos.STREAM)
    peer.matched(publisher)
    for k in range(5):
        publisher.publish(Float64MultiArray(data=[float(k)]))
    assert publisher.wait_for_all_acked()
    peer.until(lambda: bool(found))
    assert found == [4.0]


def test_a_raw_reader_gets_the_bytes_that_a_message_was_serialised_to(peer: Peer) -> None:
    found: list[bytes] = []
    peer.loop.subscribe(Image, "x", qos.STREAM, found.append, raw=True)
    publisher = peer.node.create_publisher(Image, "x", qos.STREAM)
    peer.matched(publisher)
    sent = Image(height=2, width=3, encoding="rgb8", step=9, data=array.array("B", range(18)))
    sent.header.frame_id = "front"
    publisher.publish(sent)
    peer.until(lambda: bool(found))
    read = read_cdr(found[0], "sensor_msgs/msg/Image", "x")
    assert (read.height, read.width, read.encoding, read.header.frame_id) == (2, 3, "rgb8", "front")
    assert bytes(read.data) == bytes(range(18))


def test_one_subscription_can_be_asked_and_the_others_stay_as_they_are(peer: Peer) -> None:
    asked: list[float] = []
    other: list[float] = []
    subscription = peer.loop.subscribe(
        Float64MultiArray, "asked", qos.STREAM, lambda m: asked.append(m.data[0]), newest=True
    )
    peer.loop.subscribe(Float64MultiArray, "other", qos.STREAM, lambda m: other.append(m.data[0]))
    assert not peer.loop.take(subscription)
    for topic in ("asked", "other"):
        publisher = peer.node.create_publisher(Float64MultiArray, topic, qos.STREAM)
        peer.matched(publisher)
        publisher.publish(Float64MultiArray(data=[1.0]))
        assert publisher.wait_for_all_acked()
    deadline_ns = time.monotonic_ns() + 20_000_000_000
    while not peer.loop.take(subscription):
        assert time.monotonic_ns() < deadline_ns
    assert (asked, other) == ([1.0], [])
    peer.until(lambda: other == [1.0])


def test_all_that_wait_are_drained_before_a_deadline_that_has_come(peer: Peer) -> None:
    found: list[float] = []
    peer.loop.subscribe(Float64MultiArray, "x", qos.STREAM, lambda m: found.append(m.data[0]), drain=True)
    publisher = peer.node.create_publisher(Float64MultiArray, "x", qos.STREAM)
    peer.matched(publisher)
    for k in range(5):
        publisher.publish(Float64MultiArray(data=[float(k)]))
    assert publisher.wait_for_all_acked()
    peer.loop.at(0, lambda: found.append(-1.0))
    peer.until(lambda: -1.0 in found)
    assert found == [0.0, 1.0, 2.0, 3.0, 4.0, -1.0]


def test_services_are_answered_at_once_or_later(peer: Peer) -> None:
    waiting: list[Reply] = []
    peer.loop.trigger("later", waiting.append)
    peer.loop.switch("at_once", lambda on, reply: reply(on, "on" if on else "off"))
    later, at_once = peer.loop.client(Trigger, "later"), peer.loop.client(SetBool, "at_once")
    peer.until(lambda: later.service_is_ready() and at_once.service_is_ready())
    first = later.call_async(Trigger.Request())
    second = at_once.call_async(SetBool.Request(data=True))
    peer.until(second.done)
    assert (second.result().success, second.result().message) == (True, "on")
    assert not first.done()
    waiting[0](True, "now")
    peer.until(first.done)
    assert first.result().message == "now"


def test_parameters_are_served_typed_and_locked_but_for_those_that_may_change(peer: Peer) -> None:
    config = declare(peer.node, SessionConfig, settable=("episodes",))
    assert config == SessionConfig()
    get = peer.loop.client(GetParameters, "peer/get_parameters")
    put = peer.loop.client(SetParameters, "peer/set_parameters")
    peer.until(lambda: get.service_is_ready() and put.service_is_ready())
    changes = [Parameter("episodes", value=7), Parameter("seed", value=1), Parameter("first", value="text")]
    request = SetParameters.Request(parameters=[change.to_parameter_msg() for change in changes])
    answer = put.call_async(request)
    peer.until(answer.done)
    good, locked, wrong = answer.result().results
    assert good.successful
    assert "locked while the node runs" in locked.reason
    assert not wrong.successful
    values = get.call_async(GetParameters.Request(names=["episodes", "seed", "nodes"]))
    peer.until(values.done)
    found = values.result().values
    assert (found[0].integer_value, found[1].integer_value) == (7, 0)
    assert list(found[2].string_array_value) == ["sim"]


def test_deadlines_come_in_order_and_not_before_their_time(peer: Peer) -> None:
    now_ns, found = time.monotonic_ns(), []
    for delay_ns in (30_000_000, 10_000_000, 20_000_000):
        peer.loop.at(now_ns + delay_ns, lambda d=delay_ns: found.append((d, time.monotonic_ns() - now_ns)))
    peer.until(lambda: len(found) == 3)
    assert [delay for delay, _ in found] == [10_000_000, 20_000_000, 30_000_000]
    assert all(passed >= delay for delay, passed in found)


def test_a_signal_ends_the_loop_and_a_second_one_does_not_break_the_clean_up(peer: Peer) -> None:
    with stop_signals() as stop:
        loop = TakeLoop(peer.node, stop)
        loop.at(0, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert loop.spin() == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert loop.stopped_by == "SIGINT"
