"""Questions that find no answer: set aside, told about, asked again last; a judge that cannot go on stops."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import ConfigError, LabelError
from reward.asking import IN_A_ROW, ask_pairs
from reward.clients.protocol import Errand, FreeJudge, Outcome, Question, Verdict
from reward.drawing import DrawConfig, draw_pairs
from reward.frames import Frames
from reward.records import Budget, BudgetReached, DrawnPair
from reward.showing import Showing
from reward.store import FILE, LabelStore


class Choking(FreeJudge):
    """A paid judge that never answers some questions, one at a time."""

    name, prompt_version, settings = "choking", "p", {}
    paid, threads = True, 1

    def __init__(self, chokes: Callable[[Question], bool] = lambda question: False) -> None:
        self.chokes, self.ends = chokes, False
        self.asked: list[tuple[str, str]] = []

    def ask(self, question: Question, errand: Errand) -> Verdict:
        errand.claim()
        self.asked.append(question.digests)
        errand.bill.calls += 1
        if self.chokes(question):
            if self.ends:
                errand.end_run()
            raise LabelError(f"the server answers 500 about {question.first.digest[:6]}")
        return errand.bill.verdict(Outcome.FIRST, "seen")


@pytest.fixture
def store(dataset: Dataset) -> Iterator[LabelStore]:
    with LabelStore(dataset.path / FILE) as opened:
        yield opened


def drawn(store: LabelStore, frames: Frames, count: int = 20) -> tuple[DrawnPair, ...]:
    return draw_pairs(store, "s", frames, Choking(), DrawConfig(pairs=count))


def poisonous(store: LabelStore, frames: Frames, *positions: int) -> tuple[tuple[DrawnPair, ...], Choking]:
    """Drawn pairs, and a judge that chokes on some of them."""
    pairs = drawn(store, frames)
    bad = {shown(frames, pairs[k]) for k in positions}
    return pairs, Choking(lambda question: question.digests in bad)


def shown(frames: Frames, pair: DrawnPair) -> tuple[str, str]:
    return Showing(frames).question(pair, pair.ballots[0]).digests


def test_one_poisonous_question_does_not_hold_up_the_others(frames: Frames, store: LabelStore) -> None:
    pairs, judge = poisonous(store, frames, 0, 7)
    summary = ask_pairs(store, frames, judge, pairs)
    assert (summary.usable, summary.failed) == (18, 2)
    assert summary.failure.startswith("the server answers 500 about")
    assert store.parked(p.key for p in pairs).keys() == {pairs[0].key, pairs[7].key}
    assert store.in_doubt(p.key for p in pairs) == set()
    assert store.outcomes([pairs[0].key]) == {}, "a failure is no label"


def test_what_failed_is_asked_again_after_all_others_and_forgotten_once_answered(
    frames: Frames, store: LabelStore
) -> None:
    pairs, judge = poisonous(store, frames, 0)
    ask_pairs(store, frames, judge, pairs[:10])
    judge.asked.clear()
    again = ask_pairs(store, frames, judge, pairs)
    assert (again.asked, again.failed) == (11, 1)
    assert judge.asked.index(shown(frames, pairs[0])) == 10, "the last one"
    mended = ask_pairs(store, frames, Choking(), pairs)
    assert (mended.asked, mended.failed, mended.usable) == (1, 0, 20)


def test_many_failures_in_a_row_stop_the_run(frames: Frames, store: LabelStore) -> None:
    pairs, judge = poisonous(store, frames, *range(4, 20))
    with pytest.raises(LabelError, match="answers 500"):
        ask_pairs(store, frames, judge, pairs)
    assert len(judge.asked) == 4 + IN_A_ROW
    assert len(store.outcomes(p.key for p in pairs)) == 4


def test_failures_with_answers_between_them_do_not(frames: Frames, store: LabelStore) -> None:
    pairs, judge = poisonous(store, frames, *range(1, 20, 2))
    assert ask_pairs(store, frames, judge, pairs).failed == 10
    assert ask_pairs(store, frames, judge, pairs).failed == 10, "known ones alone stop nothing"


def test_a_judge_that_never_answered_anything_is_a_mistake(frames: Frames, store: LabelStore) -> None:
    pairs, judge = poisonous(store, frames, 0, 1)
    with pytest.raises(LabelError, match="answers 500"):
        ask_pairs(store, frames, judge, pairs[:2])


def test_what_concerns_every_question_stops_at_once(frames: Frames, store: LabelStore) -> None:
    pairs, judge = poisonous(store, frames, 3)
    judge.ends = True
    with pytest.raises(LabelError, match="answers 500"):
        ask_pairs(store, frames, judge, pairs)
    assert len(judge.asked) == 4
    assert store.parked(p.key for p in pairs) == {}
    with pytest.raises(BudgetReached):
        ask_pairs(store, frames, Choking(), pairs, budget=Budget(calls=3))


def test_a_budget_in_money_needs_a_price(frames: Frames, store: LabelStore) -> None:
    pairs, judge = drawn(store, frames), Choking()
    with pytest.raises(ConfigError, match=r"--openai\.usd-per-million IN OUT.*--budget\.calls"):
        ask_pairs(store, frames, judge, pairs, budget=Budget(usd=1.0))
    assert judge.asked == []
    assert ask_pairs(store, frames, judge, pairs, budget=Budget(calls=20, usd=1.0)).usable == 20


def test_status_tells_what_failed_and_why(
    frames: Frames, store: LabelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, judge = poisonous(store, frames, 2)
    ask_pairs(store, frames, judge, pairs)
    folder = str(store.path.parent)
    assert armchair(["label", "status", folder, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["failed"], found["open"], found["answered"]) == (1, 1, 19)
    assert armchair(["label", "status", folder]) == 0
    assert "failed: the server answers 500" in capsys.readouterr().out
