"""Films and filmstrips of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError

Frames = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

_GAP = 2
"""Pixels between the pictures of a strip."""


def write_video(frames: Frames, path: Path | str, fps: float = 40.0) -> Path:
    """Write an MP4 (H.264, 4:2:0) that browsers play; odd sides get one more row or column by repetition.

    Args:
        frames: T pictures (H, W, 3) uint8 RGB of one size.
        path: file to write; its folder is made.
        fps: frames per second of playing.

    Raises:
        ConfigError: no frames, or frames of different sizes.
        MachineError: no encoder is installed, or it failed.
    """
    path = Path(path)
    pictures = _checked(frames)
    height, width = pictures[0].shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    padded = (np.ascontiguousarray(np.pad(picture, even, mode="edge")) for picture in pictures)
    size = (width + width % 2, height + height % 2)
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError:
        _write_with_av(padded, path, fps, size)
        return path
    options: dict[str, Any] = {"codec": "libx264", "pix_fmt_out": "yuv420p", "macro_block_size": 2}
    try:
        writer = imageio_ffmpeg.write_frames(
            str(path),
            size,
            fps=fps,
            quality=None,
            output_params=["-crf", "20", "-preset", "veryfast"],
            **options,
        )
        writer.send(None)
        for picture in padded:
            writer.send(picture)
        writer.close()
    except (OSError, RuntimeError) as error:
        raise MachineError(f"{path}: ffmpeg could not write the film ({error}).") from error
    return path


def _write_with_av(pictures: Any, path: Path, fps: float, size: tuple[int, int]) -> None:
    try:
        import av
    except ModuleNotFoundError as error:
        raise MachineError("no video encoder: install imageio-ffmpeg or av.") from error
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def filmstrip(frames: Frames, count: int = 8, columns: int | None = None) -> NDArray[np.uint8]:
    """`count` frames evenly spaced from first to last, side by side (or in rows of `columns`), (H, W, 3)
    uint8.

    Raises:
        ConfigError: no frames, or a count below 1.
    """
    pictures = _checked(frames)
    if count < 1 or (columns is not None and columns < 1):
        raise ConfigError(
            f"a filmstrip of {count} frames in {columns} columns cannot be drawn: write 1 or more."
        )
    chosen = [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, count).round().astype(int))]
    columns = min(columns or len(chosen), len(chosen))
    rows = -(-len(chosen) // columns)
    height, width = chosen[0].shape[:2]
    strip = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for i, picture in enumerate(chosen):
        top, left = (i // columns) * (height + _GAP), (i % columns) * (width + _GAP)
        strip[top : top + height, left : left + width] = picture
    return strip


def write_filmstrip(frames: Frames, path: Path | str, count: int = 8, columns: int | None = None) -> Path:
    """Write `filmstrip` as a PNG; its folder is made. Raises as `filmstrip`, and MachineError if it cannot
    write."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    coded, png = cv2.imencode(".png", cv2.cvtColor(filmstrip(frames, count, columns), cv2.COLOR_RGB2BGR))
    if not coded:
        raise MachineError(f"{path}: OpenCV could not encode the PNG.")
    path.write_bytes(png.tobytes())
    return path


def _checked(frames: Frames) -> Frames:
    if len(frames) == 0:
        raise ConfigError("there are no frames to write: was a camera rendered?")
    shapes = {np.asarray(frame).shape for frame in frames}
    (shape, *others) = shapes
    if others or len(shape) != 3 or shape[2] != 3:
        raise ConfigError(f"frames must all be (H, W, 3) of one size; got {sorted(map(str, shapes))}.")
    return frames
