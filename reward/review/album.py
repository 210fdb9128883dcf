"""The pictures of the page: exactly what a judge sees, found by the hash of their content alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2

from episodes.dataset import Dataset
from episodes.errors import DatasetError
from reward.clients.protocol import Picture
from reward.frames import image_stream
from reward.records import DrawnPair, Place
from reward.showing import ShowConfig, Showing, load_showing
from reward.store import LabelStore

KEPT = 128
"""PNG files that are kept for the next request."""


class Album:
    """What is shown of a dataset's frames, by the settings of the draw that asks; threads may share it."""

    def __init__(self, dataset: Dataset, stream: str) -> None:
        """Prepare; frames are read when they are first needed."""
        self._dataset, self._stream = dataset, stream
        self._showings: dict[tuple[str, ShowConfig], Showing] = {}
        self._draws: dict[tuple[str, str], Showing] = {}
        self._places: dict[str, tuple[Showing, int]] = {}
        self._files: dict[str, bytes] = {}
        self._lock = threading.RLock()

    def showing(
        self,
        config: ShowConfig,
        progress: Callable[[int, int], None] | None = None,
        *,
        stream: str = "",
    ) -> Showing:
        """Frames of `stream`, or of the album's own, as they are shown with `config`; `progress` gets (done,
        in all) while they are read.

        Raises:
            DatasetError: no such camera, or pictures that are not 8-bit RGB.
        """
        stream = image_stream(self._dataset, stream or self._stream)
        with self._lock:
            found = self._showings.get((stream, config))
            if found is None:
                like = [
                    known
                    for (other, _), known in self._showings.items()
                    if other == stream and known.config.cameras == config.cameras
                ]
                found = (
                    replace(like[0], config=config)
                    if like
                    else load_showing(self._dataset, stream, config, progress=progress)
                )
                self._showings[stream, config] = found
            return found

    def has(self, pair: DrawnPair) -> bool:
        """Whether the dataset has the frames of a pair."""
        with self._lock:
            known = next(iter(self._showings.values()), None)
        return (known or self.showing(ShowConfig())).frames.has(pair.first, pair.second)

    def of_draw(self, store: LabelStore, place: Place) -> Showing:
        """Frames as the judge of a draw was shown them."""
        at = place.labels, place.draw
        with self._lock:
            if at not in self._draws:
                rows = store.rows("SELECT settings FROM draws WHERE labels=? AND draw=?", at)
                self._draws[at] = self.as_drawn(json.loads(rows[0][0]) if rows else {})
            return self._draws[at]

    def as_drawn(self, settings: Mapping[str, Any]) -> Showing:
        """Frames as a draw with these settings shows them; of the album's stream where they name none."""
        return self.showing(show_of(settings), stream=str(settings.get("stream", "")))

    def digests(self, show: Showing, pair: DrawnPair, *, swapped: bool = False) -> tuple[str, str]:
        """Content hashes of the pictures of a pair in the order in which they are shown; from here on they
        can be had by them. The second is empty for a single frame.

        Raises:
            DatasetError: the dataset has no such frame.
        """
        found = [
            self._remember(show, show.frames.row(frame))
            for frame in (pair.first, pair.second)
            if frame is not None
        ]
        if swapped:
            found.reverse()
        return found[0], found[1] if len(found) > 1 else ""

    def png(self, digest: str) -> bytes:
        """A picture as a PNG file.

        Raises:
            DatasetError: nothing with that hash was shown.
        """
        with self._lock:
            place, file = self._places.get(digest), self._files.get(digest)
        if place is None:
            raise DatasetError(f"no picture {digest[:12]} was put to anybody.")
        if file is None:
            file = encode(place[0].picture(place[1]))
            with self._lock:
                while len(self._files) >= KEPT:
                    self._files.pop(next(iter(self._files)))
                self._files[digest] = file
        return file

    def _remember(self, show: Showing, row: int) -> str:
        digest = show.picture(row).digest
        with self._lock:
            self._places[digest] = (show, row)
        return digest


def show_of(settings: Mapping[str, Any]) -> ShowConfig:
    """What the settings of a draw say about what was shown; plain frames where they say nothing."""
    found = dict(settings.get("show", {}))
    return ShowConfig(**{**found, "cameras": tuple(found.get("cameras", ()))}) if found else ShowConfig()


def encode(picture: Picture) -> bytes:
    """PNG of a picture: lossless, so that people see what judges see.

    Raises:
        DatasetError: it cannot be encoded.
    """
    done, file = cv2.imencode(".png", cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR))
    if not done:
        raise DatasetError(f"a picture of shape {picture.image.shape} cannot be encoded as PNG.")
    return file.tobytes()
