"""What a bag aligns to is what a recorder would have written of the same messages, step by step."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from episodes.align import Aligned, CausalAligner, align_episode
from episodes.bags.importer import BagOptions, import_bag
from episodes.bags.records import BagError
from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.messages import CommandDecoder, actuator_decoder, message_stamp_ns
from episodes.picture_messages import decoder
from episodes.reader import Episode, stream_hash
from episodes.writer import EpisodeWriter

from .conftest import (
    FROM_TOPIC,
    MS,
    START_NS,
    Sent,
    Session,
    command,
    image,
    joints,
    picture,
    write_bag,
)


def record_live(folder: Path, contract: Contract, sent: Iterable[Sent]) -> Path:
    """What the recorder node does with these messages, one by one as they arrive."""
    with EpisodeWriter(folder, contract, clock="ros", started_ns=START_NS, episode_id="live") as writer:
        commands = CommandDecoder(contract.action_names, "control/command")
        parts: dict[str, np.ndarray] = {}
        for topic, _, recv_ns, message in sent:
            name = topic.removeprefix("/")
            for stream in contract.observations.values():
                if stream.topic == name:
                    stamp_ns = message_stamp_ns(message) or recv_ns
                    writer.append(stream.name, decoder(stream)(message), stamp_ns, recv_ns)
            origin = next(iter(contract.actions.values())).record_from
            if name == "control/command" and origin == "command":
                c = commands.decode(message)
                writer.append_command(c.values, c.stamp_ns, recv_ns, c.observation_ns, c.source)
            for channel in contract.actions.values():
                if channel.record_topic == name:
                    parts[channel.name] = actuator_decoder(channel)(message)
                    if channel.name == "arm" and len(parts) == 2:
                        values = np.concatenate([parts["arm"], parts["gripper"]])
                        writer.append_command(
                            values, message_stamp_ns(message) or recv_ns, recv_ns, 0, Source.TELEOP
                        )
        return writer.finish("unknown", "none", "the bag ended")


def assert_same_alignment(one: Path, other: Path) -> None:
    with Episode.open(one) as a, Episode.open(other) as b:
        x, y = align_episode(a), align_episode(b)
        assert len(x) > 5
        assert x.observations.keys() == y.observations.keys() == set(a.contract.observations)
        for name in x.observations:
            assert x.observations[name].dtype == y.observations[name].dtype
            assert x.observations[name].tobytes() == y.observations[name].tobytes(), name
        for field in ("tick_ns", "observation_ns", "actions", "sources"):
            assert getattr(x, field).tobytes() == getattr(y, field).tobytes(), field
        assert stream_hash(a) == stream_hash(b)


def test_a_bag_and_a_live_recording_of_the_same_messages_align_to_the_same_bytes(
    bag: Path, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    made = import_bag(bag, dataset, BagOptions(image_storage="lzf"))
    assert made.missing == ()
    assert_same_alignment(made.episodes[0], record_live(tmp_path / "live", contract, Session()))


def test_actions_recorded_from_a_vendors_topics_are_the_same_too(
    bag: Path, from_topic: Contract, tmp_path: Path
) -> None:
    made = import_bag(bag, Dataset.create(tmp_path / "d", from_topic), BagOptions(image_storage="lzf"))
    assert_same_alignment(made.episodes[0], record_live(tmp_path / "live", from_topic, Session()))
    with Episode.open(made.episodes[0]) as episode:
        assert episode.commands is not None
        assert set(episode.commands.source) == {Source.TELEOP}


def test_actions_taken_from_the_next_state_need_no_command_in_the_bag(tmp_path: Path) -> None:
    text_ = FROM_TOPIC
    for part in (
        ", record_from: topic, record_topic: leader/arm",
        ", record_from: topic, record_topic: leader/grip",
    ):
        text_ = text_.replace(part, ", record_from: next_state, measured_by: state", 1)
    text_ = text_.replace("names: [grip]", "names: [j2]").replace(
        "lower: [0.0], upper: [1.0]", "lower: [-9.0], upper: [9.0]"
    )
    contract = parse_contract(text_, "kinesthetic.yaml")
    sent = [s for s in Session() if not s.topic.startswith(("/leader", "/control"))]
    bag = write_bag(tmp_path / "bag", sent)
    made = import_bag(bag, Dataset.create(tmp_path / "d", contract))
    assert made.missing == ()
    with Episode.open(made.episodes[0]) as episode:
        aligned = align_episode(episode)
        np.testing.assert_allclose(aligned.actions, aligned.observations["state"][1:])


def test_replaying_an_imported_bag_in_receive_order_gives_what_the_policy_node_would_have_seen(
    bag: Path, dataset: Dataset, contract: Contract
) -> None:
    (path,) = import_bag(bag, dataset, BagOptions(image_storage="lzf")).episodes
    with Episode.open(path) as episode:
        offline = align_episode(episode)
    live = CausalAligner(contract.observations, contract.reference)
    waiting = list(Session())
    seen = []
    for tick_ns in offline.tick_ns.tolist():
        while waiting and waiting[0].recv_ns <= tick_ns:
            topic, _, recv_ns, message = waiting.pop(0)
            for stream in contract.observations.values():
                if "/" + stream.topic == topic:
                    value = decoder(stream)(message)
                    live.push(stream.name, value, message_stamp_ns(message) or recv_ns, recv_ns)
        found = live.at(tick_ns)
        assert isinstance(found, Aligned)
        seen.append(found)
    for name, values in offline.observations.items():
        assert np.stack([s.values[name] for s in seen]).tobytes() == values.tobytes()


def test_decoders_read_the_messages_of_rclpy_and_of_a_bag_alike() -> None:
    sensor_msgs = importlib.import_module("sensor_msgs.msg")
    live, kept = sensor_msgs.JointState(), joints(5, 3)
    live.header.stamp.nanosec = 5
    live.name, live.position = kept.name, kept.position.tolist()
    live.velocity = kept.velocity.tolist()
    frame, there = sensor_msgs.Image(), image(5, picture(2), "rgb8")
    for key in ("height", "width", "encoding", "step"):
        setattr(frame, key, getattr(there, key))
    frame.data = there.data.tobytes()
    contract = parse_contract(FROM_TOPIC, "c")
    for stream, a, b in (("state", live, kept), ("speed", live, kept), ("front", frame, there)):
        decode = decoder(contract.observations[stream])
        assert decode(a).tobytes() == decode(b).tobytes()
    assert message_stamp_ns(live) == message_stamp_ns(kept) == 5


def test_a_bag_of_a_simulation_in_lock_step_is_imported_on_its_own_clock(tmp_path: Path) -> None:
    contract = parse_contract(
        """
robot: sim1
rate_hz: 20
reference: state
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [j0, j1, j2], max_age_ms: 100}
actions:
  arm: {kind: cartesian_delta, topic: d, type: std_msgs/msg/Float64MultiArray, names: [grip, j0, j1],
        lower: [-9, -9, -9], upper: [9, 9, 9]}
""",
        "sim1.yaml",
    )
    sent, step = [], 50 * MS
    live = EpisodeWriter(tmp_path / "live", contract, clock="sim", started_ns=10**9, episode_id="live")
    decode = decoder(contract.observations["state"])
    for k in range(12):
        sim_ns, wall_ns = 10**9 + k * step, START_NS + k * 7 * MS
        state, sent_command = joints(sim_ns, k), command(sim_ns, sim_ns, k)
        sent.append(Sent("/joint_states", "sensor_msgs/msg/JointState", wall_ns, state))
        sent.append(
            Sent("/control/command", "trajectory_msgs/msg/JointTrajectory", wall_ns + MS, sent_command)
        )
        live.append("state", decode(state), sim_ns, sim_ns)
        c = CommandDecoder(contract.action_names, "c").decode(sent_command)
        live.append_command(c.values, sim_ns, sim_ns, c.observation_ns, c.source)
    bag = write_bag(tmp_path / "b", sent)
    with pytest.raises(BagError, match="--clock sim"):
        import_bag(bag, Dataset.create(tmp_path / "wrong", contract))
    made = import_bag(bag, Dataset.create(tmp_path / "d", contract), BagOptions(clock="sim"))
    assert made.missing == ()
    assert_same_alignment(made.episodes[0], live.finish())
    with Episode.open(made.episodes[0]) as episode:
        assert episode.attrs["started_ns"] == 10**9, "trims and contact sheets count in simulated time"
