"""What a camera delivers, and the protocol that every backend fulfils."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from numpy.typing import NDArray

from episodes.errors import ArmchairError, ConfigError, MachineError
from ros_nodes.cameras.intrinsics import Intrinsics

COLOR, DEPTH, ALIGNED_DEPTH = "color", "depth", "aligned_depth_to_color"
STREAMS = (COLOR, DEPTH, ALIGNED_DEPTH)


class Clock(Enum):
    """Whose clock a stamp was read from."""

    DEVICE = "device"
    """The camera's own, which starts anywhere and runs at its own speed."""
    MONOTONIC = "monotonic"
    """CLOCK_MONOTONIC of this host."""
    SYSTEM = "system"
    """The wall clock of this host."""


@dataclass(frozen=True)
class Picture:
    """One picture of one stream. `pixels` belongs to the picture alone: no source writes to it again."""

    stream: str
    """color, depth or aligned_depth_to_color."""
    pixels: NDArray[Any]
    """(H, W, 3) uint8 RGB, (H, W, 1) uint8 grey, (H, W, 1) uint16 depth in mm or (H, W, 1) float32 in m."""
    number: int | None = None
    """The device's own count, where it has one: what is skipped in it was lost before it reached us."""


@dataclass(frozen=True)
class Frame:
    """Pictures of one exposure, which share one stamp."""

    pictures: tuple[Picture, ...]
    stamp_ns: int
    """When it was taken, on `clock`."""
    clock: Clock
    received_ns: int
    """When it was in our hands, CLOCK_MONOTONIC."""


@dataclass(frozen=True)
class StreamInfo:
    """What a source knows of a stream once it is open."""

    rate_hz: float
    """Frames per second that are due; 0 where nobody knows."""
    intrinsics: Intrinsics | None = None
    """Calibration that the device itself holds."""


@dataclass(frozen=True)
class Device:
    """What a source has opened."""

    name: str
    """For people: model and serial number, device path or file."""
    streams: dict[str, StreamInfo]


class SourceLost(MachineError):
    """Raised when a camera that delivered is gone: unplugged, silent, its file removed. Open it again."""


class SourceEnded(ArmchairError):
    """Raised when a file that is not to be repeated is at its end."""


class Source(Protocol):
    """A camera. `open`, `read` and `close` are called from one thread; `close` also after a failure."""

    streams: tuple[str, ...]
    """Streams that will come, known before it is opened."""

    def open(self) -> Device:
        """Open the device.

        Raises:
            MachineError: it is not there or does not answer; worth another try.
            ConfigError: it will never do what was asked for.
        """
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when none came within about `timeout_s`.

        Raises:
            SourceLost: the device is gone.
            SourceEnded: nothing more will come.
        """
        ...

    def close(self) -> None:
        """Free the device; it can be opened again."""
        ...


def parse_profile(text: str, key: str) -> tuple[int, int, int]:
    """Width, height and frames per second of '640x480x30'; zeros mean the device's default.

    Raises:
        ConfigError: it does not read so; the message names `key`.
    """
    parts = text.replace(",", "x").split("x")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise ConfigError(f"parameter {key!r} is {text!r}: write width, height and rate as in '640x480x30'.")
    width, height, rate = (int(part) for part in parts)
    return width, height, rate
