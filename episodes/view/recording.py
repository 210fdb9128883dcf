"""An episode as a Rerun recording (.rrd), which the Rerun viewer opens: rerun out.rrd.

    /observations/<stream>  pictures, and numbers as one series per entry
    /extra/<stream>         what the contract does not name
    /actions/<channel>      commands; /actions/source says when somebody else took over
    /rewards/<labeller>     rewards, at the frame after the transition; "truth" in simulation
    /events                 events
    /episode                what the file says about itself

Timelines: `time`, since the episode's start, and for the clock of ROS `stamp`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Source
from episodes.errors import MachineError
from episodes.jpeg import encode_jpeg
from episodes.reader import Stream
from episodes.view.shown import Curve, Shown

VERSION = "0.41"
"""The series of rerun-sdk that this is written for: each one changes the interface."""

_BLOCK = 32


def write_recording(
    shown: Shown, path: Path, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Write the recording; it is there only when it is whole. Returns its entity paths.

    8-bit pictures go in as JPEG (as they are where they were recorded so), depth as it is.

    Raises:
        MachineError: rerun-sdk is not installed, or the file cannot be written.
        EpisodeError: the episode is damaged.
        DatasetError: labels are damaged or do not fit.
    """
    try:
        import rerun
        import rerun.blueprint as blueprint
    except ModuleNotFoundError as error:
        raise MachineError(
            f"--rerun needs the Rerun SDK ({error}), the extra 'view' of armchair: "
            f"pip install 'rerun-sdk=={VERSION}.*'. --video and --sheet do without it."
        ) from error
    cameras = [s.name for s in shown.episode.streams.values() if len(s.shape) == 3 and len(shown.rows(s))]
    layout = blueprint.Horizontal(
        blueprint.Vertical(
            *(blueprint.Spatial2DView(origin=_path(shown, name), name=name) for name in cameras)
        ),
        blueprint.Vertical(
            blueprint.TimeSeriesView(origin="/actions", name="actions"),
            blueprint.TimeSeriesView(origin="/observations", name="observations"),
            blueprint.TimeSeriesView(origin="/rewards", name="rewards"),
            blueprint.TextLogView(origin="/events", name="events"),
        ),
    )
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.rrd")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = rerun.RecordingStream("armchair", recording_id=shown.episode.episode_id)
        stream.save(str(partial), default_blueprint=blueprint.Blueprint(layout))
        stream.send_recording_name(shown.title)
        paths = _Recording(rerun, stream, shown).write(progress)
        stream.flush()
        stream.disconnect()
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        raise MachineError(f"{path}: the recording cannot be written ({error}).") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return paths


def _path(shown: Shown, name: str) -> str:
    known = name in shown.episode.contract.observations
    return f"/{'observations' if known else 'extra'}/{name}"


class _Recording:
    """Sends the parts of an episode to a Rerun stream."""

    def __init__(self, rerun: Any, stream: Any, shown: Shown) -> None:
        self._rerun = rerun
        self._stream = stream
        self._shown = shown
        self._paths: list[str] = []

    def write(self, progress: Callable[[int, int], None] | None) -> list[str]:
        shown, episode = self._shown, self._shown.episode
        parts = list(episode.streams.values())
        for number, stream in enumerate(parts, start=1):
            rows = shown.rows(stream)
            if len(rows) and len(stream.shape) == 3:
                self._pictures(_path(shown, stream.name), stream, rows)
            elif len(rows):
                values = stream.read(rows).reshape(len(rows), -1).astype(np.float64)
                names = stream.names or tuple(str(k) for k in range(values.shape[1]))
                self._curve(_path(shown, stream.name), Curve(stream.stamp_ns[rows], values, names))
            if progress is not None:
                progress(number, len(parts))
        for name, curve in shown.actions.items():
            self._curve(f"/actions/{name}", curve)
        for name, curve in shown.rewards.items():
            self._curve(f"/rewards/{name}", curve)
        self._sources()
        stamps = np.array([event.stamp_ns for event in episode.events], np.int64)
        kept = [episode.events[k] for k in shown.kept(stamps)]
        self._texts("/events", [(e.stamp_ns, f"{e.name} {json.dumps(e.value)}") for e in kept])
        about = {key: value for key, value in episode.attrs.items() if key != "contract"}
        lines = "\n".join(f"- **{key}**: {value}" for key, value in about.items())
        document = self._rerun.TextDocument(lines, media_type="text/markdown")
        self._stream.log("/episode", document, static=True)
        return sorted({*self._paths, "/episode"})

    def _times(self, stamp_ns: NDArray[np.int64]) -> list[Any]:
        since = (stamp_ns - self._shown.started_ns).astype("timedelta64[ns]")
        columns = [self._rerun.TimeColumn("time", duration=since)]
        if self._shown.episode.attrs["clock"] == "ros":
            columns.append(self._rerun.TimeColumn("stamp", timestamp=stamp_ns.astype("datetime64[ns]")))
        return columns

    def _send(self, path: str, stamp_ns: NDArray[np.int64], columns: Any) -> None:
        self._stream.send_columns(path, indexes=self._times(stamp_ns), columns=columns)
        self._paths.append(path)

    def _curve(self, path: str, curve: Curve) -> None:
        if not len(curve.stamp_ns):
            return
        self._stream.log(path, self._rerun.SeriesLines(names=list(curve.names)), static=True)
        self._send(path, curve.stamp_ns, self._rerun.Scalars.columns(scalars=curve.values))

    def _texts(self, path: str, texts: list[tuple[int, str]]) -> None:
        if texts:
            stamps = np.array([stamp for stamp, _ in texts], np.int64)
            self._send(path, stamps, self._rerun.TextLog.columns(text=[text for _, text in texts]))

    def _sources(self) -> None:
        """A line whenever commands begin to come from somebody else."""
        commands = self._shown.episode.commands
        if commands is None:
            return
        rows = self._shown.kept(commands.recv_ns)
        sources = commands.source[rows].astype(np.int64)
        begins = np.flatnonzero(np.diff(sources, prepend=-1))
        names = {int(source): source.name.lower() for source in Source}
        stamps = commands.stamp_ns[rows]
        self._texts(
            "/actions/source", [(int(stamps[k]), names.get(int(sources[k]), str(sources[k]))) for k in begins]
        )

    def _pictures(self, path: str, stream: Stream, rows: NDArray[np.int64]) -> None:
        if stream.dtype != np.uint8:
            self._depth(path, stream, rows)
            return
        waiting: list[tuple[int, bytes]] = []
        place = {row: k for k, row in enumerate(rows.tolist())}
        for row, stored in enumerate(stream.stored()):
            if row in place:
                data = stored if stream.encoding == "jpeg" else encode_jpeg(stored)
                waiting.append((int(stream.stamp_ns[row]), data.tobytes()))
            if len(waiting) == _BLOCK:
                self._jpegs(path, waiting)
                waiting = []
        if waiting:
            self._jpegs(path, waiting)

    def _jpegs(self, path: str, pictures: list[tuple[int, bytes]]) -> None:
        stamps = np.array([stamp for stamp, _ in pictures], np.int64)
        blobs = [data for _, data in pictures]
        kinds = ["image/jpeg"] * len(blobs)
        self._send(path, stamps, self._rerun.EncodedImage.columns(blob=blobs, media_type=kinds))

    def _depth(self, path: str, stream: Stream, rows: NDArray[np.int64]) -> None:
        """Depth in mm where it is whole numbers (16UC1), else in m (32FC1), as ROS has it."""
        meter = 1000.0 if np.issubdtype(stream.dtype, np.integer) else 1.0
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            pictures = stream.read(block)[..., 0]
            form = self._rerun.components.ImageFormat(
                width=stream.shape[1],
                height=stream.shape[0],
                channel_datatype=self._rerun.encodings.ChannelDatatype.from_np_dtype(stream.dtype),
            )
            self._send(
                path,
                stream.stamp_ns[block],
                self._rerun.DepthImage.columns(
                    buffer=[np.ascontiguousarray(picture).tobytes() for picture in pictures],
                    format=[form] * len(pictures),
                    meter=[meter] * len(pictures),
                ),
            )
