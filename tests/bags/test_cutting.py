"""Where the episodes of a bag begin and end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.bags.cutting import Begin, End, Events, Pauses, WholeBag
from episodes.bags.importer import BagOptions, import_bag
from episodes.bags.records import BagError
from episodes.dataset import Dataset
from episodes.errors import ConfigError
from episodes.messages import MessageError
from episodes.reader import Episode

from .conftest import MS, START_NS, Sent, Session, header, make, text, write_bag

SECOND = 10**9


def at(seconds: float, topic: str, message: Any) -> Sent:
    return Sent(topic, message.__msgtype__, START_NS + round(seconds * SECOND), message)


def joy(*down: int) -> Any:
    buttons = np.array([int(n in down) for n in range(8)], np.int32)
    return make("sensor_msgs/msg/Joy", header=header(0), axes=np.zeros(2, np.float32), buttons=buttons)


def bool_(value: bool) -> Any:
    return make("std_msgs/msg/Bool", data=value)


def bag_with(path: Path, *marks: Sent, seconds: float = 2.0) -> Path:
    return write_bag(path, sorted([*Session(seconds), *marks], key=lambda s: s.recv_ns))


def outcomes(dataset: Dataset) -> list[tuple[str, str, str]]:
    return [(i.episode_id, i.outcome, str(i.attrs["termination_reason"])) for i in dataset.infos()]


def test_a_pause_ends_an_episode_and_the_next_begins_behind_it(tmp_path: Path, dataset: Dataset) -> None:
    late = Session(0.5, start_ns=START_NS + 20 * SECOND)
    bag = write_bag(tmp_path / "b", [*Session(0.5), *late])
    made = import_bag(bag, dataset, BagOptions(cut="pauses", pause_s=3.0))
    assert made.missing == ()
    assert [i[0] for i in outcomes(dataset)] == ["b-0000", "b-0001"]
    assert outcomes(dataset)[0][2] == "a pause of 19.5 s"
    with Episode.open(made.episodes[1]) as episode:
        assert all(s.recv_ns.min() >= late.start_ns for s in episode.streams.values() if len(s))


def test_a_joystick_that_sends_on_does_not_bridge_a_pause(tmp_path: Path, dataset: Dataset) -> None:
    late = Session(0.3, start_ns=START_NS + 10 * SECOND)
    between = [at(k / 2, "/joy", joy()) for k in range(20)]
    sent = sorted([*Session(0.3), *late, *between], key=lambda s: s.recv_ns)
    import_bag(write_bag(tmp_path / "b", sent), dataset, BagOptions(cut="pauses"))
    assert len(outcomes(dataset)) == 2


def test_words_on_a_topic_cut_episodes_and_say_how_they_ended(tmp_path: Path, dataset: Dataset) -> None:
    say = [
        at(s, "/episode", text(word))
        for s, word in [
            (0.1, "start"),
            (0.5, "success"),
            (0.7, "Start"),
            (1.0, "failure"),
            (1.1, "hello"),
            (1.2, "start"),
            (1.4, "discard"),
            (1.5, "start"),
            (1.8, "stop"),
        ]
    ]
    made = import_bag(
        bag_with(tmp_path / "b", *say), dataset, BagOptions(cut="events", event_topic="episode")
    )
    assert outcomes(dataset) == [
        ("b-0000", "success", "success"),
        ("b-0001", "failure", "failure"),
        ("b-0003", "unknown", "stop"),
    ]
    assert len(made.missing) == 1
    assert "'hello' marks no episode" in made.missing[0]
    with Episode.open(made.episodes[0]) as episode:
        stamps = np.concatenate([s.recv_ns for s in episode.streams.values()])
        assert stamps.min() >= START_NS + SECOND // 10
        assert stamps.max() <= START_NS + SECOND // 2
        assert episode.attrs["outcome_source"] == "operator"


def test_a_flag_is_true_while_an_episode_runs(tmp_path: Path, dataset: Dataset) -> None:
    flags = [
        at(s, "/rec", bool_(value))
        for s, value in [(0.1, False), (0.2, True), (0.4, True), (0.9, False), (1.2, True)]
    ]
    import_bag(bag_with(tmp_path / "b", *flags), dataset, BagOptions(cut="events", event_topic="/rec"))
    assert outcomes(dataset) == [("b-0000", "unknown", "stop"), ("b-0001", "unknown", "the bag ended")]


def test_buttons_count_when_they_are_pressed_not_while_they_are_held(
    tmp_path: Path, dataset: Dataset
) -> None:
    pressed = [
        at(s, "/joy", joy(*down))
        for s, down in [
            (0.1, ()),
            (0.2, (7,)),
            (0.3, (7,)),
            (0.4, ()),
            (0.8, (0,)),
            (0.9, (0,)),
            (1.0, (7, 0)),
        ]
    ]
    import_bag(
        bag_with(tmp_path / "b", *pressed),
        dataset,
        BagOptions(cut="events", event_topic="/joy", outcome="failure"),
    )
    assert outcomes(dataset) == [("b-0000", "success", "success"), ("b-0001", "failure", "the bag ended")]


def test_an_event_topic_that_never_starts_anything_is_an_error_that_says_so(
    tmp_path: Path, dataset: Dataset
) -> None:
    bag = bag_with(tmp_path / "b", at(0.1, "/rec", bool_(False)))
    with pytest.raises(BagError, match="nothing that starts an episode"):
        import_bag(bag, dataset, BagOptions(cut="events", event_topic="/rec"))


def test_a_type_that_marks_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="marks no episodes"):
        Events("/x", "sensor_msgs/msg/Image")
    with pytest.raises(MessageError, match="marks no episode"):
        Events("/x", "std_msgs/msg/String").before("/x", 0, text("what"))


def test_the_whole_bag_is_one_episode() -> None:
    cutter = WholeBag()
    assert [list(cutter.before("/a", t, None)) for t in range(3)] == [[Begin()], [], []]


@given(st.lists(st.integers(0, 10 * SECOND), min_size=1, max_size=40))
def test_pauses_part_exactly_where_the_silence_is_longer(gaps: list[int]) -> None:
    cutter, stamp, begun, ended = Pauses(3 * SECOND), 0, 0, 0
    for gap in gaps:
        stamp += gap
        marks = list(cutter.before("/a", stamp, None))
        begun += sum(isinstance(mark, Begin) for mark in marks)
        ended += sum(isinstance(mark, End) for mark in marks)
    assert begun == ended + 1
    assert ended == sum(gap > 3 * SECOND for gap in gaps[1:])


@given(st.lists(st.sampled_from(["start", "success", "failure", "stop", "discard"]), max_size=30))
def test_whatever_is_pressed_episodes_never_overlap(words: list[str]) -> None:
    cutter, running = Events("/e", "std_msgs/msg/String"), False
    for number, word in enumerate(words):
        for mark in cutter.before("/e", number * MS, text(word)):
            assert isinstance(mark, Begin) != running
            running = isinstance(mark, Begin)
