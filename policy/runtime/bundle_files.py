"""Files of a bundle folder: read without leaving it, exchanged as a whole."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
from pathlib import Path, PurePosixPath

from episodes.errors import BundleError
from policy.runtime.manifest import MANIFEST_FILE

EXPORT_ANEW = "Export the policy anew with `armchair export`, or copy the bundle again."


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of a regular file that lies in `folder` itself, reached without following a link."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts:
        raise BundleError(
            f"{folder / MANIFEST_FILE}: key 'files' names {name!r}, which is not a path inside the bundle. "
            f"Only trust bundles whose origin you know. {EXPORT_ANEW}"
        )
    path = folder
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise BundleError(f"{path}: this is a link; a bundle holds its files themselves. {EXPORT_ANEW}")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BundleError(
            f"{path}: the bundle's file cannot be read ({error.strerror}). {EXPORT_ANEW}"
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"{path}: this is not an ordinary file. {EXPORT_ANEW}")
    with open(handle, "rb") as file:
        return file.read()


def read_verified(folder: Path, name: str, expected: str) -> bytes:
    """The bytes of a file whose sha256 is `expected`."""
    data = read_file(folder, name)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise BundleError(
            f"{folder / name}: its sha256 is {found[:12]}…, but {MANIFEST_FILE} promises {expected[:12]}…: "
            f"the file was changed or damaged. {EXPORT_ANEW}"
        )
    return data


def decode_text(data: bytes, path: Path) -> str:
    """The bytes of the file at `path` as text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: this is not UTF-8 text ({error}). {EXPORT_ANEW}") from error


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def swap_in(fresh: Path, folder: Path) -> None:
    """Put `fresh` at `folder`; what stood there stands at `fresh` afterwards.

    Linux exchanges two folders in one step. Where the file system cannot, the old one is moved aside first
    and comes back if the second move fails.
    """
    if not folder.exists():
        fresh.rename(folder)
        return
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is not None and not exchange(
        _AT_FDCWD, os.fsencode(fresh), _AT_FDCWD, os.fsencode(folder), _RENAME_EXCHANGE
    ):
        return
    aside = fresh.with_name(fresh.name + ".old")
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk before going on."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
