"""A ring of pictures in memory that one process writes and others of the same user read. No ROS.

The memory is a memfd: it has no name in any folder, so nothing is left behind however its writer ends, and
the kernel frees it with the last process that maps it. A reader opens it through `/proc/<pid>/fd/<fd>`, which
the kernel permits to the same user. Its size is sealed, since a file that shrinks would kill its readers with
SIGBUS; writing through later mappings is sealed too.

Reading takes no lock and holds up no writer. It is a sequence lock (Boehm 2012, "Can seqlocks get along with
programming language memory models?"): a picture counts only if its slot's mark is its number before and
after it was copied. The writer takes a slot's mark away one picture before it writes there, so from the
mark's end to the first new pixel a whole period passes, and where pictures come in bursts at least two
`fence`s. No processor delays a store or advances a load by that much, and no fence is needed for it; the
fences make it hold by the letter, also on arm64, which orders neither stores nor loads by itself. They cover
numpy's copies too, whose stores may bypass the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import stat
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ArmchairError
from ros_nodes.pictures.layout import (
    FUTURE_WRITE,
    HEADER,
    LARGEST_RING,
    LINK,
    LONGEST_ENCODING,
    MAGIC,
    MOST_SLOTS,
    PAGE,
    SLOT,
    SLOT_AFTER_MARK,
    SLOTS,
    fence,
    mark_at,
    pixels_at,
)
from ros_nodes.pictures.ticket import Ticket, this_host

Bytes = NDArray[np.uint8]

SPINS = 1000
PAUSES = 200
PAUSE_S = 5e-5
"""Attempts to find a picture copied, and how long the later ones pause: 0.2 ms, and 20 to 40 ms in all."""


class RingError(ArmchairError):
    """Raised when a ring cannot be made, or when a ticket leads to nothing that may be read."""


class RingWriter:
    """Writes pictures into a ring of its own. One process, one thread at a time."""

    def __init__(self, picture_bytes: int, slots: int = SLOTS) -> None:
        """Make the memory for pictures of at most so many bytes.

        Raises:
            RingError: the kernel gives none, or the pictures are larger than any reader would map.
        """
        self._slots = slots
        self._slot_bytes = -(-picture_bytes // PAGE) * PAGE
        size = pixels_at(slots, self._slot_bytes)
        if not 2 <= slots <= MOST_SLOTS or picture_bytes < 1 or size > LARGEST_RING:
            raise RingError(f"a ring of {slots} pictures of {picture_bytes} bytes is none that is read.")
        self.host, self.pid = this_host(), os.getpid()
        self.identity = secrets.token_hex(16)
        self._number = 0
        with contextlib.ExitStack() as undo:
            try:
                name = LINK.removeprefix("/memfd:")
                self.handle = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                undo.callback(os.close, self.handle)
                os.fchmod(self.handle, 0o600)
                os.ftruncate(self.handle, size)
                flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
                self._map = mmap.mmap(self.handle, size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
                fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, seals)
                with contextlib.suppress(OSError):  # Linux before 5.1: readers map for reading all the same
                    fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, FUTURE_WRITE)
                fcntl.fcntl(self.handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
            except (OSError, AttributeError) as error:
                raise RingError(f"no shared memory for pictures: {error}") from error
            undo.pop_all()
        HEADER.pack_into(self._map, 0, MAGIC, bytes.fromhex(self.identity), slots, self._slot_bytes)
        self._words = memoryview(self._map).cast("Q")
        self._pixels = np.frombuffer(self._map, np.uint8)

    def fits(self, picture_bytes: int) -> bool:
        """Whether a picture of so many bytes has room in a slot."""
        return picture_bytes <= self._slot_bytes

    def write(self, pixels: NDArray[Any], stamp_ns: int, encoding: str, frame_id: str = "") -> Ticket:
        """Copy a picture (H, W, C) that `fits` into the next slot; where it is.

        It can be read until as many pictures as the ring has slots, less two, have followed.
        """
        ticket = self.begin(pixels, stamp_ns, encoding, frame_id)
        self.fill(pixels)
        return ticket

    def begin(self, pixels: NDArray[Any], stamp_ns: int, encoding: str, frame_id: str = "") -> Ticket:
        """Where a picture will be once `fill` has copied it, which must follow at once.

        The ticket may go out before: it takes as long to its reader as the copy takes, and a reader that is
        there first waits for it.
        """
        number = self._number = self._number + 1
        slot, following = number % self._slots, (number + 1) % self._slots
        height, width = pixels.shape[:2]
        words, mark = self._words, mark_at(slot)
        retired = mark_at(following)
        words[mark] = words[retired] = words[retired + 1] = 0
        fence()
        at = mark * 8 + SLOT_AFTER_MARK
        SLOT.pack_into(self._map, at, stamp_ns, height, width, pixels.nbytes, encoding.encode())
        fence()
        words[mark + 1] = number
        return Ticket(
            self.host, self.pid, self.handle, self.identity,
            slot, number, stamp_ns, height, width, encoding, frame_id,
        )  # fmt: skip

    def fill(self, pixels: NDArray[Any]) -> None:
        """Copy the picture that `begin` was told of."""
        slot = self._number % self._slots
        begin = pixels_at(slot, self._slot_bytes)
        target = self._pixels[begin : begin + pixels.nbytes]
        np.copyto(target.view(pixels.dtype).reshape(pixels.shape), pixels)
        fence()
        self._words[mark_at(slot)] = self._number

    def close(self) -> None:
        """Let go of the memory; who has mapped it keeps it."""
        del self._pixels
        self._words.release()
        self._map.close()
        os.close(self.handle)


@dataclass(frozen=True)
class Lease:
    """A picture where it lies. What was made of it counts only if it is `intact` afterwards."""

    pixels: Bytes
    """(n,) in the ring, rows without padding; read only."""
    words: Any
    mark: int
    number: int

    def intact(self) -> bool:
        """Whether the picture has been there the whole time."""
        fence()
        return bool(self.words[self.mark] == self.number)


class RingReader:
    """Reads the pictures of one ring, whatever its writer does meanwhile."""

    def __init__(self, ticket: Ticket) -> None:
        """Map the ring of a ticket, for reading.

        Raises:
            RingError: it is not on this host, gone, another user's, or no ring of pictures.
        """
        if ticket.host != this_host():
            raise RingError("it is on another host or in another container")
        path = f"/proc/{ticket.pid}/fd/{ticket.fd}"
        with contextlib.ExitStack() as held:
            try:
                # As a path only: to open what is there could wait for ever (a FIFO) or act (a device).
                there = os.open(path, os.O_PATH | os.O_CLOEXEC)
                held.callback(os.close, there)
                self._check_owner(os.fstat(there), os.readlink(f"/proc/self/fd/{there}"), path)
                handle = os.open(f"/proc/self/fd/{there}", os.O_RDONLY | os.O_CLOEXEC)
                held.callback(os.close, handle)
                size = self._checked_size(handle, ticket, path)
                self._map = mmap.mmap(handle, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
            except FileNotFoundError as error:
                raise RingError(f"{path} is gone: its process has ended, or made another ring") from error
            except (OSError, OverflowError, struct.error) as error:
                raise RingError(f"{path} cannot be read: {error}") from error
        self.identity = ticket.ring
        self._words = memoryview(self._map).cast("Q")
        self._pixels = np.frombuffer(self._map, np.uint8)

    @staticmethod
    def _check_owner(status: os.stat_result, link: str, path: str) -> None:
        if not link.startswith(LINK) or not stat.S_ISREG(status.st_mode):
            raise RingError(f"{path} is {link}, which is no ring of pictures")
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise RingError(f"{path} belongs to user {status.st_uid}, or others may read it: it is not read")

    def _checked_size(self, handle: int, ticket: Ticket, path: str) -> int:
        if not fcntl.fcntl(handle, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise RingError(f"{path} could shrink under its readers: it is not read")
        magic, identity, slots, slot_bytes = HEADER.unpack(os.pread(handle, HEADER.size, 0))
        size = os.fstat(handle).st_size
        if magic != MAGIC or identity.hex() != ticket.ring:
            raise RingError(f"{path} is another ring than the ticket's")
        whole = size == pixels_at(slots, slot_bytes) and slot_bytes % PAGE == 0
        if not (2 <= slots <= MOST_SLOTS and size <= LARGEST_RING and whole):
            raise RingError(f"{path} has {size} bytes for {slots} slots of {slot_bytes}: it is damaged")
        self._slots, self._slot_bytes = slots, slot_bytes
        return int(size)

    def lend(self, ticket: Ticket) -> Lease | None:
        """The picture where it lies; None if it is not there any more.

        Raises:
            RingError: the ticket says something else of the picture than the ring does.
        """
        if not ticket.slot < self._slots:
            raise RingError(f"the ticket names slot {ticket.slot} of {self._slots}")
        words, mark = self._words, mark_at(ticket.slot)
        if words[mark] != ticket.number and not self._is_filled(mark, ticket.number):
            return None
        fence()
        at = mark * 8 + SLOT_AFTER_MARK
        stamp_ns, height, width, count, encoding = SLOT.unpack_from(self._map, at)
        begin = pixels_at(ticket.slot, self._slot_bytes)
        lease = Lease(self._pixels[begin : begin + count], words, mark, ticket.number)
        named = ticket.encoding.encode().ljust(LONGEST_ENCODING, b"\0")
        said = (ticket.stamp_ns, ticket.height, ticket.width, named)
        if said == (stamp_ns, height, width, encoding) and 0 < count <= self._slot_bytes:
            return lease
        if not lease.intact():
            return None
        raise RingError(
            f"slot {ticket.slot} holds a picture of {height}×{width}, {count} bytes, stamped {stamp_ns}; "
            f"the ticket says {ticket.height}×{ticket.width} {ticket.encoding} stamped {ticket.stamp_ns}"
        )

    def _is_filled(self, mark: int, number: int) -> bool:
        """Wait for a picture that is being copied: first awake, as it takes tenths of a millisecond, then
        with pauses, as its writer may be held up, perhaps by this process on the same core; not for ever, as
        it may be dead. To yield instead would let anybody run for a whole time slice."""
        words = self._words
        for attempt in range(SPINS + PAUSES):
            if words[mark] == number:
                return True
            if words[mark + 1] != number:
                return False
            if attempt >= SPINS:
                time.sleep(PAUSE_S)
        return False

    def read(self, ticket: Ticket) -> Bytes | None:
        """A copy of the picture's bytes (n,), rows without padding; None if it is not there any more.

        Raises:
            RingError: as `lend`.
        """
        lease = self.lend(ticket)
        if lease is None:
            return None
        found = lease.pixels.copy()
        return found if lease.intact() else None

    def close(self) -> None:
        """Let go of the memory; the kernel frees it with the last array that lies in it."""
        del self._pixels, self._words
        with contextlib.suppress(BufferError):
            self._map.close()
