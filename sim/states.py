"""Saved states as bytes: named arrays in one npz archive, read without pickle."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(entries: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Named arrays as the bytes of one npz archive."""
    buffer = io.BytesIO()
    np.savez(buffer, **entries)  # type: ignore[arg-type]
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()


def unpacked(state: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The arrays of `packed`. Raises ValueError for other bytes."""
    raw = np.ascontiguousarray(state, dtype=np.uint8).tobytes()
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"no saved state ({error})") from error
