"""What a judge is shown of a frame: the frame itself, a strip of the frames before it, several cameras."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError, did_you_mean
from reward.clients.protocol import Picture, Question
from reward.frames import Frames, load_frames, named_stream
from reward.records import Ballot, DrawnPair
from reward.regions import Box, active_box

GAP = 4
"""Pixels of white between the parts of a picture."""
SMALLEST_CROP = 32
"""Pixels a side that a crop keeps at least."""
SAMPLES = 500
"""Frames that decide where the picture changes."""


@dataclass(frozen=True)
class ShowConfig:
    """What a judge is shown of each frame."""

    frames: int = 1
    """Frames of a clip, shown as a strip from left to right, the judged frame last; 1 shows single frames."""
    stride: int = 5
    """Ticks from one frame of a clip to the next."""
    cameras: tuple[str, ...] = ()
    """Further image streams, shown below the judged one."""
    crop: Literal["none", "active"] = "none"
    """active: only the part of each camera's picture in which anything changes, for cameras that stand
    still."""

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= 16:
            raise ConfigError(f"show.frames {self.frames} is out of range: 1 to 16.")
        if self.stride < 1:
            raise ConfigError(f"show.stride {self.stride} is out of range: 1 or more.")
        if len(set(self.cameras)) < len(self.cameras):
            raise ConfigError(f"show.cameras {' '.join(self.cameras)}: a camera is named twice.")

    def layout(self, stream: str) -> str:
        """How a picture is composed, in one sentence for the judge; empty for plain frames."""
        strip = (
            f"it is a strip of {self.frames} moments in the order of time from left to right, and what "
            "counts is the last one"
        )
        views = ", ".join((stream, *self.cameras))
        rows = f"it shows {len(self.cameras) + 1} cameras below each other ({views}) at the same time"
        if self.frames > 1 and self.cameras:
            return (
                f"Each picture has {self.frames} columns and {len(self.cameras) + 1} rows: {strip}; the "
                f"rows are cameras ({views})."
            )
        if self.frames > 1:
            return f"About each picture: {strip}."
        return f"About each picture: {rows}." if self.cameras else ""


@dataclass(frozen=True, eq=False)
class Showing:
    """The frames of a dataset as a judge sees them. Rows are those of `frames`."""

    frames: Frames
    config: ShowConfig = field(default_factory=ShowConfig)
    stream: str = ""
    others: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(rows, height, width, 3) of each further camera."""
    named: str = ""
    """The stream where it is not the one that is judged when none is named; it tells draws apart."""

    @property
    def layout(self) -> str:
        """How a picture is composed."""
        return self.config.layout(self.stream)

    @functools.cached_property
    def judged(self) -> NDArray[np.int64]:
        """Rows that may be judged: those of a transition with a whole clip before them."""
        reach = (self.config.frames - 1) * self.config.stride
        rows = self.frames.judged
        return rows[rows - self.frames.starts[self.frames.episode[rows]] > reach]

    @functools.cached_property
    def _crops(self) -> Mapping[str, Box | None]:
        if self.config.crop == "none":
            return dict.fromkeys(self._images)
        return {name: self._box(images) for name, images in self._images.items()}

    @functools.cached_property
    def _images(self) -> Mapping[str, NDArray[np.uint8]]:
        return {self.stream: self.frames.images, **self.others}

    def _box(self, images: NDArray[np.uint8]) -> Box:
        rows = np.unique(np.linspace(0, len(images) - 1, SAMPLES).astype(np.int64))
        return active_box(images[rows], min(SMALLEST_CROP, *images.shape[1:3]))

    def rows_of_clip(self, row: int) -> NDArray[np.int64]:
        """Rows of the frames that are shown for `row`, in the order of time."""
        return row - self.config.stride * np.arange(self.config.frames - 1, -1, -1, dtype=np.int64)

    def picture(self, row: int) -> Picture:
        """What a judge is shown of a row."""
        rows = self.rows_of_clip(row)
        strips = []
        for name, images in self._images.items():
            box = self._crops[name]
            parts = [images[k] if box is None else box.crop(images[k]) for k in rows.tolist()]
            strips.append(beside(parts))
        truth = self.frames.truth[rows]
        return Picture(below(strips), None if np.isnan(truth).any() else truth)

    def question(self, pair: DrawnPair, ballot: Ballot) -> Question:
        """The pictures of a pair in the order of a ballot.

        Raises:
            DatasetError: the dataset has no such frame.
        """
        shown = [
            self.picture(self.frames.row(frame)) for frame in (pair.first, pair.second) if frame is not None
        ]
        if ballot.swapped:
            shown.reverse()
        return Question(shown[0], shown[1] if len(shown) > 1 else None, ballot.vote)

    def same(self, first: int, second: int) -> bool:
        """Two rows show the same: no judge can say anything about such a pair."""
        a, b = self.rows_of_clip(first), self.rows_of_clip(second)
        return all(np.array_equal(images[a], images[b]) for images in self._images.values())

    def digests(self, rows: NDArray[np.int64]) -> dict[int, str]:
        """Content hash of what is shown of `rows`."""
        return {row: self.picture(row).digest for row in np.unique(rows).tolist()}


def load_showing(
    dataset: Dataset,
    stream: str,
    config: ShowConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Showing:
    """Read the frames of all cameras that are shown.

    Args:
        dataset: at least one episode.
        stream: the image stream that is judged.
        config: what is shown.
        progress: called with (episodes done, episodes in all), over all cameras.

    Raises:
        DatasetError: no such camera, no episodes, or pictures that are not 8-bit RGB.
    """
    known = [name for name, found in dataset.contract.observations.items() if found.is_image]
    for camera in config.cameras:
        if camera not in known or camera == stream:
            hint = "it is the judged stream" if camera == stream else did_you_mean(camera, known)
            raise DatasetError(f"{dataset.path}: --show.cameras {camera}: no further image stream; {hint}")
    streams = (stream, *config.cameras)

    def read(number: int, spill: Path) -> Frames:
        report = progress or (lambda done, total: None)
        return load_frames(
            dataset,
            streams[number],
            spill=spill,
            progress=lambda done, total: report(number * total + done, len(streams) * total),
        )

    cache, named = dataset.path / ".cache", named_stream(dataset, stream)
    frames = read(0, cache / (f"frames-{named}.npy" if named else "frames.npy"))
    others = {}
    for number, camera in enumerate(config.cameras, start=1):
        found = read(number, cache / f"frames-{camera}.npy")
        if not np.array_equal(found.starts, frames.starts):
            raise DatasetError(f"{dataset.path}: camera {camera!r} has other ticks than {stream!r}.")
        others[camera] = found.images
    return Showing(frames, config, stream, others, named)


def beside(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one height side by side, white between them."""
    if len(parts) == 1:
        return parts[0]
    gap = np.full((parts[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis=1)


def below(strips: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Strips below each other, all brought to the width of the widest, white between them."""
    if len(strips) == 1:
        return strips[0]
    width = max(strip.shape[1] for strip in strips)
    scaled = [
        strip
        if strip.shape[1] == width
        else cv2.resize(
            strip, (width, round(strip.shape[0] * width / strip.shape[1])), interpolation=cv2.INTER_CUBIC
        ).astype(np.uint8)
        for strip in strips
    ]
    gap = np.full((GAP, width, 3), 255, np.uint8)
    return np.concatenate([piece for strip in scaled for piece in (gap, strip)][1:], axis=0)
