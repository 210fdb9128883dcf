"""Reading answers, prompts, goals and prices."""

from __future__ import annotations

from typing import Literal

import pytest

from episodes.errors import ConfigError
from reward.answers import read_answer
from reward.clients.prices import price_of
from reward.clients.protocol import Outcome
from reward.prompting import goal_phrase, goal_phrases, preference_prompt

FIRST, SECOND, UNSURE, MALFORMED = Outcome.FIRST, Outcome.SECOND, Outcome.UNSURE, Outcome.MALFORMED


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ('{"answer": "0"}', "first", FIRST),
        ('{"reason": "2 drawers, 1 open", "answer": "1"}', "first", SECOND),
        ('```json\n{"answer": -1}\n```', "last", UNSURE),
        ('{"answer": "2"}', "first", MALFORMED),
        ('{"answer": null}', "first", MALFORMED),
        ("0\n", "first", FIRST),
        ("1\nbecause the drawer is 3 cm open", "first", SECOND),
        ("-1", "first", UNSURE),
        ("Picture 2 shows it.\nAnswer: **1**", "last", SECOND),
        ("It is open in image 2.\n\n0.\n", "last", FIRST),
        ("between 0 and 1", "last", MALFORMED),
        ("the first one", "first", MALFORMED),
        ("0.5", "first", MALFORMED),
        ("10", "first", MALFORMED),
        ("", "first", MALFORMED),
        ("{broken json\n1", "last", SECOND),
    ],
)
def test_answers_are_read_tolerantly_and_never_guessed(
    text: str, line: Literal["first", "last"], expected: Outcome
) -> None:
    assert read_answer(text, line) is expected


def test_every_published_task_has_a_goal_phrase_that_fits_the_prompt() -> None:
    prompt = preference_prompt()
    for task, phrase in goal_phrases().items():
        assert goal_phrase(task) == goal_phrase(task.rpartition("/")[2]) == phrase
        for text in (prompt.describe.after, prompt.single.after):
            assert f"The goal is {phrase}." in text.format(goal=phrase)
        assert phrase in prompt.decide.format(goal=phrase, description="…")


def test_unknown_tasks_and_prompts_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="--goal"):
        goal_phrase("metaworld/drawer-opne-v3")
    with pytest.raises(ConfigError, match="preference-1"):
        preference_prompt("preference-9")


def test_the_prompt_version_names_file_and_content() -> None:
    name, _, digest = preference_prompt().version.partition("@")
    assert name == "preference-1"
    assert len(digest) == 12


def test_prices_go_by_the_longest_matching_name_and_unknown_models_cost_the_most() -> None:
    assert price_of("gemini-2.5-flash-lite-preview").output == price_of("gemini-2.5-flash-lite").output
    assert price_of("models/gemini-2.5-flash").input == price_of("gemini-2.5-flash").input
    assert price_of("gemini-2.5-flash").cost(1_000_000, 0) == price_of("gemini-2.5-flash").input
    unknown = price_of("somebody-elses")
    assert not unknown.known
    assert unknown.output == max(price_of(m).output for m in ("gemini-2.5-pro", "gemini-2.5-flash"))
