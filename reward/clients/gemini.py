"""Gemini as a judge, through google-genai.

Two ways to ask, both of Offline RL-VLM-F (Venkataraman et al. 2024): in two stages (describe and compare the
pictures, then decide from that text alone) or in a single question.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, LabelError, MachineError
from reward.answers import ANSWER_SCHEMA, read_answer
from reward.clients.prices import price_of
from reward.clients.protocol import Estimate, Memory, Outcome, Question, Setting, Verdict
from reward.prompting import ImagePrompt, preference_prompt

KEY_VARIABLE = "GEMINI_API_KEY"
IMAGE_TOKENS = 258
"""Tokens of a picture of up to 384 pixels a side."""
REFUSED = (400, 401, 403, 404)
"""Statuses that no repetition mends: wrong request, key refused, no such model."""


@dataclass(frozen=True)
class GeminiConfig:
    """Ask Gemini. The key is read from the environment variable GEMINI_API_KEY."""

    model: str = "gemini-2.5-flash"
    """Model that sees the pictures."""
    decide_model: str = ""
    """Model of the second stage, which sees only text; the same when left out."""
    method: Literal["two-stage", "single"] = "two-stage"
    """Describe, then decide; or both in one question (half the price)."""
    prompt: str = "preference-1"
    """Prompt file in reward/prompts/."""
    temperature: float = 0.0
    """Randomness of the answers."""
    max_output_tokens: int = 2048
    """Most tokens of an answer, thinking included."""
    enlarge_to: int = 336
    """Smaller pictures are enlarged to this many pixels a side; up to 384 it costs nothing more."""
    concurrency: int = 4
    """Questions in flight at once."""
    attempts: int = 5
    """Tries per request when the server is busy, fails or does not answer."""
    timeout_s: float = 60.0
    """Longest wait for one answer."""
    longest_pause_s: float = 60.0
    """Longest pause between tries; a server that asks for a longer one ends the run."""
    base_url: str = ""
    """Another server that speaks the same protocol, for example a proxy."""

    def __post_init__(self) -> None:
        for name in ("max_output_tokens", "enlarge_to", "concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name.replace('_', '-')} {getattr(self, name)} is out of range: 1 or more."
                )
        if self.timeout_s <= 0:
            raise ConfigError(f"timeout-s {self.timeout_s} is out of range: greater than 0.")


@dataclass
class _Bill:
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class Gemini:
    """A judge behind Google's generateContent."""

    def __init__(
        self,
        config: GeminiConfig,
        goal: str,
        *,
        key: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            config: how to ask.
            goal: goal phrase, as it completes "The goal is …".
            key: API key; GEMINI_API_KEY when left out. Never logged, stored or shown.
            sleep: pauses between tries.

        Raises:
            LabelError: there is no key.
            MachineError: google-genai is not installed.
        """
        key = key or os.environ.get(KEY_VARIABLE, "")
        if not key:
            raise LabelError(
                f"no API key: set the environment variable {KEY_VARIABLE} "
                "(https://aistudio.google.com/apikey), or judge "
                "with --judge scripted."
            )
        self._config, self._goal, self._key, self._sleep = config, goal, key, sleep
        self._prompt = preference_prompt(config.prompt)
        self._sdk, self._types, self._errors, self._transport = _sdk()
        options = self._types.HttpOptions(
            timeout=int(config.timeout_s * 1000),
            retry_options=self._types.HttpRetryOptions(attempts=1),
            **({"base_url": config.base_url} if config.base_url else {}),
        )
        self._client = self._sdk.Client(api_key=key, http_options=options)

    @property
    def name(self) -> str:
        """The model that sees the pictures."""
        return self._config.model

    @property
    def prompt_version(self) -> str:
        """Prompt file and its hash."""
        return self._prompt.version

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What decides an answer besides pictures and prompt."""
        config = self._config
        return {
            "goal": self._goal,
            "method": config.method,
            "decide_model": self._decide_model if config.method == "two-stage" else None,
            "temperature": config.temperature,
            "max_output_tokens": config.max_output_tokens,
            "enlarge_to": config.enlarge_to,
        }

    @property
    def paid(self) -> bool:
        """Yes."""
        return True

    @property
    def concurrency(self) -> int:
        """Questions in flight at once."""
        return self._config.concurrency

    @property
    def _decide_model(self) -> str:
        return self._config.decide_model or self._config.model

    def estimate(self, question: Question) -> Estimate:
        """Calls and price of one question: prompt and pictures at four letters a token, answers of usual
        length."""
        pictures, words = 2 * IMAGE_TOKENS, 400
        see = price_of(self._config.model)
        if self._config.method == "single":
            return Estimate(1, see.cost(pictures + _tokens(self._prompt.single), words))
        decide = price_of(self._decide_model)
        return Estimate(
            2,
            see.cost(pictures + _tokens(self._prompt.describe), words)
            + decide.cost(words + len(self._prompt.decide) // 4, 40),
        )

    def ask(self, question: Question, memory: Memory) -> Verdict:
        """Ask about a pair; see Judge.ask."""
        bill = _Bill()
        if self._config.method == "single":
            text = self._send(self._config.model, self._parts(self._prompt.single, question), True, bill)
        else:
            description = memory.recall("describe")
            if description is None:
                parts = self._parts(self._prompt.describe, question)
                description = self._send(self._config.model, parts, False, bill)
                memory.keep("describe", description)
            if not description.strip():
                return self._verdict(Outcome.MALFORMED, "", bill)
            decide = self._prompt.decide.format(goal=self._goal, description=description)
            text = self._send(self._decide_model, [decide], True, bill)
            return self._verdict(read_answer(text, "first"), f"{description}\n---\n{text}", bill)
        return self._verdict(read_answer(text, "last"), text, bill)

    def _verdict(self, outcome: Outcome, text: str, bill: _Bill) -> Verdict:
        return Verdict(outcome, text, bill.calls, bill.input_tokens, bill.output_tokens, bill.cost_usd)

    def _parts(self, prompt: ImagePrompt, question: Question) -> list[Any]:
        def picture(image: NDArray[np.uint8]) -> Any:
            return self._types.Part.from_bytes(
                data=png(image, self._config.enlarge_to), mime_type="image/png"
            )

        return [
            prompt.before_first.format(goal=self._goal),
            picture(question.first.image),
            prompt.before_second.format(goal=self._goal),
            picture(question.second.image),
            prompt.after.format(goal=self._goal),
        ]

    def _send(self, model: str, parts: Sequence[Any], answer: bool, bill: _Bill) -> str:
        """One request with its repetitions → the text of the answer, "" when the model gave none."""
        settings: dict[str, Any] = {
            "temperature": self._config.temperature,
            "max_output_tokens": self._config.max_output_tokens,
            "safety_settings": [
                self._types.SafetySetting(category=category, threshold="BLOCK_NONE")
                for category in _CATEGORIES
            ],
        }
        if answer:
            settings |= {"response_mime_type": "application/json", "response_schema": ANSWER_SCHEMA}
        for attempt in range(self._config.attempts):
            last = attempt + 1 == self._config.attempts
            bill.calls += 1
            try:
                reply = self._client.models.generate_content(
                    model=model,
                    contents=list(parts),
                    config=self._types.GenerateContentConfig(**settings),
                )
            except self._errors.APIError as error:
                if error.code in REFUSED or last:
                    raise self._failure(model, error.code, str(error.message or error.status)) from None
                pause_s = self._pause_s(attempt, retry_after_s(error))
                if pause_s > self._config.longest_pause_s:
                    raise self._failure(model, error.code, f"it asks to wait {pause_s:.0f} s") from None
                self._sleep(pause_s)
            except self._transport as error:
                if last:
                    raise self._failure(model, None, f"{type(error).__name__}: {error}") from None
                self._sleep(self._pause_s(attempt, None))
            else:
                return self._take(model, reply, bill)
        raise self._failure(model, None, "no attempt was made")

    def _take(self, model: str, reply: Any, bill: _Bill) -> str:
        usage = reply.usage_metadata
        if usage is not None:
            read = int(usage.prompt_token_count or 0)
            wrote = int(usage.candidates_token_count or 0) + int(usage.thoughts_token_count or 0)
            bill.input_tokens += read
            bill.output_tokens += wrote
            bill.cost_usd += price_of(model).cost(read, wrote)
        content = reply.candidates[0].content if reply.candidates else None
        texts = [
            part.text for part in (content.parts or [] if content else []) if part.text and not part.thought
        ]
        return "".join(texts)

    def _pause_s(self, attempt: int, asked_s: float | None) -> float:
        """What the server asked for and a little more, else exponential back-off; both with jitter."""
        if asked_s is not None:
            return asked_s + random.uniform(0.0, 0.5)
        return min(2.0**attempt, self._config.longest_pause_s) * random.uniform(0.5, 1.0)

    def _failure(self, model: str, code: int | None, detail: str) -> LabelError:
        detail = " ".join(detail.replace(self._key, "<key>").split())[:300]
        if code in (401, 403) or (code == 400 and "api key" in detail.lower()):
            return LabelError(
                f"Gemini refused the API key ({code}: {detail}). Check {KEY_VARIABLE} and that the key "
                f"may use {model}."
            )
        if code == 404:
            return LabelError(f"Gemini knows no model {model!r} ({detail}): give another --gemini.model.")
        if code == 400:
            return LabelError(f"Gemini refused the request ({detail}).")
        what = "does not answer" if code is None else f"answers {code}"
        return LabelError(
            f"Gemini {what} after {self._config.attempts} tries ({detail}). What was answered is kept: "
            "run the same command "
            "later."
        )


_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


def png(image: NDArray[np.uint8], enlarge_to: int) -> bytes:
    """A picture (height, width, 3) RGB as PNG, enlarged so that its smaller side has `enlarge_to` pixels."""
    height, width = image.shape[:2]
    factor = enlarge_to / min(height, width)
    if factor > 1:
        size = (round(width * factor), round(height * factor))
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise LabelError(f"a picture of shape {image.shape} cannot be encoded as PNG.")
    return bytes(data)


def retry_after_s(error: Any) -> float | None:
    """Seconds that a refusal asks to wait: the Retry-After header, else RetryInfo in the body."""
    headers = getattr(error.response, "headers", None) or {}
    header = headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
        return float(header)
    found = re.search(r"retryDelay['\"]?\s*:\s*['\"](\d+(?:\.\d+)?)s", str(error.details))
    return float(found.group(1)) if found else None


def _tokens(prompt: ImagePrompt) -> int:
    return (len(prompt.before_first) + len(prompt.before_second) + len(prompt.after)) // 4


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
