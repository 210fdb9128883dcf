"""What the page asks its server, without a browser: answers once, in time, by whoever is at it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from episodes.dataset import Dataset
from episodes.errors import ConfigError, LabelError
from reward.ballots import VoteConfig
from reward.drawing import DrawConfig, labelled_pairs, rated_frames
from reward.exchange import export_labels, import_labels
from reward.frames import load_frames
from reward.review.acts import Seat
from reward.review.page import ReviewConfig, make_room
from reward.review.queue import LEASE_NS
from reward.review.room import Room
from reward.store import LabelStore
from tests.reward.review.conftest import JUDGE, Clock

ANNA = {"person": "anna", "tab": "tab-anna-1"}
BEN = {"person": "ben", "tab": "tab-ben-01"}
Client = Callable[..., TestClient]


def post(client: TestClient, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answered = client.post(f"api/{path}", json=body)
    assert answered.status_code == status, answered.text
    return dict(answered.json())


def get(client: TestClient, path: str, **query: Any) -> dict[str, Any]:
    answered = client.get(f"api/{path}", params=query)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def said(
    item: dict[str, Any], name: str, outcome: str = "first", value: float | None = None
) -> dict[str, Any]:
    return {
        "place": item["place"],
        "number": item["number"],
        "outcome": outcome,
        "value": value,
        "id": f"act-{name:0>12}",
    }


def test_answers_become_labels_that_fit_takes(client: Client, store: LabelStore, data: Dataset) -> None:
    page = client(pairs=5)
    found = post(page, "next", ANNA)
    assert found["progress"] == {"total": 5, "answered": 0, "mine": 0, "elsewhere": 0}
    for k, outcome in enumerate(("first", "second", "tie", "unsure", "second")):
        found = post(page, "answer", {**said(found["items"][0], str(k), outcome), **ANNA})
    assert found["items"] == []
    assert found["progress"]["answered"] == found["progress"]["mine"] == 5
    assert store.names() == ("human",)
    pairs = labelled_pairs(store, store.drawn("human"), load_frames(data, "front"), 0.0)
    assert pairs.label.tolist() == [0.0, 1.0, 0.5, 1.0]
    ((judges, settings),) = store.rows("SELECT DISTINCT judge, settings FROM answers")
    assert judges == "human:anna"
    assert '"goal": "to open the drawer"' in settings


def test_a_restarted_server_goes_on_where_the_last_one_was_killed(client: Client) -> None:
    first = client()
    found = post(first, "next", ANNA)
    post(first, "answer", {**said(found["items"][0], "1"), **ANNA})
    in_sight = found["items"][1]
    found = post(client(), "next", ANNA)
    assert found["progress"]["answered"] == 1
    assert found["items"][0] == in_sight


def test_the_same_answer_sent_twice_counts_once_and_another_one_is_told(
    client: Client, store: LabelStore
) -> None:
    page = client()
    item = post(page, "next", ANNA)["items"][0]
    once = post(page, "answer", {**said(item, "1", "first"), **ANNA})
    again = post(page, "answer", {**said(item, "1", "first"), **ANNA})
    assert once["progress"]["answered"] == again["progress"]["answered"] == 1
    late = post(page, "answer", {**said(item, "2", "second"), **BEN}, 409)
    assert "by anna" in late["detail"]
    late = post(page, "answer", {**said(item, "3", "second"), "person": "anna", "tab": "another-tab"}, 409)
    assert "in another tab" in late["detail"]
    assert store.rows("SELECT judge, outcome FROM answers") == [("human:anna", "first")]


def test_two_tabs_never_hold_the_same_question(client: Client) -> None:
    page = client(pairs=6)
    mine = post(page, "next", ANNA)["items"]
    other = post(page, "next", {"person": "anna", "tab": "tab-anna-2"})
    theirs = post(page, "next", BEN)["items"]
    places = [item["place"]["position"] for item in (*mine, *other["items"], *theirs)]
    assert len(set(places)) == 6
    assert other["progress"]["elsewhere"] == 2
    none = post(page, "next", {"person": "cleo", "tab": "tab-cleo-1"})
    assert none["items"] == []
    assert none["progress"]["elsewhere"] == 6
    post(page, "release", {"tab": "tab-ben-01"})
    assert post(page, "next", {"person": "cleo", "tab": "tab-cleo-1"})["items"] == theirs


def test_a_lease_ends_when_its_tab_is_silent_and_a_late_answer_still_counts_if_nobody_was_faster(
    client: Client, clock: Clock
) -> None:
    page = client(pairs=2)
    mine = post(page, "next", ANNA)["items"]
    clock.now_ns += LEASE_NS - 1
    assert post(page, "next", BEN)["items"] == []
    clock.now_ns += 1
    assert post(page, "next", BEN)["items"] == mine
    post(page, "answer", {**said(mine[0], "1"), **ANNA})
    assert "by anna" in post(page, "answer", {**said(mine[0], "2"), **BEN}, 409)["detail"]


def test_a_reload_shows_the_same_question(client: Client) -> None:
    page = client()
    assert post(page, "next", ANNA)["items"] == post(page, "next", ANNA)["items"]


def test_undo_takes_back_the_last_answers_of_this_tab_one_after_the_other(
    client: Client, store: LabelStore
) -> None:
    page = client(pairs=4)
    items = []
    found = post(page, "next", ANNA)
    for k in range(3):
        items.append(found["items"][0])
        found = post(page, "answer", {**said(found["items"][0], str(k)), **ANNA})
    theirs = post(page, "next", BEN)
    for k in (2, 1):
        found = post(page, "undo", {**ANNA, "id": f"undo-00{k}"})
        assert found["undone"]
        assert found["items"][0] == items[k]
        assert post(page, "undo", {**ANNA, "id": f"undo-00{k}"})["progress"]["answered"] == k
    assert not post(page, "undo", {**BEN, "id": "undo-ben"})["undone"], "of this tab alone"
    found = post(page, "next", ANNA)
    found = post(page, "answer", {**said(items[1], "again", "tie"), **ANNA})
    assert found["progress"]["answered"] == 2
    assert sorted(store.rows("SELECT outcome FROM answers")) == [("first",), ("tie",)]
    assert theirs["items"] == [] or theirs["items"][0] not in items


def test_several_votes_come_from_several_people(client: Client, store: LabelStore) -> None:
    page = client(pairs=3, vote=VoteConfig(votes=2))
    found = post(page, "next", ANNA)
    while found["items"]:
        item = found["items"][0]
        found = post(page, "answer", {**said(item, f"a{found['progress']['answered']}"), **ANNA})
    assert found["progress"] == {"total": 6, "answered": 3, "mine": 3, "elsewhere": 0}
    found = post(page, "next", BEN)
    assert len(found["items"]) == 2
    while found["items"]:
        item = found["items"][0]
        found = post(page, "answer", {**said(item, f"b{found['progress']['answered']}", "second"), **BEN})
    assert found["progress"]["answered"] == 6
    judges = sorted(judge for (judge,) in store.rows("SELECT judge FROM answers"))
    assert judges == 3 * ["human:anna"] + 3 * ["human:ben"]
    (between,) = get(page, "figures")["agreements"]
    assert (between["first"], between["second"], between["decided"]) == ("human:anna", "human:ben", 3)
    assert between["share"] == 0.0


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("score", 0.7, 1.1), ("progress", 4.0, 3.5), ("success", 1.0, 0.5), ("progress", 1.0, 0.0)],
)
def test_ratings_are_kept_with_their_value(
    client: Client, store: LabelStore, data: Dataset, kind: str, good: float, bad: float
) -> None:
    page = client(pairs=3, question=kind)
    item = post(page, "next", ANNA)["items"][0]
    assert len(item["pictures"]) == 1
    post(page, "answer", {**said(item, "1", "rated", bad), **ANNA}, 422)
    post(page, "answer", {**said(item, "2", "first"), **ANNA}, 422)
    post(page, "answer", {**said(item, "3", "rated", good), **ANNA})
    (labels,) = store.names()
    assert labels == f"human-{kind}"
    assert rated_frames(store, store.drawn(labels), load_frames(data, "front"))[1].tolist() == [good]


def test_pictures_are_what_the_judge_saw_and_come_by_their_hash_alone(
    client: Client, judged_set: Callable[..., str], data: Dataset
) -> None:
    judged_set(frames=3)
    page = client(of=JUDGE)
    item = post(page, "next", ANNA)["items"][0]
    for digest in item["pictures"]:
        answered = page.get(f"pictures/{digest}.png")
        assert answered.headers["content-type"] == "image/png"
        image = cv2.imdecode(np.frombuffer(answered.content, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (40, 3 * 48 + 8, 3)
    assert "strip of 3 moments" in item["layout"]
    for name in ("0" * 64, "..%2f..%2flabels.sqlite", "%2e%2e/%2e%2e/dataset.json"):
        assert page.get(f"pictures/{name}.png").status_code == 404
    assert page.get("pictures/../../../etc/passwd").status_code in (403, 404)
    assert page.get("..%2f..%2fdataset.json").status_code in (404, 422)


def test_a_judges_pairs_are_put_to_people_who_do_not_see_its_answers(
    client: Client, judged_set: Callable[..., str], store: LabelStore
) -> None:
    labels = judged_set(12)
    page = client(of=labels, pairs=8)
    found = post(page, "next", ANNA)
    assert found["progress"]["total"] == 8
    assert "answers" not in found["items"][0]
    for k in range(8):
        found = post(page, "answer", {**said(found["items"][0], str(k), "first"), **ANNA})
    drawn = {(pair.first, pair.second) for pair in store.drawn(labels)}
    assert {(pair.first, pair.second) for pair in store.drawn("human")} < drawn
    (with_judge,) = get(page, "figures")["agreements"]
    ((different,),) = store.rows(
        "SELECT COUNT(DISTINCT MIN(first_sha256, second_sha256) || MAX(first_sha256, second_sha256)) FROM "
        "answers WHERE judge='human:anna'"
    )
    assert (with_judge["first"], with_judge["second"]) == ("human:anna", JUDGE)
    assert with_judge["both"] == different
    assert with_judge["decided"] < different, "the judge's unsure and malformed answers decide nothing"
    assert with_judge["share"] == 1.0
    assert with_judge["low"] < with_judge["kappa"] == 1.0


def test_every_question_keeps_the_goal_that_it_was_drawn_with(client: Client, store: LabelStore) -> None:
    first = client(pairs=2)
    post(first, "next", ANNA)
    page = client(pairs=2, goal="to close the drawer")
    found = post(page, "next", ANNA)
    for k in range(4):
        found = post(page, "answer", {**said(found["items"][0], str(k)), **ANNA})
    goals = store.rows("SELECT json_extract(settings, '$.goal') AS goal FROM answers ORDER BY goal")
    assert goals == [(goal,) for goal in 2 * ["to close the drawer"] + 2 * ["to open the drawer"]]


def test_what_two_people_answered_apart_comes_together(
    client: Client, store: LabelStore, tmp_path: Path
) -> None:
    page = client(pairs=4)
    first = post(page, "next", ANNA)["items"][0]
    export_labels(store, tmp_path / "drawn.jsonl")
    post(page, "answer", {**said(first, "1", "second"), **ANNA})
    export_labels(store, tmp_path / "anna.jsonl")
    with LabelStore(tmp_path / "ben.sqlite") as other:
        import_labels(other, tmp_path / "drawn.jsonl")
        assert other.outcomes([b.key for pair in other.drawn("human") for b in pair.ballots]) == {}
        assert import_labels(other, tmp_path / "anna.jsonl").answers == 1
        keys = [b.key for pair in other.drawn("human") for b in pair.ballots]
        assert list(other.outcomes(keys).values()) == ["second"]
        assert other.drawn("human") == store.drawn("human")


def test_a_set_of_a_judge_is_not_written_to(
    make: Callable[..., Room], judged_set: Callable[..., str]
) -> None:
    labels = judged_set()
    with pytest.raises(LabelError, match=f"--of {labels}"):
        make(labels=labels)
    with pytest.raises(LabelError, match="no such label set"):
        make(of="gemni-x")


def test_a_dataset_without_a_known_goal_takes_it_from_the_judge_or_asks(
    data: Dataset, store: LabelStore, judged_set: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(dataset: Dataset) -> str:
        raise ConfigError("no goal phrase is known: --goal")

    monkeypatch.setattr("reward.review.page.known_goal", unknown)
    with pytest.raises(ConfigError, match="--goal"):
        make_room(ReviewConfig(data.path), data, store)
    judged_set()
    seat = Seat("anna", "tab-anna-1")
    asked = make_room(ReviewConfig(data.path, draw=DrawConfig(pairs=3)), data, store).next(seat)
    assert asked["items"][0]["goal"] == "to open the drawer"
    with pytest.raises(ConfigError, match="person"):
        ReviewConfig(data.path, person="<script>")


def test_questions_about_episodes_that_are_gone_are_passed_over(
    client: Client, store: LabelStore, data: Dataset
) -> None:
    post(client(pairs=20), "next", ANNA)
    (file,) = data.path.glob("episodes/*_e3.*")
    file.unlink()
    drawn = store.drawn("human")
    gone = [pair for pair in drawn if "e3" in (pair.first.episode_id, pair.second and pair.second.episode_id)]
    assert 0 < len(gone) < 20
    page = client(pairs=20)
    found = post(page, "next", ANNA)
    for k in range(20 - len(gone)):
        assert found["progress"]["total"] == 20 - len(gone)
        found = post(page, "answer", {**said(found["items"][0], f"g{k}"), **ANNA})
    assert found["items"] == []
    pairs = labelled_pairs(store, store.drawn("human"), load_frames(Dataset.open(data.path), "front"), 0.0)
    assert len(pairs) == 20 - len(gone)
