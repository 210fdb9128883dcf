"""How long to wait before a camera that failed is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `first_ns` up to `longest_ns`; each wait is drawn from its upper half.

    The draw keeps several cameras on one hub, which fail together, from being opened at the same moment.
    """

    def __init__(
        self, first_ns: int = 250_000_000, longest_ns: int = 6_000_000_000, *, rng: random.Random
    ) -> None:
        self._first_ns = min(first_ns, longest_ns)
        self._longest_ns = longest_ns
        self._rng = rng
        self._next_ns = self._first_ns

    def failed(self) -> int:
        """ns to wait after one more failure: at most `longest_ns`, at least half of the present step."""
        step_ns = self._next_ns
        self._next_ns = min(2 * step_ns, self._longest_ns)
        return step_ns - self._rng.randrange(step_ns // 2 + 1)

    def worked(self) -> None:
        """A frame came: begin anew."""
        self._next_ns = self._first_ns
