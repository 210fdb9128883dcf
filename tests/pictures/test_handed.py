"""Tickets of pictures, and which way pictures come: nothing that is published can do more than be refused."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.messages import message_stamp_ns
from episodes.picture_messages import decode_image
from ros_nodes.pictures.handed import PATIENCE_NS, Handing
from ros_nodes.pictures.layout import SLOTS
from ros_nodes.pictures.ring import RingWriter
from ros_nodes.pictures.ticket import LONGEST, Ticket, TicketError, parse, this_host

TICKET = Ticket(this_host(), 12, 5, "0f" * 16, 3, 7, 1_700_000_000_123_456_789, 480, 640, "rgb8", "eye")
PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_a_ticket_reads_as_it_was_written() -> None:
    assert parse(TICKET.text()) == TICKET
    assert len(TICKET.text()) < LONGEST


@settings(max_examples=40)
@given(st.text(max_size=60) | st.text('[{":0', max_size=LONGEST + 3) | VALUES.map(json.dumps))
def test_any_other_text_is_refused_as_no_ticket(text: str) -> None:
    with pytest.raises(TicketError, match="a ticket"):
        parse(text)


def test_depth_of_nesting_and_length_are_bounded() -> None:
    for text in ("[" * LONGEST, "[" * 10**6, '{"pid":' * 150, "1" * LONGEST):
        with pytest.raises(TicketError, match="a ticket"):
            parse(text)


@given(st.sampled_from(sorted(asdict(TICKET))), VALUES)
def test_a_ticket_with_one_field_changed_is_within_every_bound_or_refused(name: str, value: Any) -> None:
    try:
        ticket = parse(json.dumps(asdict(TICKET) | {name: value}))
    except TicketError:
        return
    numbers = (ticket.pid, ticket.fd, ticket.slot, ticket.number, ticket.stamp_ns)
    assert all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    assert 0 < ticket.height < 1 << 16
    assert 0 < ticket.width < 1 << 16
    assert set(ticket.ring) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"slot": -1}, "slot is -1, out of range"),
        ({"slot": 1 << 10}, "slot is 1024, out of range"),
        ({"height": 0}, "without pixels"),
        ({"width": float("nan")}, "width is nan, which is no int"),
        ({"width": 640.0}, "width is 640.0, which is no int"),
        ({"number": True}, "number is True, which is no int"),
        ({"stamp_ns": -5}, "stamp_ns is -5, out of range"),
        ({"ring": "../../../../etc/passwd/../../../"}, "no 32 hexadecimal digits"),
        ({"ring": "/dev/shm/x"}, "no 32 hexadecimal digits"),
        ({"ring": "a" * 33}, "ring has 33 characters"),
        ({"pid": "../1"}, "pid is '../1', which is no int"),
        ({"more": 1}, "exactly the fields"),
    ],
)
def test_a_broken_ticket_is_refused_by_field_and_value(change: dict[str, Any], why: str) -> None:
    handing = Handing()
    handing.publishers(["/camera"], ["/camera"])
    assert handing.take(json.dumps(asdict(TICKET) | change), 0) is None
    assert why in handing.problem
    assert not handing.works(0)


def test_a_picture_by_ticket_has_the_fields_of_its_message_and_the_same_pixels() -> None:
    handing = Handing()
    handing.publishers(["/camera"], ["/camera"])
    with closing(RingWriter(PIXELS.nbytes)) as ring:
        for encoding, expected in (("rgb8", PIXELS), ("bgr8", PIXELS[..., ::-1])):
            ticket = ring.write(PIXELS, TICKET.stamp_ns, encoding, "eye")
            message = handing.take(ticket.text(), 0)
            assert message is not None
            assert message_stamp_ns(message) == TICKET.stamp_ns
            assert message.header.frame_id == "eye"
            assert (decode_image(message, "here") == expected).all()
    handing.close()


def test_a_picture_is_lent_only_where_it_is_looked_at_for_less_than_a_period_and_says_when_it_is_gone() -> (
    None
):
    handing = Handing()
    handing.publishers(["/camera"], ["/camera"])
    with closing(RingWriter(PIXELS.nbytes)) as ring:
        looks = ((1, False), (1, True), (99, True), (100, False), (None, False))
        for now_ns, (needed_ns, lent) in zip(range(0, 500, 100), looks, strict=True):
            message = handing.take(ring.write(PIXELS, now_ns, "rgb8").text(), now_ns, needed_ns=needed_ns)
            assert message is not None
            assert (message.lease is not None) == lent
            assert message.data.flags.writeable != lent
        for _ in range(2):
            ring.write(PIXELS, 1, "rgb8")
        message = handing.take(ring.write(PIXELS, 500, "rgb8").text(), 500, needed_ns=40)
        assert message is not None
        assert message.lease is None, "three pictures in 100 ns: the period is 33"
        message = handing.take(ring.write(PIXELS, 500, "rgb8").text(), 600, needed_ns=1)
        assert message is not None
        assert message.lease is not None
        pixels = decode_image(message, "here")
        assert np.may_share_memory(pixels, message.lease.pixels)
        for number in range(SLOTS - 2):
            ring.write(PIXELS + 1, 501 + number, "rgb8")
            assert message.lease.intact()
            assert (pixels == PIXELS).all()
        ring.write(PIXELS + 1, 600, "rgb8")
        assert not message.lease.intact()
        handing.close()
        assert (pixels == PIXELS).all(), "a reader that has left leaves no array without its memory"


def test_only_one_node_that_alone_publishes_pictures_and_tickets_is_believed() -> None:
    handing = Handing()
    with closing(RingWriter(PIXELS.nbytes)) as ring:
        text = ring.write(PIXELS, 1, "rgb8").text()
        assert handing.take(text, 0) is None, "nobody is known to publish"
        for pictures, tickets, why in (
            (["/camera"], ["/camera", "/impostor"], "2 nodes publish tickets: /camera, /impostor"),
            (["/camera"], ["/impostor"], "/impostor publishes tickets, and /camera pictures"),
            (["/camera", "/second"], ["/camera"], "/camera publishes tickets, and /camera, /second pictures"),
            ([], ["/camera"], "/camera publishes tickets, and nobody pictures"),
        ):
            handing.publishers(["/camera"], ["/camera"])
            assert handing.take(text, 5) is not None
            assert handing.works(5)
            handing.publishers(pictures, tickets)
            assert not handing.works(5), "the topic is read from here on"
            assert handing.take(text, 6) is None
            assert handing.problem == why
    handing.close()


def test_pictures_come_by_ticket_until_no_ticket_has_led_to_one_for_some_periods() -> None:
    handing = Handing()
    handing.publishers(["/camera"], ["/camera"])
    with closing(RingWriter(PIXELS.nbytes)) as ring:
        for now_ns in (0, 33_000_000):
            assert handing.take(ring.write(PIXELS, 1, "rgb8").text(), now_ns) is not None
        last = ring.write(PIXELS, 2, "rgb8")
        assert handing.works(33_000_000 + PATIENCE_NS - 1)
        assert not handing.works(33_000_000 + PATIENCE_NS)
        for now_ns in (10**9, 2 * 10**9, 3 * 10**9):  # a camera of 1 Hz
            assert handing.take(ring.write(PIXELS, 2, "rgb8").text(), now_ns) is not None
        assert handing.works(6 * 10**9 - 1)
        assert not handing.works(6 * 10**9)
        ring.write(PIXELS, 2, "rgb8")
        assert handing.take(last.text(), 6 * 10**9) is None
        assert not handing.works(6 * 10**9), "a picture that is gone is none"
        assert (handing.overwritten, handing.problem) == (1, "pictures are replaced before they are read")
    handing.close()


def test_a_new_ring_is_followed_and_one_that_cannot_be_read_is_asked_for_once() -> None:
    handing = Handing()
    handing.publishers(["/camera"], ["/camera"])
    with closing(RingWriter(PIXELS.nbytes)) as small, closing(RingWriter(2 * 4096)) as large:
        assert handing.take(small.write(PIXELS, 1, "rgb8").text(), 0) is not None
        wide = np.tile(PIXELS, (1, 20, 1))
        message = handing.take(large.write(wide, 2, "rgb8").text(), 1)
        assert message is not None
        assert (decode_image(message, "here") == wide).all()
        elsewhere = replace(small.write(PIXELS, 3, "rgb8"), host="another boot", ring="ab" * 16)
        for _ in range(2):
            assert handing.take(elsewhere.text(), 2) is None
            assert handing.problem == "it is on another host or in another container"
        assert handing.take(small.write(PIXELS, 4, "rgb8").text(), 3) is not None
    handing.close()
