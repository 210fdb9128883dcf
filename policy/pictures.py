"""Pictures of training data: where they lie, and batches of transitions with them.

Pictures stay in the prepared files, mapped into memory where they are stored plainly, and are copied once,
into the batch. They travel to the training device as uint8 and are augmented there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.frames import FrameSource
from policy.augment import crop, shift
from policy.encoders import EncoderConfig
from policy.observations import Observations
from policy.training import BatchSampler
from policy.transitions import Transitions

HASHED_ROWS = 256


@dataclass(frozen=True)
class FilePictures:
    """The pictures of one prepared file; row k of every source belongs to its transition k."""

    before: tuple[FrameSource, ...]
    """One source per camera: the pictures of s."""
    after: tuple[FrameSource, ...]
    """The pictures of s′."""
    rows: int


class Pictures:
    """The pictures of several prepared files, one behind the other. Several threads may read them."""

    def __init__(self, files: Sequence[FilePictures]) -> None:
        self.files = files
        self.starts = np.cumsum([0, *(file.rows for file in files)])
        self._lock = threading.Lock()

    @property
    def cameras(self) -> int:
        return len(self.files[0].before)

    def before(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """The pictures (B, H, W, C) of every camera at s."""
        return [self._camera([f.before[c] for f in self.files], rows) for c in range(self.cameras)]

    def after(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """The pictures (B, H, W, C) of every camera at s′."""
        return [self._camera([f.after[c] for f in self.files], rows) for c in range(self.cameras)]

    def _camera(self, sources: Sequence[FrameSource], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        out = sources[0].empty((len(rows), 1))
        number = np.searchsorted(self.starts, rows, side="right") - 1
        local = (rows - self.starts[number])[:, None]
        for file in np.unique(number).tolist():
            inside = number == file
            part = out if inside.all() else sources[file].empty((int(inside.sum()), 1))
            # The sources share their open files, and letting go of the oldest one is no single act.
            with self._lock:
                sources[file].copy(local[inside], part)
            if part is not out:
                out[inside] = part
        return out[:, 0]

    def sha256(self, rows: NDArray[np.int64]) -> str:
        """Hash of the pictures of `rows`, in order."""
        digest = hashlib.sha256()
        for start in range(0, len(rows), HASHED_ROWS):
            part = rows[start : start + HASHED_ROWS]
            for images in (*self.before(part), *self.after(part)):
                digest.update(np.ascontiguousarray(images).tobytes())
        return digest.hexdigest()

    def observe(self, batch: Transitions) -> Transitions:
        """`batch` with the pictures of its `frames`, as they are, on the batch's device."""
        if batch.frames is None:
            return batch
        rows = batch.frames.cpu().numpy()
        ahead = rows if batch.next_frames is None else batch.next_frames.cpu().numpy()
        device = batch.actions.device

        def moved(images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(x).to(device, non_blocking=True) for x in images)

        return batch._replace(
            observations=Observations(batch.observations, moved(self.before(rows))),
            next_observations=Observations(batch.next_observations, moved(self.after(ahead))),
            frames=None,
            next_frames=None,
        )


class PictureSampler(BatchSampler[Transitions]):
    """Draws transitions, fetches their pictures and augments them.

    s and s′ are augmented apart, so that the critic's target averages over it, as in DrQ (arXiv 2004.13649).
    """

    def __init__(
        self,
        rows: Transitions,
        batch_size: int,
        seed: int,
        pictures: Pictures,
        encoder: EncoderConfig,
        **rest: Any,
    ) -> None:
        super().__init__(rows, batch_size, seed, **rest)
        self.pictures = pictures
        self.encoder = encoder

    def sample(self) -> Transitions:
        batch = self.pictures.observe(super().sample())
        return batch._replace(
            observations=self._augmented(batch.observations),
            next_observations=self._augmented(batch.next_observations),
        )

    def _augmented(self, seen: Observations) -> Observations:
        return seen._replace(images=tuple(self._augment(images) for images in seen.images))

    def _augment(self, images: Tensor) -> Tensor:
        # Drawn for the whole batch: the generators of all ranks stay alike.
        reach, drawn = self.encoder.shift, len(images) * self._ranks.count
        if reach:
            pixels = torch.randint(-reach, reach + 1, (drawn, 2), generator=self._generator)
            images = shift(images, self._ranks.share(pixels), reach)
        if self.encoder.crop < 1:
            where = torch.rand(drawn, 2, generator=self._generator)
            images = crop(images, self.encoder.crop, self._ranks.share(where))
        return images
