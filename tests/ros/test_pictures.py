"""Pictures through shared memory between real processes: the way is found, left and found again by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from episodes.messages import to_ns
from ros_nodes import qos
from ros_nodes.pictures.outlet import PictureOutlet
from ros_nodes.pictures.ticket import Ticket, this_host

from .conftest import ARM_CAMERA_CONTRACT, NodeProcess, Peer
from .policies import write_mean_bundle
from .test_policy_node import CONTRACT, FRONT, Rig

Start = Callable[..., NodeProcess]
TICKETS = f"{FRONT.topic}/shared"
SHADES = tuple(range(10, 250, 20))


def start_policy(start: Start, folder: Path) -> NodeProcess:
    bundle = write_mean_bundle(folder / "bundle", CONTRACT, ["front"])
    return start("policy_node", contract=ARM_CAMERA_CONTRACT, bundle=bundle, mode="realtime")


def start_camera(start: Start, folder: Path) -> NodeProcess:
    """A camera on the contract's topic, each of whose pictures has one shade of grey."""
    pictures = folder / "pictures"
    if not pictures.exists():
        pictures.mkdir()
        for shade in SHADES:
            cv2.imwrite(str(pictures / f"{shade:03d}.png"), np.full((84, 84, 3), shade, np.uint8))
    return start(
        "camera_node",
        backend="files",
        camera_name="front",
        color_namespace="",
        **{"files.path": pictures, "files.rate_hz": 30.0, "files.loop": True},
    )


def readers(rig: Rig) -> int:
    """How many read the pictures themselves."""
    return rig.peer.node.count_subscribers(FRONT.topic)


def shade_seen(rig: Rig) -> float:
    return float(rig.chunks[-1].points[0].positions[0]) * 255


@pytest.mark.long
@pytest.mark.usefixtures("litter_of_the_killed")
def test_a_camera_that_is_killed_and_started_anew_hands_its_pictures_over_again(
    peer: Peer, start: Start, tmp_path: Path
) -> None:
    rig = Rig(peer, start_policy(start, tmp_path))
    rig.peer.node.destroy_publisher(rig.publishers.pop("front"))
    hand_over_and_kill(rig, start, tmp_path)
    peer.until(lambda: rig.level() == DiagnosticStatus.ERROR)
    before = len(rig.chunks)
    start_camera(start, tmp_path)
    rig.until(lambda: len(rig.chunks) > before, "joints")
    rig.until(lambda: readers(rig) == 0, "joints")
    rig.until(rig.answers(10), "joints")
    code, text = rig.policy.end()
    assert code == 0, text
    assert text.count(f"{FRONT.topic}: pictures come through shared memory") >= 2
    assert f"{FRONT.topic}: not through shared memory any more: nothing comes" in text
    assert "Traceback" not in text


def hand_over_and_kill(rig: Rig, start: Start, folder: Path) -> None:
    """A camera process whose pictures come by ticket until it is killed; then the topic is read."""
    rig.until(lambda: readers(rig) == 1, "joints")
    camera = start_camera(start, folder)
    rig.until(lambda: readers(rig) == 0, "joints")
    rig.until(rig.answers(10), "joints")
    assert readers(rig) == 0, "the pictures come by ticket, and by nothing else"
    assert min(abs(shade_seen(rig) - shade) for shade in SHADES) < 0.01
    camera.popen.kill()
    camera.popen.wait()
    rig.until(lambda: readers(rig) == 1, "joints")


@pytest.mark.usefixtures("litter_of_the_killed")
def test_the_way_of_pictures_is_found_and_left_beside_hostile_tickets_impostors_and_a_camera_that_dies(
    peer: Peer, start: Start, tmp_path: Path
) -> None:
    rig = Rig(peer, start_policy(start, tmp_path))
    rig.ready("front", "joints")
    tickets = peer.node.create_publisher(String, TICKETS, qos.STREAM)
    peer.matched(tickets)
    elsewhere = Ticket("another boot", 1, 1, "0" * 32, 0, 1, 1, 84, 84, "rgb8")
    nowhere = replace(elsewhere, host=this_host(), pid=os.getpid(), fd=0, ring="1" * 32)
    hostile = ["", "{}", "[" * 5000, "null", '{"pid": NaN}', nowhere.text(), elsewhere.text()]

    def both() -> bool:
        for text in hostile:
            tickets.publish(String(data=text))
        return len(rig.chunks) >= 30

    rig.until(both)
    assert readers(rig) == 1
    assert rig.policy.popen.poll() is None

    peer.node.destroy_publisher(tickets)
    outlet = PictureOutlet(peer.node, FRONT.topic)
    peer.matched(outlet._publisher)

    def handed() -> None:
        stamp_ns = int(peer.node.get_clock().now().nanoseconds)
        outlet.publish(rig.picture, stamp_ns, "rgb8", "")
        # What a camera does too where anybody reads the topic.
        rig.publishers["front"].publish(rig.encoders["front"].encode({"front": rig.picture}, stamp_ns))

    def until(condition: Callable[[], bool]) -> None:
        shades = iter(range(10**6))

        def sent() -> bool:
            rig.picture = np.full((84, 84, 3), next(shades) % 250, np.uint8)
            rig.send("joints")
            handed()
            peer.loop.spin_once(20_000_000)
            return condition()

        peer.until(sent)

    until(lambda: readers(rig) == 0)
    second = Node("impostor", context=peer.node.context)
    try:
        second.create_publisher(String, TICKETS, qos.STREAM)
        until(lambda: readers(rig) == 1)
        until(rig.answers(10))
        assert readers(rig) == 1
    finally:
        second.destroy_node()
    until(lambda: readers(rig) == 0)
    assert_no_picture_is_seen_half_way(rig, outlet)
    for size in ((60, 84), (168, 168)):  # refused as from the topic; the second needs another ring
        counted = rig.counted("refused_unreadable")

        def wrong(size: tuple[int, int] = size, counted: int = counted) -> bool:
            stamp_ns = int(peer.node.get_clock().now().nanoseconds)
            outlet.publish(np.zeros((*size, 3), np.uint8), stamp_ns, "rgb8", "")
            peer.loop.spin_once(20_000_000)
            return rig.counted("refused_unreadable") > counted

        peer.until(wrong)
        until(rig.answers(5))
    rig.peer.node.destroy_publisher(rig.publishers.pop("front"))
    rig.peer.node.destroy_publisher(outlet._publisher)
    outlet.close()
    hand_over_and_kill(rig, start, tmp_path)
    code, text = rig.policy.end()
    assert code == 0, text
    assert "not through shared memory any more: 2 nodes publish tickets: /impostor, /peer" in text
    assert "not through shared memory: " in text, "of the hostile ones"
    assert "Traceback" not in text


def assert_no_picture_is_seen_half_way(rig: Rig, outlet: PictureOutlet) -> None:
    """A camera that replaces pictures while the policy looks at them: each answer is that of one picture."""
    shades: dict[int, int] = {}
    rng = np.random.default_rng(0)

    def seen() -> list[tuple[JointTrajectory, int]]:
        stamped = [(chunk, to_ns(chunk.header.stamp)) for chunk in rig.chunks]
        return [(chunk, shades[stamp_ns]) for chunk, stamp_ns in stamped if stamp_ns in shades]

    def replacing() -> bool:
        stamp_ns = int(rig.peer.node.get_clock().now().nanoseconds)
        shades[stamp_ns] = len(shades) % 200
        outlet.publish(np.full((84, 84, 3), shades[stamp_ns], np.uint8), stamp_ns, "rgb8", "")
        ring = outlet._ring
        assert ring is not None
        for _ in range(int(rng.choice([0, 1, 3, 30, 200]))):
            ring.write(np.full((84, 84, 3), 201 + len(shades) % 50, np.uint8), stamp_ns + 1, "rgb8")
        rig.peer.loop.spin_once(20_000_000)
        return len(shades) >= 100 and len(seen()) >= 20

    rig.peer.until(replacing)
    for chunk, shade in seen():
        assert chunk.points[0].positions[0] * 255 == pytest.approx(shade, abs=0.01)
