"""One conformance suite over every paid client: the real SDKs against loopback servers of their providers."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from episodes.errors import ConfigError, LabelError
from reward.clients.gemini import GeminiConfig
from reward.clients.openai_compatible import OpenAIConfig
from reward.clients.prices import price_of, today
from reward.clients.protocol import Bill, FreeErrand, Kind, Outcome, Picture, Question, Task, WithdrawnError
from reward.clients.sending import SendConfig
from reward.clients.vlm import VlmConfig
from tests.reward.conftest import picture
from tests.reward.wire import DIALECTS, Asked, Dialect, Reply, WireServer, script

KEY = "AIza-secret-7f3e"
GOAL = "to open the drawer"
Serve = Callable[[Callable[[Asked], Reply]], WireServer]
SINGLE = VlmConfig(method="single")
TYPED = {
    Kind.PREFERENCE: ("1", Outcome.SECOND, None),
    Kind.SCORE: (0.25, Outcome.RATED, 0.25),
    Kind.PROGRESS: ("4", Outcome.RATED, 4.0),
    Kind.SUCCESS: ("no", Outcome.RATED, 0.0),
}


@pytest.fixture(params=DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return request.param


@pytest.fixture
def serve(dialect: Dialect) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(WireServer(dialect, respond).running())


class Errand(FreeErrand):
    """Keeps steps, notes pauses instead of sleeping, and counts claims."""

    def __init__(self, **kept: str) -> None:
        super().__init__()
        self.kept, self.pauses, self.claims = dict(kept), [], 0

    def recall(self, step: str) -> str | None:
        return self.kept.get(step)

    def keep(self, step: str, text: str) -> None:
        self.kept[step] = text

    def claim(self) -> None:
        self.claims += 1

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def pair(kind: Kind = Kind.PREFERENCE) -> Question:
    return Question(Picture(picture(3)), Picture(picture(20)) if kind is Kind.PREFERENCE else None)


def ask(
    server: WireServer,
    errand: Errand | None = None,
    *,
    kind: Kind = Kind.PREFERENCE,
    vlm: VlmConfig | None = None,
    send: SendConfig | None = None,
    layout: str = "",
    **settings: object,
):
    judge = server.dialect.judge(
        server.url, Task(GOAL, kind, layout), vlm or SINGLE, send, key=KEY, **settings
    )
    return judge.ask(pair(kind), errand or Errand())


def broken_off(reply: Reply) -> Reply:
    """The same answer, with words, as a provider marks it when a filter or the bound of tokens ended it."""
    body = json.loads(json.dumps(reply.body))
    for candidate in body.get("candidates", []):
        candidate["finishReason"] = "MAX_TOKENS"
    for choice in body.get("choices", []):
        choice["finish_reason"] = "content_filter"
    return replace(reply, body=body)


def answer(value: object) -> str:
    return json.dumps({"reason": "as seen", "answer": value})


@pytest.mark.parametrize("kind", Kind)
def test_two_stages_describe_the_pictures_and_decide_from_the_words(
    dialect: Dialect, serve: Serve, kind: Kind
) -> None:
    value, outcome, number = TYPED[kind]
    server = serve(script(dialect.said("The drawer is open."), dialect.said(answer(value), prompt=90)))
    errand = Errand()
    verdict = ask(
        server, errand, kind=kind, vlm=VlmConfig(), decide_model=dialect.second_model, model=dialect.model
    )
    assert not server.rejected
    assert (verdict.outcome, verdict.value) == (outcome, number)
    assert (verdict.calls, verdict.input_tokens, verdict.output_tokens) == (2, 690, 40)
    prices = price_of(dialect.model, today()), price_of(dialect.second_model, today())
    assert verdict.cost_usd == pytest.approx(prices[0].cost(600, 20) + prices[1].cost(90, 20))
    assert "The drawer is open." in verdict.text
    assert errand.kept == {"describe": "The drawer is open."}
    assert errand.claims == 2
    see, decide = server.asked
    assert (see.model, decide.model) == (dialect.model, dialect.second_model)
    assert see.key == decide.key == KEY
    assert len(see.images) == kind.pictures
    assert decide.images == ()
    assert "The drawer is open." in decide.texts[0]
    assert any(GOAL in text for text in see.texts)
    assert see.schema is None
    assert decide.schema is not None
    assert set(decide.schema["properties"]) == {"reason", "answer"}


@pytest.mark.parametrize("kind", Kind)
def test_a_single_request_holds_pictures_question_and_schema(
    dialect: Dialect, serve: Serve, kind: Kind
) -> None:
    value, outcome, number = TYPED[kind]
    server = serve(script(dialect.said(answer(value))))
    verdict = ask(server, kind=kind, layout="About each picture: it is a strip.")
    assert not server.rejected
    assert (verdict.outcome, verdict.value, verdict.calls) == (outcome, number, 1)
    (asked,) = server.asked
    assert len(asked.images) == kind.pictures
    assert asked.schema is not None
    assert "it is a strip" in asked.texts[0]
    if kind is Kind.SCORE:
        assert asked.schema["properties"]["answer"]["type"] == "number"
    else:
        assert value in asked.schema["properties"]["answer"]["enum"]


def test_the_server_receives_the_pictures_enlarged_and_in_order(dialect: Dialect, serve: Serve) -> None:
    server = serve(script(dialect.said(answer("0"))))
    assert ask(server).outcome is Outcome.FIRST
    (asked,) = server.asked
    for sent, original in zip(asked.images, (picture(3), picture(20)), strict=True):
        assert min(sent.shape[:2]) == 336
        rows = (np.arange(40) * sent.shape[0] / 40 + 4).astype(int)
        columns = (np.arange(48) * sent.shape[1] / 48 + 4).astype(int)
        assert np.abs(sent[rows][:, columns].astype(int) - original).mean() < 3


def test_a_described_pair_is_not_described_again(dialect: Dialect, serve: Serve) -> None:
    server = serve(script(dialect.said(answer("-1"))))
    verdict = ask(server, Errand(describe="kept from before"), vlm=VlmConfig())
    assert verdict.outcome is Outcome.UNSURE
    assert verdict.calls == 1
    assert "kept from before" in server.asked[0].texts[0]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Both are shut, but the first a little less.\n0", Outcome.FIRST),
        ("I would rather not say.", Outcome.MALFORMED),
        ('{"answer": "7"}', Outcome.MALFORMED),
        ('{"verdict": "1"}', Outcome.MALFORMED),
        ('{"answer": ', Outcome.MALFORMED),
    ],
)
def test_prose_is_read_and_nonsense_is_malformed_with_its_text(
    dialect: Dialect, serve: Serve, text: str, outcome: Outcome
) -> None:
    verdict = ask(serve(script(dialect.said(text))))
    assert verdict.outcome is outcome
    assert verdict.text == text
    assert verdict.cost_usd > 0


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("method", ["two-stage", "single"])
def test_an_answer_without_words_is_malformed_and_paid(
    dialect: Dialect, serve: Serve, number: int, method: str
) -> None:
    server = serve(script(dialect.wordless[number]))
    verdict = ask(server, vlm=VlmConfig(method=method))  # type: ignore[arg-type]
    assert verdict.outcome is Outcome.MALFORMED
    assert verdict.calls == 1
    assert len(server.asked) == 1


def test_a_description_that_was_broken_off_decides_nothing(dialect: Dialect, serve: Serve) -> None:
    server = serve(script(broken_off(dialect.said("The drawer is")), dialect.said(answer("1"))))
    errand = Errand()
    verdict = ask(server, errand, vlm=VlmConfig())
    assert (verdict.outcome, verdict.text) == (Outcome.MALFORMED, "The drawer is")
    assert (verdict.calls, len(server.asked)) == (1, 1)
    assert errand.kept == {}, "it would be decided from when asked again"


@pytest.mark.parametrize(
    "make", [lambda url: OpenAIConfig(base_url=url), lambda url: GeminiConfig(base_url=url)]
)
def test_an_address_with_a_password_is_refused_and_the_password_not_shown(
    make: Callable[[str], object],
) -> None:
    with pytest.raises(ConfigError, match="user name or a password") as caught:
        make("https://me:s3cret@judge.example/v1")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="http"):
        make("judge.example/v1")


def test_a_busy_server_is_given_the_time_that_it_asks_for(dialect: Dialect, serve: Serve) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server = serve(
        script(
            dialect.error(429, "quota", {"Retry-After": "7"}),
            dialect.error(503, "overloaded", {"Retry-After": at}),
            dialect.said(answer("1")),
        )
    )
    errand = Errand()
    verdict = ask(server, errand)
    assert verdict.outcome is Outcome.SECOND
    assert verdict.calls == 3
    assert 7.0 <= errand.pauses[0] <= 7.5
    assert 0.0 <= errand.pauses[1] <= 30.5


def test_a_failing_server_is_asked_again_ever_more_slowly_and_at_last_given_up(
    dialect: Dialect, serve: Serve
) -> None:
    server = serve(lambda asked: dialect.error(500, "oops"))
    errand = Errand()
    with pytest.raises(LabelError, match="answers 500 after 4 tries"):
        ask(server, errand, send=SendConfig(attempts=4))
    assert len(server.asked) == errand.bill.calls == 4
    assert errand.bill.cost_usd == 0
    assert all(0.5 * 2**k <= pause <= 2**k for k, pause in enumerate(errand.pauses))
    assert len(errand.pauses) == 3


def test_a_server_that_asks_to_wait_for_a_day_ends_the_run(dialect: Dialect, serve: Serve) -> None:
    server = serve(lambda asked: dialect.error(429, "daily quota", {"Retry-After": "86400"}))
    errand = Errand()
    with pytest.raises(LabelError, match="86400 s"):
        ask(server, errand)
    assert len(server.asked) == 1
    assert errand.pauses == []


def test_a_time_out_is_repeated_and_booked_as_perhaps_charged(dialect: Dialect, serve: Serve) -> None:
    release = threading.Event()
    first = threading.Event()

    def respond(asked: Asked) -> Reply:
        if not first.is_set():
            first.set()
            release.wait(60)
        return dialect.said(answer("1"))

    server = serve(respond)
    errand = Errand()
    try:
        verdict = ask(server, errand, send=SendConfig(timeout_s=1.0))
    finally:
        release.set()
    assert verdict.outcome is Outcome.SECOND
    assert verdict.calls == 2
    assert verdict.cost_usd > price_of(dialect.model, today()).cost(600, 20)
    assert len(errand.pauses) == 1


def test_a_cut_connection_is_repeated(dialect: Dialect, serve: Serve) -> None:
    whole = dialect.said(answer("1"))
    server = serve(script(Reply(200, whole.body, cut=True), whole))
    errand = Errand()
    verdict = ask(server, errand)
    assert (verdict.outcome, verdict.calls, len(errand.pauses)) == (Outcome.SECOND, 2, 1)


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", '{"choices": [', "[1, 2]"])
def test_a_body_that_is_no_answer_never_ends_in_anything_but_a_clear_message(
    dialect: Dialect, serve: Serve, body: str
) -> None:
    server = serve(lambda asked: Reply(200, body))
    try:
        verdict = ask(server, send=SendConfig(attempts=2))
    except LabelError as error:
        assert "does not answer after 2 tries" in str(error)  # noqa: PT017
    else:
        assert verdict.outcome is Outcome.MALFORMED


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_key_stops_at_once_and_is_never_shown(
    dialect: Dialect, serve: Serve, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda asked: dialect.error(status, f"API key not valid: {KEY}."))
    with caplog.at_level(logging.DEBUG), pytest.raises(LabelError, match=dialect.key_variable) as caught:
        ask(server)
    # google-generativeai renews its credentials on 401, twice, and cannot be told not to.
    assert len(server.asked) == (3 if (dialect.name, status) == ("gemini-legacy", 401) else 1)
    told, cause = str(caught.value), caught.value.__cause__
    assert "refused the API key" in told
    assert KEY not in told
    assert cause is None
    assert KEY not in caplog.text
    judge = dialect.judge(server.url, Task(GOAL), key=KEY)
    assert KEY not in repr(judge.settings)
    assert server.url not in repr(judge.settings)


def test_an_unknown_model_is_named(dialect: Dialect, serve: Serve) -> None:
    server = serve(lambda asked: dialect.error(404, "models/x is not found"))
    with pytest.raises(LabelError, match=r"knows no model 'somebody-1\.0'"):
        ask(server, model="somebody-1.0")


def test_a_server_that_is_gone_is_reported(dialect: Dialect) -> None:
    gone = WireServer(dialect, lambda asked: dialect.said("0"))
    with gone.running():
        pass
    errand = Errand()
    with pytest.raises(LabelError, match="does not answer after 2 tries"):
        ask(gone, errand, send=SendConfig(attempts=2))
    assert len(errand.pauses) == 1


def test_without_a_key_nothing_is_tried(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dialect.key_variable, raising=False)
    with pytest.raises(LabelError, match=dialect.key_variable):
        dialect.judge("http://127.0.0.1:9", Task(GOAL), key="")
    monkeypatch.setenv(dialect.key_variable, KEY)
    assert dialect.judge("http://127.0.0.1:9", Task(GOAL), key="").paid


def test_a_withdrawn_question_is_not_sent(dialect: Dialect, serve: Serve) -> None:
    class Withdrawn(Errand):
        def claim(self) -> None:
            raise WithdrawnError("the run ends.")

    server = serve(lambda asked: dialect.said(answer("1")))
    errand = Withdrawn()
    with pytest.raises(WithdrawnError):
        ask(server, errand)
    assert server.asked == []
    assert errand.bill == Bill()


def test_settings_tell_apart_what_changes_an_answer(dialect: Dialect) -> None:
    def settings(task: Task, vlm: VlmConfig | None = None) -> str:
        judge = dialect.judge("http://127.0.0.1:9", task, vlm, key=KEY)
        return json.dumps([judge.name, judge.prompt_version, dict(judge.settings)], sort_keys=True)

    found = {
        settings(Task(GOAL)),
        settings(Task("to shut the drawer")),
        settings(Task(GOAL, Kind.SCORE)),
        settings(Task(GOAL, layout="a strip")),
        settings(Task(GOAL), VlmConfig(temperature=0.5)),
        settings(Task(GOAL), SINGLE),
    }
    assert len(found) == 6


def test_an_estimate_covers_a_usual_answer(dialect: Dialect, serve: Serve) -> None:
    judge = dialect.judge("http://127.0.0.1:9", Task(GOAL), key=KEY, model=dialect.model)
    single = dialect.judge("http://127.0.0.1:9", Task(GOAL), SINGLE, key=KEY, model=dialect.model)
    both, one = judge.estimate(pair()), single.estimate(pair())
    assert (both.calls, one.calls) == (2, 1)
    assert 0 < one.cost_usd < both.cost_usd
    price = price_of(dialect.model, today())
    assert one.cost_usd > price.cost(2 * price.image.count(403, 336) // 2, 100)
