"""USB and built-in cameras through Video4Linux, by OpenCV."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import cv2

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.files import to_rgb
from ros_nodes.cameras.frames import (
    COLOR,
    Clock,
    Device,
    Frame,
    Picture,
    SourceLost,
    StreamInfo,
    parse_profile,
)

OLDEST_STAMP_NS = 1_000_000_000
_MANUAL, _APERTURE_PRIORITY = 1, 3  # V4L2_CID_EXPOSURE_AUTO


@dataclass(frozen=True)
class V4l2Config:
    """Which device, and how it is set."""

    device: str = "/dev/video0"
    """Device path; those under /dev/v4l/by-id/ stay the same when the camera is plugged in elsewhere."""
    profile: str = "640x480x30"
    """Width, height and frames per second; refused when the driver gives another size or rate."""
    fourcc: str = "MJPG"
    """Pixel format on the wire: MJPG, YUYV, ...; empty: the driver's choice."""
    exposure: float = 0.0
    """Exposure in the driver's unit, 100 µs for most; 0: automatic."""


class V4l2Source:
    """One Video4Linux camera."""

    streams: tuple[str, ...] = (COLOR,)

    def __init__(self, config: V4l2Config) -> None:
        self._config = config
        self._profile = parse_profile(config.profile, "v4l2.profile")
        if config.fourcc and len(config.fourcc) != 4:
            raise ConfigError(
                f"parameter 'v4l2.fourcc' is {config.fourcc!r}: write four letters, as in MJPG."
            )
        self._video: cv2.VideoCapture | None = None

    def open(self) -> Device:
        """Open and set the device; see `Source.open`."""
        config, path = self._config, Path(self._config.device)
        if not path.exists():
            there = ", ".join(str(p) for p in sorted(Path("/dev").glob("video*"))) or "none"
            raise MachineError(
                f"camera {path} is not there (video devices: {there}): plug it in, or set the parameter "
                "'v4l2.device'; in a container, pass it with --device."
            )
        number = re.fullmatch(r"video(\d+)", path.resolve().name)
        self._video = video = cv2.VideoCapture(int(number[1]) if number else str(path), cv2.CAP_V4L2)
        if not video.isOpened():
            raise MachineError(
                f"camera {path} cannot be opened: it is in use, not a camera that delivers pictures (many "
                "have a second node for metadata), or not permitted (join the group 'video')."
            )
        width, height, rate = self._profile
        # The pixel format decides which sizes and rates there are, so it comes first.
        if config.fourcc:
            video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.fourcc))
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, rate),
        ):
            if value:
                video.set(key, value)
        rate_hz = self._check(video)
        self._expose(video)
        return Device(str(path), {COLOR: StreamInfo(rate_hz)})

    def _check(self, video: cv2.VideoCapture) -> float:
        """The rate that the driver gives; ConfigError where what it gives is not what was asked for."""
        wanted = (*self._profile, self._config.fourcc)
        keys = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
        rate_hz = video.get(cv2.CAP_PROP_FPS)
        code = (
            int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace").rstrip("\0")
        )
        given = (*(round(video.get(key)) for key in keys), code)
        if any(w and w != g for w, g in zip(wanted, given, strict=True)):
            raise ConfigError(
                f"camera {self._config.device} was asked for {wanted[0]}×{wanted[1]} at {wanted[2]} Hz as "
                f"{wanted[3] or 'anything'} and gives {given[0]}×{given[1]} at {given[2]} Hz as {given[3]}: "
                "set 'v4l2.profile' and 'v4l2.fourcc' to what `v4l2-ctl --list-formats-ext` lists."
            )
        return rate_hz

    def _expose(self, video: cv2.VideoCapture) -> None:
        exposure = self._config.exposure
        if not exposure:
            video.set(cv2.CAP_PROP_AUTO_EXPOSURE, _APERTURE_PRIORITY)
        elif not (
            video.set(cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL) and video.set(cv2.CAP_PROP_EXPOSURE, exposure)
        ):
            raise ConfigError(
                f"camera {self._config.device} takes no exposure of {exposure:g}: `v4l2-ctl --list-ctrls` "
                "has its range, or set 'v4l2.exposure' to 0 for automatic."
            )

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; the driver waits for it by its own time-out; see `Source.read`."""
        if self._video is None:
            raise SourceLost(f"camera {self._config.device} is not open.")
        there, pixels = self._video.read()
        received_ns = time.monotonic_ns()
        if not there:
            if not Path(self._config.device).exists():
                raise SourceLost(f"camera {self._config.device} was unplugged.")
            return None
        stamp_ns = capture_stamp_ns(self._video.get(cv2.CAP_PROP_POS_MSEC), received_ns)
        return Frame((Picture(COLOR, to_rgb(pixels)),), stamp_ns, Clock.MONOTONIC, received_ns)

    def close(self) -> None:
        """Free the device."""
        if self._video is not None:
            self._video.release()
            self._video = None


def capture_stamp_ns(buffer_ms: float, received_ns: int) -> int:
    """When the driver filled the buffer, CLOCK_MONOTONIC, ns.

    The kernel stamps buffers with CLOCK_MONOTONIC (V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC). A driver that stamps
    with another clock, or not at all, is far from the moment of reception; then that is the best there is.
    """
    stamp_ns = round(buffer_ms * 1e6)
    return stamp_ns if 0 <= received_ns - stamp_ns <= OLDEST_STAMP_NS else received_ns
