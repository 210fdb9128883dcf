"""Real-time chunking between real processes: each plan goes on with the one that control is executing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from episodes.contract import Source
from episodes.messages import decode_tags
from ros_nodes import qos
from ros_nodes.commands import CHUNK_TOPIC

from ..conftest import NodeProcess
from ..policies import write_continuing_bundle
from .stand import Stand
from .test_takeover import PERIOD_S, Hand, enable

LENGTH, STEP = 20, 0.004


def test_a_policy_that_can_goes_on_with_its_own_plan_while_it_is_followed_and_begins_anew_after_a_takeover(
    standing: Callable[..., Stand], start: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    stand = standing(rate_hz=100.0)
    watch = stand.watch
    bundle = write_continuing_bundle(tmp_path / "bundle", stand.contract, LENGTH, STEP)
    frozen: list[tuple[str, int]] = []

    def note(message: JointTrajectory) -> None:
        tags = decode_tags(message.header.frame_id, CHUNK_TOPIC)[1]
        frozen.append((watch.state, tags.get("frozen", 0)))

    stand.peer.loop.subscribe(JointTrajectory, CHUNK_TOPIC, qos.STREAM, note)
    policy = start("policy_node", contract=stand.path, bundle=bundle, mode="realtime")
    hand = Hand(stand, np.array([-0.2, 0.3, 0.1, 0.02]))
    stand.peer.until(lambda: bool(frozen))
    enable(stand)
    watch.until("POLICY")
    stand.peer.until(lambda: sum(count > 0 for _, count in frozen) >= 30)
    assert not any(count for state, count in frozen if state in ("", "DISABLED")), "nobody executes a plan"
    hand.press()
    watch.until("TELEOP")
    stand.peer.until(lambda: abs(watch.pose()[0] + 0.2) < 1e-3)
    began = len(frozen)
    stand.peer.until(lambda: len(frozen) >= began + 5)
    assert {count for _, count in frozen[began:]} == {0}
    hand.held = False
    watch.until("POLICY")
    stand.peer.until(lambda: sum(count > 0 for _, count in frozen[began:]) >= 30)
    continued = sum(count > 0 for _, count in frozen)
    differs = float(watch.values.get("prefix_differs", 0))
    print(f"{continued} plans went on with the one before, {differs:g} with one that control does not have")
    # One that control skipped for a newer one is not the plan in force.
    assert differs <= 0.1 * continued
    assert set(watch.sources()) <= {Source.SAFETY, Source.POLICY, Source.INTERVENTION}
    assert max(watch.worst(PERIOD_S)) <= 1 + 1e-6
    code, text = policy.end()
    assert code == 0, text
