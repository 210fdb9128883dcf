"""The label store: nothing paid twice, nothing lost, nothing beyond the budget."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from episodes.errors import LabelError
from reward.clients.protocol import Estimate, JudgeIdentity, Outcome, Verdict
from reward.frames import FrameId
from reward.store import Budget, BudgetReached, DrawnPair, LabelStore, answer_key

WHO = JudgeIdentity("model-x", "preference-1@0", {"goal": "to open the drawer", "temperature": 0.0})
PRICE = Estimate(2, 0.01)
ANSWER = Verdict(Outcome.SECOND, "the second", calls=2, input_tokens=800, output_tokens=40, cost_usd=0.004)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


def claim(store: LabelStore, key: str, budget: Budget | None = None, *, again: bool = False) -> bool:
    return store.reserve(key, ("a", "b"), WHO, PRICE, budget or Budget(), again=again)


def test_a_question_is_claimed_once_and_its_answer_found_again(store: LabelStore) -> None:
    assert claim(store, "k")
    assert not claim(store, "k")
    assert store.outcomes(["k"]) == {}
    assert store.in_doubt(["k", "other"]) == {"k"}
    store.commit("k", ANSWER, PRICE)
    assert store.outcomes(["k"]) == {"k": Outcome.SECOND}
    assert store.verdict("k") == ANSWER
    assert not claim(store, "k")
    assert not claim(store, "k", again=True)


def test_what_an_answer_took_replaces_what_was_reserved_for_it(store: LabelStore) -> None:
    claim(store, "k")
    assert (store.spending().calls, store.spending().cost_usd) == (2, 0.01)
    store.commit("k", ANSWER, PRICE)
    assert store.spending().calls == 2
    assert store.spending().cost_usd == pytest.approx(0.004)


def test_a_reservation_counts_against_the_budget_and_the_last_question_fits_in(store: LabelStore) -> None:
    budget = Budget(calls=4)
    assert claim(store, "a", budget)
    assert claim(store, "b", budget)
    with pytest.raises(BudgetReached, match="4 calls"):
        claim(store, "c", budget)
    assert store.in_doubt(["c"]) == set()
    with pytest.raises(BudgetReached, match="USD"):
        claim(store, "c", Budget(usd=0.025))


def test_a_question_that_was_certainly_not_charged_is_given_back(store: LabelStore) -> None:
    claim(store, "k")
    store.release("k", PRICE)
    assert store.spending().calls == 0
    assert claim(store, "k")


def test_a_doubtful_question_that_is_asked_again_is_counted_twice(store: LabelStore) -> None:
    claim(store, "k")
    assert claim(store, "k", again=True)
    assert store.spending().calls == 4
    store.commit("k", ANSWER, PRICE)
    assert store.spending().calls == 4
    assert store.spending().cost_usd == pytest.approx(0.014)


def test_steps_of_a_question_outlive_the_process(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "s.sqlite") as store:
        claim(store, "k")
        store.keep("k", "describe", "a drawer")
    with LabelStore(tmp_path / "s.sqlite") as store:
        assert store.recall("k", "describe") == "a drawer"
        assert store.recall("k", "decide") is None


def test_draws_keep_their_pairs_in_order_and_label_sets_apart(store: LabelStore) -> None:
    pairs = [DrawnPair(FrameId("e0", k), FrameId("e1", 9 - k), f"k{k}") for k in range(5)]
    assert store.draw("gemini", "d") is None
    store.add_draw("gemini", "d", {"seed": 0}, pairs)
    store.add_draw("gemini", "c", {"seed": 1}, pairs[:1])
    store.add_draw("scripted", "d", {"seed": 0}, pairs[3:])
    assert store.draw("gemini", "d") == tuple(pairs)
    assert store.drawn("gemini") == (*pairs, pairs[0])
    assert store.names() == ("gemini", "scripted")


def test_answers_that_cost_nothing_are_added_together_and_never_overwritten(store: LabelStore) -> None:
    store.add_answers(
        [("k", ("a", "b"), Verdict(Outcome.FIRST)), ("l", ("a", "c"), Verdict(Outcome.TIE))], WHO
    )
    store.add_answers([("k", ("a", "b"), Verdict(Outcome.SECOND))], WHO)
    assert store.outcomes(["k", "l"]) == {"k": Outcome.FIRST, "l": Outcome.TIE}
    keys = [f"n{k}" for k in range(1200)]
    store.add_answers(((key, ("a", "b"), Verdict(Outcome.TIE)) for key in keys), WHO)
    assert len(store.outcomes(keys)) == 1200


def test_the_key_of_an_answer_has_everything_that_decides_it() -> None:
    base = answer_key("a", "b", WHO)
    assert base == answer_key(
        "a", "b", JudgeIdentity("model-x", "preference-1@0", dict(reversed(WHO.settings.items())))
    )
    others = {
        answer_key("b", "a", WHO),
        answer_key("a", "c", WHO),
        answer_key("a", "b", JudgeIdentity("model-y", WHO.prompt_version, WHO.settings)),
        answer_key("a", "b", JudgeIdentity("model-x", "preference-2@0", WHO.settings)),
        answer_key(
            "a", "b", JudgeIdentity("model-x", WHO.prompt_version, {**WHO.settings, "temperature": 1.0})
        ),
    }
    assert len(others) == 5
    assert base not in others


def test_malformed_and_unsure_answers_are_no_labels() -> None:
    assert [outcome.label for outcome in Outcome] == [0.0, 1.0, 0.5, None, None]


def test_a_file_that_is_no_store_and_one_of_a_later_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.sqlite").write_bytes(b"not a database, but long enough to look like one" * 30)
    with pytest.raises(LabelError, match=r"labels\.sqlite"):
        LabelStore(tmp_path / "labels.sqlite")
    later = sqlite3.connect(tmp_path / "later.sqlite")
    later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(LabelError, match="version 99"):
        LabelStore(tmp_path / "later.sqlite")
