"""The page served from a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reward.review.gate import Names
from reward.review.page import listening, make_server
from reward.review.room import Room
from reward.review.server import make_app

TOKEN = "t" * 32


@contextmanager
def served(room: Room, title: str = "slides") -> Iterator[str]:
    """The page's address while it is served."""
    with listening("127.0.0.1", 0) as listener:
        port = int(listener.getsockname()[1])
        server = make_server(make_app(room, TOKEN, Names(port), title=title, person="anna"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/{TOKEN}/"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
