"""Who may come in: the token in the address, the name in the Host header, and what a page may do.

The token is the first part of every path, so that relative addresses carry it and no cookie is needed: a
foreign page can neither read nor write anything. The Host header is checked all the same, since a foreign
name may come to point to this machine while a page is open (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 1 << 16
"""Of a request's body."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class Names:
    """By which names the server may be called."""

    port: int
    names: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})
    """In small letters."""
    addresses: bool = False
    """Any IP address is fine too: no foreign name can point to one."""

    def allow(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        if parts.username is not None or parts.path or (port or 80) != self.port:
            return False
        return name in self.names or (self.addresses and _is_address(name))


class Gate:
    """An ASGI application around another one."""

    def __init__(self, app: App, token: str, names: Names) -> None:
        self._app, self._token, self._names = app, token.encode(), names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] != "http":
            return
        refused = self._refusal(scope)
        if refused is not None:
            await _refuse(send, *refused)
            return
        path = "/" + scope["path"].lstrip("/").partition("/")[2]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [pair for pair in message["headers"] if pair[0].lower() != b"server"]
                message = {**message, "headers": [*given, *_header_pairs()]}
            await send(message)

        await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, answer)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason."""
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._names.allow(hosts[0]):
            return 403, "this server is not called by that name"
        given = scope["path"].lstrip("/").partition("/")[0]
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token):
            return 403, "the token in the address is missing or wrong: use the address that was printed"
        if scope["path"] == f"/{self._token.decode()}":
            return 404, "the address ends with /"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get(b"origin", [f"http://{hosts[0]}"])
            if origin != [f"http://{hosts[0]}"]:
                return 403, "requests of other pages are refused"
            length = headers.get(b"content-length", [""])[0]
            if not length.isdigit() or int(length) > MOST_BYTES:
                return 413, "the request is too long or does not say how long it is"
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _header_pairs() -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in HEADERS.items()]


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_header_pairs()]})
    await send({"type": "http.response.body", "body": body})
