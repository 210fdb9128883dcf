"""How a question is put to a vision-language model, whoever provides it.

Two ways to ask, both of Offline RL-VLM-F (Venkataraman et al. 2024): in two stages (describe the pictures,
then decide from that text alone) or in a single request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, LabelError
from reward.answers import FORM, MALFORMED, read_answer
from reward.clients.prices import Price
from reward.clients.protocol import Errand, Estimate, Kind, Outcome, Question, Setting, Task, Verdict
from reward.clients.sending import Reply, SendConfig, Sender
from reward.prompting import ImagePrompt, Prompt, load_prompt

DESCRIPTION_TOKENS = 400
"""Usual length of a description, for estimates."""
ANSWER_TOKENS = 60
"""Usual length of an answer with its reason."""

Method = Literal["two-stage", "single"]

Part = str | bytes
"""A piece of a request: text, or a picture as PNG."""


@dataclass(frozen=True)
class VlmConfig:
    """How a vision-language model is asked."""

    method: Method = "two-stage"
    """Describe, then decide; or both in one request, for about half the price."""
    prompt: str = ""
    """Prompt file in reward/prompts/; the newest one for the question when left out."""
    temperature: float = 0.0
    """Randomness of the answers; several votes on a question need more than 0."""
    max_output_tokens: int = 2048
    """Most tokens of an answer, thinking included."""
    enlarge_to: int = 336
    """Smaller pictures are enlarged to this many pixels on their shorter side."""

    def __post_init__(self) -> None:
        for name in ("max_output_tokens", "enlarge_to"):
            if getattr(self, name) < 1:
                shown = name.replace("_", "-")
                raise ConfigError(f"vlm.{shown} {getattr(self, name)} is out of range: 1 or more.")
        if not 0 <= self.temperature <= 2:
            raise ConfigError(f"vlm.temperature {self.temperature} is out of range: 0 to 2.")


class Provider(Protocol):
    """A service that answers requests with text and pictures."""

    @property
    def title(self) -> str:
        """Its name in messages."""
        ...

    @property
    def key(self) -> str:
        """API key, empty where there is none."""
        ...

    @property
    def key_variable(self) -> str:
        """Environment variable of the key."""
        ...

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What of it decides an answer."""
        ...

    def price(self, model: str) -> Price:
        """What a model costs."""
        ...

    def complete(self, model: str, parts: Sequence[Part], kind: Kind | None) -> Reply:
        """One request; `kind` asks for a typed answer to that kind of question where there are schemas.

        Raises:
            Fault: it was not answered.
        """
        ...


class VlmJudge:
    """A judge behind a provider."""

    def __init__(
        self,
        provider: Provider,
        model: str,
        task: Task,
        config: VlmConfig,
        send: SendConfig,
        *,
        decide_model: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            provider: who answers.
            model: sees the pictures.
            task: what is asked.
            config: how it is asked.
            send: how requests are sent.
            decide_model: of the second stage, which sees only text; `model` when empty.
            clock: seconds, monotonic.
        """
        self._provider, self._model, self._task, self._config = provider, model, task, config
        self._decide_model, self._send = decide_model or model, send
        self._prompt = load_prompt(task.kind, config.prompt)
        self._sender = Sender(send, provider.title, provider.key, provider.key_variable, clock)

    @property
    def name(self) -> str:
        """The model that sees the pictures."""
        return self._model

    @property
    def prompt_version(self) -> str:
        """Prompt file and its hash."""
        return self._prompt.version

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What decides an answer besides pictures and prompt."""
        config, task = self._config, self._task
        return {
            "goal": task.goal,
            "question": task.kind.value,
            "layout": task.layout,
            "form": FORM,
            "method": config.method,
            "decide_model": self._decide_model if config.method == "two-stage" else None,
            "temperature": config.temperature,
            "max_output_tokens": config.max_output_tokens,
            "enlarge_to": config.enlarge_to,
            **self._provider.settings,
        }

    @property
    def paid(self) -> bool:
        """Yes."""
        return True

    @property
    def threads(self) -> int:
        """More than requests in flight, so that pictures are encoded while others wait for an answer."""
        return self._send.concurrency + max(2, self._send.concurrency // 4)

    def estimate(self, question: Question) -> Estimate:
        """Calls and price of one question: four letters a token, answers of usual length."""
        see, decide = self._costs(question)
        return Estimate(1, see) if self._config.method == "single" else Estimate(2, see + decide)

    def ask(self, question: Question, errand: Errand) -> Verdict:
        """Ask; see Judge.ask."""
        if len(question.pictures) != self._task.kind.pictures:
            raise LabelError(
                f"the question {self._task.kind.value!r} is about {self._task.kind.pictures} pictures, "
                f"not {len(question.pictures)}."
            )
        kind, goal = self._task.kind, self._task.goal
        see_usd, decide_usd = self._costs(question)
        if self._config.method == "single":
            parts = self._parts(self._prompt.single, question)
            reply = self._request(self._model, parts, kind, errand, see_usd)
            return self._verdict(reply, reply.text, "last", errand)
        description = errand.recall("describe")
        if description is None:
            parts = self._parts(self._prompt.describe, question)
            seen = self._request(self._model, parts, None, errand, see_usd)
            description = seen.text
            if seen.cut:
                # A description that was cut off, blocked or refused tells nothing of the pictures.
                return errand.bill.verdict(Outcome.MALFORMED, description)
            errand.keep("describe", description)
        if not description.strip():
            return errand.bill.verdict(Outcome.MALFORMED, "")
        decide = self._prompt.decide.format(goal=goal, layout=self._task.layout, description=description)
        reply = self._request(self._decide_model, [decide], kind, errand, decide_usd)
        return self._verdict(reply, f"{description}\n---\n{reply.text}", "first", errand)

    def _verdict(self, reply: Reply, text: str, line: Literal["first", "last"], errand: Errand) -> Verdict:
        reading = MALFORMED if reply.cut else read_answer(reply.text, self._task.kind, line)
        return errand.bill.verdict(reading.outcome, text, reading.value)

    def _request(
        self, model: str, parts: Sequence[Part], kind: Kind | None, errand: Errand, estimate_usd: float
    ) -> Reply:
        price = self._provider.price(model)
        return self._sender.send(
            model,
            lambda: self._provider.complete(model, parts, kind),
            errand,
            estimate_usd,
            lambda reply: price.cost(reply.input_tokens, reply.output_tokens),
        )

    def _costs(self, question: Question) -> tuple[float, float]:
        """Estimated US dollars of the request with pictures and of the one without."""
        see, decide = self._provider.price(self._model), self._provider.price(self._decide_model)
        sizes = [shown_size(picture.image, self._config.enlarge_to) for picture in question.pictures]
        return estimated_usd(see, decide, self._prompt, self._config.method, sizes)

    def _parts(self, prompt: ImagePrompt, question: Question) -> list[Part]:
        texts = (prompt.before_first, prompt.before_second)
        parts: list[Part] = []
        for text, picture in zip(texts, question.pictures, strict=False):
            parts += [self._fill(text), png(picture.image, self._config.enlarge_to)]
        return [*parts, self._fill(prompt.after)]

    def _fill(self, text: str) -> str:
        return text.format(goal=self._task.goal, layout=self._task.layout)


def estimated_usd(
    see: Price, decide: Price, prompt: Prompt, method: Method, sizes: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """US dollars of the request with pictures of these (width, height), and of the one without.

    The second is 0 in `single`. Four letters a token, descriptions and answers of usual length; a model
    that thinks takes more.
    """
    seen = sum(see.image.count(width, height) for width, height in sizes)
    if method == "single":
        return see.cost(seen + prompt.single.letters // 4, DESCRIPTION_TOKENS), 0.0
    return (
        see.cost(seen + prompt.describe.letters // 4, DESCRIPTION_TOKENS),
        decide.cost(DESCRIPTION_TOKENS + len(prompt.decide) // 4, ANSWER_TOKENS),
    )


def shown_size(image: NDArray[np.uint8], enlarge_to: int) -> tuple[int, int]:
    """(width, height) in pixels of a picture as it is sent."""
    height, width = image.shape[:2]
    factor = max(1.0, enlarge_to / min(height, width))
    return round(width * factor), round(height * factor)


def png(image: NDArray[np.uint8], enlarge_to: int) -> bytes:
    """A picture (height, width, 3) RGB as PNG, enlarged so that its smaller side has `enlarge_to` pixels."""
    size = shown_size(image, enlarge_to)
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise LabelError(f"a picture of shape {image.shape} cannot be encoded as PNG.")
    return bytes(data)
