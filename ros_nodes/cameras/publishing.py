"""The publishing thread: takes the newest frame and publishes its pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from ros_nodes.cameras.capture import Newest, Shot
from ros_nodes.cameras.intrinsics import Intrinsics
from ros_nodes.cameras.topics import StreamTopics

TAKE_TIMEOUT_S = 0.2


class Publishing:
    """Publishes what the slot holds, in a thread of its own; encoding and sending hold up nothing else."""

    def __init__(
        self,
        slot: Newest[Shot],
        topics: Mapping[str, StreamTopics],
        intrinsics: Callable[[str], Intrinsics | None],
        jpeg_quality: Callable[[], int],
    ) -> None:
        self._slot = slot
        self._topics = topics
        self._intrinsics = intrinsics
        self._jpeg_quality = jpeg_quality
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)
        self.published = 0
        self.longest_ns = 0
        """The longest time that one frame took, since the last `restart_longest`."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """End once the slot is empty, or after `patience_s`."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(patience_s)

    def is_running(self) -> bool:
        """Whether the thread lives; it ends by itself only by an error of the program."""
        return self._thread.is_alive()

    def restart_longest(self) -> int:
        """`longest_ns`, which begins anew."""
        longest_ns, self.longest_ns = self.longest_ns, 0
        return longest_ns

    def _run(self) -> None:
        while (shot := self._slot.take(TAKE_TIMEOUT_S)) is not None or not self._stopping.is_set():
            if shot is None:
                continue
            began_ns = time.monotonic_ns()
            quality = self._jpeg_quality()
            for picture in shot.pictures:
                topics = self._topics[picture.stream]
                topics.publish(picture.pixels, shot.stamp_ns, self._intrinsics(picture.stream), quality)
            self.published += 1
            self.longest_ns = max(self.longest_ns, time.monotonic_ns() - began_ns)
