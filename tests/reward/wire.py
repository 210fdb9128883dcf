"""Loopback servers that speak the providers' wire formats; what they answer is a script.

A request that does not fit the documented schema is answered with 400, as the provider would.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from reward.clients.gemini import GeminiConfig, gemini_judge
from reward.clients.gemini_legacy import GeminiLegacyConfig, gemini_legacy_judge
from reward.clients.openai_compatible import OpenAIConfig, openai_judge
from reward.clients.protocol import Task
from reward.clients.sending import SendConfig
from reward.clients.vlm import VlmConfig, VlmJudge


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    body: dict[str, Any] | str
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Close the connection in the middle of the body."""


@dataclass(frozen=True)
class Asked:
    """One request as the server understood it."""

    model: str
    key: str
    texts: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    config: dict[str, Any]
    schema: dict[str, Any] | None
    """The schema of a typed answer, in lower-case JSON Schema."""


@dataclass(frozen=True)
class Dialect:
    """How a provider speaks."""

    name: str
    model: str
    second_model: str
    key_variable: str
    parse: Callable[[str, Mapping[str, str], bytes], Asked]
    said: Callable[..., Reply]
    error: Callable[..., Reply]
    wordless: tuple[Reply, ...]
    """Answers without words: blocked, empty, out of tokens."""
    make: Callable[..., VlmJudge]

    def judge(
        self,
        url: str,
        task: Task,
        vlm: VlmConfig | None = None,
        send: SendConfig | None = None,
        *,
        key: str,
        **settings: Any,
    ) -> VlmJudge:
        """A client of this provider's that talks to `url`."""
        return self.make(url, task, vlm or VlmConfig(), send or SendConfig(timeout_s=20.0), key, settings)


class BadRequest(ValueError):
    """Raised when a request does not fit the documented schema."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise BadRequest(what)


def picture_of(data: str, *, urlsafe: bool) -> np.ndarray:
    """The attached PNG; it must decode."""
    raw = base64.b64decode(data, altchars=b"-_" if urlsafe else None, validate=True)
    need(raw.startswith(b"\x89PNG"), "a picture that is no PNG")
    found = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    need(found is not None, "a picture that cannot be decoded")
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


# Gemini: https://ai.google.dev/api/generate-content


def gemini_parse(path: str, headers: Mapping[str, str], body: bytes) -> Asked:
    found = re.fullmatch(r"/v1(?:beta)?/models/([\w.-]+):generateContent", path.partition("?")[0])
    need(found, f"path {path}")
    assert found is not None
    request = json.loads(body)
    unknown = set(request) - {"contents", "generationConfig", "safetySettings", "systemInstruction"}
    need(not unknown, f"unknown fields {unknown}")
    texts, images = [], []
    for content in request["contents"]:
        need(content.get("role", "user") == "user", "a role")
        for part in content["parts"]:
            need(len(part) == 1, f"a part with {sorted(part)}")
            if "text" in part:
                need(isinstance(part["text"], str) and part["text"], "an empty text")
                texts.append(part["text"])
            else:
                data = part["inlineData"]
                # Proto JSON takes both spellings.
                need((data.get("mimeType") or data.get("mime_type")) == "image/png", "the type of a picture")
                images.append(picture_of(data["data"], urlsafe=True))
    config = request.get("generationConfig", {})
    known = {
        *("temperature", "maxOutputTokens", "responseMimeType", "responseSchema", "mediaResolution"),
        "thinkingConfig",
    }
    need(set(config) <= known, f"unknown settings {set(config) - known}")
    need(0 <= config.get("temperature", 0) <= 2, "temperature")
    need(isinstance(config.get("maxOutputTokens", 1), int), "maxOutputTokens")
    resolutions = ("LOW", "MEDIUM", "HIGH")
    need(
        config.get("mediaResolution", "MEDIA_RESOLUTION_LOW")
        in {f"MEDIA_RESOLUTION_{r}" for r in resolutions},
        "mediaResolution",
    )
    schema = config.get("responseSchema")
    need((schema is None) or config.get("responseMimeType") == "application/json", "a schema without JSON")
    for setting in request.get("safetySettings", ()):
        # Proto JSON takes enumerations by name and by number.
        need(
            str(setting["category"]).startswith("HARM_CATEGORY_") or setting["category"] in range(7, 11),
            "category",
        )
        need(setting["threshold"] in ("BLOCK_NONE", 4), "a safety threshold")
    lowered = None if schema is None else json.loads(json.dumps(schema), object_hook=_lowered)
    key = headers.get("x-goog-api-key") or ""
    if not key:
        match = re.search(r"[?&]key=([^&]+)", path)
        key = match[1] if match else ""
    return Asked(found[1], key, tuple(texts), tuple(images), config, lowered)


def _lowered(found: dict[str, Any]) -> dict[str, Any]:
    names = ("unspecified", "string", "number", "integer", "boolean", "array", "object")

    def lowered(kind: object) -> object:
        return names[kind] if isinstance(kind, int) else str(kind).lower()

    return {k: lowered(v) if k == "type" and not isinstance(v, dict) else v for k, v in found.items()}


def gemini_said(text: str, *, prompt: int = 600, output: int = 20) -> Reply:
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}
    content = {"role": "model", "parts": [{"text": text}]}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    return Reply(200, {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"})


GEMINI_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def gemini_error(status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    error = {"code": status, "message": message, "status": GEMINI_STATUS[status], **more}
    return Reply(status, {"error": error}, headers or {})


def _gemini_judge(
    url: str, task: Task, vlm: VlmConfig, send: SendConfig, key: str, settings: dict[str, Any]
) -> VlmJudge:
    return gemini_judge(replace(GeminiConfig(base_url=url), **settings), task, vlm, send, key=key)


_USED = {"promptTokenCount": 600}
GEMINI = Dialect(
    "gemini",
    "gemini-3.5-flash-lite",
    "gemini-3.1-flash-lite",
    "GEMINI_API_KEY",
    gemini_parse,
    gemini_said,
    gemini_error,
    (
        Reply(200, {"candidates": [], "usageMetadata": _USED}),
        Reply(200, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": _USED}),
        Reply(200, {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": _USED}),
        Reply(200, {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}),
    ),
    _gemini_judge,
)


# OpenAI: https://platform.openai.com/docs/api-reference/chat/create


def openai_parse(path: str, headers: Mapping[str, str], body: bytes) -> Asked:
    need(path == "/v1/chat/completions", f"path {path}")
    request = json.loads(body)
    options = {"max_completion_tokens", "max_tokens", "temperature", "reasoning_effort", "response_format"}
    unknown = set(request) - {"model", "messages"} - options
    need(not unknown, f"unknown fields {unknown}")
    texts, images = [], []
    need(len(request["messages"]) == 1, "one message")
    (message,) = request["messages"]
    need(set(message) == {"role", "content"} and message["role"] == "user", "a user message")
    for part in message["content"]:
        if part["type"] == "text":
            need(set(part) == {"type", "text"} and part["text"], "a text")
            texts.append(part["text"])
            continue
        need(part["type"] == "image_url" and set(part) == {"type", "image_url"}, "a part")
        need(set(part["image_url"]) <= {"url", "detail"}, "image_url")
        need(part["image_url"].get("detail", "auto") in ("low", "high", "auto"), "detail")
        head, _, data = part["image_url"]["url"].partition(",")
        need(head == "data:image/png;base64", head)
        images.append(picture_of(data, urlsafe=False))
    need(0 <= request.get("temperature", 1) <= 2, "temperature")
    for name in ("max_completion_tokens", "max_tokens"):
        need(isinstance(request.get(name, 1), int), name)
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    need(request.get("reasoning_effort", "none") in efforts, "reasoning_effort")
    schema = None
    if (form := request.get("response_format")) is not None:
        need(form["type"] == "json_schema" and set(form) == {"type", "json_schema"}, "response_format")
        need(re.fullmatch(r"[\w-]{1,64}", form["json_schema"]["name"]), "the schema's name")
        schema = form["json_schema"]["schema"]
        # What strict mode demands.
        need(form["json_schema"]["strict"] is True, "strict")
        need(schema["additionalProperties"] is False, "additionalProperties")
        need(set(schema["required"]) == set(schema["properties"]), "required")
    key = headers.get("authorization", "").removeprefix("Bearer ")
    config = {name: request[name] for name in options if name in request}
    return Asked(request["model"], key, tuple(texts), tuple(images), config, schema)


def openai_said(
    text: str | None,
    *,
    prompt: int = 600,
    output: int = 20,
    finish: str = "stop",
    refusal: str | None = None,
) -> Reply:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return Reply(
        200,
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        },
    )


def openai_error(status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    error = {"message": message, "type": "error", "param": None, "code": None, **more}
    return Reply(status, {"error": error}, headers or {})


def _openai_judge(
    url: str, task: Task, vlm: VlmConfig, send: SendConfig, key: str, settings: dict[str, Any]
) -> VlmJudge:
    config = replace(OpenAIConfig(base_url=f"{url}/v1", key_variable="OPENAI_API_KEY"), **settings)
    return openai_judge(config, task, vlm, send, key=key)


_NO_CHOICE = openai_said("x").body
assert isinstance(_NO_CHOICE, dict)
OPENAI = Dialect(
    "openai",
    "gpt-6-luna",
    "gpt-5.6-luna",
    "OPENAI_API_KEY",
    openai_parse,
    openai_said,
    openai_error,
    (
        Reply(200, {**_NO_CHOICE, "choices": []}),
        openai_said(None, finish="content_filter"),
        openai_said("", finish="length"),
        openai_said(None),
    ),
    _openai_judge,
)


def _legacy_judge(
    url: str, task: Task, vlm: VlmConfig, send: SendConfig, key: str, settings: dict[str, Any]
) -> VlmJudge:
    return gemini_legacy_judge(
        replace(GeminiLegacyConfig(base_url=url), **settings), task, vlm, send, key=key
    )


GEMINI_LEGACY = replace(GEMINI, name="gemini-legacy", make=_legacy_judge)

LEGACY_VARIABLE = "ARMCHAIR_TEST_GEMINI_LEGACY"
"""Set where google-generativeai is installed: its protobuf excludes what the other SDKs' environment
needs."""
DIALECTS = (GEMINI_LEGACY,) if os.environ.get(LEGACY_VARIABLE) else (GEMINI, OPENAI)


class WireServer:
    """Records what was asked; `respond` decides what is answered."""

    def __init__(self, dialect: Dialect, respond: Callable[[Asked], Reply]) -> None:
        self.dialect, self.respond = dialect, respond
        self.asked: list[Asked] = []
        self.rejected: list[str] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                try:
                    asked = outer.dialect.parse(self.path, headers, body)
                except (ValueError, KeyError, TypeError) as error:
                    outer.rejected.append(str(error))
                    reply = outer.dialect.error(400, f"bad request: {error}")
                else:
                    with outer.lock:
                        outer.asked.append(asked)
                    reply = outer.respond(asked)
                self._write(reply)

            def _write(self, reply: Reply) -> None:
                text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                data = text.encode()
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2] if reply.cut else data)
                    if reply.cut:
                        self.close_connection = True
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.request_queue_size = 64
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[WireServer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def script(*replies: Reply) -> Callable[[Asked], Reply]:
    """Answers one after the other."""
    rest, lock = iter(replies), threading.Lock()

    def respond(asked: Asked) -> Reply:
        with lock:
            return next(rest)

    return respond
