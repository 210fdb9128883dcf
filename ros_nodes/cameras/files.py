"""A camera out of files: a video, a folder of pictures, a bag. For tests, replays, work without a camera."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.frames import (
    COLOR,
    STREAMS,
    Clock,
    Device,
    Frame,
    Picture,
    SourceEnded,
    SourceLost,
    StreamInfo,
)
from ros_nodes.cameras.intrinsics import Intrinsics

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
BAGS = (".mcap", ".db3", ".zstd")
FOLDER_RATE_HZ = 30.0


@dataclass(frozen=True)
class FilesConfig:
    """What to play."""

    path: str = ""
    """Video file, folder of pictures, rosbag2 folder, or .mcap or .db3 file."""
    topic: str = ""
    """Bag: topic of Image or CompressedImage; empty: the only one there is."""
    stream: str = COLOR
    """Which stream it stands for: color, depth or aligned_depth_to_color."""
    rate_hz: float = 0.0
    """Frames per second; 0: as filmed or recorded, and 30 for a folder."""
    loop: bool = False
    """Begin again at the end; otherwise the node ends there."""


@dataclass(frozen=True)
class Reel:
    """Opened pictures: a name, their rate, and the pictures with their times since the first, ns."""

    name: str
    rate_hz: float
    pictures: Iterator[tuple[int, NDArray[Any]]]
    intrinsics: Intrinsics | None
    close: Callable[[], None]


class Opener(Protocol):
    """Opens one kind of file."""

    def __call__(self, path: Path, config: FilesConfig) -> Reel:
        """Open it.

        Raises:
            MachineError: it is not there or cannot be read.
            ConfigError: it does not hold what was asked for.
        """
        ...


class FileSource:
    """Plays pictures when they are due, which is their stamp: as if they were taken at that moment."""

    def __init__(self, config: FilesConfig) -> None:
        if config.stream not in STREAMS:
            raise ConfigError(f"parameter 'files.stream' is {config.stream!r}: write one of {STREAMS}.")
        if not config.path:
            raise ConfigError("parameter 'files.path' is empty: name a video, a folder of pictures or a bag.")
        self.streams: tuple[str, ...] = (config.stream,)
        self._config = config
        self._path = Path(config.path).expanduser()
        self._reel: Reel | None = None
        self._pending: tuple[int, NDArray[Any]] | None = None
        self._period_ns = 0
        self._origin_ns: int | None = None
        self._last_ns = 0

    def open(self) -> Device:
        """Open the file; see `Source.open`."""
        reel = self._load()
        self._origin_ns = None
        return Device(reel.name, {self._config.stream: StreamInfo(reel.rate_hz, reel.intrinsics)})

    def _load(self) -> Reel:
        self.close()
        if not self._path.exists():
            raise MachineError(f"{self._path}: there is no such file or folder to play.")
        self._reel = reel = opener_of(self._path)(self._path, self._config)
        self._period_ns = round(1e9 / reel.rate_hz)
        return reel

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture once it is due; see `Source.read`."""
        at_ns, pixels = self._pending = self._pending or self._next()
        now_ns = time.monotonic_ns()
        if self._origin_ns is None:
            self._origin_ns = now_ns - at_ns
        due_ns = self._origin_ns + at_ns
        wait_s = (due_ns - now_ns) / 1e9
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            now_ns = time.monotonic_ns()
            if now_ns < due_ns:
                return None
        self._pending = None
        if now_ns - due_ns > self._period_ns:
            # What could not be read in time is not caught up with: a camera would not either.
            self._origin_ns, due_ns = now_ns - at_ns, now_ns
        self._last_ns = due_ns
        return Frame((Picture(self._config.stream, pixels),), due_ns, Clock.MONOTONIC, now_ns)

    def _next(self) -> tuple[int, NDArray[Any]]:
        if self._reel is None:
            raise SourceLost(f"{self._path} is not open.")
        following = next(self._reel.pictures, None)
        if following is None:
            if not self._config.loop:
                raise SourceEnded(f"{self._path}: all pictures are shown.")
            following = next(self._load().pictures, None)
            self._origin_ns = self._last_ns + self._period_ns
            if following is None:
                raise SourceLost(f"{self._path}: nothing in it can be read.")
        at_ns, pixels = following
        is_depth = pixels.dtype != np.uint8
        if is_depth == (self._config.stream == COLOR):
            raise ConfigError(
                f"{self._path}: it holds {pixels.dtype} pictures, which are no {self._config.stream!r}: "
                "set the parameter 'files.stream'."
            )
        return at_ns, pixels

    def close(self) -> None:
        """Free the file."""
        reel, self._reel, self._pending = self._reel, None, None
        if reel is not None:
            reel.close()


def opener_of(path: Path) -> Opener:
    """What opens `path`, by what it is."""
    if path.suffix in BAGS or (path.is_dir() and any(f.suffix in BAGS for f in path.iterdir())):
        from ros_nodes.cameras.bags import open_bag

        return open_bag
    return open_folder if path.is_dir() else open_video


def open_folder(path: Path, config: FilesConfig) -> Reel:
    """Pictures of a folder in the order of their names, numbers in them counted as numbers."""
    files = sorted((f for f in path.iterdir() if f.suffix.lower() in PICTURES), key=_by_number)
    if not files:
        raise MachineError(f"{path}: no pictures ({', '.join(PICTURES)}) in this folder.")
    rate_hz = config.rate_hz or FOLDER_RATE_HZ

    def pictures() -> Iterator[tuple[int, NDArray[Any]]]:
        for index, file in enumerate(files):
            yield round(index * 1e9 / rate_hz), _read_picture(file)

    return Reel(f"{len(files)} pictures of {path}", rate_hz, pictures(), None, lambda: None)


def _by_number(file: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", file.name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _read_picture(file: Path) -> NDArray[Any]:
    try:
        data = np.fromfile(file, np.uint8)
    except OSError as error:
        raise SourceLost(f"{file} cannot be read any more ({error.strerror}).") from error
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None:
        raise SourceLost(f"{file}: its {data.size} bytes are no picture.")
    return to_rgb(pixels)


def to_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """What OpenCV decodes (grey, BGR or BGRA, 8 or 16 bits) as (H, W, 1) or RGB (H, W, 3)."""
    if pixels.ndim == 2:
        return pixels[..., None]
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def open_video(path: Path, config: FilesConfig) -> Reel:
    """Frames of a video file, at the rate that it says."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not video.isOpened():
        raise MachineError(f"{path}: this is no video that OpenCV can read.")
    rate_hz = config.rate_hz or video.get(cv2.CAP_PROP_FPS) or FOLDER_RATE_HZ

    def pictures() -> Iterator[tuple[int, NDArray[Any]]]:
        index = 0
        while True:
            there, pixels = video.read()
            if not there:
                return
            yield round(index * 1e9 / rate_hz), to_rgb(pixels)
            index += 1

    return Reel(str(path), rate_hz, pictures(), None, video.release)
