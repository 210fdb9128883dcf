"""What is said in words, and which frames are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from episodes.dataset import Dataset
from reward.evaluate.advice import advice, headline
from reward.evaluate.ground import Ground
from reward.evaluate.measure import AgainstLabels, MeasureConfig, Measured, balanced, measure
from reward.evaluate.pictures import GAP, SIDE, read_pictures, strip, telling_frames
from reward.evaluate.resampling import UNKNOWN, Figure, Resampling
from reward.frames import Frames
from reward.labelled import LabelledRewards
from tests.reward.raters import seen

NO_INTERVALS = MeasureConfig(resampling=Resampling(count=0))


def ground_of(rows: Frames) -> Ground:
    assert rows.success is not None
    known = np.zeros(len(rows), np.bool_)
    known[rows.judged] = True
    won = [float(rows.success[rows.rows_of(n)].any()) for n in range(len(rows.episode_ids))]
    return Ground(rows.success, known, "the simulation", np.array(won), "the simulation", rows.truth)


def labelled(rows: Frames, rewards: np.ndarray) -> LabelledRewards:
    valid = np.zeros(len(rows), np.bool_)
    valid[rows.judged] = True
    return LabelledRewards("mine", rewards, valid, len(rows.episode_ids), {"kind": "model"}, False, None)


def measured(rows: Frames, rewards: np.ndarray) -> Measured:
    return measure(labelled(rows, rewards), rows, ground_of(rows), (), NO_INTERVALS)


@pytest.fixture(scope="session")
def place(rows: Frames) -> np.ndarray:
    """(rows,) where the square is."""
    return np.array([float(seen(image)) for image in rows.images])


def test_a_reward_that_ranks_hovering_highest_is_told_so_although_it_correlates(
    rows: Frames, place: np.ndarray
) -> None:
    assert rows.success is not None
    hovering = measured(rows, np.where(rows.success, 19.5, place))
    correlation = hovering.figures["rank_correlation"].value
    assert correlation is not None
    assert correlation > 0.8
    assert headline(hovering).name.startswith("P(success frame")
    said = advice(hovering, success_known=True)
    assert "hover" in said[0]
    assert any("comforted by the rank correlation" in line for line in said)
    assert advice(measured(rows, place), success_known=True) == ()


def test_a_reward_that_falls_along_successful_episodes_is_told_so(rows: Frames, place: np.ndarray) -> None:
    assert any("hardly rises" in line for line in advice(measured(rows, -place), success_known=True))


def against(accuracy: Figure, seen_pairs: Figure = UNKNOWN, ties: float = 0.0) -> AgainstLabels:
    return AgainstLabels("judge", "preference", True, accuracy, seen_pairs, ties, UNKNOWN, None)


def test_coin_like_and_learned_by_heart_preferences_are_told_apart(rows: Frames, place: np.ndarray) -> None:
    good = measured(rows, place)
    by_heart = replace(good, against=(against(Figure(0.7, count=200), Figure(0.99, count=900)),))
    assert [line for line in advice(by_heart, True) if "by heart" in line]
    coin = replace(good, against=(against(Figure(0.52, count=200)),))
    assert [line for line in advice(coin, True) if "coin" in line]
    sparse = replace(good, against=(against(Figure(0.52, count=200), ties=0.9),))
    few = replace(good, against=(against(Figure(0.52, count=10)),))
    assert advice(sparse, True) == advice(few, True) == ()


def test_every_tenth_of_the_true_rewards_range_weighs_alike() -> None:
    truth = np.concatenate([np.zeros(90), np.full(9, 0.55), np.ones(1)])
    weights = balanced(truth)
    assert [weights[:90].sum(), weights[90:99].sum(), weights[99]] == pytest.approx([1.0, 1.0, 1.0])
    assert balanced(np.ones(4)).tolist() == [1.0] * 4


def test_strips_show_one_frame_of_each_episode_and_what_is_most_wrong(
    dataset: Dataset, rows: Frames, place: np.ndarray
) -> None:
    found, ground = labelled(rows, place), ground_of(rows)
    strips = {row.title: row.rows for row in telling_frames(found, rows, ground, count=6)}
    assert list(strips) == ["best", "worst", "highest without success", "lowest with success"]
    assert len(set(rows.episode[strips["best"]])) == 6
    assert (np.diff(place[strips["best"]]) <= 0).all()
    assert place[strips["best"][0]] == place[rows.judged].max()
    assert not ground.success[strips["highest without success"]].any()
    assert ground.success[strips["lowest with success"]].all()
    assert len(strips["lowest with success"]) == 6, "three episodes fill six places with further frames"
    ids = [rows.id(row) for row in strips["best"].tolist()]
    pictures = read_pictures(dataset, "front", ids)
    for frame in ids:
        np.testing.assert_array_equal(pictures[frame], rows.images[rows.row(frame)])
    first = telling_frames(found, rows, ground, count=6)[0]
    image = strip(first, found, rows, ground, pictures)
    width = round(48 * SIDE / 40) + 6
    assert image.shape[1] == 6 * width + 5 * GAP
    nothing = replace(ground, known=np.zeros(len(rows), np.bool_))
    assert [row.title for row in telling_frames(found, rows, nothing)] == ["best", "worst"]
