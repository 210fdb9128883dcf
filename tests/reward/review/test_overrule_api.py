"""Looking through a judge's answers and overruling them, without a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from episodes.dataset import Dataset
from reward.clients.protocol import Kind, Outcome
from reward.drawing import labelled_pairs, rated_frames
from reward.frames import load_frames
from reward.store import LabelStore
from tests.reward.review.conftest import HOSTILE, JUDGE
from tests.reward.review.test_api import ANNA, BEN, Client, get, post, said


def overruling(item: dict[str, Any], name: str, outcome: str, value: float | None = None) -> dict[str, Any]:
    seen = item["overruling"]["key"] if item.get("overruling") else ""
    body = {**said({**item, "number": 0}, name, outcome, value), "seen": seen}
    del body["number"]
    return body


def item_at(page: Any, only: str, k: int = 0) -> dict[str, Any]:
    place = get(page, "verdicts", labels=JUDGE, only=only)["items"][k]["place"]
    return get(page, "verdict", **place)


def test_filters_find_what_deserves_a_look(client: Client, judged_set: Callable[..., str]) -> None:
    judged_set(12)
    page = client(of=JUDGE)
    counts = get(page, "verdicts", labels=JUDGE)["counts"]
    assert counts == {
        "all": 12,
        "unsure": 2,
        "malformed": 2,
        "order": 0,
        "votes": 0,
        "people": 0,
        "overruled": 0,
    }
    found = post(page, "next", ANNA)
    while found["items"]:
        item = found["items"][0]
        found = post(page, "answer", {**said(item, str(found["progress"]["answered"]), "second"), **ANNA})
    assert get(page, "verdicts", labels=JUDGE)["counts"]["people"] == 8
    part = get(page, "verdicts", labels=JUDGE, only="people", offset=6, limit=5)
    assert (part["total"], len(part["items"])) == (8, 2)


def test_a_judge_that_favours_a_side_is_found_by_the_order(
    client: Client, judged_set: Callable[..., str]
) -> None:
    judged_set(12, swap=True)
    page = client()
    item = item_at(page, "order")
    assert [(a["swapped"], a["outcome"]) for a in item["answers"]] == [(False, "first"), (True, "second")]


def test_an_item_shows_all_that_the_judge_said(client: Client, judged_set: Callable[..., str]) -> None:
    judged_set()
    item = item_at(client(), "malformed")
    assert item["judge"] == JUDGE
    assert item["goal"] == "to open the drawer"
    assert item["same_pictures"]
    assert item["overruling"] is None
    (answer,) = item["answers"]
    assert answer["outcome"] == "malformed"
    assert answer["text"].startswith(HOSTILE)


def test_an_overruling_makes_the_label_and_keeps_what_the_judge_said(
    client: Client, judged_set: Callable[..., str], store: LabelStore, data: Dataset
) -> None:
    judged_set(12)
    before = {pair.key: store.verdict(pair.key) for pair in store.drawn(JUDGE)}
    frames = load_frames(data, "front")
    assert len(labelled_pairs(store, store.drawn(JUDGE), frames, 0.0)) == 8
    page = client()
    for k, outcome in enumerate(("second", "tie")):
        item = item_at(page, "unsure", k)
        item = post(page, "overrule", {**overruling(item, str(k), outcome), **ANNA})
        assert item["overruling"]["person"] == "anna"
        assert item["overruling"]["outcome"] == outcome
        assert item["answers"][0]["outcome"] == "unsure"
    assert sorted(labelled_pairs(store, store.drawn(JUDGE), frames, 0.0).label) == [0.0] * 8 + [0.5, 1.0]
    assert {pair.key: store.verdict(pair.key) for pair in store.drawn(JUDGE)} == before
    figures = get(page, "figures")
    assert figures["overruled"] == {JUDGE: 2}
    assert figures["agreements"] == [], "who saw the judge's answer says nothing about agreement"
    assert figures["cost_usd"] == 3.0


def test_an_overruling_is_changed_and_undone_step_by_step(
    client: Client, judged_set: Callable[..., str], store: LabelStore
) -> None:
    judged_set()
    page = client()
    item = item_at(page, "all")
    for k, outcome in enumerate(("second", "tie")):
        item = post(page, "overrule", {**overruling(item, str(k), outcome), **ANNA})
        assert post(page, "overrule", {**overruling(item, str(k), outcome), **ANNA}) == item, "sent twice"
    item = post(page, "undo-overruling", {**ANNA, "id": "undo-0001"})["item"]
    assert item["overruling"]["outcome"] == "second"
    item = post(page, "undo-overruling", {**ANNA, "id": "undo-0002"})["item"]
    assert item["overruling"] is None
    assert post(page, "undo-overruling", {**ANNA, "id": "undo-0003"})["item"] is None
    assert store.rows("SELECT COUNT(*) FROM answers WHERE judge LIKE 'human%'") == [(0,)]


def test_two_people_do_not_overrule_each_other_unknowingly(
    client: Client, judged_set: Callable[..., str]
) -> None:
    judged_set()
    page = client()
    item = item_at(page, "all")
    post(page, "overrule", {**overruling(item, "1", "second"), **ANNA})
    late = post(page, "overrule", {**overruling(item, "2", "first"), **BEN}, 409)
    assert "somebody else" in late["detail"]
    item = item_at(page, "all")
    assert item["overruling"]["person"] == "anna"
    item = post(page, "overrule", {**overruling(item, "3", "first"), **BEN})
    assert item["overruling"]["person"] == "ben"
    refused = post(page, "undo-overruling", {**ANNA, "id": "undo-0001"}, 409)
    assert "since" in refused["detail"]
    item = post(page, "undo-overruling", {**BEN, "id": "undo-0002"})["item"]
    assert item["overruling"]["person"] == "anna"


def test_a_rating_is_overruled_with_a_rating(
    client: Client, judged_set: Callable[..., str], store: LabelStore, data: Dataset
) -> None:
    labels = judged_set(4, kind=Kind.PROGRESS)
    page = client()
    place = get(page, "verdicts", labels=labels)["items"][0]["place"]
    item = get(page, "verdict", **place)
    post(page, "overrule", {**overruling(item, "1", "second"), **ANNA}, 422)
    post(page, "overrule", {**overruling(item, "2", "rated", 5.0), **ANNA})
    values = rated_frames(store, store.drawn(labels), load_frames(data, "front"))[1]
    assert values.tolist() == [5.0, 3.0, 3.0, 3.0]
    assert store.verdict(store.drawn(labels)[0].key).value == 3.0


def test_an_overruling_cannot_change_what_waits_for_people_nor_the_other_way_round(
    client: Client, judged_set: Callable[..., str]
) -> None:
    judged_set()
    page = client()
    mine = post(page, "next", ANNA)["items"][0]
    post(page, "overrule", {**overruling(mine, "1", "first"), **ANNA}, 404)
    theirs = {**item_at(page, "all"), "number": 0}
    post(page, "answer", {**said(theirs, "2"), **ANNA}, 422)
    gone = {**mine, "place": {**mine["place"], "position": 10**6}}
    post(page, "answer", {**said(gone, "3"), **ANNA}, 422)
    assert Outcome.MALFORMED.value not in ("first", "second", "tie", "unsure", "rated")
    post(page, "answer", {**said(mine, "4", "malformed"), **ANNA}, 422)
