"""The real google-genai SDK against a loopback server that speaks its wire format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from episodes.errors import LabelError
from reward.clients.gemini import Gemini, GeminiConfig
from reward.clients.prices import price_of
from reward.clients.protocol import NoMemory, Outcome, Picture, Question
from tests.reward.conftest import picture
from tests.reward.gemini_server import Asked, GeminiServer, Reply, refused, said

KEY = "AIza-secret-7f3e"
Serve = Callable[[Callable[[Asked], Reply]], GeminiServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(GeminiServer(respond).running())


@pytest.fixture
def pauses() -> list[float]:
    return []


def judge(server: GeminiServer, pauses: list[float], **settings: object) -> Gemini:
    config = replace(GeminiConfig(base_url=server.url, timeout_s=20.0), **settings)  # type: ignore[arg-type]
    return Gemini(config, "to open the drawer", key=KEY, sleep=pauses.append)


def pair() -> Question:
    return Question(Picture(picture(3)), Picture(picture(20)))


def script(*replies: Reply) -> Callable[[Asked], Reply]:
    rest = iter(replies)
    return lambda asked: next(rest)


class Kept(dict[str, str]):
    """A memory."""

    def recall(self, step: str) -> str | None:
        return self.get(step)

    def keep(self, step: str, text: str) -> None:
        self[step] = text


def test_two_stages_describe_the_pictures_and_decide_from_the_words(
    serve: Serve, pauses: list[float]
) -> None:
    server = serve(
        script(said("The second drawer is open."), said('{"reason": "open", "answer": "1"}', prompt=90))
    )
    memory = Kept()
    verdict = judge(server, pauses, decide_model="gemini-2.5-flash-lite").ask(pair(), memory)
    assert verdict.outcome is Outcome.SECOND
    assert (verdict.calls, verdict.input_tokens, verdict.output_tokens) == (2, 690, 40)
    expected = price_of("gemini-2.5-flash").cost(600, 20) + price_of("gemini-2.5-flash-lite").cost(90, 20)
    assert verdict.cost_usd == pytest.approx(expected)
    assert "The second drawer is open." in verdict.text
    assert memory == {"describe": "The second drawer is open."}
    see, decide = server.asked
    assert (see.model, decide.model) == ("gemini-2.5-flash", "gemini-2.5-flash-lite")
    assert see.key == decide.key == KEY
    assert len(see.images) == 2
    assert decide.images == ()
    assert "The second drawer is open." in decide.texts[0]
    assert any("to open the drawer" in text for text in see.texts)
    assert "responseSchema" in decide.config
    assert "responseSchema" not in see.config
    assert see.config["temperature"] == 0.0


def test_the_server_receives_the_pictures_enlarged_and_in_order(serve: Serve, pauses: list[float]) -> None:
    server = serve(script(said('{"answer": "0"}')))
    assert judge(server, pauses, method="single").ask(pair(), NoMemory()).outcome is Outcome.FIRST
    (asked,) = server.asked
    for sent, original in zip(asked.images, (picture(3), picture(20)), strict=True):
        assert min(sent.shape[:2]) == 336
        rows = (np.arange(40) * sent.shape[0] / 40 + 4).astype(int)
        columns = (np.arange(48) * sent.shape[1] / 48 + 4).astype(int)
        assert np.abs(sent[rows][:, columns].astype(int) - original).mean() < 3


def test_a_described_pair_is_not_described_again(serve: Serve, pauses: list[float]) -> None:
    server = serve(script(said('{"answer": "-1"}')))
    verdict = judge(server, pauses).ask(pair(), Kept(describe="kept from before"))
    assert verdict.outcome is Outcome.UNSURE
    assert verdict.calls == 1
    assert "kept from before" in server.asked[0].texts[0]


def test_prose_is_read_and_nonsense_is_malformed_with_its_text(serve: Serve, pauses: list[float]) -> None:
    server = serve(
        script(said("Both are shut, but the first a little less.\n0"), said("I would rather not say."))
    )
    asker = judge(server, pauses, method="single")
    assert asker.ask(pair(), NoMemory()).outcome is Outcome.FIRST
    verdict = asker.ask(pair(), NoMemory())
    assert verdict.outcome is Outcome.MALFORMED
    assert verdict.text == "I would rather not say."
    assert verdict.cost_usd > 0


@pytest.mark.parametrize(
    "body",
    [
        {"candidates": [], "usageMetadata": {"promptTokenCount": 600}},
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 600}},
        {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": {"promptTokenCount": 600}},
        {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]},
    ],
)
def test_an_answer_without_words_is_malformed_and_paid(
    serve: Serve, pauses: list[float], body: dict[str, object]
) -> None:
    server = serve(script(Reply(200, body)))
    for method in ("two-stage",):
        verdict = judge(server, pauses, method=method).ask(pair(), NoMemory())
        assert verdict.outcome is Outcome.MALFORMED
        assert verdict.calls == 1
    assert len(server.asked) == 1


def test_a_busy_server_is_given_the_time_that_it_asks_for(serve: Serve, pauses: list[float]) -> None:
    busy = refused(429, "RESOURCE_EXHAUSTED", "quota", {"Retry-After": "7"})
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "11s"}
    in_body = refused(429, "RESOURCE_EXHAUSTED", "quota", details=[info])
    server = serve(script(busy, in_body, said('{"answer": "1"}')))
    verdict = judge(server, pauses, method="single").ask(pair(), NoMemory())
    assert verdict.outcome is Outcome.SECOND
    assert verdict.calls == 3
    assert 7.0 <= pauses[0] <= 7.5
    assert 11.0 <= pauses[1] <= 11.5


def test_a_failing_server_is_asked_again_ever_more_slowly_and_at_last_given_up(
    serve: Serve, pauses: list[float]
) -> None:
    server = serve(lambda asked: refused(500, "INTERNAL", "oops"))
    with pytest.raises(LabelError, match="answers 500 after 4 tries"):
        judge(server, pauses, method="single", attempts=4).ask(pair(), NoMemory())
    assert len(server.asked) == 4
    for attempt, pause in enumerate(pauses):
        assert 0.5 * 2**attempt <= pause <= 2**attempt


def test_a_server_that_asks_for_too_long_a_pause_ends_the_run(serve: Serve, pauses: list[float]) -> None:
    server = serve(lambda asked: refused(429, "RESOURCE_EXHAUSTED", "daily quota", {"Retry-After": "86400"}))
    with pytest.raises(LabelError, match="86400 s"):
        judge(server, pauses, method="single").ask(pair(), NoMemory())
    assert len(server.asked) == 1
    assert pauses == []


@pytest.mark.parametrize(
    "reply",
    [
        refused(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        refused(403, "PERMISSION_DENIED", f"key {KEY} has no access"),
    ],
)
def test_a_refused_key_stops_at_once_and_is_never_shown(
    serve: Serve, pauses: list[float], reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda asked: reply)
    with caplog.at_level(logging.DEBUG), pytest.raises(LabelError, match="GEMINI_API_KEY") as caught:
        judge(server, pauses, method="single").ask(pair(), NoMemory())
    assert len(server.asked) == 1
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text
    assert KEY not in repr(judge(server, pauses).settings)


def test_an_unknown_model_is_named(serve: Serve, pauses: list[float]) -> None:
    server = serve(lambda asked: refused(404, "NOT_FOUND", "models/x is not found"))
    with pytest.raises(LabelError, match=r"knows no model 'gemini-1.0-pro'"):
        judge(server, pauses, method="single", model="gemini-1.0-pro").ask(pair(), NoMemory())


def test_a_server_that_is_gone_is_reported(serve: Serve, pauses: list[float]) -> None:
    gone = GeminiServer(lambda asked: said("0"))
    with gone.running():
        pass
    with pytest.raises(LabelError, match="does not answer after 2 tries"):
        judge(gone, pauses, attempts=2).ask(pair(), NoMemory())
    assert len(pauses) == 1


def test_without_a_key_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(LabelError, match="GEMINI_API_KEY"):
        Gemini(GeminiConfig(), "to open the drawer")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    assert Gemini(GeminiConfig(), "to open the drawer").paid
