"""Answers about single frames as rewards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import DatasetError, LabelError
from episodes.labels import read_labels
from episodes.prepare import prepare
from reward.clients.protocol import Kind
from reward.frames import Frames
from reward.labellers_rated import (
    RatedConfig,
    Ratings,
    SuccessConfig,
    _spread,
    rated_rewards,
    success_rewards,
)
from reward.relabel import RelabelConfig, relabel
from tests.reward.conftest import EPISODES, START_NS, STEPS, SUCCESS_FROM, picture, positions
from tests.reward.raters import rate

EVERY = EPISODES * STEPS


def step(place: int) -> float:
    """The rubric's step, 1 to 5."""
    return float(1 + min(4, place // 6))


def test_steps_of_the_rubric_become_rewards_of_the_frames_they_are_about(
    dataset: Dataset, frames: Frames
) -> None:
    rate(dataset, frames, "steps", Kind.PROGRESS, step, pairs=EVERY)
    done = relabel(RelabelConfig(dataset.path, kind="rated"))
    assert (done.labeller, done.written) == ("rated", EPISODES)
    for number in range(EPISODES):
        expected = [(step(place) - 1) / 4 for place in positions(number)[1:].tolist()]
        np.testing.assert_allclose(read_labels(dataset, "rated", f"e{number}").reward, expected)


def test_scores_are_rewards_as_they_are(dataset: Dataset, frames: Frames) -> None:
    rate(dataset, frames, "scores", Kind.SCORE, lambda place: place / 30, pairs=EVERY)
    made = rated_rewards(dataset, frames, RatedConfig())
    where = np.concatenate([positions(n) for n in range(EPISODES)]) / 30
    np.testing.assert_allclose(made.rewards[frames.judged], where[frames.judged], rtol=1e-6)
    assert made.basis["question"] == "score"


def spread(frames: Frames, rows: list[int], values: list[float], between: str) -> tuple[list, list]:
    found = Ratings("l", Kind.SCORE, np.array(rows), np.array(values))
    rewards, valid = _spread(frames, found, between)
    return rewards[: STEPS + 1].tolist(), valid.tolist()


def test_frames_between_two_answers_are_interpolated_and_those_outside_keep_the_nearest(
    frames: Frames,
) -> None:
    rewards, valid = spread(frames, [4, 8], [0.0, 1.0], "linear")
    assert rewards == [0.0] * 5 + [0.25, 0.5, 0.75] + [1.0] * 8
    assert valid[: STEPS + 1] == [True] * (STEPS + 1)
    assert not any(valid[STEPS + 1 :]), "another episode's frames learn nothing from it"
    rewards, _ = spread(frames, [4, 8], [0.0, 1.0], "nearest")
    assert rewards == [0.0] * 7 + [1.0] * 9, "of two as near the earlier counts"
    rewards, valid = spread(frames, [4, 8], [0.5, 1.0], "none")
    assert [k for k, known in enumerate(valid) if known] == [4, 8]
    assert (rewards[4], rewards[8]) == (0.5, 1.0)


def test_episodes_without_an_answer_are_refused_or_left_out(
    dataset: Dataset, frames: Frames, tmp_path: Path
) -> None:
    rate(dataset, frames, "steps", Kind.PROGRESS, step, pairs=5)
    with pytest.raises(LabelError, match=r"of 8 episodes .*--rated\.unanswered leave-out"):
        relabel(RelabelConfig(dataset.path, kind="rated"))
    config = RelabelConfig(dataset.path, kind="rated", rated=RatedConfig(unanswered="leave-out"))
    assert relabel(config).written == EPISODES
    assert relabel(config).written == 0
    whole = [bool(read_labels(dataset, "rated", f"e{n}").valid.all()) for n in range(EPISODES)]
    assert 0 < sum(whole) <= 5
    assert armchair(["relabel", str(dataset.path), "--kind", "rated", "--rated.between", "none"]) == 2
    prepare(dataset.path, tmp_path / "train.h5", streams=("front",), reward="truth")
    with pytest.raises(DatasetError, match="for every transition"):
        prepare(dataset.path, tmp_path / "rated.h5", streams=("front",), reward="rated")


def test_frames_judged_successful_are_rewarded_and_no_others(dataset: Dataset, frames: Frames) -> None:
    rate(dataset, frames, "done", Kind.SUCCESS, lambda place: float(place >= SUCCESS_FROM), pairs=EVERY)
    rewards = success_rewards(dataset, frames, SuccessConfig()).rewards
    assert frames.success is not None
    np.testing.assert_array_equal(rewards[frames.judged] == 1.0, frames.success[frames.judged])
    same = success_rewards(dataset, frames, SuccessConfig(source="truth")).rewards
    np.testing.assert_array_equal(rewards[frames.judged], same[frames.judged])


def test_frames_nobody_was_asked_about_can_count_as_no_success(dataset: Dataset, frames: Frames) -> None:
    rate(dataset, frames, "done", Kind.SUCCESS, lambda place: 1.0, pairs=6)
    rule = SuccessConfig(between="zero", unanswered="leave-out")
    made = success_rewards(dataset, frames, rule)
    assert made.rewards.sum() == 6
    assert made.valid is not None
    answered = np.unique(frames.episode[made.rewards > 0])
    np.testing.assert_array_equal(np.unique(frames.episode[made.valid]), answered)
    nearest = success_rewards(dataset, frames, SuccessConfig(unanswered="leave-out"))
    np.testing.assert_array_equal(nearest.rewards == 1.0, made.valid)


def test_the_outcome_of_an_episode_rewards_its_last_frames(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset("mixed", episodes=1)
    for name, outcome in (("won", "success"), ("lost", "failure")):
        with dataset.new_writer(clock="sim", started_ns=START_NS, task="slide", episode_id=name) as writer:
            for k in range(4):
                at = START_NS + k * dataset.contract.period_ns
                writer.append("front", picture(k), at, at)
                writer.append_command([0.0], at, at, at, 3)
            writer.finish(outcome, "operator", "horizon")
    with pytest.raises(LabelError, match="outcome is unknown for 1 of 3 episodes"):
        relabel(RelabelConfig(dataset.path, kind="success", success=SuccessConfig(source="outcome")))
    rule = SuccessConfig(source="outcome", unanswered="leave-out", last_frames=2)
    relabel(RelabelConfig(dataset.path, kind="success", success=rule))
    assert read_labels(dataset, "sparse-success", "won").reward.tolist() == [0.0, 1.0, 1.0]
    assert read_labels(dataset, "sparse-success", "lost").reward.tolist() == [0.0, 0.0, 0.0]
    assert not read_labels(dataset, "sparse-success", "e0").valid.any()
    with pytest.raises(DatasetError, match=r"--success\.source"):
        relabel(RelabelConfig(dataset.path, kind="success", success=SuccessConfig(source="truth")))


def test_a_label_set_must_be_chosen_exist_and_fit_the_question(
    dataset: Dataset, frames: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["relabel", str(dataset.path), "--kind", "rated"]
    assert armchair(words) == 2
    assert "--question progress" in capsys.readouterr().err
    rate(dataset, frames, "steps", Kind.PROGRESS, lambda place: None, pairs=4)
    assert armchair(words) == 2
    assert "no usable answer" in capsys.readouterr().err
    rate(dataset, frames, "scores", Kind.SCORE, lambda place: 0.5, pairs=4)
    assert armchair(words) == 2
    assert "one of scores, steps" in capsys.readouterr().err
    assert armchair([*words, "--rated.labels", "score"]) == 2
    assert "did you mean 'scores'" in capsys.readouterr().err
    assert armchair(["relabel", str(dataset.path), "--kind", "success", "--success.labels", "steps"]) == 2
    assert "holds answers to progress" in capsys.readouterr().err
