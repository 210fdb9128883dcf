"""Agreement beyond chance: against published examples, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from reward.agreement import Rater, agreement, agreements, cohen_kappa, kappa_interval
from reward.clients.protocol import Kind


def test_kappa_is_cohens() -> None:
    # Two raters of 50 proposals: 20 yes and 15 no together, 5 and 10 apart: 0.7 seen, 0.5 by chance.
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, 200))
    b = np.where(rng.random(200) < 0.5, a, b)
    table = np.zeros((3, 3))
    np.add.at(table, (a, b), 1)
    chance = sum(np.mean(a == k) * np.mean(b == k) for k in range(3))
    assert cohen_kappa(table) == pytest.approx((np.mean(a == b) - chance) / (1 - chance))


def test_weighted_kappa_is_the_one_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 300))
    b = np.where(rng.random(300) < 0.6, a, b)
    table = np.zeros((5, 5))
    np.add.at(table, (a, b), 1)
    seen = np.mean((a - b) ** 2)
    chance = np.mean((a[:, None] - b[None]) ** 2)
    assert cohen_kappa(table, quadratic=True) == pytest.approx(1 - seen / chance)


@pytest.mark.parametrize("table", [np.zeros((2, 2)), np.array([[7, 0], [0, 0]])])
def test_kappa_is_unknown_where_chance_alone_agrees_in_all(table: np.ndarray) -> None:
    assert cohen_kappa(table) is None
    assert kappa_interval(table) is None


def test_the_interval_is_the_one_of_the_standard_error_when_there_is_much_to_tell_from() -> None:
    table = np.array([[420.0, 90.0], [60.0, 430.0]])
    p = table / table.sum()
    row, column = p.sum(axis=1), p.sum(axis=0)
    seen, chance = np.trace(p), row @ column
    kappa = (seen - chance) / (1 - chance)
    # Fleiss, Cohen and Everitt (1969), eq. 13.
    a = sum(p[i, i] * (1 - (row[i] + column[i]) * (1 - kappa)) ** 2 for i in range(2))
    b = (1 - kappa) ** 2 * sum(
        p[i, j] * (column[i] + row[j]) ** 2 for i in range(2) for j in range(2) if i != j
    )
    c = (kappa - chance * (1 - kappa)) ** 2
    error = np.sqrt((a + b - c) / table.sum()) / (1 - chance)
    low, high = kappa_interval(table) or (0, 0)
    assert low == pytest.approx(kappa - 1.96 * error, abs=0.006)
    assert high == pytest.approx(kappa + 1.96 * error, abs=0.006)


def test_full_agreement_in_few_answers_is_not_taken_for_certainty() -> None:
    low, high = kappa_interval(np.array([[4.0, 0.0], [0.0, 4.0]])) or (0, 0)
    assert low < 0.7
    assert high == 1.0


def test_the_interval_covers_the_true_value_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([[0.4, 0.1], [0.08, 0.42]])
    true_kappa = cohen_kappa(truth)
    covered = 0
    for _ in range(150):
        low, high = kappa_interval(rng.multinomial(40, truth.ravel()).reshape(2, 2)) or (0, 0)
        covered += low <= true_kappa <= high
    assert 0.89 <= covered / 150 <= 1.0


def rater(name: str, levels: dict[tuple[str, str], int | None], **changes: object) -> Rater:
    return Rater(
        **{"name": name, "person": False, "kind": Kind.PREFERENCE, "goal": "", "levels": levels, **changes}
    )


def test_raters_are_compared_on_what_both_decided() -> None:
    one = rater("human:anna", {("a", "b"): 1, ("a", "c"): 0, ("b", "c"): None, ("x", "y"): 1}, person=True)
    other = rater("gemini", {("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 0, ("p", "q"): 0})
    found = agreement(one, other)
    assert (found.both, found.decided, found.share, found.people) == (3, 2, 0.5, 1)


def test_raters_who_were_asked_different_things_are_not_compared() -> None:
    levels = {("a", "b"): 1}
    raters = [
        rater("one", levels, goal="to open the drawer"),
        rater("two", levels, goal="to close the drawer"),
        rater("three", {("a", ""): 1}, kind=Kind.SUCCESS),
        rater("four", {("c", "d"): 1}),
        rater("human:anna", levels, person=True),
        rater("human:ben", levels, person=True),
    ]
    found = [(a.first, a.second) for a in agreements(raters)]
    assert found[0] == ("human:anna", "human:ben"), "people with people come first"
    assert set(found) == {
        ("human:anna", "human:ben"),
        *((person, judge) for person in ("human:anna", "human:ben") for judge in ("one", "two")),
    }
