"""Edits stand beside the recordings, hold on every reading, and can be undone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.align import align_episode
from episodes.dataset import Dataset, usable
from episodes.edit_log import EDITS, EditLog
from episodes.editing import (
    EditConfig,
    ExcludeConfig,
    IncludeConfig,
    ListEditsConfig,
    OutcomeConfig,
    TaskConfig,
    TrimConfig,
    UndoConfig,
    main,
)
from episodes.edits import Change, Edit, fold
from episodes.errors import DatasetError, EpisodeError
from episodes.labels import read_labels, write_labels
from episodes.prepare import prepare
from episodes.windows import WindowReader

ROOT = Path(__file__).parents[2]
SIX = Change(trim=(0.2, 0.5))
"""Ticks 4 to 10 of a recording at 20 Hz: transitions 4 to 9."""


def add(dataset: Dataset, episode_id: str, change: Change) -> None:
    dataset.edits.add([episode_id], change, who="anna", when_ns=1_700_000_000_000_000_000)


def raw(dataset: Dataset) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (dataset.path / "episodes").iterdir()}


def test_no_edit_ever_touches_a_recording(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    before = raw(dataset)
    path = dataset.path
    main(EditConfig(ExcludeConfig(path, ("e0", "e1"), why="blurred")))
    main(EditConfig(TrimConfig(path, ("e2",), start=0.1, end=0.4)))
    main(EditConfig(OutcomeConfig(path, ("e2",), outcome="failure")))
    main(EditConfig(TaskConfig(path, ("e2",), task="öffne die Schublade", who="bert")))
    main(EditConfig(UndoConfig(path, number=1)))
    main(EditConfig(ListEditsConfig(path)))
    assert raw(dataset) == before
    out = capsys.readouterr().out
    assert "e2: trim 0.1:0.4 s, outcome failure, task 'öffne die Schublade'" in out
    assert "e0: as recorded" in out
    lines = [json.loads(line) for line in (path / EDITS).read_text().splitlines()]
    assert lines[0] == {"schema": "armchair/edits/1"}
    assert lines[1]["episodes"] == ["e0", "e1"]
    assert lines[1]["why"] == "blurred"
    assert lines[4]["who"] == "bert"
    assert lines[5]["undo"] == 1


def test_an_excluded_episode_is_left_out_of_everything_that_is_made(dataset: Dataset, tmp_path: Path) -> None:
    add(dataset, "e1", Change(exclude=True))
    assert [info.episode_id for info in dataset.infos()] == ["e0", "e2"]
    assert [info.episode_id for info in dataset.infos(edited=False)] == ["e0", "e1", "e2"]
    assert dataset.ids() == ["e0", "e1", "e2"]
    assert dataset.info("e1").edit.excluded
    splits = dataset.set_splits(0, 0.5)
    assert sorted([*splits["train"], *splits["valid"]]) == ["e0", "e2"]
    assert prepare(dataset.path, tmp_path / "out.h5").episodes == 2
    with dataset.read("e1") as episode:
        assert episode.episode_id == "e1"
    for name in ("e0", "e2"):
        add(dataset, name, Change(exclude=True))
    with pytest.raises(DatasetError, match="excluded by edits"):
        usable(dataset)
    add(dataset, "e1", Change(exclude=False))
    assert [info.episode_id for info in usable(dataset)] == ["e1"]


def test_outcome_and_task_read_as_edited(dataset: Dataset, tmp_path: Path) -> None:
    add(dataset, "e0", Change(outcome="failure", task="push"))
    info = dataset.info("e0")
    assert (info.outcome, info.attrs["outcome_source"], info.attrs["task"]) == ("failure", "operator", "push")
    recorded = dataset.info("e0", edited=False)
    assert (recorded.outcome, recorded.attrs["outcome_source"], recorded.edit) == ("success", "sim", Edit())
    with dataset.read("e0") as episode:
        assert episode.attrs["outcome"] == "failure"
    assert prepare(dataset.path, tmp_path / "out.h5", outcomes=("failure",)).episodes == 1
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data/demo_0"].attrs["task"] == "push"
    add(dataset, "e0", Change(outcome="unknown"))
    assert dataset.info("e0").attrs["outcome_source"] == "none"


def test_a_trim_keeps_a_part_of_what_alignment_gave(dataset: Dataset) -> None:
    with dataset.read("e2") as episode:
        whole = align_episode(episode)
    add(dataset, "e2", SIX)
    with dataset.read("e2") as episode:
        part = align_episode(episode)
    assert (part.first, len(part)) == (4, 6)
    np.testing.assert_array_equal(part.tick_ns, whole.tick_ns[4:11])
    np.testing.assert_array_equal(part.actions, whole.actions[4:10])
    np.testing.assert_array_equal(part.observations["front"], whole.observations["front"][4:11])
    assert part.rewards_truth is not None
    assert whole.rewards_truth is not None
    np.testing.assert_array_equal(part.rewards_truth, whole.rewards_truth[4:10])
    assert part.skipped == {"trimmed": 6}
    assert part.truncated


def test_the_end_of_a_task_that_is_trimmed_away_did_not_come(
    dataset: Dataset, new_writer: Callable[..., Any], robot: Any
) -> None:
    with new_writer("t") as writer:
        robot.record(writer, 10)
        writer.finish("success", "sim", "terminated")
    with dataset.read("t") as episode:
        assert align_episode(episode).terminated
    add(dataset, "t", Change(trim=(0.1, None)))
    with dataset.read("t") as episode:
        assert align_episode(episode).terminated
    add(dataset, "t", Change(trim=(None, 0.4)))
    with dataset.read("t") as episode:
        aligned = align_episode(episode)
    assert not aligned.terminated
    assert aligned.truncated


def test_windows_and_prepared_files_hold_the_trimmed_part(dataset: Dataset, tmp_path: Path) -> None:
    add(dataset, "e2", SIX)
    assert prepare(dataset.path, tmp_path / "out.h5", streams=("state", "front")).transitions == 10 + 11 + 6
    with (
        WindowReader.open_prepared(tmp_path / "out.h5", ("state", "front")) as prepared,
        WindowReader.open_episodes(dataset, ("state", "front")) as direct,
    ):
        assert len(prepared) == len(direct) == 27
        ours, theirs = direct.read(np.arange(27)), prepared.read(np.arange(27))
        for name in ("state", "front"):
            np.testing.assert_array_equal(ours.observations[name], theirs.observations[name])
        np.testing.assert_array_equal(ours.actions, theirs.actions)


def test_labels_keep_fitting_after_a_trim_and_its_undoing(dataset: Dataset, tmp_path: Path) -> None:
    reward = np.arange(12, dtype=np.float32)
    valid = reward != 5
    write_labels(dataset, "vlm", "e2", reward, valid, {"model": "m"})
    file = dataset.path / "labels" / "vlm" / "e2.h5"
    before = file.read_bytes()
    add(dataset, "e2", SIX)
    labels = read_labels(dataset, "vlm", "e2")
    np.testing.assert_array_equal(labels.reward, reward[4:10])
    np.testing.assert_array_equal(labels.valid, valid[4:10])
    assert labels.attrs == {"model": "m"}
    prepare(dataset.path, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as data:
        np.testing.assert_array_equal(data["data/demo_2/labels/vlm"], reward[4:10])
    add(dataset, "e2", Change(trim=(0.25, 0.35)))
    np.testing.assert_array_equal(read_labels(dataset, "vlm", "e2").reward, reward[5:7])
    assert file.read_bytes() == before
    for _ in range(2):
        dataset.edits.undo(who="anna", when_ns=0)
    np.testing.assert_array_equal(read_labels(dataset, "vlm", "e2").reward, reward)


def test_labels_of_a_trimmed_episode_are_not_valid_where_it_was_not_seen(dataset: Dataset) -> None:
    add(dataset, "e2", SIX)
    with pytest.raises(DatasetError, match="12 rewards for an episode that is trimmed to 6"):
        write_labels(dataset, "vlm", "e2", np.zeros(12))
    write_labels(dataset, "vlm", "e2", np.arange(1, 7))
    np.testing.assert_array_equal(read_labels(dataset, "vlm", "e2").reward, np.arange(1, 7))
    dataset.edits.undo(who="anna", when_ns=0)
    labels = read_labels(dataset, "vlm", "e2")
    np.testing.assert_array_equal(labels.reward, [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0])
    np.testing.assert_array_equal(labels.valid, [k in range(4, 10) for k in range(12)])
    add(dataset, "e2", Change(trim=(0.4, None)))
    np.testing.assert_array_equal(read_labels(dataset, "vlm", "e2").reward, [5, 6, 0, 0])


def test_a_trim_can_choose_the_other_side_of_a_hole(
    dataset: Dataset, new_writer: Callable[..., Any], robot: Any
) -> None:
    with new_writer("h") as writer:
        for k in (*range(8), *range(11, 16)):
            robot.frame(writer, k)
            if k not in (7, 15):
                robot.command(writer, k)
        writer.finish("success", "sim")
    with dataset.read("h") as episode:
        aligned = align_episode(episode)
        assert (aligned.first, len(aligned)) == (0, 7)
    write_labels(dataset, "vlm", "h", np.ones(7))
    add(dataset, "h", Change(trim=(0.5, None)))
    with dataset.read("h") as episode:
        aligned = align_episode(episode)
        assert (aligned.first, len(aligned)) == (8, 4)
    assert not read_labels(dataset, "vlm", "h").valid.any()


times = st.one_of(st.none(), st.floats(0.0, 0.7))
changes = st.one_of(
    st.builds(Change, exclude=st.booleans()),
    st.builds(Change, outcome=st.sampled_from(["success", "failure", "unknown"])),
    st.builds(Change, task=st.text(max_size=8)),
    st.tuples(times, times)
    .filter(lambda t: t[1] is None or t[1] > (t[0] or 0.0))
    .map(lambda t: Change(trim=t)),
)
steps = st.lists(st.one_of(st.tuples(st.sampled_from(["a", "b"]), changes), st.integers(0, 5)), max_size=12)


@settings(max_examples=25, deadline=None)
@given(steps=steps)
def test_undoing_leads_back_through_every_state(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    """The state after any edits and undoings is the one that the remaining edits alone would give."""
    log = EditLog(tmp_path_factory.mktemp("edits"))
    kept: dict[int, tuple[str, Change]] = {}
    for number, step in enumerate(steps, start=1):
        if isinstance(step, int):
            if not kept:
                with pytest.raises(DatasetError, match="no edit to undo"):
                    log.undo(who="w", when_ns=0)
                return
            chosen = sorted(kept)[step % len(kept)]
            assert log.undo(chosen, who="w", when_ns=0).number == chosen
            del kept[chosen]
            with pytest.raises(DatasetError, match="was undone already"):
                log.undo(chosen, who="w", when_ns=0)
        else:
            assert log.add([step[0]], step[1], who="w", when_ns=0).number == number
            kept[number] = step
        alone = EditLog(tmp_path_factory.mktemp("alone"))
        for episode_id, change in kept.values():
            alone.add([episode_id], change, who="w", when_ns=0)
        shown = {i: e for i, e in log.in_force().items() if e != Edit()}
        assert shown == {i: e for i, e in alone.in_force().items() if e != Edit()}
        assert EditLog(log.path.parent).in_force() == log.in_force() == fold(log.entries())
    while kept:
        log.undo(who="w", when_ns=0)
        kept.popitem()
    assert log.in_force() == {}


@settings(max_examples=25, deadline=None)
@given(start=st.floats(0.0, 0.6), length=st.floats(0.01, 0.6))
def test_every_trim_gives_a_part_and_its_labels(
    tmp_path_factory: pytest.TempPathFactory, contract: Any, robot: Any, start: float, length: float
) -> None:
    folder = tmp_path_factory.getbasetemp() / "trims"
    if not folder.exists():
        dataset = Dataset.create(folder, contract)
        with dataset.new_writer(clock="sim", started_ns=robot.stamp_ns(0), episode_id="x") as writer:
            for k in range(12):
                for name, value in (("front", robot.front(k)), ("state", robot.state(k))):
                    writer.append(name, value, robot.stamp_ns(k), robot.stamp_ns(k))
                if k < 11:
                    robot.command(writer, k)
            writer.finish()
        write_labels(dataset, "vlm", "x", np.arange(11))
    dataset = Dataset.open(folder)
    first_ns, last_ns = round(start * 1e9), round((start + length) * 1e9)
    inside = [k for k in range(12) if first_ns <= 50_000_000 * k <= last_ns]
    add(dataset, "x", Change(trim=(start, start + length)))
    with dataset.read("x") as episode:
        if len(inside) < 2:
            with pytest.raises(EpisodeError, match="not one makes a transition"):
                align_episode(episode, streams=())
            return
        aligned = align_episode(episode, streams=("state",))
    np.testing.assert_array_equal(aligned.observations["state"][:, 0], inside)
    np.testing.assert_array_equal(read_labels(dataset, "vlm", "x").reward, inside[:-1])


def test_a_damaged_file_of_edits_is_refused_with_its_line(dataset: Dataset) -> None:
    add(dataset, "e0", Change(exclude=True))
    good = dataset.edits.path.read_text()
    for text, words in [
        (good + '{"edit": 2, "epis', "line 3 is cut short"),
        (good + '{"edit": 7, "undo": 1}\n', "line 3: 'edit' is 7, not 2"),
        (good + '{"edit": 2, "undo": 9}\n', "names no edit that is in force"),
        (good + '{"edit": 2, "undo": [1]}\n', "names no edit that is in force"),
        (good + '{"edit": 2, "episodes": ["e0"]}\n', "says nothing"),
        (good + '{"edit": 2, "episodes": "e0", "task": "x"}\n', "no list"),
        (good + '{"edit": 2, "episodes": ["e0"], "tusk": "x"}\n', "'tusk' is unknown"),
        (good + '{"edit": 2, "episodes": ["e0"], "outcome": "won"}\n', "'won'"),
        (good + '{"edit": 2, "episodes": ["e0"], "trim": {"start_s": -1}}\n', "from 0 on"),
        (good + '{"edit": 2, "episodes": ["e0"], "trim": {"start_s": 2, "end_s": 1}}\n', "keeps nothing"),
        (good + "[]\n", "no JSON object"),
        ('{"schema": "other"}\n', "first line"),
    ]:
        dataset.edits.path.write_text(text)
        with pytest.raises(DatasetError, match=EDITS) as caught:
            dataset.infos()
        assert words in str(caught.value)
        with pytest.raises(DatasetError):
            add(dataset, "e1", Change(exclude=True))
        assert dataset.edits.path.read_text() == text
    dataset.edits.path.write_text(good)
    assert [info.episode_id for info in dataset.infos()] == ["e1", "e2"]


def test_edits_of_another_process_hold_at_once(dataset: Dataset) -> None:
    assert len(dataset.infos()) == 3
    add(Dataset.open(dataset.path), "e0", Change(exclude=True))
    assert len(dataset.infos()) == 2
    Dataset.open(dataset.path).edits.undo(who="b", when_ns=0)
    assert len(dataset.infos()) == 3
    dataset.edits.path.unlink()
    assert len(dataset.infos()) == 3


def test_an_edit_that_cannot_hold_is_refused_and_not_written(dataset: Dataset) -> None:
    path = dataset.path
    with pytest.raises(DatasetError, match="did you mean 'e0'"):
        main(EditConfig(ExcludeConfig(path, ("e00",))))
    with pytest.raises(DatasetError, match="name the episodes"):
        main(EditConfig(IncludeConfig(path, ())))
    with pytest.raises(EpisodeError, match="leaves no transition of episode 'e0'"):
        main(EditConfig(TrimConfig(path, ("e2", "e0"), start=0.49)))
    with pytest.raises(DatasetError, match="keeps nothing"):
        main(EditConfig(TrimConfig(path, ("e2",), start=0.4, end=0.2)))
    with pytest.raises(DatasetError, match="from 0 on"):
        main(EditConfig(TrimConfig(path, ("e2",), start=-0.4)))
    with pytest.raises(DatasetError, match="there is no edit to undo"):
        main(EditConfig(UndoConfig(path)))
    assert not (path / EDITS).exists()


def test_the_command_line_edits(dataset: Dataset) -> None:
    words = ["edit", "outcome", str(dataset.path), "e0", "e1", "--outcome", "failure", "--why", "too slow"]
    for arguments, shown in [
        (words, "e1: outcome failure"),
        (["list", str(dataset.path)], "outcome failure"),
    ]:
        done = subprocess.run(
            [sys.executable, "armchair.py", "episodes", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={"COLUMNS": "200", "PATH": ""},
        )
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
