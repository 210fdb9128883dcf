"""Putting drawn pairs to a judge: what is answered is never asked again, what is in flight is bounded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from episodes.errors import ConfigError, LabelError
from reward.ballots import TaskReport, read_back, task_reports, verdict_of
from reward.clients.protocol import (
    Bill,
    Estimate,
    FreeErrand,
    Judge,
    JudgeIdentity,
    Outcome,
    Question,
    WithdrawnError,
    identity,
)
from reward.frames import Frames
from reward.records import Ballot, Budget, BudgetReached, DrawnPair, StoredAnswer, answer_key, present
from reward.showing import Showing
from reward.store import LabelStore

CHUNK = 256
"""Answers of a judge that costs nothing are committed so many at a time."""
IN_A_ROW = 5
"""So many different questions that fail one after the other say that the judge cannot go on: it is not the
questions."""
POLL_S = 0.2
"""Between looks at the questions that another process waits for."""


@dataclass(frozen=True)
class LabelSummary:
    """What came of asking about some pairs."""

    pairs: int
    asked: int
    """Questions put in this call; the others were answered before."""
    outcomes: dict[str, int]
    """How many pairs have which outcome."""
    in_doubt: int
    """Questions that were in flight when an earlier run was killed, and are not asked again."""
    calls: int
    """Paid requests of everything in the store."""
    cost_usd: float
    """Their price."""
    reports: tuple[TaskReport, ...] = ()
    """How the judge fared on each task."""
    failed: int = 0
    """Questions that found no answer in all tries; the next run asks them again, after the others."""
    failure: str = ""
    """Why, of the first of them."""
    left_out: int = 0
    """Drawn pairs beside these whose frames the dataset does not have any more."""

    @property
    def usable(self) -> int:
        """Pairs with a label, or frames with a value."""
        counted = (Outcome.FIRST, Outcome.SECOND, Outcome.TIE, Outcome.RATED)
        return sum(self.outcomes.get(o.value, 0) for o in counted)


Item = tuple[DrawnPair, Ballot]


def ask_pairs(
    store: LabelStore,
    frames: Frames | Showing,
    judge: Judge,
    pairs: Sequence[DrawnPair],
    *,
    budget: Budget | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LabelSummary:
    """Ask `judge` every question about `pairs` that has no answer yet and whose frames are there.

    Args:
        store: where answers are found and kept.
        frames: holds the pictures of the pairs, and says what is shown of them.
        judge: who answers; a paid one is asked in several threads.
        pairs: drawn pairs.
        budget: bound on what the answers of the store take in all.
        again: ask once more what is in doubt.
        progress: called with (questions with an answer, questions).

    A question that finds no answer (a server that chokes on one picture) is set aside with the reason, and
    the others are asked.

    Raises:
        BudgetReached: the next question could exceed the budget.
        ConfigError: a budget in money for a judge whose price is not known.
        LabelError: the judge cannot go on: refused for all questions, IN_A_ROW of them failed one after the
            other, or nothing was ever answered. Answers that were under way are kept in all cases.
    """
    show = frames if isinstance(frames, Showing) else Showing(frames)
    items: dict[str, Item] = {
        ballot.key: (pair, ballot) for pair in present(pairs, show.frames) for ballot in pair.ballots
    }
    answered, flying, doubtful = store.outcomes(items), store.in_flight(items), store.in_doubt(items)
    parked = store.parked(items)
    todo = [
        items[key]
        for key in (*(key for key in items if key not in parked), *parked)
        if key not in answered and key not in flying and (again or not judge.paid or key not in doubtful)
    ]
    report = progress or (lambda done, total: None)
    report(len(answered), len(items))
    if judge.paid:
        _check_price(judge, show, todo, budget or Budget())
        asking = _Asking(store, show, judge, budget or Budget(), again, frozenset(parked))
        asking.run(todo, report, len(answered), len(items))
        _wait_for_others(store, flying)
    else:
        _ask_free(store, show, judge, todo, report, len(items))
    return summarise(store, show.frames, pairs, asked=len(todo))


def summarise(
    store: LabelStore, frames: Frames, pairs: Sequence[DrawnPair], *, asked: int = 0
) -> LabelSummary:
    """What is known about those of `pairs` whose frames are there, without asking anybody."""
    drawn, pairs = len(pairs), present(pairs, frames)
    keys = {ballot.key for pair in pairs for ballot in pair.ballots}
    outcomes = store.outcomes(keys | {ballot.key for pair in pairs for ballot in pair.counted})
    spent, parked = store.spending(), store.parked(keys)
    read = [read_back(pair.counted, outcomes) for pair in pairs]
    return LabelSummary(
        pairs=len(pairs),
        asked=asked,
        outcomes=dict(Counter(verdict_of(answers).value for answers in read if answers is not None)),
        in_doubt=len(store.in_doubt(keys)),
        calls=spent.calls,
        cost_usd=spent.cost_usd,
        reports=task_reports(pairs, frames.task_by_episode, outcomes),
        failed=len(parked),
        failure=next(iter(parked.values()), ""),
        left_out=drawn - len(pairs),
    )


def _check_price(judge: Judge, show: Showing, items: Sequence[Item], budget: Budget) -> None:
    """Refuse a budget that would never bind, since every answer is booked at nothing."""
    if not items or budget.usd is None or budget.calls is not None:
        return
    if judge.estimate(show.question(*items[0])).cost_usd == 0:
        raise ConfigError(
            f"--budget.usd {budget.usd:g} cannot bound what {judge.name} takes: no price of it is known, so "
            "every answer counts as 0 USD. Give its price (--openai.usd-per-million IN OUT), or a budget in "
            "requests (--budget.calls)."
        )


def checked_question(store: LabelStore, show: Showing, who: JudgeIdentity, item: Item) -> Question:
    """The question of an item.

    Raises:
        LabelError: its answer would be kept under the key of other pictures, or of another judge.
    """
    pair, ballot = item
    question = show.question(pair, ballot)
    if answer_key(*question.digests, who, ballot.vote) != ballot.key:
        raise LabelError(
            f"{store.path}: what {who.judge} would be shown of frame {pair.first.index} of episode "
            f"{pair.first.episode_id!r} is not what this draw is about: it was drawn for another stream or "
            "judge, or the episode was recorded anew. Give what it was drawn with (--stream, --show), or "
            "draw anew: another --seed, or a label set of its own (--labels)."
        )
    return question


def _ask_free(
    store: LabelStore,
    show: Showing,
    judge: Judge,
    items: Sequence[Item],
    report: Callable[[int, int], None],
    total: int,
) -> None:
    who = identity(judge)
    for start in range(0, len(items), CHUNK):
        answers: list[StoredAnswer] = []
        for item in items[start : start + CHUNK]:
            question, ballot = checked_question(store, show, who, item), item[1]
            verdict = judge.ask(question, FreeErrand())
            answers.append(StoredAnswer(ballot.key, question.digests, who, ballot.vote, verdict))
        store.add_answers(answers)
        report(total - len(items) + start + len(answers), total)


def _wait_for_others(store: LabelStore, keys: Iterable[str]) -> None:
    """Wait until no other process has one of `keys` in flight: a killed run's answers still arrive."""
    waiting = threading.Event()
    while store.in_flight(keys):
        waiting.wait(POLL_S)


class _PaidErrand:
    """A question on its way to a paid judge: claimed in the store when the first request is sent."""

    def __init__(self, asking: _Asking, key: str, question: Question, estimate: Estimate) -> None:
        self.bill, self.claimed, self.ended, self._kept = Bill(), False, False, False
        self._asking, self._key, self._question, self._estimate = asking, key, question, estimate

    def recall(self, step: str) -> str | None:
        """From the store, with what it took."""
        found = self._asking.store.recall(self._key, step)
        if found is None:
            return None
        text, bill = found
        self.bill.add(bill)
        return text

    def keep(self, step: str, text: str) -> None:
        """In the store."""
        self._asking.store.keep(self._key, step, text, self.bill)
        self._kept = True

    def claim(self) -> None:
        """Reserve, the first time; later note that something is in flight again."""
        if self._asking.stop.is_set():
            raise WithdrawnError("the run ends.")
        if not self.claimed:
            a, pictures = self._asking, self._question.digests
            if not a.store.reserve(
                self._key,
                pictures,
                a.who,
                self._estimate,
                a.budget,
                vote=self._question.vote,
                again=a.again,
            ):
                raise WithdrawnError("another process asked this question.")
            self.claimed = True
        elif self._kept:
            self._asking.store.sending(self._key)
            self._kept = False

    def pause(self, seconds: float) -> None:
        """Until the time is over, or the run."""
        if self._asking.stop.wait(seconds):
            raise WithdrawnError("the run ends.")

    def end_run(self) -> None:
        """Stop the others before their next request."""
        self.ended = True
        self._asking.stop.set()


class _Asking:
    """One run of questions to a paid judge."""

    def __init__(
        self,
        store: LabelStore,
        show: Showing,
        judge: Judge,
        budget: Budget,
        again: bool,
        parked: frozenset[str],
    ) -> None:
        self.store, self.budget, self.again = store, budget, again
        self._parked = parked
        self.who: JudgeIdentity = identity(judge)
        self.stop = threading.Event()
        self._show, self._judge = show, judge

    def run(
        self, items: Sequence[Item], report: Callable[[int, int], None], answered: int, total: int
    ) -> None:
        """Ask all, in several threads; what ends the run stops the others before their next request."""
        pool = ThreadPoolExecutor(self._judge.threads, thread_name_prefix="judge")
        try:
            failure = self._in_threads(pool, items, report, answered, total)
        finally:
            self._drain(pool)
        if failure is not None:
            raise failure

    def _in_threads(
        self,
        pool: ThreadPoolExecutor,
        items: Sequence[Item],
        report: Callable[[int, int], None],
        answered: int,
        total: int,
    ) -> LabelError | None:
        """Put the questions until all are answered or the judge cannot go on; why it cannot."""
        waiting, done, row = iter(items), answered, 0
        failure: LabelError | None = None
        last: LabelError | None = None
        running: set[Future[LabelError | bool]] = set()
        while True:
            while (
                failure is None
                and len(running) < self._judge.threads
                and (item := next(waiting, None)) is not None
            ):
                running.add(pool.submit(self._one, item))
            if not running:
                return failure or (last if not done else None)
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                error = future.exception()
                if isinstance(error, LabelError):
                    failure = failure or error
                elif error is not None:
                    raise error
                elif isinstance(found := future.result(), LabelError):
                    last, row = found, row + 1
                    if row >= IN_A_ROW and failure is None:
                        failure = found
                        self.stop.set()
                elif found:
                    done, row = done + 1, 0
            report(done, total)

    def _drain(self, pool: ThreadPoolExecutor) -> None:
        """Wait for what is in flight, whoever interrupts the waiting: those answers are paid, and the store
        must be open when they arrive. What interrupted the run is raised behind this."""
        while True:
            try:
                self.stop.set()
                pool.shutdown(wait=True)
                return
            except KeyboardInterrupt:
                continue

    def _one(self, item: Item) -> LabelError | bool:
        """Ask one question; whether it was answered, or why it is set aside though it never was before.

        Raises:
            LabelError: no other question can be answered either.
        """
        ballot = item[1]
        if self.stop.is_set():
            return False
        question = checked_question(self.store, self._show, self.who, item)
        estimate = self._judge.estimate(question)
        errand = _PaidErrand(self, ballot.key, question, estimate)
        try:
            verdict = self._judge.ask(question, errand)
        except LabelError as error:
            if errand.claimed:
                self.store.release(ballot.key, self.who, errand.bill)
            if isinstance(error, WithdrawnError):
                return False
            if errand.ended or isinstance(error, BudgetReached):
                self.stop.set()
                raise
            self.store.park(ballot.key, str(error))
            return error if ballot.key not in self._parked else False
        self.store.commit(ballot.key, verdict)
        return True


def estimate_for(judge: Judge, show: Showing, items: Sequence[Item]) -> Mapping[str, float]:
    """What asking `items` may take: calls and US dollars, from the first question, since all are alike."""
    if not items:
        return {"calls": 0, "cost_usd": 0.0}
    each = judge.estimate(show.question(*items[0]))
    return {"calls": each.calls * len(items), "cost_usd": each.cost_usd * len(items)}
