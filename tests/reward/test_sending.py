"""Pace, pauses, and what servers of other makers do differently."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError, LabelError
from reward.clients.gemini import GeminiConfig, gemini_judge
from reward.clients.openai_compatible import OpenAIConfig, openai_judge
from reward.clients.prices import price_of, today
from reward.clients.protocol import FreeErrand, Kind, Outcome, Task, WithdrawnError
from reward.clients.sending import Fault, Reply, SendConfig, Sender, TokenBucket, retry_after_s
from reward.clients.vlm import VlmConfig
from tests.reward.test_clients import KEY, Errand, answer, ask, pair
from tests.reward.wire import GEMINI, OPENAI, Asked, WireServer, openai_said, script
from tests.reward.wire import Reply as HttpReply

TASK = Task("to open the drawer")
SINGLE = VlmConfig(method="single")


@given(st.floats(1, 6000), st.integers(1, 8), st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_a_token_bucket_never_lets_more_through_than_its_rate_and_burst(
    per_minute: float, burst: int, gaps: list[float]
) -> None:
    bucket, now_s = TokenBucket(per_minute, burst), 0.0
    used: list[float] = []
    for gap in gaps:
        now_s += gap
        used.append(now_s + bucket.take(now_s))
    assert used == sorted(used), "in order"
    for k, first in enumerate(used):
        for n, last in enumerate(used[k:], start=1):
            assert n <= burst + (last - first) * per_minute / 60 + 1e-6


def test_the_pace_is_kept_and_a_withdrawn_turn_is_given_back() -> None:
    times = iter([0.0, 0.0, 0.0])
    sender = Sender(SendConfig(per_minute=60), "x", "", "", lambda: next(times))

    class Leaving(Errand):
        def pause(self, seconds: float) -> None:
            raise WithdrawnError("the run ends.")

    def send(errand: Errand) -> Reply:
        return sender.send("m", lambda: Reply("0"), errand, 0.0, lambda reply: 0.0)

    first, last = Errand(), Errand()
    send(first)
    with pytest.raises(WithdrawnError):
        send(Leaving())
    send(last)
    assert (first.pauses, last.pauses) == ([], [1.0])


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    sender = Sender(SendConfig(concurrency=3), "x", "", "", lambda: 0.0)
    lock, now, most, full = threading.Lock(), 0, 0, threading.Barrier(3, timeout=60)

    def request() -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        full.wait()
        with lock:
            now -= 1
        return Reply("0")

    with ThreadPoolExecutor(9) as pool:
        found = [pool.submit(sender.send, "m", request, Errand(), 0.0, lambda r: 0.0) for _ in range(9)]
        assert [f.result(60).text for f in found] == ["0"] * 9
    assert most == 3


def test_a_final_fault_stops_the_run_before_its_slot_is_free() -> None:
    sender = Sender(SendConfig(concurrency=1), "x", KEY, "X_KEY", lambda: 0.0)
    ended: list[int] = []

    class Ending(Errand):
        def end_run(self) -> None:
            assert not sender._slots.acquire(blocking=False)
            ended.append(1)

    def refuse() -> Reply:
        raise Fault(f"no such key {KEY}", code=401, final=True)

    with pytest.raises(LabelError, match=r"X_KEY") as caught:
        sender.send("m", refuse, Ending(), 0.0, lambda r: 0.0)
    assert ended == [1]
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "detail", "all_questions"),
    [
        (400, "this picture cannot be read", False),
        (413, "too large", False),
        (422, "no", False),
        (400, "API key not valid", True),
        (401, "who are you?", True),
        (402, "no credit", True),
        (404, "no such model", True),
        (429, "insufficient_quota", True),
    ],
)
def test_a_refusal_of_one_request_is_told_from_one_of_all(
    code: int, detail: str, all_questions: bool
) -> None:
    sender = Sender(SendConfig(), "x", KEY, "X_KEY", lambda: 0.0)
    ended: list[int] = []

    class Ending(Errand):
        def end_run(self) -> None:
            ended.append(1)

    def refuse() -> Reply:
        raise Fault(detail, code=code, final=True)

    with pytest.raises(LabelError):
        sender.send("m", refuse, Ending(), 0.0, lambda r: 0.0)
    assert bool(ended) is all_questions


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"retry-after": "7"}, None, 7.0),
        ({"retry-after": "0.5"}, None, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, None, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None, 0.0),
        ({"retry-after": "soon"}, None, None),
        ({}, {"details": [{"retryDelay": "11s"}]}, 11.0),
        ({}, {"details": []}, None),
    ],
)
def test_every_form_of_retry_after_is_read(
    headers: dict[str, str], body: object, expected: float | None
) -> None:
    assert retry_after_s(headers, body) == expected


def strict_server(*refused: str) -> tuple[WireServer, list[dict[str, object]]]:
    """A server that refuses parameters, one at a time, as vLLM, Ollama and reasoning models do."""
    seen: list[dict[str, object]] = []

    def respond(asked: Asked) -> HttpReply:
        seen.append(asked.config)
        for name in refused:
            if name in asked.config:
                return OPENAI.error(400, f"Unsupported parameter: '{name}'", param=name)
        return openai_said(answer("1"))

    return WireServer(OPENAI, respond), seen


def test_parameters_that_a_server_refuses_are_left_out_from_then_on() -> None:
    server, seen = strict_server("response_format", "temperature", "reasoning_effort")
    with server.running():
        judge = OPENAI.judge(server.url, TASK, SINGLE, key=KEY)
        first = judge.ask(pair(), FreeErrand())
        assert (first.outcome, first.calls) == (Outcome.SECOND, 1)
        before = len(seen)
        assert judge.ask(pair(), FreeErrand()).outcome is Outcome.SECOND
    assert before == 4
    assert set(seen[-1]) == {"max_completion_tokens"}
    assert len(seen) == before + 1


def test_older_servers_get_the_older_name_of_the_token_limit() -> None:
    server, seen = strict_server("max_completion_tokens")
    with server.running():
        judge = OPENAI.judge(server.url, TASK, SINGLE, key=KEY, model="llava")
        assert judge.ask(pair(), FreeErrand()).outcome is Outcome.SECOND
    assert seen[-1]["max_tokens"] == 2048


def test_free_text_can_be_asked_for() -> None:
    with WireServer(OPENAI, script(openai_said("Both shut.\n-1"))).running() as server:
        verdict = ask(server, answers="text")
        assert verdict.outcome is Outcome.UNSURE
        assert server.asked[0].schema is None


def test_a_reasoning_model_that_thinks_gets_no_temperature() -> None:
    with WireServer(OPENAI, lambda asked: openai_said(answer("1"))).running() as server:
        ask(server, effort="low")
        ask(server, model="llava")
        ask(server)
    low, local, none = (asked.config for asked in server.asked)
    assert low["reasoning_effort"] == "low"
    assert "temperature" not in low
    assert "reasoning_effort" not in local
    assert (none["reasoning_effort"], none["temperature"]) == ("none", 0.0)


@pytest.mark.parametrize(
    "reply",
    [openai_said(None, refusal="I cannot judge 1 of these."), openai_said('{"answer": "1"', finish="length")],
)
def test_refusals_and_cut_answers_are_malformed_with_their_text(reply: HttpReply) -> None:
    with WireServer(OPENAI, script(reply)).running() as server:
        verdict = ask(server)
    assert verdict.outcome is Outcome.MALFORMED
    assert "1" in verdict.text


def test_a_question_that_a_filter_holds_back_is_malformed_and_the_run_goes_on() -> None:
    blocked = OPENAI.error(400, "Your request was flagged, 1 picture", code="content_policy_violation")
    with WireServer(OPENAI, script(blocked, openai_said(answer("1")))).running() as server:
        errand = Errand()
        verdict = ask(server, errand)
        assert (verdict.outcome, verdict.calls, verdict.cost_usd) == (Outcome.MALFORMED, 1, 0.0)
        assert "flagged" in verdict.text
        assert ask(server).outcome is Outcome.SECOND


def test_an_account_without_credit_ends_the_run_at_once() -> None:
    def respond(asked: Asked) -> HttpReply:
        return OPENAI.error(429, "You exceeded your quota", {"Retry-After": "1"}, code="insufficient_quota")

    with (
        WireServer(OPENAI, respond).running() as server,
        pytest.raises(LabelError, match="no credit"),
    ):
        ask(server)
    assert len(server.asked) == 1


def test_a_server_of_ones_own_needs_no_key_gets_none_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with WireServer(OPENAI, lambda asked: openai_said(answer("1"))).running() as server:
        config = OpenAIConfig(model="qwen2.5vl:7b", base_url=f"{server.url}/v1")
        judge = openai_judge(config, TASK, SINGLE)
        verdict = judge.ask(pair(), FreeErrand())
        assert judge.estimate(pair()).cost_usd == verdict.cost_usd == 0
        priced = openai_judge(
            OpenAIConfig(model="qwen2.5vl:7b", base_url=f"{server.url}/v1", usd_per_million=(1.0, 2.0)),
            TASK,
            SINGLE,
        )
        assert priced.ask(pair(), FreeErrand()).cost_usd == pytest.approx(640e-6)
    assert {asked.key for asked in server.asked} == {"none"}, "OpenAI's key goes to OpenAI alone"


def test_gemini_is_told_resolution_and_thinking_and_charged_for_thoughts() -> None:
    said = GEMINI.said(answer("1"))
    assert isinstance(said.body, dict)
    said.body["usageMetadata"]["thoughtsTokenCount"] = 100
    thought = {"text": "it is 0, no, 1", "thought": True}
    said.body["candidates"][0]["content"]["parts"].insert(0, thought)
    with WireServer(GEMINI, script(said)).running() as server:
        verdict = ask(server, resolution="low", thinking="minimal")
    assert not server.rejected
    (asked,) = server.asked
    assert asked.config["mediaResolution"] == "MEDIA_RESOLUTION_LOW"
    (level,) = asked.config["thinkingConfig"].values()
    assert level.upper() == "MINIMAL"
    assert (verdict.outcome, verdict.output_tokens) == (Outcome.SECOND, 120)
    assert "it is 0" not in verdict.text
    assert verdict.cost_usd == pytest.approx(price_of("gemini-3.5-flash-lite", today()).cost(600, 120))


def test_requests_of_the_openai_client_fit_the_types_of_its_sdk() -> None:
    """The SDK's types are generated from the provider's OpenAPI description."""
    import pydantic
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    judge = openai_judge(OpenAIConfig(), TASK, SINGLE, key=KEY)
    provider = judge._provider
    content = [provider._content("text"), provider._content(b"\x89PNG")]  # type: ignore[attr-defined]
    options = provider._options("gpt-6-luna", Kind.SCORE)  # type: ignore[attr-defined]
    request = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": content}], **options}
    pydantic.TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(request)
    assert set(options) == {"max_completion_tokens", "reasoning_effort", "temperature", "response_format"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SendConfig(concurrency=0), "concurrency"),
        (lambda: SendConfig(per_minute=0), "per-minute"),
        (lambda: SendConfig(timeout_s=0), "timeout"),
        (lambda: VlmConfig(temperature=3), "temperature"),
        (lambda: VlmConfig(enlarge_to=0), "enlarge-to"),
        (lambda: OpenAIConfig(base_url="localhost:8000"), "http://"),
        (lambda: OpenAIConfig(usd_per_million=(-1, 0)), "prices"),
    ],
)
def test_impossible_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_a_question_with_the_wrong_number_of_pictures_is_refused() -> None:
    judge = gemini_judge(GeminiConfig(), Task("x", Kind.SCORE), SINGLE, key=KEY)
    with pytest.raises(LabelError, match="about 1 pictures"):
        judge.ask(pair(), FreeErrand())
