"""The file of a recording under way: `<name>.h5.partial`, which becomes `<name>.h5` only when it is whole.

HDF5 does not survive a write that fails: it aborts or crashes the process when it lets go of the file. So no
write of its may fail. The empty file is made in memory and written by Python; before each block the disk
space that the block can take is allotted (posix_fallocate), and that is the call that a full disk, a quota
or a file size limit stops. The recording is then closed as a failure, which needs no new space.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py

from episodes.errors import EpisodeError
from episodes.layout import LIBVER, PARTIAL, SUFFIX, Attribute, set_attributes

_OVERHEAD_BYTES = 1 << 20
"""More than chunk indices and half-filled chunks take in one block."""

# HDF5 crashes when it lets go of a file that it could not write; such files are held until the process ends.
_held: list[Any] = []


class DiskFullError(EpisodeError):
    """Raised when there is no room for the next block; what was written before is whole."""


class GoneError(EpisodeError):
    """Raised when the file was removed or moved while it was being recorded."""


class Sink(Protocol):
    """What gathers samples in memory; writing the same block twice leaves one."""

    @property
    def pending_bytes(self) -> int:
        """Size of what waits."""

    def write_data(self) -> None:
        """Write the samples themselves."""

    def write_stamps(self) -> None:
        """Write the stamps, once the samples are on their way to the disk."""

    def commit(self) -> None:
        """Forget what was written."""


class PartialFile:
    """One recording file in SWMR mode, from its creation to its final name."""

    def __init__(self, path: Path, image: bytes, reserve_bytes: int) -> None:
        """Create the partial of `path` from the `image` of the empty file.

        Raises:
            EpisodeError: it cannot be created, or there is less than `reserve_bytes` free.
        """
        self.path = path
        self.partial = path.with_name(path.name.removesuffix(SUFFIX) + PARTIAL)
        self._reserve_bytes = reserve_bytes
        try:
            self._handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise EpisodeError(
                f"{self.partial}: cannot be created ({error.strerror}). Check the rights of its folder."
            ) from error
        try:
            # Shared, so that HDF5's own readers may look on; `recover` asks for an exclusive lock.
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._allot(0, len(image))
            os.pwrite(self._handle, image, 0)
            self.file: Any = h5py.File(self.partial, "r+", libver=LIBVER, locking=False)
            self.file.swmr_mode = True
        except (OSError, RuntimeError, DiskFullError) as error:
            self._release()
            self.partial.unlink(missing_ok=True)
            raise EpisodeError(
                f"{self.partial}: cannot be created: {one_line(error)}. Make room, or choose another disk."
            ) from error

    def _allot(self, used: int, count: int) -> None:
        """Make sure that behind `used` bytes `count` more fit, with what HDF5 needs around them."""
        needed = count + _OVERHEAD_BYTES
        free = shutil.disk_usage(self.partial.parent).free
        if free < self._reserve_bytes + needed:
            raise DiskFullError(
                f"the disk is full ({free >> 20} MiB free, {self._reserve_bytes + needed >> 20} MiB kept)"
            )
        try:
            os.posix_fallocate(self._handle, used, needed)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFullError(f"there is no room for {needed} more bytes ({error.strerror})") from error
            raise

    def write(self, sinks: Sequence[Sink]) -> None:
        """Write what the sinks hold: the samples first, then the stamps that vouch for them.

        Raises:
            DiskFullError: there is no room; nothing was written.
            GoneError: the file is not in its place any more; nothing was written.
            OSError, RuntimeError: the disk failed; the file is lost to this process, see `give_up`.
        """
        pending = sum(sink.pending_bytes for sink in sinks)
        if not pending:
            return
        self._require_in_place()
        self._allot(self.file.id.get_filesize(), pending)
        for sink in sinks:
            sink.write_data()
        self.file.flush()
        # HDF5 may cut the file back to what it uses at each flush.
        self._allot(self.file.id.get_filesize(), 0)
        for sink in sinks:
            sink.write_stamps()
        self.file.flush()
        for sink in sinks:
            sink.commit()

    def finish(self, attributes: Mapping[str, Mapping[str, Attribute]], rows: Mapping[str, int]) -> None:
        """Give each group (path in the file) its final attributes, and the file its final name.

        Datasets (path in the file) are cut to `rows`: a block that was not written whole does not count. May
        be called again where it was interrupted.

        Raises:
            GoneError: the file is not in its place any more.
        """
        if not self._lies_at(self.path):
            self._require_in_place()
            self.file.close()
            with h5py.File(self.partial, "r+", libver=LIBVER, locking=False) as file:
                for dataset, count in rows.items():
                    if file[dataset].shape[0] > count:
                        file[dataset].resize(count, axis=0)
                for group, values in attributes.items():
                    set_attributes(file[group], values)
            os.fsync(self._handle)
            os.replace(self.partial, self.path)
        sync_folder(self.path.parent)
        self._release()

    def _lies_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _require_in_place(self) -> None:
        """A file without a name takes everything that is written to it, and keeps nothing."""
        if self._lies_at(self.partial):
            return
        if os.fstat(self._handle).st_nlink == 0:
            raise GoneError(
                "the file was removed while it was being recorded, alone or with its folder, and what had "
                "been recorded of this episode is gone with it. Start again: the folder is made anew"
            )
        try:
            where = os.readlink(f"/proc/self/fd/{self._handle}")
        except OSError:
            where = "the place where it lies now"
        raise GoneError(
            "the file was moved while it was being recorded, and the episode ends there. Salvage it: "
            f"armchair episodes recover {where}"
        )

    def abandon(self) -> None:
        """Let go of a file that is not in its place any more."""
        self.file.close()
        self._release()

    def discard(self) -> None:
        """Remove the file."""
        self.file.close()
        self.partial.unlink(missing_ok=True)
        self._release()

    def give_up(self) -> None:
        """Leave the partial file as it is on the disk, after HDF5 could not write it."""
        _held.append(self.file)
        self._release()

    def _release(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def one_line(error: BaseException) -> str:
    """The text of an error on one line, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
