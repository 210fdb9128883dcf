"""The label store: nothing paid twice, nothing lost, nothing beyond the budget."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from episodes.errors import LabelError
from reward.clients.protocol import Bill, Estimate, JudgeIdentity, Outcome, Verdict
from reward.frames import FrameId
from reward.records import Ballot, Budget, BudgetReached, DrawnPair, StoredAnswer, answer_key
from reward.store import LabelStore

WHO = JudgeIdentity("model-x", "preference-1@0", {"goal": "to open the drawer", "temperature": 0.0})
PRICE = Estimate(2, 0.01)
ANSWER = Verdict(Outcome.SECOND, "the second", calls=2, input_tokens=800, output_tokens=40, cost_usd=0.004)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


def claim(store: LabelStore, key: str, budget: Budget | None = None, *, again: bool = False) -> bool:
    return store.reserve(key, ("a", "b"), WHO, PRICE, budget or Budget(), again=again)


def free(key: str, outcome: Outcome) -> StoredAnswer:
    return StoredAnswer(key, ("a", "b"), WHO, 0, Verdict(outcome))


def test_a_question_is_claimed_once_and_its_answer_found_again(store: LabelStore) -> None:
    assert claim(store, "k")
    assert not claim(store, "k")
    assert store.outcomes(["k"]) == {}
    assert store.in_flight(["k", "other"]) == {"k"}
    assert store.in_doubt(["k"]) == set()
    store.commit("k", ANSWER)
    assert store.outcomes(["k"]) == {"k": Outcome.SECOND}
    assert store.verdict("k") == ANSWER
    assert not claim(store, "k")
    assert not claim(store, "k", again=True)


def test_what_an_answer_took_replaces_what_was_reserved_for_it(store: LabelStore) -> None:
    claim(store, "k")
    assert (store.spending().calls, store.spending().cost_usd) == (2, 0.01)
    store.commit("k", ANSWER)
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
    store.release("k", WHO, Bill(calls=1))
    assert store.spending().calls == 0
    assert claim(store, "k")


def test_a_doubtful_question_that_is_asked_again_is_counted_twice(store: LabelStore) -> None:
    claim(store, "k")
    store.owner.close()
    assert claim(store, "k", again=True)
    assert store.spending().calls == 4
    store.commit("k", ANSWER)
    assert store.spending().calls == 4
    assert store.spending().cost_usd == pytest.approx(0.014)


def test_what_a_question_took_without_an_answer_stays_counted(store: LabelStore) -> None:
    claim(store, "k")
    store.keep("k", "describe", "a drawer", Bill(1, 600, 20, 0.003))
    store.release("k", WHO, Bill(2, 600, 20, 0.003))
    assert (store.spending().calls, store.spending().cost_usd) == (2, 0.003)
    found = store.recall("k", "describe")
    assert found == ("a drawer", Bill(2, 600, 20, 0.003))
    assert store.in_flight(["k"]) | store.in_doubt(["k"]) == set()
    assert claim(store, "k")
    assert (store.spending().calls, store.spending().cost_usd) == (3, 0.01), "booked once, and one to come"


def test_steps_of_a_question_outlive_the_process_with_what_they_took(tmp_path: Path) -> None:
    bill = Bill(1, 600, 20, 0.003)
    with LabelStore(tmp_path / "s.sqlite") as store:
        claim(store, "k")
        store.keep("k", "describe", "a drawer", bill)
    with LabelStore(tmp_path / "s.sqlite") as store:
        assert store.recall("k", "describe") == ("a drawer", bill)
        assert store.recall("k", "decide") is None
        assert store.in_doubt(["k"]) == set(), "nothing of it was in flight"
        assert claim(store, "k")
        assert store.spending().calls == 2, "the reservation was taken over"


def test_a_question_that_is_in_flight_elsewhere_is_neither_claimed_nor_in_doubt(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with LabelStore(path) as one, LabelStore(path) as other:
        assert claim(one, "k")
        assert other.in_flight(["k"]) == {"k"}
        assert other.in_doubt(["k"]) == set()
        assert not claim(other, "k", again=True)
        one.close()
        assert other.in_flight(["k"]) == set()
        assert other.in_doubt(["k"]) == {"k"}
        assert not claim(other, "k")
        assert claim(other, "k", again=True)
        other.commit("k", ANSWER)
        one._db = sqlite3.connect(path)
    assert not list((tmp_path / ".cache" / "asking").iterdir()), "locks leave no files"


def test_draws_keep_their_pairs_in_order_and_label_sets_apart(store: LabelStore) -> None:
    pairs = [DrawnPair(FrameId("e0", k), FrameId("e1", 9 - k), (Ballot(f"k{k}"),)) for k in range(5)]
    assert store.draw("gemini", "d") is None
    store.add_draw("gemini", "d", {"seed": 0}, pairs)
    store.add_draw("gemini", "c", {"seed": 1}, pairs[:1])
    store.add_draw("scripted", "d", {"seed": 0}, pairs[3:])
    assert store.draw("gemini", "d") == tuple(pairs)
    assert store.drawn("gemini") == (*pairs, pairs[0])
    assert store.names() == ("gemini", "scripted")


def test_answers_that_cost_nothing_are_added_together_and_never_overwritten(store: LabelStore) -> None:
    assert store.add_answers([free("k", Outcome.FIRST), free("l", Outcome.TIE)]) == 2
    assert store.add_answers([free("k", Outcome.SECOND)]) == 0
    assert store.outcomes(["k", "l"]) == {"k": Outcome.FIRST, "l": Outcome.TIE}
    keys = [f"n{k}" for k in range(1200)]
    store.add_answers(free(key, Outcome.TIE) for key in keys)
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
    others.add(answer_key("a", "b", WHO, 1))
    assert len(others) == 6
    assert base not in others


def test_malformed_and_unsure_answers_are_no_labels() -> None:
    assert [outcome.label for outcome in Outcome] == [0.0, 1.0, 0.5, None, None, None]


def test_a_file_that_is_no_store_and_one_of_a_later_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.sqlite").write_bytes(b"not a database, but long enough to look like one" * 30)
    with pytest.raises(LabelError, match=r"labels\.sqlite"):
        LabelStore(tmp_path / "labels.sqlite")
    later = sqlite3.connect(tmp_path / "later.sqlite")
    later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(LabelError, match="version 99"):
        LabelStore(tmp_path / "later.sqlite")
