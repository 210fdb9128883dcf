"""Sending one request until it is answered: pace, requests in flight, repetitions, what went wrong.

Providers say what happened as a `Fault`; what follows from it is decided here, once for all of them.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from episodes.errors import ConfigError, LabelError
from reward.clients.protocol import Errand


@dataclass(frozen=True)
class SendConfig:
    """How requests are sent to a paid judge."""

    concurrency: int = 4
    """Requests in flight at once."""
    per_minute: float | None = None
    """Most requests a minute (token bucket); no bound when left out."""
    attempts: int = 5
    """Tries per request when the server is busy, fails or does not answer."""
    timeout_s: float = 60.0
    """Longest wait for one answer."""
    longest_pause_s: float = 60.0
    """Longest pause between tries; a server that asks for a longer one ends the run."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"send.{name} {getattr(self, name)} is out of range: 1 or more.")
        if self.per_minute is not None and not self.per_minute > 0:
            raise ConfigError(f"send.per-minute {self.per_minute} is out of range: greater than 0.")
        if not self.timeout_s > 0 or not self.longest_pause_s > 0:
            raise ConfigError("send.timeout-s and send.longest-pause-s are greater than 0.")


def check_address(option: str, url: str) -> None:
    """Refuse the address of a server that holds a name or a password: an address is shown in messages.

    Raises:
        ConfigError: it does, or it is no http address.
    """
    if not url:
        return
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{option} {url!r}: write it with http:// or https://.")
    if "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{option} holds a user name or a password: write the address alone, and give the key in an "
            "environment variable."
        )


@dataclass(frozen=True)
class Reply:
    """An answer; the text is empty when the model gave none."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cut: bool = False
    """The model did not come to its end: out of tokens, blocked, refused. What it decided cannot be known."""


class Fault(Exception):
    """Raised by a provider when a request was not answered."""

    def __init__(
        self,
        detail: str,
        *,
        code: int | None = None,
        retry_after_s: float | None = None,
        final: bool = False,
        maybe_charged: bool = False,
    ) -> None:
        """Describe it.

        Args:
            detail: what the server said.
            code: HTTP status, None when there was none.
            retry_after_s: pause that the server asks for.
            final: no repetition mends it.
            maybe_charged: the request may have reached the model (time-out, cut connection).
        """
        super().__init__(detail)
        self.detail, self.code, self.retry_after_s = detail, code, retry_after_s
        self.final, self.maybe_charged = final, maybe_charged

    @property
    def of_one_question(self) -> bool:
        """Whether a final refusal may be about what this one request holds (a picture that is too large or
        cannot be read), so that others can be answered all the same."""
        return self.code in (400, 413, 422) and "api key" not in self.detail.lower()


class TokenBucket:
    """At most `burst` requests at once and `per_minute` in the long run. Threads may share it."""

    def __init__(self, per_minute: float, burst: int = 1) -> None:
        self._per_s, self._burst = per_minute / 60.0, float(burst)
        self._tokens, self._at_s, self._lock = float(burst), None, threading.Lock()

    _at_s: float | None

    def take(self, now_s: float) -> float:
        """Take a token; the seconds to wait before it may be used. Those who wait are served in order."""
        with self._lock:
            if self._at_s is not None:
                gained = (now_s - self._at_s) * self._per_s
                self._tokens = min(self._burst, self._tokens + gained)
            self._at_s = now_s
            self._tokens -= 1.0
            return max(0.0, -self._tokens / self._per_s)

    def give_back(self) -> None:
        """Return a token that was not used."""
        with self._lock:
            self._tokens += 1.0


class Sender:
    """Sends the requests of one judge."""

    def __init__(
        self, config: SendConfig, provider: str, key: str, key_variable: str, clock: Callable[[], float]
    ) -> None:
        """Prepare.

        Args:
            config: how to send.
            provider: who answers, for messages.
            key: API key, struck out of every message; empty where there is none.
            key_variable: where the key came from.
            clock: seconds, monotonic.
        """
        self._config, self._provider, self._key, self._variable = config, provider, key, key_variable
        self._clock = clock
        self._slots = threading.BoundedSemaphore(config.concurrency)
        self._bucket = None if config.per_minute is None else TokenBucket(config.per_minute)

    def send(
        self,
        model: str,
        request: Callable[[], Reply],
        errand: Errand,
        estimate_usd: float,
        cost_usd: Callable[[Reply], float],
    ) -> Reply:
        """One request with its repetitions.

        A try whose fate is unknown is booked at `estimate_usd`, so that a budget in money holds.

        Raises:
            LabelError: it was not answered.
            WithdrawnError: the errand was withdrawn while it waited.
        """
        bill = errand.bill
        for attempt in range(self._config.attempts):
            self._wait_turn(errand)
            try:
                with self._slots:
                    errand.claim()
                    bill.calls += 1
                    reply = self._once(request, errand)
            except Fault as fault:
                if fault.maybe_charged:
                    bill.cost_usd += estimate_usd
                if fault.final or attempt + 1 == self._config.attempts:
                    raise self._failure(model, fault) from None
                pause_s = self._pause_s(attempt, fault.retry_after_s)
                if pause_s > self._config.longest_pause_s + 1:
                    fault.detail = f"it asks to wait {fault.retry_after_s:.0f} s"
                    raise self._failure(model, fault) from None
                errand.pause(pause_s)
            else:
                bill.input_tokens += reply.input_tokens
                bill.output_tokens += reply.output_tokens
                bill.cost_usd += cost_usd(reply)
                return reply
        raise LabelError(f"{self._provider}: no attempt was made.")

    def _once(self, request: Callable[[], Reply], errand: Errand) -> Reply:
        try:
            return request()
        except Fault as fault:
            if fault.final and not fault.of_one_question:
                # Before the slot is free for the next request.
                errand.end_run()
            raise

    def _wait_turn(self, errand: Errand) -> None:
        if self._bucket is None:
            return
        wait_s = self._bucket.take(self._clock())
        if wait_s > 0:
            try:
                errand.pause(wait_s)
            except LabelError:
                self._bucket.give_back()
                raise

    def _pause_s(self, attempt: int, asked_s: float | None) -> float:
        """What the server asked for and a little more, else exponential back-off; both with jitter."""
        if asked_s is not None:
            return asked_s + random.uniform(0.0, 0.5)
        return min(2.0**attempt, self._config.longest_pause_s) * random.uniform(0.5, 1.0)

    def _failure(self, model: str, fault: Fault) -> LabelError:
        detail = fault.detail.replace(self._key, "<key>") if self._key else fault.detail
        detail = " ".join(detail.split())[:300]
        who, code = self._provider, fault.code
        if code in (401, 403) or (code == 400 and "api key" in detail.lower()):
            return LabelError(
                f"{who} refused the API key ({code}: {detail}). Check {self._variable} and that the key "
                f"may use {model}."
            )
        if code == 402 or "insufficient_quota" in detail:
            return LabelError(f"{who}: the account has no credit left ({code}: {detail}). Top it up there.")
        if code == 404:
            return LabelError(f"{who} knows no model {model!r} ({detail}): give another one.")
        if fault.final:
            return LabelError(f"{who} refused the request ({code}: {detail}).")
        what = "does not answer" if code is None else f"answers {code}"
        return LabelError(
            f"{who} {what} after {self._config.attempts} tries ({detail}). What was answered is kept: "
            "run the same command later."
        )


def retry_after_s(headers: Mapping[str, str], body: object = None) -> float | None:
    """Seconds that a refusal asks to wait.

    The Retry-After header (seconds or an HTTP date) or retry-after-ms, else Google's RetryInfo in the body.
    """
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds := str(headers.get("retry-after-ms", "")).strip()):
        return float(milliseconds) / 1000
    header = str(headers.get("retry-after", "")).strip()
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    if header:
        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
        except ValueError:
            return None
    found = re.search(r"retryDelay['\"]?\s*:\s*['\"](\d+(?:\.\d+)?)s", str(body))
    return float(found.group(1)) if found else None
