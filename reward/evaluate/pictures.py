"""Which frames to look at, and strips of them: figures hide what one glance shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.align import align_episode
from episodes.dataset import Dataset
from reward.evaluate.ground import Ground
from reward.frames import FrameId, Frames
from reward.labelled import LabelledRewards

SIDE = 130
"""Pixels of height of a frame in a strip."""
GAP, CAPTION, BORDER = 6, 34, 3
GREEN, GREY, INK, PAPER = (30, 140, 60), (190, 196, 204), (29, 36, 48), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Row:
    """One strip: frames in order, and why they are shown."""

    title: str
    rows: NDArray[np.int64]
    """(n,) rows of the frames."""


def telling_frames(found: LabelledRewards, frames: Frames, ground: Ground, count: int = 8) -> tuple[Row, ...]:
    """Best and worst frames, and where success is known those that the reward gets most wrong.

    Each strip takes one frame of an episode as long as there are episodes enough, since the neighbours of the
    best frame are near copies of it.
    """
    valid = np.flatnonzero(found.valid)
    strips = [("best", valid, -1), ("worst", valid, 1)]
    judged = valid[ground.known[valid]]
    won, others = judged[ground.success[judged]], judged[~ground.success[judged]]
    if len(won) and len(others):
        strips += [("highest without success", others, -1), ("lowest with success", won, 1)]
    return tuple(
        Row(title, _spread(rows[np.argsort(sign * found.rewards[rows], kind="stable")], frames, count))
        for title, rows, sign in strips
    )


def _spread(ordered: NDArray[np.int64], frames: Frames, count: int) -> NDArray[np.int64]:
    """The first `count` of `ordered` of different episodes, filled up with the next ones, in that order."""
    _, first = np.unique(frames.episode[ordered], return_index=True)
    chosen = np.sort(first)[:count]
    if len(chosen) < count:
        rest = np.setdiff1d(np.arange(len(ordered)), chosen)[: count - len(chosen)]
        chosen = np.sort(np.concatenate([chosen, rest]))
    return ordered[chosen]


def read_pictures(
    dataset: Dataset, stream: str, wanted: Sequence[FrameId]
) -> dict[FrameId, NDArray[np.uint8]]:
    """The pictures (height, width, 3) of some frames; only their episodes are decoded.

    Raises:
        EpisodeError: a damaged episode.
    """
    by_episode: dict[str, list[FrameId]] = {}
    for frame in wanted:
        by_episode.setdefault(frame.episode_id, []).append(frame)
    found: dict[FrameId, NDArray[np.uint8]] = {}
    for episode_id, ids in by_episode.items():
        with dataset.read(episode_id) as episode:
            pictures = align_episode(episode, (stream,)).observations[stream]
            found |= {frame: pictures[frame.index].copy() for frame in ids}
    return found


def strip(
    row: Row,
    found: LabelledRewards,
    frames: Frames,
    ground: Ground,
    pictures: Mapping[FrameId, NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """One picture of all frames of a row: reward and place below each, success with a green frame."""
    parts: list[NDArray[np.uint8]] = []
    for number in row.rows.tolist():
        frame = frames.id(number)
        image = pictures[frame]
        width = max(1, round(image.shape[1] * SIDE / image.shape[0]))
        scaled = cv2.resize(
            image, (width, SIDE), interpolation=cv2.INTER_AREA if image.shape[0] > SIDE else cv2.INTER_CUBIC
        )
        colour = GREEN if ground.known[number] and ground.success[number] else GREY
        framed = cv2.copyMakeBorder(scaled, *(BORDER,) * 4, cv2.BORDER_CONSTANT, value=colour)
        lines = (f"{found.rewards[number]:.3f}", f"{frame.episode_id[-12:]} #{frame.index}")
        parts.append(np.concatenate([framed, _caption(lines, framed.shape[1])]).astype(np.uint8))
    gap = np.full((parts[0].shape[0], GAP, 3), PAPER, np.uint8)
    return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis=1)


def _caption(lines: Sequence[str], width: int) -> NDArray[np.uint8]:
    image = np.full((CAPTION, width, 3), PAPER, np.uint8)
    for k, text in enumerate(lines):
        scale = 0.42 if k == 0 else 0.36
        cv2.putText(image, text, (1, 13 + 15 * k), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
    return image


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """(height, width, 3) RGB as a JPEG file."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1])
