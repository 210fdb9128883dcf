"""What the label store books: never less than was taken, and no more than may have been."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.clients.protocol import Bill, Estimate, JudgeIdentity, Outcome, Verdict
from reward.frames import FrameId
from reward.label_store import costs_of
from reward.records import Ballot, Budget, BudgetReached, DrawnPair, StoredAnswer
from reward.store import LabelStore

WHO = JudgeIdentity("m", "p", {})
EACH_USD = 0.01
TWO = Estimate(2, 2 * EACH_USD)
ENDS = ("answered", "killed in 1", "killed between", "killed in 2", "withdrawn", "failed in 2")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


class Asking:
    """A question in two requests, and what truly became of it."""

    def __init__(self, store: LabelStore) -> None:
        self.store, self.answered = store, False
        self.taken, self.maybe = 0, 0
        """Requests that were booked for certain, and the most that may have been charged beyond them."""
        self.steps = 0

    def ask(self, end: str, *, again: bool, budget: int | None) -> None:
        """One run of the command over this question that comes to `end`."""
        bill = Bill()
        if (found := self.store.recall("k", "describe")) is not None:
            bill.add(found[1])
        assert self.store.reserve("k", ("x", "y"), WHO, TWO, Budget(calls=budget), again=again)
        if found is None:
            if end == "killed in 1":
                self.maybe += 2
                return self.kill()
            self.one(bill)
            self.store.keep("k", "describe", "t", bill)
            self.steps = 1
        elif end.startswith("killed"):
            # From its reservation on, a question that was taken up again is in its second request.
            end = "killed in 2"
        if end == "withdrawn":
            return self.store.release("k", WHO, bill)
        if end.startswith("killed b"):
            return self.kill()
        self.store.sending("k")
        if end.startswith("killed"):
            self.maybe += 1
            return self.kill()
        if end == "failed in 2":
            bill.calls += 1
            self.taken += 1
            return self.store.release("k", WHO, bill)
        self.one(bill)
        self.store.commit("k", bill.verdict(Outcome.FIRST, "t"))
        self.answered = True
        return None

    def one(self, bill: Bill) -> None:
        bill.calls, bill.cost_usd = bill.calls + 1, bill.cost_usd + EACH_USD
        self.taken += 1

    def kill(self) -> None:
        self.store.owner.close()


@given(st.lists(st.tuples(st.sampled_from(ENDS), st.booleans()), max_size=6))
def test_after_any_kills_the_books_hold_what_was_taken_and_a_budget_leaves_the_rest(
    runs: list[tuple[str, bool]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, LabelStore(Path(folder) / "l.sqlite") as store:
        store.rows("PRAGMA synchronous=OFF")
        asking = Asking(store)
        for end, tight in runs:
            if asking.answered:
                break
            least = asking.taken + asking.maybe + 2 - asking.steps
            if tight:
                with pytest.raises(BudgetReached):
                    asking.ask(end, again=True, budget=least - 1)
            reserved = int(end == "killed between" and not asking.steps)
            asking.ask(end, again=True, budget=least)
            assert store.spending().calls == asking.taken + asking.maybe + reserved
        if not asking.answered:
            asking.ask("answered", again=True, budget=None)
        assert store.spending().calls == asking.taken + asking.maybe
        assert sum(each.calls for each in costs_of(store)) == store.spending().calls


def test_a_question_between_two_requests_fits_into_the_budget_that_held_it(
    store: LabelStore,
) -> None:
    budget = Budget(calls=2, usd=TWO.cost_usd)
    assert store.reserve("k", ("x", "y"), WHO, TWO, budget)
    store.keep("k", "describe", "t", Bill(1, 10, 10, EACH_USD))
    store.owner.close()
    assert store.reserve("k", ("x", "y"), WHO, TWO, budget)


def test_a_second_request_in_doubt_is_one_call_not_two(store: LabelStore) -> None:
    assert store.reserve("k", ("x", "y"), WHO, TWO, Budget())
    store.keep("k", "describe", "t", Bill(1, 10, 10, EACH_USD))
    store.sending("k")
    store.owner.close()
    assert store.reserve("k", ("x", "y"), WHO, TWO, Budget(), again=True)
    store.commit("k", Bill(2, 20, 20, 2 * EACH_USD).verdict(Outcome.FIRST, "t"))
    assert store.spending().calls == 3
    assert store.spending().cost_usd == pytest.approx(3 * EACH_USD)


def test_repetitions_beyond_the_estimate_are_held_against_the_budget_at_once(store: LabelStore) -> None:
    assert store.reserve("k", ("x", "y"), WHO, TWO, Budget())
    store.keep("k", "describe", "t", Bill(5, 10, 10, 0.05))
    assert (store.spending().calls, store.spending().cost_usd) == (6, 0.05)


def test_an_answer_from_elsewhere_keeps_what_a_question_in_doubt_may_have_cost(store: LabelStore) -> None:
    for key in ("doubt", "second", "between"):
        assert store.reserve(key, ("x", "y"), WHO, TWO, Budget())
    for key in ("second", "between"):
        store.keep(key, "describe", "t", Bill(1, 10, 10, EACH_USD))
    store.sending("second")
    store.owner.close()
    free = [StoredAnswer(k, ("x", "y"), WHO, 0, Verdict(Outcome.TIE)) for k in ("doubt", "second", "between")]
    assert store.add_answers(free) == 3
    assert store.spending().calls == 2 + 2 + 1
    assert store.spending().cost_usd == pytest.approx(5 * EACH_USD)
    assert store.outcomes(["doubt", "second", "between"]).keys() == {"doubt", "second", "between"}


def test_a_commit_that_fails_leaves_a_store_that_goes_on(store: LabelStore) -> None:
    # A broken reference is found at the commit, as a full disk is.
    store.rows("PRAGMA foreign_keys=ON")
    store.rows("CREATE TABLE one (id INTEGER PRIMARY KEY)")
    store.rows("CREATE TABLE two (id INTEGER REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), store.transaction() as db:
        db.execute("INSERT INTO two VALUES (7)")
    assert store.rows("SELECT * FROM two") == []
    assert store.reserve("k", ("x", "y"), WHO, TWO, Budget())


def test_two_processes_that_draw_at_once_get_the_same_pairs(tmp_path: Path) -> None:
    first, second = (
        [DrawnPair(FrameId("e0", k), FrameId("e1", k), (Ballot(f"{name}{k}"),)) for k in range(3)]
        for name in ("a", "b")
    )
    with LabelStore(tmp_path / "l.sqlite") as one, LabelStore(tmp_path / "l.sqlite") as other:
        assert one.add_draw("g", "d", {"seed": 0}, first) == tuple(first)
        assert other.add_draw("g", "d", {"seed": 0}, second) == tuple(first)
        assert other.drawn("g") == tuple(first)
