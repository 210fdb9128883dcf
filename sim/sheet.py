"""Many pictures on one sheet, each with its name below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError

_LABEL = 16
"""Rows of a name, pixels."""
_GAP = 4
_PAPER, _INK = 255, (40, 40, 40)
_FONT, _FONT_SCALE, _JPEG_QUALITY = cv2.FONT_HERSHEY_SIMPLEX, 0.38, 88


def check_sheet(path: Path, columns: int) -> None:
    """Raises ConfigError where `path` is no kind of picture, or there are no columns."""
    if path.suffix not in (".png", ".jpg"):
        raise ConfigError(f"--sheet {path}: write a file that ends in .png or .jpg.")
    if columns < 1:
        raise ConfigError(f"--columns {columns}: write 1 or more.")


def sheet(pictures: Sequence[NDArray[np.uint8]], names: Sequence[str], columns: int) -> NDArray[np.uint8]:
    """Pictures of one size, each (height, width, 3) uint8 RGB, in rows of `columns`; a long name is set
    smaller."""
    height, width, _ = pictures[0].shape
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    cell = (height + _LABEL + _GAP, width + _GAP)
    page = np.full((rows * cell[0] + _GAP, columns * cell[1] + _GAP, 3), _PAPER, dtype=np.uint8)
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        top, left = _GAP + number // columns * cell[0], _GAP + number % columns * cell[1]
        page[top : top + height, left : left + width] = picture
        wide = cv2.getTextSize(name, _FONT, _FONT_SCALE, 1)[0][0]
        scale = _FONT_SCALE * min(1.0, (width - _GAP) / max(1, wide))
        cv2.putText(page, name, (left, top + height + 12), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return page


def write_sheet(page: NDArray[np.uint8], path: Path) -> None:
    """Write a page (height, width, 3) RGB; its folder is made."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(page, cv2.COLOR_RGB2BGR), options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())
