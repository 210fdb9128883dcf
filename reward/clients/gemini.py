"""Gemini, through google-genai."""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from episodes.errors import LabelError, MachineError
from reward.answers import openapi_schema
from reward.clients.prices import ImageTokens, Price, price_of, today
from reward.clients.protocol import Kind, Setting, Task
from reward.clients.sending import Fault, Reply, SendConfig, check_address, retry_after_s
from reward.clients.vlm import Part, VlmConfig, VlmJudge

KEY_VARIABLE = "GEMINI_API_KEY"
FINAL = (400, 401, 402, 403, 404)
"""Statuses that no repetition mends: wrong request, key refused, no credit, no such model."""
RESOLUTION_TOKENS = {"low": 280, "medium": 560, "high": 1120}
"""Most tokens of a picture by media resolution, models from Gemini 3 on."""
CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")


@dataclass(frozen=True)
class GeminiConfig:
    """Ask Gemini. The key is read from the environment variable GEMINI_API_KEY."""

    model: str = "gemini-3.5-flash-lite"
    """Model that sees the pictures."""
    decide_model: str = ""
    """Model of the second stage, which sees only text; the same when left out."""
    resolution: Literal["low", "medium", "high"] = "medium"
    """Detail in which pictures are read: 280, 560 or 1,120 tokens each."""
    thinking: Literal["", "minimal", "low", "medium", "high"] = ""
    """How long it thinks before it answers; the model's own choice when left out."""
    base_url: str = ""
    """Another server that speaks the same protocol, for example a proxy."""

    def __post_init__(self) -> None:
        check_address("gemini.base-url", self.base_url)


class Gemini:
    """The provider behind Google's generateContent."""

    title = "Gemini"
    key_variable = KEY_VARIABLE

    def __init__(
        self, config: GeminiConfig, vlm: VlmConfig, timeout_s: float, *, key: str | None = None
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            config: model and detail.
            vlm: temperature and length of answers.
            timeout_s: longest wait for an answer.
            key: API key; GEMINI_API_KEY when left out. Never logged, stored or shown.

        Raises:
            LabelError: there is no key.
            MachineError: google-genai is not installed.
        """
        self.key, self._config, self._vlm = required_key(key), config, vlm
        self._sdk, self._types, self._errors, self._transport = _sdk()
        options = self._types.HttpOptions(
            timeout=int(timeout_s * 1000),
            retry_options=self._types.HttpRetryOptions(attempts=1),
            base_url=config.base_url or None,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client = self._sdk.Client(api_key=self.key, vertexai=False, http_options=options)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Provider, resolution and thinking."""
        return {
            "provider": "gemini",
            "resolution": self._config.resolution,
            "thinking": self._config.thinking,
        }

    def price(self, model: str) -> Price:
        """From the table, with the pictures' tokens at the resolution that is asked for."""
        price = price_of(model, today())
        if model.startswith("gemini-2"):
            return price
        return replace(price, image=ImageTokens(base=RESOLUTION_TOKENS[self._config.resolution]))

    def complete(self, model: str, parts: Sequence[Part], kind: Kind | None) -> Reply:
        """One request."""
        types = self._types
        settings: dict[str, Any] = {
            "temperature": self._vlm.temperature,
            "max_output_tokens": self._vlm.max_output_tokens,
            "safety_settings": [
                types.SafetySetting(category=f"HARM_CATEGORY_{name}", threshold="BLOCK_NONE")
                for name in CATEGORIES
            ],
        }
        if any(isinstance(part, bytes) for part in parts):
            settings["media_resolution"] = f"MEDIA_RESOLUTION_{self._config.resolution.upper()}"
        if self._config.thinking:
            settings["thinking_config"] = types.ThinkingConfig(thinking_level=self._config.thinking.upper())
        if kind is not None:
            settings |= {"response_mime_type": "application/json", "response_schema": openapi_schema(kind)}
        contents = [
            part if isinstance(part, str) else types.Part.from_bytes(data=part, mime_type="image/png")
            for part in parts
        ]
        try:
            reply = self._client.models.generate_content(
                model=model, contents=contents, config=types.GenerateContentConfig(**settings)
            )
        except self._errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            raise Fault(
                str(error.message or error.status or error),
                code=error.code,
                retry_after_s=retry_after_s(headers, error.details),
                final=error.code in FINAL,
            ) from None
        except self._transport as error:
            raise Fault(f"{type(error).__name__}: {error}", maybe_charged=True) from None
        except ValueError as error:
            # A body that is no JSON, or none of the documented form.
            raise Fault(f"an answer that is none: {error}", maybe_charged=True) from None
        return _reply(reply)


def gemini_judge(
    config: GeminiConfig,
    task: Task,
    vlm: VlmConfig | None = None,
    send: SendConfig | None = None,
    *,
    key: str | None = None,
) -> VlmJudge:
    """Gemini as a judge; raises like Gemini."""
    vlm, send = vlm or VlmConfig(), send or SendConfig()
    provider = Gemini(config, vlm, send.timeout_s, key=key)
    return VlmJudge(provider, config.model, task, vlm, send, decide_model=config.decide_model)


def required_key(key: str | None) -> str:
    """`key`, else GEMINI_API_KEY.

    Raises:
        LabelError: there is none.
    """
    key = key or os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise LabelError(
            f"no API key: set the environment variable {KEY_VARIABLE} "
            "(https://aistudio.google.com/apikey), or judge with --judge scripted."
        )
    return key


def _reply(reply: Any) -> Reply:
    usage = reply.usage_metadata
    content = reply.candidates[0].content if reply.candidates else None
    texts = [part.text for part in (content.parts or [] if content else []) if part.text and not part.thought]
    reason = getattr(reply.candidates[0].finish_reason, "name", "") if reply.candidates else "BLOCKED"
    cut = reason not in ("STOP", "", "FINISH_REASON_UNSPECIFIED")
    if usage is None:
        return Reply("".join(texts), cut=cut)
    wrote = int(usage.candidates_token_count or 0) + int(usage.thoughts_token_count or 0)
    return Reply("".join(texts), int(usage.prompt_token_count or 0), wrote, cut)


def _sdk() -> tuple[Any, Any, Any, tuple[type[Exception], ...]]:
    """google-genai, its types and errors, and the errors of the HTTP library that it was installed with."""
    try:
        with warnings.catch_warnings():
            # Its sources hold strings that Python warns of when it compiles them for the first time.
            warnings.simplefilter("ignore")
            sdk = importlib.import_module("google.genai")
    except ModuleNotFoundError as error:
        raise MachineError(
            f"{error.name} is not installed: pip install google-genai, for --judge gemini."
        ) from error
    transport = tuple(
        importlib.import_module(name).TransportError
        for name in ("httpx2", "httpx")
        if importlib.util.find_spec(name) is not None
    )
    types, errors = (importlib.import_module(f"google.genai.{name}") for name in ("types", "errors"))
    return sdk, types, errors, transport
