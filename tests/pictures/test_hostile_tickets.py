"""Tickets that lead to something else, or lie: refused, with the reason, and nothing there is opened."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros_nodes.pictures.layout import HEADER, LINK, MAGIC, PAGE, SLOTS
from ros_nodes.pictures.ring import RingError, RingReader, RingWriter
from ros_nodes.pictures.ticket import Ticket

PIXELS = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)
IDENTITY = bytes(range(16))
WHOLE = 3 * PAGE


@pytest.fixture
def ticket() -> Iterator[Ticket]:
    """Of a ring that is there."""
    with closing(RingWriter(PIXELS.nbytes)) as writer:
        yield writer.write(PIXELS, 1, "rgb8")


def file_like(size: int, content: bytes, *, sealed: bool = True, name: str = LINK) -> int:
    handle = os.memfd_create(name.removeprefix("/memfd:"), os.MFD_ALLOW_SEALING)
    os.fchmod(handle, 0o600)
    os.ftruncate(handle, size)
    os.pwrite(handle, content, 0)
    if sealed:
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return handle


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: file_like(WHOLE, HEADER.pack(MAGIC, IDENTITY, 2, PAGE), name="/memfd:other"), "no ring"),
        (lambda: file_like(WHOLE, HEADER.pack(MAGIC, IDENTITY, 2, PAGE), sealed=False), "could shrink"),
        (lambda: file_like(WHOLE, HEADER.pack(MAGIC, bytes(16), 2, PAGE)), "another ring"),
        (lambda: file_like(WHOLE, HEADER.pack(b"x" * 16, IDENTITY, 2, PAGE)), "another ring"),
        (lambda: file_like(WHOLE, HEADER.pack(MAGIC, IDENTITY, 3, PAGE)), "is damaged"),
        (lambda: file_like(WHOLE, HEADER.pack(MAGIC, IDENTITY, 0, PAGE)), "is damaged"),
        (lambda: file_like(WHOLE, HEADER.pack(MAGIC, IDENTITY, 2, 1 << 62)), "is damaged"),
        (lambda: file_like(PAGE + 6, HEADER.pack(MAGIC, IDENTITY, 2, 3)), "is damaged"),
        (lambda: file_like(3, b"abc"), "cannot be read"),
        (lambda: os.open("/dev/zero", os.O_RDONLY), "which is no ring"),
        (lambda: os.open("/etc/passwd", os.O_RDONLY), "which is no ring"),
        (lambda: os.pipe()[0], "which is no ring"),
    ],
)
def test_a_ticket_that_leads_to_anything_but_a_ring_is_refused_with_what_it_leads_to(
    ticket: Ticket, make: Callable[[], int], why: str
) -> None:
    handle = make()
    try:
        with pytest.raises(RingError, match=why):
            RingReader(replace(ticket, fd=handle, ring=IDENTITY.hex()))
    finally:
        os.close(handle)


def test_rings_that_others_own_or_may_read_are_refused(
    ticket: Ticket, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.fchmod(ticket.fd, 0o644)
    with pytest.raises(RingError, match="others may read it"):
        RingReader(ticket)
    os.fchmod(ticket.fd, 0o600)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(RingError, match=f"belongs to user {os.getuid()}"):
        RingReader(ticket)


def test_tickets_of_other_hosts_lies_and_slots_that_are_not_there_are_refused(ticket: Ticket) -> None:
    with pytest.raises(RingError, match="another host"):
        RingReader(replace(ticket, host="another boot pid:[1]"))
    with closing(RingReader(ticket)) as reader:
        for lie in ({"stamp_ns": 2}, {"height": 7, "width": 5}, {"width": 70}, {"encoding": "bgr8"}):
            with pytest.raises(RingError, match="the ticket says"):
                reader.read(replace(ticket, **lie))
        for slot in (SLOTS, 63, 1023):
            with pytest.raises(RingError, match="names slot"):
                reader.read(replace(ticket, slot=slot))
        assert reader.read(replace(ticket, number=ticket.number + 1)) is None
        assert reader.read(replace(ticket, slot=(ticket.slot + 1) % SLOTS)) is None


@settings(max_examples=60)
@given(st.integers(0, (1 << 22) - 1), st.integers(0, (1 << 20) - 1), st.integers(0, 1023))
def test_any_ticket_leads_to_a_ring_or_to_an_error_that_says_why(pid: int, fd: int, slot: int) -> None:
    with closing(RingWriter(PIXELS.nbytes)) as writer:
        ticket = writer.write(PIXELS, 1, "rgb8")
        for hostile in (replace(ticket, pid=pid, fd=fd, slot=slot), replace(ticket, fd=fd % 64)):
            with contextlib.suppress(RingError), closing(RingReader(hostile)) as reader:
                found = reader.read(hostile)
                assert found is None or found.tobytes() == PIXELS.tobytes()
