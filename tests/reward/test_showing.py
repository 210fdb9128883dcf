"""What a judge is shown: frames, clips, several cameras, crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError
from reward.asking import ask_pairs
from reward.ballots import VoteConfig
from reward.clients.protocol import Kind
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.drawing import DrawConfig, draw_pairs, labelled_pairs
from reward.frames import Frames
from reward.showing import GAP, ShowConfig, Showing, below, beside, load_showing
from reward.store import LabelStore
from tests.reward.conftest import EPISODES, STEPS


def test_a_plain_frame_is_shown_as_it_is(frames: Frames) -> None:
    show = Showing(frames)
    np.testing.assert_array_equal(show.picture(5).image, frames.images[5])
    np.testing.assert_array_equal(show.judged, frames.judged)
    assert show.layout == ""


def test_a_clip_is_a_strip_that_ends_with_the_judged_frame(frames: Frames) -> None:
    show = Showing(frames, ShowConfig(frames=3, stride=2), "front")
    row = int(frames.starts[1]) + 7
    shown = show.picture(row)
    width = frames.images.shape[2]
    assert shown.image.shape == (40, 3 * width + 2 * GAP, 3)
    for k, of in enumerate((row - 4, row - 2, row)):
        part = shown.image[:, k * (width + GAP) : k * (width + GAP) + width]
        np.testing.assert_array_equal(part, frames.images[of])
    np.testing.assert_array_equal(shown.performance, frames.truth[[row - 4, row - 2, row]])
    assert "strip of 3 moments" in show.layout


def test_clips_never_reach_into_another_episode_or_its_first_frame(frames: Frames) -> None:
    show = Showing(frames, ShowConfig(frames=3, stride=2))
    for row in show.judged.tolist():
        rows = show.rows_of_clip(row)
        assert len(set(frames.episode[rows].tolist())) == 1
        assert np.isin(rows, frames.judged).all()
    assert len(show.judged) == EPISODES * (STEPS - 4)


def test_a_scripted_teacher_judges_clips_by_all_their_frames(frames: Frames, tmp_path: Path) -> None:
    show = Showing(frames, ShowConfig(frames=3, stride=2))
    teacher = ScriptedTeacher(ScriptedConfig(mistakes=0.0, unsure_within=0.0))
    with LabelStore(tmp_path / "l.sqlite") as store:
        pairs = draw_pairs(store, "s", show, teacher, DrawConfig(pairs=50))
        ask_pairs(store, show, teacher, pairs)
        labels = labelled_pairs(store, pairs, frames, 0.0)
    clips = np.arange(-4, 1, 2)
    first, second = (
        frames.truth[rows[:, None] + clips].sum(axis=1) for rows in (labels.first, labels.second)
    )
    expected = np.where(first == second, 0.5, second > first)
    np.testing.assert_array_equal(labels.label, expected)


def test_swapped_ballots_show_the_second_picture_first_and_cancel_nothing_of_a_fair_judge(
    frames: Frames, tmp_path: Path
) -> None:
    teacher = ScriptedTeacher(ScriptedConfig(mistakes=0.0))
    votes = VoteConfig(swap=True, votes=2)
    with LabelStore(tmp_path / "l.sqlite") as store:
        pairs = draw_pairs(store, "s", frames, teacher, DrawConfig(pairs=30), votes=votes)
        assert all(len({b.key for b in pair.ballots}) == 4 for pair in pairs)
        straight, swapped = (Showing(frames).question(pairs[0], b) for b in pairs[0].ballots[:2])
        assert straight.digests == swapped.digests[::-1]
        summary = ask_pairs(store, frames, teacher, pairs)
        assert summary.asked == 120
        (report,) = summary.reports
        assert (report.task, report.swap_disagreement, report.vote_disagreement) == ("slide", 0.0, 0.0)
        labels = labelled_pairs(store, pairs, frames, 0.0)
        assert store.drawn("s") == pairs
    np.testing.assert_array_equal(labels.label, frames.truth[labels.second] > frames.truth[labels.first])


def test_votes_of_a_noisy_teacher_are_drawn_anew_and_better_together(frames: Frames, tmp_path: Path) -> None:
    teacher = ScriptedTeacher(ScriptedConfig(mistakes=0.3))
    wrong = []
    with LabelStore(tmp_path / "l.sqlite") as store:
        for name, votes in (("one", VoteConfig()), ("many", VoteConfig(swap=True, votes=5))):
            pairs = draw_pairs(store, name, frames, teacher, DrawConfig(pairs=80), votes=votes)
            ask_pairs(store, frames, teacher, pairs)
            labels = labelled_pairs(store, pairs, frames, 0.0)
            wrong.append((labels.label != (frames.truth[labels.second] > frames.truth[labels.first])).mean())
    assert wrong[1] < wrong[0] / 2


def test_questions_about_one_picture_draw_single_frames(frames: Frames, tmp_path: Path) -> None:
    teacher = ScriptedTeacher(ScriptedConfig())
    with LabelStore(tmp_path / "l.sqlite") as store:
        config = DrawConfig(pairs=20)
        one = draw_pairs(store, "s", frames, teacher, config, kind=Kind.SCORE)
        assert all(pair.second is None for pair in one)
        assert len({pair.first for pair in one}) == 20
        more = draw_pairs(store, "s", frames, teacher, DrawConfig(pairs=20, seed=1), kind=Kind.SCORE)
        assert not {pair.first for pair in one} & {pair.first for pair in more}
        assert store.drawn("s") == (*one, *more)
        with pytest.raises(DatasetError, match="were not asked about"):
            draw_pairs(store, "s", frames, teacher, DrawConfig(pairs=1000), kind=Kind.SCORE)
        with pytest.raises(ConfigError, match="uniformly"):
            draw_pairs(store, "s", frames, teacher, DrawConfig(pairs=2, selection="top"), kind=Kind.SCORE)


def test_several_cameras_are_shown_below_each_other(two_cameras: Dataset) -> None:
    show = load_showing(two_cameras, "front", ShowConfig(cameras=("wrist",)))
    shown = show.picture(3).image
    assert shown.shape == (round(40 * 60 / 48) + GAP + 20, 60, 3)
    np.testing.assert_array_equal(shown[-20:], show.others["wrist"][3])
    assert (shown[-20 - GAP : -20] == 255).all()
    assert "front, wrist" in show.layout
    both = load_showing(two_cameras, "front", ShowConfig(cameras=("wrist",), frames=2, stride=1))
    assert "2 columns and 2 rows" in both.layout
    assert both.picture(3).image.shape[1] == 2 * 60 + GAP
    plain = load_showing(two_cameras, "front", ShowConfig())
    assert plain.picture(3).digest != show.picture(3).digest


@pytest.mark.parametrize(("camera", "hint"), [("wirst", "did you mean 'wrist'"), ("front", "judged stream")])
def test_a_camera_that_is_not_there_is_named(two_cameras: Dataset, camera: str, hint: str) -> None:
    with pytest.raises(DatasetError, match=hint):
        load_showing(two_cameras, "front", ShowConfig(cameras=(camera,)))


def test_a_crop_keeps_what_changes(frames: Frames) -> None:
    show = Showing(frames, ShowConfig(crop="active"))
    shown = show.picture(5).image
    assert shown.shape[0] < frames.images.shape[1]
    assert min(shown.shape[:2]) >= 32
    assert (shown == np.array([250, 200, 40])).all(axis=-1).sum() == 48, "the square is in it whole"


@pytest.mark.parametrize("settings", [{"frames": 0}, {"frames": 17}, {"stride": 0}, {"cameras": ("a", "a")}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"show\."):
        ShowConfig(**settings)  # type: ignore[arg-type]


def test_strips_keep_their_parts() -> None:
    one, two = np.zeros((4, 6, 3), np.uint8), np.full((4, 3, 3), 9, np.uint8)
    assert beside([one]) is one
    assert beside([one, two]).shape == (4, 9 + GAP, 3)
    assert below([one, two]).shape == (4 + GAP + 8, 6, 3)
