"""For all tests: Ctrl-C reaches the processes that tests start, whatever shell started the tests."""

from __future__ import annotations

import signal

# A background job of a shell without job control ignores SIGINT, and so would every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
