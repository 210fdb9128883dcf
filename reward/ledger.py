"""What questions take: steps that were kept, reservations, and what is booked of them.

All functions run within a transaction of the label store. A reservation stands for everything that its
question takes, kept steps included, so that the amounts of all answers and charges add up to what was spent.
"""

from __future__ import annotations

import sqlite3

from reward.clients.protocol import Bill, Estimate
from reward.records import Budget, BudgetReached, Spending


def spending(db: sqlite3.Connection) -> Spending:
    """What everything in the store took, reservations at their estimate."""
    calls, cost = db.execute(
        "SELECT COALESCE(SUM(calls), 0), COALESCE(SUM(cost_usd), 0) FROM "
        "(SELECT calls, cost_usd FROM answers UNION ALL SELECT calls, cost_usd FROM charges)"
    ).fetchone()
    return Spending(int(calls), float(cost))


def kept(db: sqlite3.Connection, key: str) -> Bill | None:
    """What a question had taken when its last step was kept; None where no step was."""
    count, *bill = db.execute(
        "SELECT COUNT(*), MAX(calls), MAX(input_tokens), MAX(output_tokens), MAX(cost_usd) FROM steps "
        "WHERE key=?",
        (key,),
    ).fetchone()
    return Bill(*bill) if count else None


def charge(db: sqlite3.Connection, key: str, judge: str, bill: Bill) -> None:
    """Book what a question took, or may have taken, without an answer."""
    if bill != Bill():
        db.execute(
            "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)",
            (key, judge, bill.calls, bill.input_tokens, bill.output_tokens, bill.cost_usd),
        )


def needed(db: sqlite3.Connection, key: str, estimate: Estimate) -> Estimate:
    """What a question takes from its first request to its answer: `estimate`, and more where the kept steps
    took so much that one further request exceeds it."""
    before = kept(db, key)
    if before is None:
        return estimate
    return Estimate(max(estimate.calls, before.calls + 1), max(estimate.cost_usd, before.cost_usd))


def check(spent: Spending, more: Estimate, budget: Budget) -> None:
    """Raises:
    BudgetReached: `more` could exceed the budget.
    """
    if budget.calls is not None and spent.calls + more.calls > budget.calls:
        raise BudgetReached(
            f"the budget of {budget.calls} calls is used up ({spent.calls} spent): raise --budget.calls to "
            "go on."
        )
    if budget.usd is not None and spent.cost_usd + more.cost_usd > budget.usd:
        raise BudgetReached(
            f"the budget of {budget.usd:.2f} USD is used up ({spent.cost_usd:.2f} spent): raise --budget.usd "
            "to go on."
        )


def take_over(db: sqlite3.Connection, key: str) -> None:
    """Remove the reservation of an asker that is gone, for a new one of the same question.

    The kept steps stay, and what they took is part of the new reservation; what was in flight beyond them
    may have been charged, so it is booked.
    """
    judge, calls, cost, sending = db.execute(
        "SELECT judge, calls, cost_usd, sending FROM answers WHERE key=? AND state='reserved'", (key,)
    ).fetchone()
    if sending:
        before = kept(db, key) or Bill()
        charge(
            db,
            key,
            judge,
            Bill(calls=max(0, calls - before.calls), cost_usd=max(0.0, cost - before.cost_usd)),
        )
    db.execute("DELETE FROM answers WHERE key=? AND state='reserved'", (key,))


def close(db: sqlite3.Connection, key: str) -> None:
    """Remove the reservation of an asker that is gone, for an answer that came from elsewhere: all that it
    took and may have taken is booked."""
    (judge,) = db.execute("SELECT judge FROM answers WHERE key=?", (key,)).fetchone()
    take_over(db, key)
    before = kept(db, key)
    if before is not None:
        charge(db, key, judge, before)
        _set_bill(db, key, Bill())


def give_back(db: sqlite3.Connection, key: str, judge: str, bill: Bill) -> None:
    """End a reservation without an answer. With a kept step the question goes on from there: its reservation
    shrinks to `bill`, what it took. Without one it is gone, and what it took all the same is booked."""
    if kept(db, key) is not None:
        db.execute(
            "UPDATE answers SET calls=?, cost_usd=?, sending=0, owner='' WHERE key=? AND state='reserved'",
            (bill.calls, bill.cost_usd, key),
        )
        _set_bill(db, key, bill)
        return
    db.execute("DELETE FROM answers WHERE key=? AND state='reserved'", (key,))
    # A request that failed without a price or a token was not charged, and is not counted.
    if bill.cost_usd > 0 or bill.input_tokens or bill.output_tokens:
        charge(db, key, judge, bill)


def _set_bill(db: sqlite3.Connection, key: str, bill: Bill) -> None:
    db.execute(
        "UPDATE steps SET calls=?, input_tokens=?, output_tokens=?, cost_usd=? WHERE key=?",
        (bill.calls, bill.input_tokens, bill.output_tokens, bill.cost_usd, key),
    )
