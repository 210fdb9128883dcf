"""Which pairs the samplers choose, against NumPy and SciPy written out separately."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import entropy as shannon

from episodes.errors import ConfigError, DatasetError
from reward.acquisition import (
    BY_FEATURES,
    BY_REWARD,
    disagreement,
    entropy,
    k_centre,
    pixel_features,
    select_pairs,
)
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.drawing import DrawConfig, alike, draw_pairs
from reward.frames import Frames
from reward.pairs import uniform_pairs
from reward.showing import Showing
from reward.store import LabelStore

ROWS = np.arange(3, 40)


def chances(rewards: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(members, pairs, 2) by a softmax over the two rewards, as B-Pref has it."""
    return softmax(np.stack([rewards[:, pairs[:, 0]], rewards[:, pairs[:, 1]]], axis=-1), axis=-1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(0.01, 30))
def test_disagreement_and_entropy_are_those_of_a_softmax_ensemble(
    seed: int, members: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    rewards, pairs = scale * rng.normal(size=(members, 40)), rng.integers(40, size=(25, 2))
    expected = chances(rewards, pairs)
    np.testing.assert_allclose(disagreement(rewards, pairs), expected[..., 1].std(axis=0), atol=1e-9)
    np.testing.assert_allclose(entropy(rewards, pairs), shannon(expected, axis=-1).mean(axis=0), atol=1e-9)


def greedy(
    first: np.ndarray, second: np.ndarray, count: int, taken: list[tuple[np.ndarray, np.ndarray]]
) -> list[int]:
    """Farthest-first over pairs in either order, with loops and scipy's distances."""
    points = [(a, b) for a, b in zip(first, second, strict=True)]

    def apart(p: tuple[np.ndarray, np.ndarray], q: tuple[np.ndarray, np.ndarray]) -> float:
        one, other = np.concatenate(p)[None], [np.concatenate(q)[None], np.concatenate(q[::-1])[None]]
        return min(float(cdist(one, turned)[0, 0]) for turned in other)

    centres, chosen = list(taken), []
    if not centres:
        mean = np.concatenate([first, second]).mean(axis=0)
        chosen = [int(np.argmax([apart(p, (mean, mean)) for p in points]))]
        centres = [points[chosen[0]]]
    while len(chosen) < count:
        reach = [-1.0 if k in chosen else min(apart(p, c) for c in centres) for k, p in enumerate(points)]
        chosen.append(int(np.argmax(reach)))
        centres.append(points[chosen[-1]])
    return chosen


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(1, 12))
def test_k_centre_is_greedy_farthest_first_over_pairs_in_either_order(
    seed: int, before: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 15, 4)) + 5
    c, d = rng.normal(size=(2, before, 4)) + 5
    ours = k_centre(first, second, count, taken=(c, d))
    assert ours.tolist() == greedy(first, second, count, list(zip(c, d, strict=True)))


def test_a_pair_that_was_asked_the_other_way_round_is_no_new_centre() -> None:
    near, far, other = np.zeros(3), np.full(3, 10.0), np.full(3, 4.0)
    first, second = np.stack([far, near, other]), np.stack([near, near, other])
    chosen = k_centre(first, second, 2, taken=(near[None], far[None]))
    assert chosen.tolist() == [1, 2], "the pair (far, near) was asked as (near, far)"


def test_k_centre_wants_as_many_candidates_as_centres() -> None:
    with pytest.raises(DatasetError, match="3 candidate pairs are fewer than the 4"):
        k_centre(np.zeros((3, 2)), np.zeros((3, 2)), 4)


@pytest.mark.parametrize("selection", sorted({"uniform"} | BY_REWARD | BY_FEATURES))
def test_every_selection_gives_new_distinct_pairs_and_the_same_ones_again(selection: str) -> None:
    rng = np.random.default_rng(1)
    rewards, space = rng.normal(size=(3, 40)), rng.normal(size=(40, 6)).astype(np.float32)
    taken = [tuple(pair) for pair in uniform_pairs(ROWS, 30, rng).tolist()]

    def draw() -> np.ndarray:
        return select_pairs(
            selection,  # type: ignore[arg-type]
            12,
            ROWS,
            np.random.default_rng(7),
            rewards=rewards,
            features=lambda rows: space[rows],
            top_fraction=0.4,
            taken=taken,
        )

    pairs = draw()
    assert pairs.shape == (12, 2)
    assert np.isin(pairs, ROWS).all()
    found = {frozenset(pair) for pair in pairs.tolist()}
    assert len(found) == 12
    assert not found & {frozenset(pair) for pair in taken}
    np.testing.assert_array_equal(pairs, draw())


def test_the_hybrids_take_k_centre_among_the_better_half() -> None:
    rng = np.random.default_rng(2)
    rewards, space = rng.normal(size=(3, 40)), rng.normal(size=(40, 6)).astype(np.float32)
    drawn = uniform_pairs(ROWS, 100, np.random.default_rng(5))
    for name, worth in (("disagreement", disagreement), ("entropy", entropy)):
        half = np.sort(np.argsort(-worth(rewards, drawn), kind="stable")[:50])
        first, second = (space[drawn[half, k]] for k in (0, 1))
        expected = drawn[half[np.sort(greedy(first, second, 10, []))]]
        pairs = select_pairs(
            f"k-centre+{name}",  # type: ignore[arg-type]
            10,
            ROWS,
            np.random.default_rng(5),
            rewards=rewards,
            features=lambda rows: space[rows],
        )
        np.testing.assert_array_equal(pairs, expected)


def test_selections_say_what_they_lack() -> None:
    with pytest.raises(DatasetError, match="needs features"):
        select_pairs("k-centre", 2, ROWS, np.random.default_rng(0))
    with pytest.raises(DatasetError, match="needs a fitted reward model"):
        select_pairs("entropy", 2, ROWS, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="candidates"):
        DrawConfig(candidates=0)
    with pytest.raises(ConfigError, match="grey levels"):
        DrawConfig(difference=300.0)


def test_where_few_pairs_are_left_the_candidates_are_those() -> None:
    rewards = np.random.default_rng(0).normal(size=(2, 6))
    pairs = select_pairs("disagreement", 10, np.arange(6), np.random.default_rng(0), rewards=rewards)
    assert len(pairs) == 10
    with pytest.raises(DatasetError, match="only 15 of 16"):
        select_pairs("disagreement", 16, np.arange(6), np.random.default_rng(0), rewards=rewards)


def test_thumbnails_tell_pictures_apart(frames: Frames) -> None:
    found = pixel_features(frames.images)(np.array([1, 5, 1]))
    assert found.shape == (3, 16 * 16 * 3)
    np.testing.assert_array_equal(found[0], found[2])


def test_nearly_equal_pictures_are_left_out_by_their_pixels_in_root_mean_square(frames: Frames) -> None:
    show = Showing(frames)
    rng = np.random.default_rng(0)
    gaps = np.array(
        [
            np.sqrt(((frames.images[a].astype(np.float64) - frames.images[b]) ** 2).mean())
            for a, b in rng.choice(frames.judged, size=(60, 2))
        ]
    )
    pairs = np.random.default_rng(0).choice(frames.judged, size=(60, 2))
    threshold = float(np.median(gaps[gaps > 0])) + 1e-4
    near = alike(show, threshold)
    assert [near(a, b) for a, b in pairs.tolist()] == (gaps <= threshold).tolist()
    equal = alike(show, 0.0)
    assert [equal(a, b) for a, b in pairs.tolist()] == (gaps == 0).tolist()


def test_a_draw_of_an_older_store_is_found_again_and_a_new_option_draws_anew(
    frames: Frames, tmp_path: Path
) -> None:
    judge = ScriptedTeacher(ScriptedConfig())
    with LabelStore(tmp_path / "labels.sqlite") as store:
        plain = draw_pairs(store, "s", frames, judge, DrawConfig(pairs=5))
        assert draw_pairs(store, "s", frames, judge, DrawConfig(pairs=5)) == plain
        far = draw_pairs(store, "s", frames, judge, DrawConfig(pairs=5, difference=9.0))
        covering = draw_pairs(store, "s", frames, judge, DrawConfig(pairs=6, selection="k-centre", share=1.0))
    assert {"pairs", "selection", "share", "top_fraction", "seed"} == set(DrawConfig(pairs=5).settings())
    assert far != plain
    assert len({frozenset((p.first, p.second)) for p in (*plain, *far, *covering)}) == 16
