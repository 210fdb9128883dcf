"""Initial states, made on first use and kept as npz files in the user's cache folder.

A state is a function of its number alone, so the cache changes speed and nothing else. Files hold plain
arrays and are read without pickle; one that does not fit is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.errors import MachineError
from sim.pbd.compiled import cache_folder
from sim.softgym.task import Task

PHYSICS = 3
"""To be raised with every change that makes other initial states."""
_SAY_AFTER_S = 2.0


class InitialStates:
    """Initial states of one task.

    Args:
        task: which task.
        key: what its states depend on, beyond their number.
        folder: where they are kept; None for softgym-equivalent in armchair's cache folder.
        say: takes one line of progress.
    """

    def __init__(
        self,
        task: Task,
        key: str,
        folder: Path | None = None,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        digest = hashlib.sha256(f"{PHYSICS} {key}".encode()).hexdigest()[:12]
        root = cache_folder() / "softgym-equivalent" if folder is None else folder
        self._task, self._say = task, say
        self.folder = root / f"{task.name}-{digest}"
        self._told_s = 0.0

    def get(self, variation: int) -> dict[str, NDArray[np.float64]]:
        """Initial state number `variation`, from its file or made.

        Raises:
            MachineError: the cache folder cannot be written.
        """
        path = self.folder / f"{variation:04d}.npz"
        kept = _read(path)
        if kept is None:
            begun = time.monotonic()
            kept = self._task.generate(variation)
            took = time.monotonic() - begun
            if took > _SAY_AFTER_S:
                self._say(f"{self._task.name}: made initial state {variation} in {took:.1f} s, kept: {path}")
            _write(path, kept)
        return kept

    def make(self, variations: int) -> int:
        """Make the first `variations` states, with progress; how many were missing."""
        missing = [k for k in range(variations) if _read(self.folder / f"{k:04d}.npz") is None]
        for done, variation in enumerate(missing):
            self.get(variation)
            self._say(f"{self._task.name}: {done + 1} of {len(missing)} initial states in {self.folder}")
        return len(missing)


def _read(path: Path) -> dict[str, NDArray[np.float64]] | None:
    """None where there is no file, or one that holds no arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name], dtype=np.float64) for name in file.files}
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError, KeyError):
        return None


def _write(path: Path, arrays: dict[str, NDArray[np.float64]]) -> None:
    """Whole or not at all, whoever writes the same file at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".partial", dir=path.parent)
    except OSError as error:
        raise MachineError(
            f"initial states cannot be kept in {path.parent}: {error}. Set ARMCHAIR_CACHE to a folder that "
            "can be written."
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(name, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise MachineError(
            f"{path} cannot be written: {error}. Make room there, or set ARMCHAIR_CACHE to another folder."
        ) from error
