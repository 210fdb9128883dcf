"""From recordings to reward label files: asking, rounds, relabelling, the verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError, LabelError
from episodes.labels import read_labels
from episodes.prepare import prepare
from reward.asking import ask_pairs
from reward.clients.protocol import Task
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.clients.sending import SendConfig
from reward.clients.vlm import VlmConfig, VlmJudge
from reward.drawing import DrawConfig, draw_pairs, labelled_pairs
from reward.fitting import RewardConfig
from reward.frames import Frames
from reward.records import Budget, BudgetReached
from reward.relabel import RelabelConfig, relabel
from reward.rounds import RoundsConfig, run
from reward.store import LabelStore
from tests.reward.conftest import EPISODES, STEPS, positions
from tests.reward.wire import GEMINI, Asked, Reply, WireServer

Serve = Callable[[Callable[[Asked], Reply]], WireServer]


@pytest.fixture
def store(dataset: Dataset) -> Iterator[LabelStore]:
    with LabelStore(dataset.path / "labels.sqlite") as opened:
        yield opened


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(WireServer(GEMINI, respond).running())


def gemini(server: WireServer) -> VlmJudge:
    send = SendConfig(concurrency=3, timeout_s=20.0, attempts=1)
    return GEMINI.judge(server.url, Task("to slide"), VlmConfig(method="single"), send, key="secret-key")


def column(image: np.ndarray) -> float:
    """Where the square is in a picture that a server received."""
    return float(np.where(image[..., 2] < 70, np.arange(image.shape[1]), 0).max())


def by_sight(asked: Asked) -> Reply:
    """A server that sees which square is further to the right."""
    first, second = (column(image) for image in asked.images)
    return GEMINI.said(f'{{"answer": "{int(second > first)}"}}')


def test_a_draw_is_made_once_and_further_draws_bring_new_pairs(frames: Frames, store: LabelStore) -> None:
    teacher = ScriptedTeacher(ScriptedConfig())
    config = DrawConfig(pairs=40)
    pairs = draw_pairs(store, "scripted", frames, teacher, config)
    assert draw_pairs(store, "scripted", frames, teacher, config) == pairs
    more = draw_pairs(store, "scripted", frames, teacher, replace(config, seed=1))
    assert not {frozenset((p.first, p.second)) for p in pairs} & {
        frozenset((p.first, p.second)) for p in more
    }
    assert store.drawn("scripted") == (*pairs, *more)
    assert all(p.first.index > 0 and p.second.index > 0 for p in pairs)


def test_labels_of_an_interrupted_run_are_those_of_one_that_was_not(frames: Frames, tmp_path: Path) -> None:
    teacher = ScriptedTeacher(ScriptedConfig(mistakes=0.3))
    found = []
    for name, cut in (("whole", False), ("cut", True)):
        with LabelStore(tmp_path / f"{name}.sqlite") as store:
            pairs = draw_pairs(store, "scripted", frames, teacher, DrawConfig(pairs=60))
            if cut:
                ask_pairs(store, frames, teacher, pairs[:25])
            ask_pairs(store, frames, teacher, pairs)
            found.append(labelled_pairs(store, pairs, frames, 0.2))
    for a, b in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert 0 < found[0].held_out.sum() < len(found[0])


def test_a_paid_judge_is_asked_once_about_every_pair(frames: Frames, store: LabelStore, serve: Serve) -> None:
    server = serve(by_sight)
    judge = gemini(server)
    pairs = draw_pairs(store, "g", frames, judge, DrawConfig(pairs=12))
    first = ask_pairs(store, frames, judge, pairs)
    assert (first.asked, first.usable, first.in_doubt, first.calls) == (12, 12, 0, 12)
    assert first.cost_usd > 0
    again = ask_pairs(store, frames, judge, pairs)
    assert (again.asked, again.usable) == (0, 12)
    assert len(server.asked) == 12
    labels = labelled_pairs(store, pairs, frames, 0.0)
    expected = frames.truth[labels.second] > frames.truth[labels.first]
    np.testing.assert_array_equal(labels.label, expected)


def test_a_budget_stops_before_it_is_exceeded_and_more_money_goes_on(
    frames: Frames, store: LabelStore, serve: Serve
) -> None:
    server = serve(by_sight)
    judge = gemini(server)
    pairs = draw_pairs(store, "g", frames, judge, DrawConfig(pairs=12))
    with pytest.raises(BudgetReached, match="5 calls"):
        ask_pairs(store, frames, judge, pairs, budget=Budget(calls=5))
    assert len(server.asked) == 5
    assert len(store.outcomes({p.key for p in pairs})) == 5
    assert ask_pairs(store, frames, judge, pairs, budget=Budget(calls=12)).usable == 12
    assert len(server.asked) == 12


def test_a_refused_key_stops_the_run_and_claims_nothing(
    frames: Frames, store: LabelStore, serve: Serve
) -> None:
    server = serve(lambda asked: GEMINI.error(400, "API key not valid."))
    judge = gemini(server)
    pairs = draw_pairs(store, "g", frames, judge, DrawConfig(pairs=30))
    with pytest.raises(LabelError, match="refused the API key"):
        ask_pairs(store, frames, judge, pairs)
    assert len(server.asked) <= 3, "no more than were in flight"
    assert store.spending().calls == 0
    assert store.in_doubt({p.key for p in pairs}) == set()


@pytest.fixture
def rounds_config(dataset: Dataset, small: RewardConfig) -> RoundsConfig:
    return RoundsConfig(dataset.path, pairs=(80, 40), top_fraction=0.3, model=small)


def test_rounds_end_with_a_reward_that_ranks_frames(rounds_config: RoundsConfig, dataset: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    config = replace(
        rounds_config,
        model=replace(rounds_config.model, optimise=replace(rounds_config.model.optimise, epochs=12)),
    )
    result = run(config, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (400, 400)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [each.pairs for each in result.rounds] == [80, 120]
    assert result.rounds[0].labelled < result.rounds[1].labelled <= 120
    assert result.quality.rank_correlation is not None
    assert result.quality.rank_correlation > 0.9
    assert result.model == dataset.path / "rewards" / "scripted"
    done = relabel(RelabelConfig(dataset.path))
    assert (done.labeller, done.episodes, done.written) == ("learned", EPISODES, EPISODES)
    for number in range(EPISODES):
        reward = read_labels(dataset, "learned", f"e{number}").reward
        assert reward.shape == (STEPS,)
        assert reward.min() >= 0.0
        assert reward.max() <= 1.0


def test_rounds_that_were_killed_end_like_rounds_that_were_not(
    make_dataset: Callable[..., Dataset], rounds_config: RoundsConfig
) -> None:
    expected = run(rounds_config)
    other = replace(rounds_config, dataset=make_dataset("again").path)

    class Killed(Exception):
        pass

    for stop in (60, 150, 250, 350):

        def report(done: int, total: int, stop: int = stop) -> None:
            if done >= stop:
                raise Killed

        with pytest.raises(Killed):
            run(other, report)
    steps: list[int] = []
    result = run(other, lambda done, total: steps.append(done))
    assert (result.model / "model.safetensors").read_bytes() == (
        expected.model / "model.safetensors"
    ).read_bytes()
    assert result.rounds == expected.rounds
    assert min(steps) >= 100, "labels and the first round are not done again"
    steps.clear()
    assert run(other, lambda done, total: steps.append(done)).rounds == expected.rounds
    assert len(steps) <= 8, "finished rounds are read, not fitted"


def test_a_changed_setting_fits_again(rounds_config: RoundsConfig) -> None:
    before = (run(rounds_config).model / "model.safetensors").read_bytes()
    changed = replace(rounds_config, model=replace(rounds_config.model, seed=1))
    assert (run(changed).model / "model.safetensors").read_bytes() != before


def test_reward_t_is_that_of_the_frame_after(dataset: Dataset) -> None:
    assert (
        relabel(RelabelConfig(dataset.path, kind="truth", exponent=2.0)).quality.success_above_best_decile
        == 1.0
    )
    rewards = [read_labels(dataset, "true-scaled", f"e{n}").reward for n in range(EPISODES)]
    where = np.concatenate([positions(n)[1:] for n in range(EPISODES)]) / 3
    low, high = np.quantile(where, [0.001, 0.999])
    np.testing.assert_allclose(
        np.concatenate(rewards), np.clip((where - low) / (high - low), 0, 1) ** 2, atol=1e-6
    )


def test_the_random_reward_means_nothing_and_is_the_same_every_time(
    make_dataset: Callable[..., Dataset], dataset: Dataset, tmp_path: Path
) -> None:
    first = relabel(RelabelConfig(dataset.path, kind="random", seed=4))
    assert first.written == EPISODES
    assert relabel(RelabelConfig(dataset.path, kind="random", seed=4)).written == 0
    other = make_dataset("fewer", episodes=3)
    relabel(RelabelConfig(other.path, kind="random", seed=4))
    for number in range(3):
        np.testing.assert_array_equal(
            read_labels(other, "random-uniform", f"e{number}").reward,
            read_labels(dataset, "random-uniform", f"e{number}").reward,
        )
    everything = np.concatenate(
        [read_labels(dataset, "random-uniform", f"e{n}").reward for n in range(EPISODES)]
    )
    assert abs(everything.mean() - 0.5) < 0.15
    assert len(np.unique(everything)) == len(everything)
    assert relabel(RelabelConfig(dataset.path, kind="random", seed=5)).written == EPISODES
    prepare(dataset.path, tmp_path / "train.h5", streams=("front",), reward="random-uniform")


def test_the_true_reward_of_a_real_robot_is_refused(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(DatasetError, match="truth"):
        relabel(RelabelConfig(make_dataset("real", truth=False, episodes=2).path, kind="truth"))


def test_impossible_rounds_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="one number of pairs per round"):
        RoundsConfig(dataset.path, pairs=())


def test_label_fit_and_relabel_work_from_the_command_line(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(dataset.path)
    assert armchair(["fit", path]) == 2
    assert "armchair label" in capsys.readouterr().err
    assert armchair(["label", path, "--pairs", "90", "--dry-run"]) == 0
    assert "nothing was asked" in capsys.readouterr().out
    assert armchair(["label", path, "--pairs", "90"]) == 0
    assert "of 90 pairs have a label" in capsys.readouterr().out
    assert armchair(["label", path, "--pairs", "90"]) == 0
    assert "0 questions asked now" in capsys.readouterr().out
    network = ["--network.kernels", "5", "3", "--network.channels", "8", "8", "--network.strides", "3", "2"]
    assert armchair(["fit", path, "--optimise.epochs", "2", *network]) == 0
    assert "held-out preference accuracy" in capsys.readouterr().out
    model = str(dataset.path / "rewards" / "scripted")
    assert armchair(["label", path, "--pairs", "20", "--selection", "top", "--reward", model]) == 0
    assert armchair(["relabel", path]) == 0
    assert "8 label files written" in capsys.readouterr().out
    assert armchair(["label", path, "--pairs", "20", "--select", "k-centre+entropy"]) == 0
    assert armchair(["label", path, "--selection", "disagreement", "--labels", "other"]) == 2
    assert "--reward" in capsys.readouterr().err
    assert armchair(["fit", path, "--labels", "gemini"]) == 2
    assert "scripted" in capsys.readouterr().err
