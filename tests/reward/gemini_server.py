"""A loopback server that speaks Gemini's generateContent wire format; what it answers is a script."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One request as the server understood it."""

    model: str
    key: str
    texts: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    config: dict[str, Any]


def said(text: str, *, prompt: int = 600, output: int = 20) -> Reply:
    """A normal answer."""
    return Reply(
        200,
        {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {
                "promptTokenCount": prompt,
                "candidatesTokenCount": output,
                "totalTokenCount": prompt + output,
            },
            "modelVersion": "m",
        },
    )


def refused(
    status: int, name: str, message: str, headers: dict[str, str] | None = None, **more: Any
) -> Reply:
    """An error in Google's form."""
    return Reply(
        status, {"error": {"code": status, "message": message, "status": name, **more}}, headers or {}
    )


def parse(path: str, headers: Any, body: bytes) -> Asked:
    """Check the request against the documented schema; ValueError when it does not fit."""
    found = re.fullmatch(r"/v1(?:beta)?/models/([\w.-]+):generateContent", path.partition("?")[0])
    if found is None:
        raise ValueError(f"path {path}")
    request = json.loads(body)
    unknown = set(request) - {"contents", "generationConfig", "safetySettings", "systemInstruction"}
    if unknown:
        raise ValueError(f"unknown fields {unknown}")
    texts, images = [], []
    for content in request["contents"]:
        for part in content["parts"]:
            if "text" in part:
                texts.append(part["text"])
            else:
                data = part["inlineData"]
                if (
                    mime := data.get("mimeType") or data.get("mime_type")
                ) != "image/png":  # proto JSON takes both
                    raise ValueError(f"a picture of type {mime}")
                raw = np.frombuffer(base64.b64decode(data["data"], altchars=b"-_", validate=True), np.uint8)
                images.append(cv2.cvtColor(cv2.imdecode(raw, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
    return Asked(
        found[1],
        headers.get("x-goog-api-key", ""),
        tuple(texts),
        tuple(images),
        request.get("generationConfig", {}),
    )


class GeminiServer:
    """Records what was asked; `respond` decides what is answered."""

    def __init__(self, respond: Callable[[Asked], Reply]) -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    asked = parse(self.path, self.headers, body)
                except (ValueError, KeyError) as error:
                    reply = refused(400, "INVALID_ARGUMENT", f"bad request: {error}")
                else:
                    with outer.lock:
                        outer.asked.append(asked)
                    reply = outer.respond(asked)
                data = json.dumps(reply.body).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[GeminiServer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
