"""Label sets outlive changes of the dataset: another stream, episodes that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import LabelError
from reward.asking import ask_pairs, summarise
from reward.clients.protocol import Kind, Outcome, Verdict, identity
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.drawing import DrawConfig, draw_pairs, labelled_pairs, labelled_scores
from reward.frames import Frames, load_frames, named_stream
from reward.records import StoredAnswer, left_out_note, present
from reward.showing import ShowConfig, Showing, load_showing
from reward.store import FILE, LabelStore

TEACHER = ScriptedTeacher(ScriptedConfig(mistakes=0.0))
DRAW = DrawConfig(pairs=10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


def of_camera(frames: Frames, number: int, named: str = "") -> Showing:
    """The same episodes through another camera."""
    return Showing(replace(frames, images=np.roll(frames.images, 7 * number, axis=2)), named=named)


def short_of(frames: Frames) -> Frames:
    """Without the last episodes, and the fifth cut short: it was recorded anew."""
    end = int(frames.starts[4]) + 6
    return Frames(
        frames.episode_ids[:5],
        np.append(frames.starts[:5], end),
        frames.images[:end],
        frames.truth[:end],
        None,
    )


def test_another_stream_is_another_draw_with_pairs_of_its_own(frames: Frames, store: LabelStore) -> None:
    front, wrist = of_camera(frames, 0), of_camera(frames, 1, named="wrist")
    pairs = draw_pairs(store, "s", front, TEACHER, DRAW)
    ask_pairs(store, front, TEACHER, pairs)
    others = draw_pairs(store, "s", wrist, TEACHER, DRAW)
    assert not {p.key for p in pairs} & {p.key for p in others}
    assert ask_pairs(store, wrist, TEACHER, others).asked == 10
    assert draw_pairs(store, "s", front, TEACHER, DRAW) == pairs
    assert draw_pairs(store, "s", wrist, TEACHER, DRAW) == others


def test_a_draw_of_an_older_store_is_found_by_the_stream_that_its_keys_are_made_of(
    frames: Frames, store: LabelStore
) -> None:
    wrist = of_camera(frames, 1, named="wrist")
    older = draw_pairs(store, "s", replace(wrist, named=""), TEACHER, DRAW)
    assert draw_pairs(store, "s", wrist, TEACHER, DRAW) == older
    ask_pairs(store, wrist, TEACHER, older)
    assert draw_pairs(store, "s", wrist, TEACHER, DRAW) == older
    assert draw_pairs(store, "s", replace(of_camera(frames, 2), named="top"), TEACHER, DRAW) != older


def test_no_answer_is_kept_under_the_key_of_other_pictures(frames: Frames, store: LabelStore) -> None:
    pairs = draw_pairs(store, "s", of_camera(frames, 0), TEACHER, DRAW)
    with pytest.raises(LabelError, match=r"another stream .*--stream"):
        ask_pairs(store, of_camera(frames, 1), TEACHER, pairs)
    assert store.rows("SELECT * FROM answers") == []


def test_a_second_camera_of_a_dataset_is_asked_about_from_the_command_line(
    two_cameras: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = two_cameras
    assert (named_stream(dataset, "front"), named_stream(dataset, "wrist")) == ("", "wrist")
    for words in ([], ["--stream", "wrist"]):
        assert armchair(["label", str(dataset.path), "--pairs", "8", *words]) == 0
        assert "; 0 questions asked now" not in capsys.readouterr().out
    with LabelStore(dataset.path / FILE) as store:
        shown = {
            pictures
            for row in store.rows("SELECT first_sha256, second_sha256 FROM answers")
            for pictures in row
        }
    known = [
        set(show.digests(show.judged).values())
        for show in (load_showing(dataset, name, ShowConfig()) for name in ("front", "wrist"))
    ]
    assert all(shown & some for some in known)


def test_labels_of_episodes_that_are_gone_are_left_out_and_counted(frames: Frames, store: LabelStore) -> None:
    pairs = draw_pairs(store, "s", frames, TEACHER, DrawConfig(pairs=40))
    ask_pairs(store, frames, TEACHER, pairs[:30])
    end = int(frames.starts[5])
    short = Frames(frames.episode_ids[:5], frames.starts[:6], frames.images[:end], frames.truth[:end], None)
    there = present(pairs, short)
    assert 0 < len(there) < 40
    assert len(labelled_pairs(store, pairs, short, 0.1)) == len(
        labelled_pairs(store, [p for p in pairs if p in there], frames, 0.1)
    )
    summary = ask_pairs(store, short, TEACHER, pairs)
    assert (summary.pairs, summary.left_out) == (len(there), 40 - len(there))
    assert summarise(store, short, pairs).left_out == 40 - len(there)
    assert "stays in labels.sqlite" in left_out_note(summary.left_out, 40)
    assert left_out_note(0, 40) == ""
    more = draw_pairs(store, "s", short, TEACHER, DrawConfig(pairs=5, seed=7))
    assert len(present(more, short)) == 5


def test_ratings_of_a_replaced_episode_are_left_out(frames: Frames, store: LabelStore) -> None:
    drawn = draw_pairs(store, "s", frames, TEACHER, DrawConfig(pairs=40), kind=Kind.PROGRESS)
    answers = [
        StoredAnswer(pair.key, ("x", ""), identity(TEACHER), 0, Verdict(Outcome.RATED, value=3.0))
        for pair in drawn
    ]
    store.add_answers(answers)
    there = present(drawn, short_of(frames))
    assert len(labelled_scores(store, drawn, short_of(frames), Kind.PROGRESS, 0.0)) == len(there) < 40


def test_fit_and_label_go_on_when_an_episode_was_removed(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(dataset.path), "--pairs", "40"]
    assert armchair(words) == 0
    (gone,) = dataset.path.glob("episodes/*_e7.*")
    gone.unlink()
    assert "e7" not in load_frames(Dataset.open(dataset.path), "front").episode_ids
    capsys.readouterr()
    assert armchair(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of 40 pairs or frames are left out: the dataset has no such frames any more" in said
    network = ["--network.kernels", "5", "3", "--network.channels", "8", "8", "--network.strides", "3", "2"]
    assert armchair(["fit", str(dataset.path), *network, "--optimise.epochs", "1"]) == 0
    assert "of 40 pairs or frames are left out" in " ".join(capsys.readouterr().out.split())
    assert armchair(["reward", "eval", str(dataset.path), "--labeller", "truth"]) == 0
    assert "of 40 pairs or frames are left out" in " ".join(capsys.readouterr().out.split())
