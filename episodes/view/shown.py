"""One episode as it is shown: the part that edits keep, its rewards, its moments on one clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.align import align_episode
from episodes.dataset import Dataset
from episodes.errors import DatasetError, EpisodeError
from episodes.labels import has_labels, labellers, read_labels
from episodes.reader import Episode, Stream


@dataclass(frozen=True)
class Curve:
    """Numbers over time."""

    stamp_ns: NDArray[np.int64]
    """(N,) rising."""
    values: NDArray[np.float64]
    """(N, n)"""
    names: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """An open episode and, where it stands in one, its dataset."""

    episode: Episode
    dataset: Dataset | None

    @property
    def title(self) -> str:
        """Id, outcome and task."""
        attrs = self.episode.attrs
        return " | ".join(filter(None, (self.episode.episode_id, str(attrs["outcome"]), str(attrs["task"]))))

    @cached_property
    def started_ns(self) -> int:
        """The moment that counts as 0 s: what `armchair episodes edit trim` counts from."""
        return int(self.episode.attrs["started_ns"])

    def kept(self, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the moments that edits keep."""
        first_ns, last_ns = self.episode.window_ns
        last_ns = 2**63 - 1 if last_ns is None else last_ns
        return np.flatnonzero((times_ns >= (first_ns or 0)) & (times_ns <= last_ns))

    def rows(self, stream: Stream) -> NDArray[np.int64]:
        """Numbers of the samples that edits keep, in the order of their source stamps."""
        rows = self.kept(stream.recv_ns)
        return rows[np.argsort(stream.stamp_ns[rows], kind="stable")]

    def cameras(self, wanted: tuple[str, ...] = ()) -> list[Stream]:
        """The streams of pictures that hold a sample, in the contract's order.

        EpisodeError when there is none, or a wanted one is not there.
        """
        known = [name for name in self.episode.contract.observations if name in self.episode.streams]
        names = wanted or (*known, *(name for name in self.episode.streams if name not in known))
        streams = [self.episode.stream(name) for name in names]
        found = [s for s in streams if len(s.shape) == 3 and len(self.rows(s))]
        if not found or (wanted and len(found) < len(wanted)):
            raise EpisodeError(
                f"{self.episode.path}: there are no pictures"
                + (f" in {', '.join(wanted)}" if wanted else "")
                + ". Show the numbers with --rerun, or render the pictures first."
            )
        return found

    @cached_property
    def actions(self) -> dict[str, Curve]:
        """The commands of each channel."""
        commands, contract = self.episode.commands, self.episode.contract
        if commands is None:
            return {}
        rows = self.kept(commands.recv_ns)
        return {
            name: Curve(commands.stamp_ns[rows], commands.values[rows, part], contract.actions[name].names)
            for name, part in contract.action_slices.items()
            if len(rows)
        }

    @cached_property
    def rewards(self) -> dict[str, Curve]:
        """Rewards of every labeller, and the simulation's as "truth"; where a frame has none it is left out.

        The reward of a transition belongs to the frame after it.
        """
        try:
            aligned = align_episode(self.episode, streams=())
        except EpisodeError:
            return {}
        times = aligned.observation_ns[1:]
        found = {}
        if aligned.rewards_truth is not None:
            found["truth"] = Curve(times, aligned.rewards_truth[:, None], ("truth",))
        for name in labellers(self.dataset) if self.dataset is not None else ():
            if self.dataset is None or not has_labels(self.dataset, name, self.episode.episode_id):
                continue
            labels = read_labels(self.dataset, name, self.episode.episode_id)
            if len(labels.reward) != len(times):
                raise DatasetError(
                    f"{self.dataset.path}: labeller {name!r} gave {len(labels.reward)} rewards to episode "
                    f"{self.episode.episode_id!r} of {len(times)} transitions: label it again."
                )
            valid = labels.valid
            found[name] = Curve(times[valid], labels.reward[valid, None].astype(np.float64), (name,))
        return found


def as_rgb(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """A sample of any stream of pictures as RGB (H, W, 3) uint8; depth in false colours, near is bright."""
    if picture.dtype == np.uint8:
        return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
    depth = picture[..., 0].astype(np.float64)
    seen = np.isfinite(depth) & (depth > 0)
    grey = np.zeros(depth.shape, np.uint8)
    if seen.any():
        low, high = np.quantile(depth[seen], [0.02, 0.98])
        scaled = 255.0 - 254.0 * np.clip((depth - low) / max(high - low, 1e-9), 0.0, 1.0)
        grey[seen] = scaled[seen].astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colours[~seen] = 0
    return np.asarray(colours, dtype=np.uint8)


def fitted(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The picture as large as it fits into (height, width, 3), in the middle of black."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_NEAREST
    resized = cv2.resize(picture, size, interpolation=method)
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = resized
    return out


def bar(text: str, width: int, height: int = 22, colour: tuple[int, int, int] = (255, 255, 255)) -> Any:
    """A line of text on dark grey, (height, width, 3) uint8; what is no ASCII shows as '?'."""
    strip = np.full((height, width, 3), 32, np.uint8)
    plain = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(strip, plain, (5, height - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return strip
