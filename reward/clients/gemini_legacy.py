"""Gemini through google-generativeai, which ended in 2025, for those who still have it.

Its protobuf pin excludes current onnx and tensorboard, so it cannot live in armchair's own environment: use
`gemini` (google-genai) unless yours is bound to it. Its schemas, media resolution and thinking are older than
what `gemini` offers, and it repeats a request that is answered with 401 twice by itself.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from episodes.errors import MachineError
from reward.answers import openapi_schema
from reward.clients.gemini import CATEGORIES, FINAL, required_key
from reward.clients.prices import Price, price_of, today
from reward.clients.protocol import Kind, Setting, Task
from reward.clients.sending import Fault, Reply, SendConfig, check_address, retry_after_s
from reward.clients.vlm import Part, VlmConfig, VlmJudge


@dataclass(frozen=True)
class GeminiLegacyConfig:
    """Ask Gemini through google-generativeai. The key is read from GEMINI_API_KEY."""

    model: str = "gemini-3.5-flash-lite"
    """Model that sees the pictures."""
    decide_model: str = ""
    """Model of the second stage, which sees only text; the same when left out."""
    transport: Literal["rest", "grpc"] = "rest"
    """How requests travel."""
    base_url: str = ""
    """Another server that speaks the same protocol, for example a proxy."""

    def __post_init__(self) -> None:
        check_address("gemini-legacy.base-url", self.base_url)


class GeminiLegacy:
    """The provider behind google-generativeai."""

    title = "Gemini"
    key_variable = "GEMINI_API_KEY"

    def __init__(
        self, config: GeminiLegacyConfig, vlm: VlmConfig, timeout_s: float, *, key: str | None = None
    ) -> None:
        """Prepare a client; nothing is sent yet. Arguments and errors as of Gemini."""
        self.key, self._vlm, self._timeout_s = required_key(key), vlm, timeout_s
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._sdk = importlib.import_module("google.generativeai")
                self._errors = importlib.import_module("google.api_core.exceptions")
                self._requests = importlib.import_module("requests.exceptions")
                self._parsing = importlib.import_module("google.protobuf.json_format")
        except ImportError as error:
            raise MachineError(
                f"google-generativeai cannot be used here ({error}): judge with --judge gemini, which needs "
                "google-genai, or install google-generativeai in an environment of its own."
            ) from error
        endpoint = {"api_endpoint": config.base_url} if config.base_url else None
        self._sdk.configure(api_key=self.key, transport=config.transport, client_options=endpoint)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The provider."""
        return {"provider": "gemini-legacy"}

    def price(self, model: str) -> Price:
        """From the table."""
        return price_of(model, today())

    def complete(self, model: str, parts: Sequence[Part], kind: Kind | None) -> Reply:
        """One request."""
        settings: dict[str, Any] = {
            "temperature": self._vlm.temperature,
            "max_output_tokens": self._vlm.max_output_tokens,
        }
        if kind is not None:
            schema = openapi_schema(kind)
            schema.pop("propertyOrdering", None)
            settings |= {"response_mime_type": "application/json", "response_schema": schema}
        contents = [
            part if isinstance(part, str) else {"mime_type": "image/png", "data": part} for part in parts
        ]
        try:
            reply = self._sdk.GenerativeModel(model).generate_content(
                contents,
                generation_config=settings,
                safety_settings={f"HARM_CATEGORY_{name}": "BLOCK_NONE" for name in CATEGORIES},
                request_options={"timeout": self._timeout_s, "retry": None},
            )
        except (
            self._errors.DeadlineExceeded,
            self._errors.RetryError,
            self._requests.RequestException,
        ) as error:
            raise Fault(f"{type(error).__name__}: {error}", maybe_charged=True) from None
        except self._errors.GoogleAPICallError as error:
            code = int(error.code) if error.code is not None else None
            headers = getattr(error.response, "headers", None) or {}
            raise Fault(
                str(error.message),
                code=code,
                retry_after_s=retry_after_s(headers, error.details),
                final=code in FINAL,
                maybe_charged=code is None,
            ) from None
        except (self._parsing.ParseError, ValueError) as error:
            raise Fault(f"an answer that is none: {error}", maybe_charged=True) from None
        return _reply(reply)


def gemini_legacy_judge(
    config: GeminiLegacyConfig,
    task: Task,
    vlm: VlmConfig | None = None,
    send: SendConfig | None = None,
    *,
    key: str | None = None,
) -> VlmJudge:
    """Gemini through google-generativeai as a judge; raises like GeminiLegacy."""
    vlm, send = vlm or VlmConfig(), send or SendConfig()
    provider = GeminiLegacy(config, vlm, send.timeout_s, key=key)
    return VlmJudge(provider, config.model, task, vlm, send, decide_model=config.decide_model)


def _reply(reply: Any) -> Reply:
    usage = reply.usage_metadata
    tokens = (int(usage.prompt_token_count), int(usage.candidates_token_count)) if usage else (0, 0)
    if not reply.candidates:
        return Reply("", *tokens, cut=True)
    texts = [part.text for part in reply.candidates[0].content.parts if part.text]
    # 0 unspecified, 1 stop; newer servers send reasons that this library has no name for.
    return Reply("".join(texts), *tokens, cut=int(reply.candidates[0].finish_reason) not in (0, 1))
