"""Bags become the episodes that a live recording of the same messages is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from episodes.align import Aligned, CausalAligner, align_episode
from episodes.bags.exporter import export_bag
from episodes.bags.importer import BagOptions, import_bag
from episodes.bags.records import BagError
from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.errors import ConfigError
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
    array,
    command,
    compressed,
    header,
    image,
    joints,
    make,
    picture,
    text,
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
    sensor_msgs = pytest.importorskip("sensor_msgs.msg", reason="ROS message wheels are not installed")
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


def test_jpeg_bytes_are_passed_through_as_they_are(tmp_path: Path, contract: Contract) -> None:
    only = (
        contract.text[: contract.text.index("  front:")]
        + "  front"
        + contract.text[contract.text.index("  wrist:") + 7 : contract.text.index("  depth:")]
        + contract.text[contract.text.index("actions:") :]
    )
    contract = parse_contract(only, "jpeg.yaml")
    sent = list(Session())
    (path,) = import_bag(write_bag(tmp_path / "b", sent), Dataset.create(tmp_path / "d", contract)).episodes
    bytes_sent = b"".join(s.message.data.tobytes() for s in sent if s.kind.endswith("CompressedImage"))
    with Episode.open(path) as episode:
        stream = episode.streams["front"]
        assert stream.encoding == "jpeg"
        assert bytes(stream._group["data"][:]) == bytes_sent
        decode = decoder(contract.observations["front"])
        messages = [s.message for s in sent if s.kind.endswith("CompressedImage")]
        assert np.array_equal(stream.read(), np.stack([decode(m) for m in messages]))


@pytest.mark.parametrize("damage", ["cut", "size", "png"])
def test_a_compressed_picture_that_does_not_fit_is_left_out_or_decoded(
    damage: str, tmp_path: Path, dataset: Dataset
) -> None:
    sent = list(Session())
    at = next(n for n, s in enumerate(sent) if s.kind.endswith("CompressedImage"))
    stamp_ns = message_stamp_ns(sent[at].message) or 0
    big = np.zeros((48, 64, 3), np.uint8)
    bad = {
        "cut": compressed(stamp_ns, picture(0)),
        "size": compressed(stamp_ns, big),
        "png": compressed(stamp_ns, picture(0), ".png"),
    }[damage]
    if damage == "cut":
        bad.data = bad.data[:-30]
    sent[at] = sent[at]._replace(message=bad)
    for storage in ("jpeg", "lzf"):
        options = BagOptions(image_storage=storage)  # type: ignore[arg-type]
        bag = write_bag(tmp_path / f"{damage}-{storage}", sent)
        made = import_bag(bag, dataset, options)
        with Episode.open(made.episodes[0]) as episode:
            wrist = episode.streams["wrist"]
            if damage == "png":
                assert made.missing == ()
                assert len(wrist) == 25
            elif not (damage == "cut" and storage == "lzf"):  # OpenCV fills what is missing with grey
                assert len(wrist) == 24
                assert wrist.attrs["dropped"] == 1
                assert "1 message of /camera/wrist/image_raw/compressed left out" in made.missing[0]


def test_a_missing_raw_camera_is_taken_from_its_compressed_companion(
    tmp_path: Path, dataset: Dataset
) -> None:
    sent = [
        s._replace(
            topic=s.topic + "/compressed",
            kind="sensor_msgs/msg/CompressedImage",
            message=compressed(message_stamp_ns(s.message) or 0, picture(k)),
        )
        if s.topic == "/camera/front/image_raw"
        else s
        for k, s in enumerate(Session())
    ]
    made = import_bag(write_bag(tmp_path / "b", sent), dataset)
    assert made.missing == ()
    with Episode.open(made.episodes[0]) as episode:
        assert len(episode.streams["front"]) == 30


def test_bgr_pictures_become_rgb(tmp_path: Path, dataset: Dataset) -> None:
    sent = [
        s._replace(message=image(message_stamp_ns(s.message) or 0, picture(4)[..., ::-1], "bgr8"))
        if s.topic == "/camera/front/image_raw"
        else s
        for s in Session()
    ]
    (path,) = import_bag(write_bag(tmp_path / "b", sent), dataset).episodes
    with Episode.open(path) as episode:
        assert (episode.streams["front"].read() == picture(4)).all()


def test_what_the_contract_does_not_name_is_kept_as_extra_streams_and_events(
    tmp_path: Path, dataset: Dataset
) -> None:
    extra = [
        Sent(
            "/joy",
            "sensor_msgs/msg/Joy",
            START_NS + k * 100 * MS,
            make(
                "sensor_msgs/msg/Joy",
                header=header(START_NS + k * 100 * MS - MS),
                axes=np.array([k / 10, -1.0], np.float32),
                buttons=np.array([0, 1, k], np.int32),
            ),
        )
        for k in range(5)
    ]
    extra += [
        Sent("/estop", "std_msgs/msg/Bool", START_NS + 50 * MS, make("std_msgs/msg/Bool", data=True)),
        Sent("/note", "std_msgs/msg/String", START_NS + 60 * MS, text("cup slipped")),
    ]
    sent = sorted([*Session(), *extra], key=lambda s: s.recv_ns)
    made = import_bag(write_bag(tmp_path / "b", sent), dataset)
    assert made.missing == ()
    with Episode.open(made.episodes[0]) as episode:
        joy = episode.streams["joy"]
        assert joy.names == ("axis_0", "axis_1", "button_0", "button_1", "button_2")
        np.testing.assert_allclose(joy.read()[3], [0.3, -1, 0, 1, 3], rtol=1e-6)
        assert episode.streams["estop"].read().tolist() == [[1]]
        assert episode.streams["estop"].recv_ns.tolist() == [START_NS + 50 * MS]
        (note,) = [event for event in episode.events if event.name == "note"]
        assert (note.value, note.stamp_ns) == ("cup slipped", START_NS + 60 * MS)


def test_a_robots_namespace_is_found_out_and_an_ambiguous_one_is_refused(
    tmp_path: Path, dataset: Dataset
) -> None:
    one = write_bag(tmp_path / "one", Session(prefix="/left/"))
    assert import_bag(one, dataset).missing == ()
    both = sorted([*Session(prefix="/left/"), *Session(prefix="/right/")], key=lambda s: s.recv_ns)
    two = write_bag(tmp_path / "two", both)
    with pytest.raises(BagError, match=r"under /left, /right: say which robot"):
        import_bag(two, dataset)
    assert import_bag(two, dataset, BagOptions(namespace="right")).missing == ()


def test_topics_are_remapped_by_name(tmp_path: Path, dataset: Dataset) -> None:
    sent = [s._replace(topic="/cam0") if s.topic == "/camera/front/image_raw" else s for s in Session()]
    bag = write_bag(tmp_path / "b", sent)
    options = BagOptions(remap=(("camera/front/image_raw", "/cam0"),))
    assert import_bag(bag, dataset, options).missing == ()
    with pytest.raises(BagError, match="the bag has none"):
        import_bag(bag, dataset, BagOptions(remap=(("camera/front/image_raw", "/cam9"),)))
    with pytest.raises(BagError, match="the contract has none"):
        import_bag(bag, dataset, BagOptions(remap=(("camera/from", "/cam0"),)))


def test_a_missing_topic_and_a_wrong_type_are_named_and_the_rest_is_kept(
    tmp_path: Path, dataset: Dataset
) -> None:
    sent = [s for s in Session() if s.topic != "/wrench"]
    sent = [
        s._replace(kind="std_msgs/msg/Float64MultiArray", message=array([1, 2])) if s.topic == "/pose" else s
        for s in sent
    ]
    made = import_bag(write_bag(tmp_path / "b", sent), dataset)
    found = " ".join(made.missing)
    assert "stream 'wrench': the bag has no topic wrench" in found
    assert (
        "'pose': /pose carries std_msgs/msg/Float64MultiArray, the contract says geometry_msgs/msg/Pose"
        in found
    )
    assert "has no sample of pose, wrench" in found
    with Episode.open(made.episodes[0]) as episode:
        assert len(align_episode(episode)) > 10
        assert "wrench" in str([e.value for e in episode.events if e.name == "imported"])


def test_missing_commands_say_how_to_name_another_topic(tmp_path: Path, dataset: Dataset) -> None:
    sent = [s for s in Session() if s.topic != "/control/command"]
    made = import_bag(write_bag(tmp_path / "b", sent), dataset)
    assert "write 'record_from: topic' and 'record_topic' in the contract" in made.missing[0]


def test_a_bag_of_something_else_is_refused_with_what_it_holds(tmp_path: Path, dataset: Dataset) -> None:
    bag = write_bag(tmp_path / "b", [Sent("/x", "std_msgs/msg/String", START_NS, text("hello"))])
    with pytest.raises(BagError, match=r"none of the observation streams.*known: /x"):
        import_bag(bag, dataset)
    with pytest.raises(BagError, match="no such bag"):
        import_bag(tmp_path / "none", dataset)
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0")
    with pytest.raises(BagError, match="rosbags-convert"):
        import_bag(tmp_path / "old.bag", dataset)


def test_a_sensor_with_a_clock_of_its_own_is_named_and_imported_by_receive_stamps(
    tmp_path: Path, dataset: Dataset
) -> None:
    sent = [
        s._replace(message=joints(5 * MS + k, k)) if s.topic == "/joint_states" else s
        for k, s in enumerate(Session())
    ]
    bag = write_bag(tmp_path / "b", sent)
    made = import_bag(bag, dataset)
    assert "100 messages of /joint_states left out" in made.missing[-1] or "--stamps receive" in str(
        made.missing
    )
    other = Dataset.create(tmp_path / "other", dataset.contract)
    made = import_bag(bag, other, BagOptions(stamps="receive"))
    assert made.missing == ()
    with Episode.open(made.episodes[0]) as episode:
        assert (episode.streams["state"].stamp_ns == episode.streams["state"].recv_ns).all()


def test_an_imported_bag_is_not_imported_twice(bag: Path, dataset: Dataset) -> None:
    first = import_bag(bag, dataset)
    again = import_bag(bag, dataset)
    assert again.episodes == ()
    assert again.already == ("session",)
    assert [info.path for info in dataset.infos()] == list(first.episodes)


def test_an_import_that_is_interrupted_leaves_no_half_episode(
    bag: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_bag(bag, dataset, progress=interrupt)
    assert list((dataset.path / "episodes").iterdir()) == []
    assert import_bag(bag, dataset).missing == ()


def test_an_event_topic_must_be_there_and_say_something_about_episodes(bag: Path, dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="is not one topic of the bag"):
        import_bag(bag, dataset, BagOptions(cut="events"))
    with pytest.raises(ConfigError, match="marks no episodes"):
        import_bag(bag, dataset, BagOptions(cut="events", event_topic="/pose"))


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


RECORDED = """
recorded:
  pad: {topic: joy, type: sensor_msgs/msg/Joy, axes: [left, right], buttons: [dead_man]}
  enabled: {topic: enabled, type: std_msgs/msg/Bool}
  plan: {topic: leader/arm, type: trajectory_msgs/msg/JointTrajectory, names: [j0, j1]}
  note: {topic: note, type: std_msgs/msg/String}
  overview: {topic: camera/over/compressed, type: sensor_msgs/msg/CompressedImage, shape: [24, 32, 3],
             required: false}
  lidar: {topic: scan, type: std_msgs/msg/Float64MultiArray, names: [d0]}
"""


def test_topics_that_the_contract_only_records_are_imported_and_exported_as_they_were(tmp_path: Path) -> None:
    contract = parse_contract(FROM_TOPIC + RECORDED, "recorded.yaml")
    pad = make(
        "sensor_msgs/msg/Joy",
        header=header(START_NS + 90 * MS),
        axes=np.array([0.5, -0.25], np.float32),
        buttons=np.array([1], np.int32),
    )
    more = [
        Sent("/joy", "sensor_msgs/msg/Joy", START_NS + 91 * MS, pad),
        Sent("/enabled", "std_msgs/msg/Bool", START_NS + 92 * MS, make("std_msgs/msg/Bool", data=True)),
        Sent("/note", "std_msgs/msg/String", START_NS + 93 * MS, text("slipped")),
    ]
    bag = write_bag(tmp_path / "b", sorted([*Session(), *more], key=lambda s: s.recv_ns))
    made = import_bag(bag, Dataset.create(tmp_path / "d", contract))
    assert len(made.missing) == 1
    assert "stream 'lidar': the bag has no topic scan" in made.missing[0], "overview is not required"
    with Episode.open(made.episodes[0]) as episode:
        assert episode.streams["pad"].names == ("left", "right", "dead_man")
        assert episode.streams["pad"].read().tolist() == [[0.5, -0.25, 1.0]]
        assert episode.streams["enabled"].read().tolist() == [[1]]
        plan = episode.streams["plan"]
        commands = episode.commands
        assert commands is not None
        assert plan.read()[5].tolist() == [-0.05, 0.05], "the action's topic is recorded as a stream besides"
        assert ("note", "slipped") in [(event.name, event.value) for event in episode.events]
        out = export_bag(episode, tmp_path / "o.mcap")
        assert out.messages["/joy"] == out.messages["/enabled"] == 1
        again = import_bag(out.path, Dataset.create(tmp_path / "again", contract))
        with Episode.open(again.episodes[0]) as other:
            for name in ("pad", "enabled", "front", "plan", "commands"):
                assert stream_hash(episode, [name]) == stream_hash(other, [name])


def test_an_arm_led_by_hand_with_a_gripper_that_armchair_commands(tmp_path: Path) -> None:
    mixed = FROM_TOPIC.replace(", record_from: topic, record_topic: leader/grip", "")
    contract = parse_contract(mixed, "mixed.yaml")
    made = import_bag(write_bag(tmp_path / "b", Session()), Dataset.create(tmp_path / "d", contract))
    assert made.missing == ()
    grip, expected = None, []
    for sent in Session():
        if sent.topic == "/control/command":
            grip = sent.message.points[0].positions[0]
        elif sent.topic == "/leader/arm" and grip is not None:
            j1, j0 = sent.message.points[0].positions.tolist()
            expected.append([j0, j1, grip])
    with Episode.open(made.episodes[0]) as episode:
        assert episode.commands is not None
        assert episode.commands.values.tolist() == expected
        out = export_bag(episode, tmp_path / "o.mcap")
        again = import_bag(out.path, Dataset.create(tmp_path / "again", contract))
        with Episode.open(again.episodes[0]) as other:
            assert stream_hash(episode, ["commands"]) == stream_hash(other, ["commands"])
