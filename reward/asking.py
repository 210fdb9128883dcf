"""Putting drawn pairs to a judge: what is answered is never asked again, what is in flight is bounded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from episodes.errors import LabelError
from reward.clients.protocol import Judge, NoMemory, Outcome, Question, Verdict, identity
from reward.frames import Frames
from reward.store import Budget, DrawnPair, LabelStore

CHUNK = 256
"""Answers of a judge that costs nothing are committed so many at a time."""


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

    @property
    def usable(self) -> int:
        """Pairs with a label."""
        return sum(self.outcomes.get(o.value, 0) for o in (Outcome.FIRST, Outcome.SECOND, Outcome.TIE))


def ask_pairs(
    store: LabelStore,
    frames: Frames,
    judge: Judge,
    pairs: Sequence[DrawnPair],
    *,
    budget: Budget | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LabelSummary:
    """Ask `judge` about the pairs that have no answer yet.

    Args:
        store: where answers are found and kept.
        frames: holds the pictures of the pairs.
        judge: who answers; a paid one is asked in several threads.
        pairs: drawn pairs.
        budget: bound on what the answers of the store take in all.
        again: ask once more what is in doubt.
        progress: called with (pairs with an answer, pairs).

    Raises:
        BudgetReached: the next question could exceed the budget.
        LabelError: the judge cannot go on. Answers that were under way are kept in both cases.
    """
    keys = dict.fromkeys(pair.key for pair in pairs)
    answered = store.outcomes(keys)
    doubtful = store.in_doubt(keys)
    open_pairs = {
        pair.key: pair
        for pair in pairs
        if pair.key not in answered and (again or not judge.paid or pair.key not in doubtful)
    }
    report = progress or (lambda done, total: None)
    report(len(keys) - len(open_pairs), len(keys))
    todo = list(open_pairs.values())
    if judge.paid:
        _ask_paid(store, frames, judge, todo, budget or Budget(), again, report, len(keys))
    else:
        _ask_free(store, frames, judge, todo, report, len(keys))
    answered = store.outcomes(keys)
    spent = store.spending()
    return LabelSummary(
        pairs=len(pairs),
        asked=len(todo),
        outcomes=dict(Counter(answered[pair.key].value for pair in pairs if pair.key in answered)),
        in_doubt=len(store.in_doubt(keys)),
        calls=spent.calls,
        cost_usd=spent.cost_usd,
    )


def question_of(frames: Frames, pair: DrawnPair) -> Question:
    """The pictures of a pair."""
    return Question(frames.picture(frames.row(pair.first)), frames.picture(frames.row(pair.second)))


def _ask_free(
    store: LabelStore,
    frames: Frames,
    judge: Judge,
    pairs: Sequence[DrawnPair],
    report: Callable[[int, int], None],
    total: int,
) -> None:
    who = identity(judge)
    for start in range(0, len(pairs), CHUNK):
        answers: list[tuple[str, tuple[str, str], Verdict]] = []
        for pair in pairs[start : start + CHUNK]:
            question = question_of(frames, pair)
            verdict = judge.ask(question, NoMemory())
            answers.append((pair.key, (question.first.digest, question.second.digest), verdict))
        store.add_answers(answers, who)
        report(total - len(pairs) + start + len(answers), total)


@dataclass(frozen=True)
class _Steps:
    """A judge's memory of one question."""

    store: LabelStore
    key: str

    def recall(self, step: str) -> str | None:
        return self.store.recall(self.key, step)

    def keep(self, step: str, text: str) -> None:
        self.store.keep(self.key, step, text)


def _ask_paid(
    store: LabelStore,
    frames: Frames,
    judge: Judge,
    pairs: Sequence[DrawnPair],
    budget: Budget,
    again: bool,
    report: Callable[[int, int], None],
    total: int,
) -> None:
    who = identity(judge)
    stop = threading.Event()

    def one(pair: DrawnPair) -> None:
        question = question_of(frames, pair)
        estimate = judge.estimate(question)
        pictures = (question.first.digest, question.second.digest)
        if stop.is_set() or not store.reserve(pair.key, pictures, who, estimate, budget, again=again):
            return
        try:
            verdict = judge.ask(question, _Steps(store, pair.key))
        except LabelError:
            stop.set()
            store.release(pair.key, estimate)
            raise
        store.commit(pair.key, verdict, estimate)

    waiting = iter(pairs)
    done = total - len(pairs)
    failure: LabelError | None = None
    with ThreadPoolExecutor(judge.concurrency, thread_name_prefix="judge") as pool:
        running: set[Future[None]] = set()
        try:
            while True:
                while (
                    failure is None
                    and len(running) < judge.concurrency
                    and (pair := next(waiting, None)) is not None
                ):
                    running.add(pool.submit(one, pair))
                if not running:
                    break
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    error = future.exception()
                    if isinstance(error, LabelError):
                        failure = failure or error
                    elif error is not None:
                        raise error
                    else:
                        done += 1
                report(done, total)
        finally:
            stop.set()
    if failure is not None:
        raise failure
