"""Any server with OpenAI's chat completions: OpenAI itself, vLLM, Ollama, LM Studio and the like.

Servers differ in what they take. A request that is refused for a parameter which only some know (a schema,
the temperature of a reasoning model, the name of the token limit) is sent again without it, and so are all
later ones; the answer is then read as free text.
"""

from __future__ import annotations

import base64
import importlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from episodes.errors import ConfigError, LabelError, MachineError
from reward.answers import answer_schema
from reward.clients.prices import Price, price_of, today
from reward.clients.protocol import Kind, Setting, Task
from reward.clients.sending import Fault, Reply, SendConfig, check_address, retry_after_s
from reward.clients.vlm import Part, VlmConfig, VlmJudge

KEY_VARIABLE = "OPENAI_API_KEY"
FINAL = (400, 401, 402, 403, 404, 413, 422)
OPTIONAL = ("response_format", "reasoning_effort", "temperature", "max_completion_tokens", "max_tokens")
"""Parameters that some servers or models refuse."""
BLOCKED = ("content_filter", "content_policy_violation", "invalid_prompt")
"""Codes of requests that a filter held back."""


@dataclass(frozen=True)
class OpenAIConfig:
    """Ask a server with OpenAI's chat completions."""

    model: str = "gpt-6-luna"
    """Model that sees the pictures, by the server's name for it."""
    decide_model: str = ""
    """Model of the second stage, which sees only text; the same when left out."""
    base_url: str = ""
    """Address of the server, for example http://localhost:8000/v1 (vLLM), http://localhost:11434/v1 (Ollama),
    http://localhost:1234/v1 (LM Studio); OpenAI's own when left out."""
    key_variable: str = ""
    """Environment variable of the API key; OPENAI_API_KEY for OpenAI itself. Another server gets no key
    unless a variable is named, so that OpenAI's key never goes elsewhere."""
    answers: Literal["schema", "text"] = "schema"
    """schema: typed JSON where the server supports it. text: free text, for servers whose models get worse
    under a schema."""
    detail: Literal["low", "high", "auto"] = "high"
    """Detail in which pictures are read."""
    effort: Literal["", "none", "minimal", "low", "medium", "high"] = ""
    """How long a reasoning model thinks. Left out: none for models that can go without (temperature is
    refused otherwise), and not sent to the others."""
    usd_per_million: tuple[float, float] | None = None
    """Price of input and output tokens, for models that reward/clients/prices.yaml does not have. A server of
    your own costs nothing when left out."""

    def __post_init__(self) -> None:
        check_address("openai.base-url", self.base_url)
        if self.usd_per_million is not None and min(self.usd_per_million) < 0:
            raise ConfigError(f"openai.usd-per-million {self.usd_per_million}: prices are 0 or greater.")


class OpenAICompatible:
    """The provider behind a chat-completions address."""

    def __init__(
        self, config: OpenAIConfig, vlm: VlmConfig, timeout_s: float, *, key: str | None = None
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            config: model and server.
            vlm: temperature and length of answers.
            timeout_s: longest wait for an answer.
            key: API key; from the environment when left out. Never logged, stored or shown.

        Raises:
            LabelError: the server needs a key and there is none.
            MachineError: openai is not installed.
        """
        self._config, self._vlm = config, vlm
        self.title = "OpenAI" if not config.base_url else f"the server at {config.base_url}"
        self.key_variable = config.key_variable or ("" if config.base_url else KEY_VARIABLE)
        self.key = key or (os.environ.get(self.key_variable, "") if self.key_variable else "")
        if self.key_variable and not self.key:
            raise LabelError(
                f"no API key: set the environment variable {self.key_variable}, or give --openai.base-url "
                "for a server of your own, or judge with --judge scripted."
            )
        self._sdk = _sdk()
        self._client = self._sdk.OpenAI(
            api_key=self.key or "none",
            base_url=config.base_url or "https://api.openai.com/v1",
            timeout=timeout_s,
            max_retries=0,
        )
        self._dropped: set[str] = set()
        self._lock = threading.Lock()

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Provider, form of answers, detail, effort."""
        config = self._config
        return {
            "provider": "openai-compatible" if config.base_url else "openai",
            "answers": config.answers,
            "detail": config.detail,
            "effort": config.effort,
        }

    def price(self, model: str) -> Price:
        """From the configuration, else the table; a server of one's own is free."""
        listed = price_of(model, today())
        if self._config.usd_per_million is not None:
            price_in, price_out = self._config.usd_per_million
            return replace(listed, input=price_in, output=price_out, known=True)
        if self._config.base_url and not listed.known:
            return replace(listed, input=0.0, output=0.0)
        return listed

    def complete(self, model: str, parts: Sequence[Part], kind: Kind | None) -> Reply:
        """One request; repeated at once without a parameter that the server does not take."""
        content = [self._content(part) for part in parts]
        while True:
            options = self._options(model, kind)
            try:
                began_s = time.monotonic()
                reply = self._client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": content}], **options
                )
            except self._sdk.APIStatusError as error:
                if self._drop(error, options):
                    continue
                if (refused := _blocked(error)) is not None:
                    return refused
                raise _fault(error) from None
            except self._sdk.APITimeoutError:
                raise Fault(
                    f"no answer within {time.monotonic() - began_s:.0f} s", maybe_charged=True
                ) from None
            except (self._sdk.APIConnectionError, self._sdk.APIResponseValidationError) as error:
                cause = error.__cause__ or error
                raise Fault(f"{type(cause).__name__}: {cause}", maybe_charged=True) from None
            except ValueError as error:
                raise Fault(f"an answer that is no JSON: {error}", maybe_charged=True) from None
            return _reply(reply)

    def _content(self, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        url = f"data:image/png;base64,{base64.b64encode(part).decode()}"
        return {"type": "image_url", "image_url": {"url": url, "detail": self._config.detail}}

    def _options(self, model: str, kind: Kind | None) -> dict[str, Any]:
        config, dropped = self._config, self._dropped
        effort = config.effort or ("none" if model.startswith(("gpt-6", "gpt-5.")) else "")
        options: dict[str, Any] = {"max_completion_tokens": self._vlm.max_output_tokens}
        if "max_completion_tokens" in dropped:
            options = {"max_tokens": self._vlm.max_output_tokens}
        if effort:
            options["reasoning_effort"] = effort
        if effort in ("", "none"):
            options["temperature"] = self._vlm.temperature
        if kind is not None and config.answers == "schema":
            schema = {"name": "answer", "strict": True, "schema": answer_schema(kind)}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {name: value for name, value in options.items() if name not in dropped}

    def _drop(self, error: Any, options: Mapping[str, Any]) -> bool:
        """Whether the request was refused for a parameter that can be left out, which it is from here on."""
        if error.status_code not in (400, 422):
            return False
        body = _body(error)
        named = str(body.get("param") or "").partition(".")[0]
        text = str(error).lower()
        for name in OPTIONAL:
            words = ("json_schema", "guided") if name == "response_format" else ()
            if name in options and (name == named or name in text or any(word in text for word in words)):
                with self._lock:
                    self._dropped.add(name)
                return True
        return False


def openai_judge(
    config: OpenAIConfig,
    task: Task,
    vlm: VlmConfig | None = None,
    send: SendConfig | None = None,
    *,
    key: str | None = None,
) -> VlmJudge:
    """A chat-completions model as a judge; raises like OpenAICompatible."""
    vlm, send = vlm or VlmConfig(), send or SendConfig()
    provider = OpenAICompatible(config, vlm, send.timeout_s, key=key)
    return VlmJudge(provider, config.model, task, vlm, send, decide_model=config.decide_model)


def _blocked(error: Any) -> Reply | None:
    """A question that a filter holds back: it has no answer, and says nothing about the next one."""
    body = _body(error)
    if error.status_code == 400 and body.get("code") in BLOCKED:
        return Reply(str(body.get("message") or ""), cut=True)
    return None


def _body(error: Any) -> Mapping[str, Any]:
    return error.body if isinstance(error.body, dict) else {}


def _fault(error: Any) -> Fault:
    body = _body(error)
    detail = str(body.get("message") or error.message)
    spent = error.status_code == 429 and body.get("code") == "insufficient_quota"
    return Fault(
        f"insufficient_quota: {detail}" if spent else detail,
        code=error.status_code,
        retry_after_s=retry_after_s(error.response.headers),
        final=spent or error.status_code in FINAL,
    )


def _reply(reply: Any) -> Reply:
    usage = getattr(reply, "usage", None)
    tokens = (int(usage.prompt_tokens or 0), int(usage.completion_tokens or 0)) if usage else (0, 0)
    choices = getattr(reply, "choices", None)
    if not choices or choices[0].message is None:
        return Reply("", *tokens, cut=True)
    message = choices[0].message
    refusal = getattr(message, "refusal", None)
    cut = bool(refusal) or choices[0].finish_reason in ("length", "content_filter")
    return Reply(message.content or refusal or "", *tokens, cut=cut)


def _sdk() -> Any:
    try:
        return importlib.import_module("openai")
    except ModuleNotFoundError as error:
        raise MachineError(
            f"{error.name} is not installed: pip install openai, for --judge openai."
        ) from error
