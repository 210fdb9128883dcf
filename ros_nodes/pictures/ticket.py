"""The ticket of a picture: where on this host it lies, in which ring and under which number. No ROS.

It goes over DDS as one std_msgs/String with a JSON object of the fields below, so that
`ros2 topic echo …/shared` can be read. Whoever may publish may publish anything, so nothing in it is believed
before `parse` has seen it, and no path is made of any text in it.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

from episodes.errors import ArmchairError
from ros_nodes.pictures.layout import LONGEST_ENCODING

LONGEST = 1024
"""Characters of a ticket."""
SUFFIX = "shared"
"""Last part of the tickets' topic, behind the topic of the pictures."""
_LARGEST = {"pid": 1 << 22, "fd": 1 << 20, "slot": 1 << 10, "height": 1 << 16, "width": 1 << 16}
_LONGEST = {"host": 128, "ring": 32, "encoding": LONGEST_ENCODING, "frame_id": 256}


class TicketError(ArmchairError):
    """Raised when a text is no ticket."""


@dataclass(frozen=True)
class Ticket:
    """One picture in a ring."""

    host: str
    """Kernel and process namespace in which `pid` means something, as `this_host` says."""
    pid: int
    """Process that writes the ring."""
    fd: int
    """Its descriptor of the ring's memory."""
    ring: str
    """Identity of the ring, 32 hexadecimal digits; each ring has another."""
    slot: int
    """Slot in which the picture lies."""
    number: int
    """Count of the picture in its ring, from 1 up."""
    stamp_ns: int
    """Stamp of the picture, ns: that of the Image message."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    encoding: str
    """As in sensor_msgs/Image."""
    frame_id: str = ""
    """As in sensor_msgs/Image."""

    def text(self) -> str:
        """What is sent."""
        return json.dumps(vars(self))


def parse(text: str) -> Ticket:
    """The ticket in a text.

    Raises:
        TicketError: it is too long, no JSON object, or a field is missing, of another type or out of range.
    """
    if len(text) > LONGEST:
        raise TicketError(f"a ticket of {len(text)} characters; {LONGEST} are the most.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TicketError(f"a ticket that is no JSON ({error}).") from error
    if not isinstance(found, dict) or found.keys() != _FIELDS.keys():
        raise TicketError(f"a ticket without exactly the fields {', '.join(_FIELDS)}.")
    for name, kind in _FIELDS.items():
        value = found[name]
        if type(value) is not kind:  # a bool is an int too
            raise TicketError(f"a ticket whose {name} is {value!r:.80}, which is no {kind.__name__}.")
        if kind is int and not 0 <= value < _LARGEST.get(name, 1 << 63):
            raise TicketError(f"a ticket whose {name} is {value}, out of range.")
        if kind is str and len(value) > _LONGEST[name]:
            raise TicketError(f"a ticket whose {name} has {len(value)} characters.")
    ticket = Ticket(**found)
    if not (ticket.height and ticket.width and ticket.number and ticket.encoding.isascii()):
        raise TicketError("a ticket of a picture without pixels, number or encoding.")
    if set(ticket.ring) - set("0123456789abcdef") or len(ticket.ring) != _LONGEST["ring"]:
        raise TicketError(f"a ticket whose ring is {ticket.ring!r}, no 32 hexadecimal digits.")
    return ticket


_FIELDS = {field.name: {"int": int, "str": str}[str(field.type)] for field in fields(Ticket)}


@functools.cache
def this_host() -> str:
    """The running kernel and the namespace of this process's ids; '' where there is no /proc.

    A container that shares the host's network but not its processes is another host: a pid of one means
    another process in the other.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
