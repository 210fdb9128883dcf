"""Which way the pictures of one topic come to this process: by ticket, or as messages. Pure; time is told.

By ticket only while exactly one node publishes the pictures and that node alone publishes their tickets:
who else publishes either is no better than a second camera, whose pictures the topic shows as they come.
And only while tickets lead to pictures: `PATIENCE_NS` after the last one that did, the topic is read again.
So a camera without tickets, one on another host and one whose memory may not be read need no setting, and a
camera that fails is noticed by its silence on both ways.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ros_nodes.pictures.ring import Bytes, Lease, RingError, RingReader
from ros_nodes.pictures.ticket import Ticket, TicketError, parse

PATIENCE_NS = 300_000_000
"""Without a picture by ticket for so long, pictures are read from the topic again."""
PERIODS = 3
"""Of a camera that is slower: for so many of its periods, each at most `LONGEST_PERIOD_NS`."""
LONGEST_PERIOD_NS = 2_000_000_000


@dataclass(frozen=True)
class Handed:
    """A picture from a ring, with the fields of a sensor_msgs/Image that its readers use."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: Bytes
    lease: Lease | None = None
    """Of a picture that was not copied: what is made of it counts only if the lease is intact afterwards."""


def as_message(ticket: Ticket, data: Bytes, lease: Lease | None = None) -> Handed:
    """The picture of a ticket, as if it had come as a message. Rows have no padding."""
    sec, nanosec = divmod(ticket.stamp_ns, 1_000_000_000)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=ticket.frame_id)
    step = len(data) // ticket.height
    big = sys.byteorder == "big"
    return Handed(header, ticket.height, ticket.width, ticket.encoding, big, step, data, lease)


class Handing:
    """The tickets of one topic: reads them, and says whether they are the way that pictures come."""

    def __init__(self) -> None:
        self._reader: RingReader | None = None
        self._refused_ring = ""
        self._alone = False
        self._handed_ns: int | None = None
        self._interval_ns = 0
        self._last: Ticket | None = None
        self.problem = ""
        """Why the last ticket was not used; '' if it was, or none has come."""
        self.overwritten = 0
        """Pictures that were gone, or replaced while they were read."""

    def publishers(self, pictures: Collection[str], tickets: Collection[str]) -> None:
        """Names of the nodes that publish the pictures and the tickets, as often as they do."""
        self._alone = len(tickets) == 1 and list(pictures) == list(tickets)
        if not self._alone:
            self._handed_ns = None
            if len(tickets) > 1:
                self.problem = f"{len(tickets)} nodes publish tickets: {', '.join(sorted(tickets))}"
            elif tickets:
                others = ", ".join(pictures) or "nobody"
                self.problem = f"{', '.join(tickets)} publishes tickets, and {others} pictures"

    def works(self, now_ns: int) -> bool:
        """Whether pictures come by ticket (`now_ns` monotonic): what comes as a message is then a double."""
        patience_ns = max(PATIENCE_NS, PERIODS * self._interval_ns)
        return self._handed_ns is not None and now_ns - self._handed_ns < patience_ns

    def take(self, text: str, now_ns: int, *, needed_ns: int | None = None) -> Handed | None:
        """The picture of a ticket that has just come; None, with the reason in `problem`, for any other.

        With `needed_ns`, how long it will be looked at, it is lent where that is less than a period of its
        camera, for two periods or more pass until its slot is written again; and else copied.
        """
        if not self._alone:
            return None
        try:
            ticket = parse(text)
            ring = self._ring(ticket)
            lends = needed_ns is not None and needed_ns < self._period_ns(ticket, now_ns)
            lease = ring.lend(ticket) if lends else None
            data = lease.pixels if lease is not None else ring.read(ticket)
        except (TicketError, RingError) as error:
            self.problem = str(error)
            return None
        if data is None:
            self.overwritten += 1
            self.problem = "pictures are replaced before they are read"
            return None
        if self._handed_ns is not None:
            self._interval_ns = min(now_ns - self._handed_ns, LONGEST_PERIOD_NS)
        self._handed_ns, self._last, self.problem = now_ns, ticket, ""
        return as_message(ticket, data, lease)

    def _period_ns(self, ticket: Ticket, now_ns: int) -> int:
        """How often the ring gets a picture, 0 for unknown; whoever takes only the newest takes fewer."""
        last, handed_ns = self._last, self._handed_ns
        if last is None or handed_ns is None or last.ring != ticket.ring or last.number >= ticket.number:
            return 0
        return (now_ns - handed_ns) // (ticket.number - last.number)

    def _ring(self, ticket: Ticket) -> RingReader:
        if self._reader is not None and self._reader.identity == ticket.ring:
            return self._reader
        if ticket.ring == self._refused_ring:
            raise RingError(self.problem)
        self.close()
        try:
            self._reader = RingReader(ticket)
        except RingError:
            self._refused_ring = ticket.ring
            raise
        return self._reader

    def close(self) -> None:
        """Let go of the ring."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
