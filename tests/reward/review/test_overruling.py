"""A person's answer counts instead of the judge's, which stays stored; older stores gain that."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import ConfigError
from reward.asking import summarise
from reward.clients.human import Human, asked_of_people, is_blind, is_person, person_identity
from reward.clients.protocol import JudgeIdentity, Kind, Outcome, Task, Verdict
from reward.drawing import labelled_pairs, rated_frames
from reward.exchange import export_labels, import_labels
from reward.frames import FrameId, Frames
from reward.records import Ballot, DrawnPair, StoredAnswer, answer_key
from reward.schema import VERSION
from reward.store import FILE, LabelStore

VLM = JudgeIdentity("gemini", "preference-2@0", {"question": "preference"})
ASKED = asked_of_people(Task("to open the drawer"))
ANNA = person_identity(ASKED, "anna", sees="gemini")


def stored(who: JudgeIdentity, outcome: Outcome, pictures: tuple[str, str], vote: int = 0) -> StoredAnswer:
    return StoredAnswer(answer_key(*pictures, who, vote), pictures, who, vote, Verdict(outcome, "so"))


def with_two_pairs(store: LabelStore) -> list[DrawnPair]:
    answers = [
        stored(VLM, Outcome.FIRST, ("a", "b")),
        stored(VLM, Outcome.FIRST, ("c", "d")),
        stored(ANNA, Outcome.SECOND, ("a", "b")),
        stored(ANNA, Outcome.UNSURE, ("c", "d")),
    ]
    store.add_answers(answers)
    pairs = [
        DrawnPair(FrameId("e0", k + 1), FrameId("e1", k + 1), (Ballot(answers[k].key),)) for k in range(2)
    ]
    store.add_draw("gemini", "d", {}, pairs)
    return pairs


def overrule(store: LabelStore, position: int, key: str) -> None:
    with store.transaction() as db:
        db.execute("INSERT INTO overrulings VALUES ('gemini', 'd', ?, ?)", (position, key))


def test_the_overruling_answer_makes_the_label_and_the_judges_answer_stays(
    tmp_path: Path, frames: Frames
) -> None:
    with LabelStore(tmp_path / FILE) as store:
        before = with_two_pairs(store)
        np.testing.assert_array_equal(labelled_pairs(store, store.drawn("gemini"), frames, 0).label, [0, 0])
        overrule(store, 0, answer_key("a", "b", ANNA))
        pairs = store.drawn("gemini")
        assert pairs == (replace(before[0], overruled=Ballot(answer_key("a", "b", ANNA))), before[1])
        np.testing.assert_array_equal(labelled_pairs(store, pairs, frames, 0).label, [1, 0])
        assert store.outcomes([before[0].key]) == {before[0].key: Outcome.FIRST}
        summary = summarise(store, frames, pairs)
        assert summary.outcomes == {"first": 1, "second": 1}
        assert summary.reports[0].first_share == 1.0, "the report is about the judge"


def test_an_overruling_without_a_side_takes_the_label_away(tmp_path: Path, frames: Frames) -> None:
    with LabelStore(tmp_path / FILE) as store:
        with_two_pairs(store)
        overrule(store, 1, answer_key("c", "d", ANNA))
        pairs = store.drawn("gemini")
        np.testing.assert_array_equal(labelled_pairs(store, pairs, frames, 0).first, [1])
        soft = labelled_pairs(store, pairs, frames, 0, "soft")
        np.testing.assert_array_equal(soft.label, [0.0, 0.5])


def test_an_overruling_never_moves_a_pair_between_fit_and_held_out(tmp_path: Path, frames: Frames) -> None:
    with LabelStore(tmp_path / FILE) as store:
        with_two_pairs(store)
        before = labelled_pairs(store, store.drawn("gemini"), frames, 0.5).held_out
        overrule(store, 0, answer_key("a", "b", ANNA))
        np.testing.assert_array_equal(
            labelled_pairs(store, store.drawn("gemini"), frames, 0.5).held_out, before
        )


def test_an_overruled_rating_counts_with_the_persons_value(tmp_path: Path, frames: Frames) -> None:
    vlm = replace(VLM, settings={"question": "progress"})
    anna = person_identity(asked_of_people(Task("", Kind.PROGRESS)), "anna", sees="gemini")
    with LabelStore(tmp_path / FILE) as store:
        given = [
            replace(stored(who, Outcome.RATED, ("a", "")), verdict=Verdict(Outcome.RATED, value=value))
            for who, value in ((vlm, 5.0), (anna, 2.0))
        ]
        store.add_answers(given)
        store.add_draw("gemini", "d", {}, [DrawnPair(FrameId("e0", 1), None, (Ballot(given[0].key),))])
        assert rated_frames(store, store.drawn("gemini"), frames)[1].tolist() == [5.0]
        overrule(store, 0, given[1].key)
        assert rated_frames(store, store.drawn("gemini"), frames)[1].tolist() == [2.0]


@pytest.mark.parametrize("as_store", [False, True])
def test_overrulings_travel_with_the_labels_also_to_where_the_draw_is_known(
    tmp_path: Path, as_store: bool
) -> None:
    with LabelStore(tmp_path / "a.sqlite") as store:
        with_two_pairs(store)
        overrule(store, 0, answer_key("a", "b", ANNA))
        export_labels(store, tmp_path / "a.jsonl")
        pairs = store.drawn("gemini")
    source = tmp_path / ("a.sqlite" if as_store else "a.jsonl")
    with LabelStore(tmp_path / "new.sqlite") as store:
        assert import_labels(store, source).draws == 1
        assert store.drawn("gemini") == pairs
    with LabelStore(tmp_path / "known.sqlite") as store:
        with_two_pairs(store)
        assert import_labels(store, source).draws == 0
        assert store.drawn("gemini") == pairs
        overrule(store, 1, answer_key("c", "d", ANNA))
        both = store.drawn("gemini")
        import_labels(store, source)
        assert store.drawn("gemini") == both, "what was decided here stays"


def test_a_store_of_version_2_gains_what_people_do_and_keeps_all_it_has(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with LabelStore(path) as store:
        pairs = with_two_pairs(store)
    db = sqlite3.connect(path)
    # What version 3 adds is these three tables.
    db.executescript("DROP TABLE overrulings; DROP TABLE leases; DROP TABLE acts; PRAGMA user_version=2;")
    kept = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in ("answers", "items", "ballots")}
    db.close()
    with LabelStore(path) as store:
        assert store.drawn("gemini") == tuple(pairs)
        assert {name: store.rows(f"SELECT * FROM {name}") for name in kept} == kept
        assert store.rows("PRAGMA user_version") == [(VERSION,)]
        overrule(store, 0, answer_key("a", "b", ANNA))
        assert store.drawn("gemini")[0].overruled == Ballot(answer_key("a", "b", ANNA))


def test_people_are_told_apart_and_an_answer_with_the_judges_in_sight_is_not_a_blind_one() -> None:
    blind = person_identity(ASKED, "anna")
    assert answer_key("a", "b", blind) != answer_key("a", "b", ANNA)
    assert answer_key("a", "b", blind) != answer_key("a", "b", person_identity(ASKED, "ben"))
    assert (is_blind(blind), is_blind(ANNA), is_blind(VLM)) == (True, False, False)
    assert (is_person(blind.judge), is_person(ASKED.judge), is_person("humanoid:x")) == (True, False, False)
    assert not Human(Task("x")).paid


@pytest.mark.parametrize("name", ["", " ", "<b>", "a/b", "a" * 41, "a\nb", ".."])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="person"):
        person_identity(ASKED, name)
