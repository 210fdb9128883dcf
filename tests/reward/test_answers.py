"""Reading answers, prompts, goals and prices."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Literal

import pytest

from episodes.errors import ConfigError
from reward.answers import Reading, answer_schema, openapi_schema, read_answer
from reward.clients.prices import Price, checked, models, price_of
from reward.clients.protocol import Kind, Outcome
from reward.label_store import price_table
from reward.prompting import goal_phrase, goal_phrases, load_prompt

DAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ('{"answer": "0"}', "first", Outcome.FIRST),
        ('{"reason": "2 drawers, 1 open", "answer": "1"}', "first", Outcome.SECOND),
        ('```json\n{"answer": -1}\n```', "last", Outcome.UNSURE),
        ('Let me see {a set}.\n{"answer": "1"}', "last", Outcome.SECOND),
        ('{"answer": "0"}\nOn reflection:\n{"answer": "1"}', "last", Outcome.SECOND),
        ('{"answer": 1.0}', "first", Outcome.SECOND),
        ('{"answer": "2"}', "first", Outcome.MALFORMED),
        ('{"answer": null}', "first", Outcome.MALFORMED),
        ('{"answer": true}', "first", Outcome.MALFORMED),
        ('{"verdict": 1}', "first", Outcome.MALFORMED),
        ("[1]", "first", Outcome.MALFORMED),
        ("0\n", "first", Outcome.FIRST),
        ("1\nbecause the drawer is 3 cm open", "first", Outcome.SECOND),
        ("-1", "first", Outcome.UNSURE),
        ("Picture 2 shows it.\nAnswer: **1**", "last", Outcome.SECOND),
        ("It is open in image 2.\n\n0.\n", "last", Outcome.FIRST),
        ("between 0 and 1", "last", Outcome.MALFORMED),
        ("the first one", "first", Outcome.MALFORMED),
        ("0.5", "first", Outcome.MALFORMED),
        ("10", "first", Outcome.MALFORMED),
        ("", "first", Outcome.MALFORMED),
        ("{broken json\n1", "last", Outcome.SECOND),
        *((f"{dash}1", "first", Outcome.UNSURE) for dash in "\u2212\u2013\u2014\u2010\uff0d"),
        ("Answer: \u22121", "last", Outcome.UNSURE),
        ("- 1", "first", Outcome.UNSURE),
        ("Answer - 1", "last", Outcome.UNSURE),
        ('{"answer": "\u22121"}', "first", Outcome.UNSURE),
        ("Picture-1", "last", Outcome.MALFORMED),
        ("0\u20131", "last", Outcome.MALFORMED),
        ("0 - 1", "last", Outcome.UNSURE),
    ],
)
def test_preferences_are_read_tolerantly_and_never_guessed(
    text: str, line: Literal["first", "last"], expected: Outcome
) -> None:
    assert read_answer(text, Kind.PREFERENCE, line) == Reading(expected)


@pytest.mark.parametrize(
    ("kind", "text", "outcome", "value"),
    [
        (Kind.SCORE, '{"answer": 0.35}', Outcome.RATED, 0.35),
        (Kind.SCORE, "Nearly there.\nScore: 0.8", Outcome.RATED, 0.8),
        (Kind.SCORE, "1", Outcome.RATED, 1.0),
        (Kind.SCORE, ".5", Outcome.RATED, 0.5),
        (Kind.SCORE, "-1", Outcome.UNSURE, None),
        (Kind.SCORE, "\u22121.0", Outcome.UNSURE, None),
        (Kind.SCORE, "1%", Outcome.MALFORMED, None),
        (Kind.SCORE, "100 %", Outcome.MALFORMED, None),
        (Kind.SCORE, "0.8 - nearly there", Outcome.RATED, 0.8),
        (Kind.SCORE, "1.2", Outcome.MALFORMED, None),
        (Kind.SCORE, "7/10", Outcome.MALFORMED, None),
        (Kind.SCORE, '{"answer": "nan"}', Outcome.MALFORMED, None),
        (Kind.SCORE, '{"answer": 1e999}', Outcome.MALFORMED, None),
        (Kind.PROGRESS, '{"answer": "3"}', Outcome.RATED, 3.0),
        (Kind.PROGRESS, "Step 5", Outcome.RATED, 5.0),
        (Kind.PROGRESS, "0", Outcome.MALFORMED, None),
        (Kind.PROGRESS, "6", Outcome.MALFORMED, None),
        (Kind.PROGRESS, "3.5", Outcome.MALFORMED, None),
        (Kind.PROGRESS, "between 3 and 4", Outcome.MALFORMED, None),
        (Kind.SUCCESS, '{"answer": "yes"}', Outcome.RATED, 1.0),
        (Kind.SUCCESS, '{"answer": false}', Outcome.RATED, 0.0),
        (Kind.SUCCESS, "Open.\n**No**", Outcome.RATED, 0.0),
        (Kind.SUCCESS, "unsure", Outcome.UNSURE, None),
        (Kind.SUCCESS, "yes and no", Outcome.MALFORMED, None),
        (Kind.SUCCESS, "nothing yesterday", Outcome.MALFORMED, None),
        (Kind.SUCCESS, "no-one knows", Outcome.MALFORMED, None),
    ],
)
def test_ratings_are_read_within_their_range(
    kind: Kind, text: str, outcome: Outcome, value: float | None
) -> None:
    assert read_answer(text, kind, "last") == Reading(outcome, value)


@pytest.mark.parametrize("kind", Kind)
def test_every_answer_that_a_schema_admits_can_be_read(kind: Kind) -> None:
    schema = answer_schema(kind)
    assert list(schema["properties"]) == ["reason", "answer"], "the reason comes before the decision"
    for answer in schema["properties"]["answer"].get("enum", [0.0, 0.5, 1.0, -1]):
        for form in (answer_schema(kind), openapi_schema(kind)):
            assert form["required"] == ["reason", "answer"]
        said = json.dumps({"reason": "so", "answer": answer})
        assert read_answer(said, kind, "first").outcome is not Outcome.MALFORMED


def test_every_published_task_has_a_goal_phrase_that_fits_every_prompt() -> None:
    for task, phrase in goal_phrases().items():
        assert goal_phrase(task) == goal_phrase(task.rpartition("/")[2]) == phrase
    for kind in Kind:
        prompt = load_prompt(kind)
        for task_phrase in goal_phrases().values():
            for text in (prompt.describe.after, prompt.single.after):
                assert f"The goal is {task_phrase}." in text.format(goal=task_phrase, layout="")
            assert task_phrase in prompt.decide.format(goal=task_phrase, description="…", layout="")
        for shown in (prompt.describe, prompt.single):
            assert "a strip" in shown.before_first.format(goal="", layout="a strip")
            assert bool(shown.before_second) is (kind.pictures == 2)


def test_goals_of_all_published_systems_are_there() -> None:
    known = goal_phrases()
    for task in ("drawer-open-v3", "door-open-v3", "soccer-v3", "sweep-into-v3"):
        assert f"metaworld/{task}" in known
    deformable = ("RopeFlatten", "RopeFlattenEasy", "PassWater", "ClothFold", "ClothFoldDiagonal")
    assert {f"deform/{task}" for task in deformable} <= known.keys()
    assert {"cartpole/Continuous", "gymnasium/CartPole-v1", "gymnasium/Humanoid-v4"} <= known.keys()
    assert "gymnasium/MountainCarContinuous-v0" in known


def test_unknown_tasks_and_prompts_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="--goal"):
        goal_phrase("metaworld/drawer-opne-v3")
    with pytest.raises(ConfigError, match="preference-2"):
        load_prompt(Kind.PREFERENCE, "preference-9")
    with pytest.raises(ConfigError, match="question 'score'"):
        load_prompt(Kind.SCORE, "preference-1")


def test_the_prompt_version_names_file_and_content() -> None:
    name, _, digest = load_prompt(Kind.PREFERENCE).version.partition("@")
    assert name == "preference-2"
    assert len(digest) == 12
    assert load_prompt(Kind.PREFERENCE, "preference-1").version == "preference-1@c5b315323836"


def test_prices_go_by_the_longest_matching_name_and_unknown_models_cost_the_most() -> None:
    def price(model: str) -> Price:
        return price_of(model, DAY)

    assert price("gemini-2.5-flash-lite-preview") == price("gemini-2.5-flash-lite")
    assert price("models/gemini-3.5-flash") == price("gemini-3.5-flash")
    assert price("gpt-4.1-mini").cost(1_000_000, 0) == price("gpt-4.1-mini").input
    unknown = price("somebody-elses")
    assert not unknown.known
    assert unknown.output == max(price(model).output for model in models())


def test_the_manual_quotes_the_price_list() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "judges.md").read_text()
    assert price_table(DAY, (336, 336)) in page, "armchair label prices"


def test_a_promotion_ends_on_its_day() -> None:
    last = price_of("gemini-3.8-flash", date(2026, 12, 31))
    after = price_of("gemini-3.8-flash", date(2027, 1, 1))
    assert (after.input, after.output) == (2 * last.input, 2 * last.output)
    assert checked() <= date(2026, 12, 31)


def test_pictures_take_tokens_by_tiles_by_patches_or_flat() -> None:
    assert price_of("gpt-4.1", DAY).image.count(512, 512) == 85 + 170
    assert price_of("gpt-4.1", DAY).image.count(513, 512) == 85 + 2 * 170
    assert price_of("gpt-5-mini", DAY).image.count(320, 33) == 33
    assert price_of("gemini-2.5-flash", DAY).image.count(336, 336) == 258
