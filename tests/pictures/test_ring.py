"""Pictures in shared memory: what is read is whole and the right one, or it is not read."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros_nodes.pictures import ring as rings
from ros_nodes.pictures.layout import PAGE, SLOTS, mark_at
from ros_nodes.pictures.ring import RingError, RingReader, RingWriter
from ros_nodes.pictures.ticket import Ticket, parse

ROOT = Path(__file__).resolve().parents[2]


def picture(seed: int, height: int = 5, width: int = 7) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@contextmanager
def writing(height: int, width: int) -> Iterator[tuple[Ticket, subprocess.Popen[str]]]:
    """A process that writes without a pause, and its first ticket."""
    module = Path(__file__).with_name("ring_writer.py")
    words = [sys.executable, str(module), str(height), str(width)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield parse(process.stdout.readline()), process
        finally:
            process.kill()


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), max_size=12), st.integers(2, 6))
def test_the_newest_pictures_are_read_bit_for_bit_and_older_ones_are_gone(
    heights: list[int], slots: int
) -> None:
    with closing(RingWriter(9 * 7 * 3, slots)) as writer:
        made: list[tuple[Ticket, NDArray[np.uint8]]] = []
        for number, height in enumerate(heights, start=1):
            pixels = picture(number, height)
            made.append((writer.write(pixels, number * 10, "rgb8", "eye"), pixels))
        for age, (ticket, pixels) in enumerate(reversed(made)):
            with closing(RingReader(parse(ticket.text()))) as reader:
                found = reader.read(ticket)
            assert (found is not None) == (age < slots - 1)
            assert found is None or found.tobytes() == pixels.tobytes()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_depth_is_read_as_it_was_written_and_two_readers_read_the_same(dtype: str) -> None:
    depth = np.arange(35, dtype=dtype).reshape(5, 7, 1)
    with closing(RingWriter(depth.nbytes)) as writer:
        ticket = writer.write(depth[:, ::-1], 7, "16UC1")
        with closing(RingReader(ticket)) as one, closing(RingReader(ticket)) as other:
            for reader in (one, other):
                found = reader.read(ticket)
                assert found is not None
                assert (found.view(dtype).reshape(depth.shape) == depth[:, ::-1]).all()


def test_a_process_that_writes_without_a_pause_is_never_seen_half_way() -> None:
    whole = replaced = 0
    with writing(480, 640) as (ticket, process), closing(RingReader(ticket)) as reader:
        while (whole < 300 or replaced < 30) and process.poll() is None:
            for slot in range(SLOTS):
                number = int(reader._words[mark_at(slot)])
                if not number:
                    continue
                found = reader.read(replace(ticket, slot=slot, number=number, stamp_ns=number))
                if found is None:
                    replaced += 1
                    continue
                assert (found == number % 7).all(), "pixels of two pictures in one"
                whole += 1
        assert process.poll() is None


def test_a_picture_that_is_replaced_while_it_is_read_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(RingWriter(105)) as writer:
        ticket = writer.write(picture(0), 1, "rgb8")
        with closing(RingReader(ticket)) as reader:
            assert reader.read(ticket) is not None
            fences = iter(range(99))

            def meanwhile() -> None:
                if next(fences) == 1:  # between the copy and the second look at the mark
                    for number in range(SLOTS - 1):
                        writer.write(picture(number), 2 + number, "rgb8")

            monkeypatch.setattr(rings, "fence", meanwhile)
            assert reader.read(ticket) is None


def test_a_reader_that_comes_before_the_copy_waits_for_it_and_not_for_a_writer_that_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(RingWriter(105)) as writer:
        first = writer.write(picture(0), 1, "rgb8")
        with closing(RingReader(first)) as reader:
            ticket = writer.begin(picture(1), 2, "rgb8")
            waited: list[float] = []
            monkeypatch.setattr(rings.time, "sleep", waited.append)
            assert reader.read(ticket) is None, "nobody fills it"
            assert waited == [rings.PAUSE_S] * rings.PAUSES

            def pause(duration_s: float) -> None:
                waited.append(duration_s)
                writer.fill(picture(1))

            waited.clear()
            monkeypatch.setattr(rings.time, "sleep", pause)
            found = reader.read(ticket)
            assert found is not None
            assert found.tobytes() == picture(1).tobytes()
            assert len(waited) == 1
            for number in range(3, 3 + SLOTS):
                writer.write(picture(number), number, "rgb8")
            assert reader.read(ticket) is None
            assert len(waited) == 1, "what is gone is not waited for"


def test_what_a_killed_writer_wrote_can_be_read_on_and_its_memory_has_no_name_that_stays() -> None:
    with writing(5, 7) as (ticket, process):
        reader = RingReader(ticket)
        process.send_signal(signal.SIGKILL)
        process.wait()
    number = max(int(reader._words[mark_at(slot)]) for slot in range(SLOTS))
    last = replace(ticket, slot=number % SLOTS, number=number, stamp_ns=number)
    found = reader.read(last)
    assert found is not None
    assert (found == number % 7).all()
    reader.close()
    with pytest.raises(RingError, match="is gone: its process has ended"):
        RingReader(last)
    assert not [name for name in os.listdir("/dev/shm") if "armchair" in name]


def test_no_reader_can_write_or_shrink_the_ring() -> None:
    with closing(RingWriter(105)) as writer:
        ticket = writer.write(picture(0), 1, "rgb8")
        path = f"/proc/{ticket.pid}/fd/{ticket.fd}"
        assert os.stat(path).st_mode & 0o777 == 0o600
        handle = os.open(path, os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.ftruncate(handle, 0)
            with pytest.raises(PermissionError):
                mmap.mmap(handle, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            with pytest.raises(PermissionError):
                os.write(handle, b"\0")
        finally:
            os.close(handle)
        with closing(RingReader(ticket)) as reader, pytest.raises(TypeError):
            reader._words[0] = 1


def test_a_ring_that_no_reader_would_map_is_not_made() -> None:
    for size, slots in ((0, 4), (105, 1), (105, 1000), (1 << 29, 4)):
        with pytest.raises(RingError, match="none that is read"):
            RingWriter(size, slots)
