"""Video4Linux as far as it goes without a camera: settings, stamps, devices that are not there or are none.

Not covered for want of a device (a virtual one needs the kernel module vivid or v4l2loopback): negotiation of
format, size and rate with a driver, exposure, the driver's own stamps, unplugging.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.frames import SourceLost
from ros_nodes.cameras.v4l2 import OLDEST_STAMP_NS, V4l2Config, V4l2Source, capture_stamp_ns


def test_opencv_was_built_with_video4linux() -> None:
    assert cv2.CAP_V4L2 in cv2.videoio_registry.getCameraBackends()


def test_a_device_that_is_not_there_is_named_with_what_to_do() -> None:
    with pytest.raises(MachineError, match=r"camera /dev/video99 is not there.*v4l2.device"):
        V4l2Source(V4l2Config(device="/dev/video99")).open()


def test_a_path_that_is_no_camera_is_refused_and_freed(tmp_path: Path) -> None:
    file = tmp_path / "video0"
    file.write_bytes(b"no camera")
    link = tmp_path / "by-id"
    os.symlink("/dev/null", link)
    for path in (file, link):
        source = V4l2Source(V4l2Config(device=str(path)))
        with pytest.raises(MachineError, match="cannot be opened"):
            source.open()
        source.close()
        source.close()


def test_settings_that_cannot_be_meant_are_refused_before_any_device_is_touched() -> None:
    with pytest.raises(ConfigError, match=r"v4l2\.profile"):
        V4l2Source(V4l2Config(profile="640 by 480"))
    with pytest.raises(ConfigError, match=r"v4l2\.fourcc"):
        V4l2Source(V4l2Config(fourcc="JPEG2000"))


def test_reading_without_a_device_is_a_lost_source() -> None:
    with pytest.raises(SourceLost, match="not open"):
        V4l2Source(V4l2Config()).read(0.1)


@given(st.integers(0, OLDEST_STAMP_NS // 1000), st.integers(10**6, 10**13))
def test_the_kernel_s_stamp_on_the_monotonic_clock_is_taken_to_the_microsecond(
    age_us: int, taken_us: int
) -> None:
    buffer_ms = 1000 * (taken_us // 10**6) + (taken_us % 10**6) / 1000.0  # as OpenCV computes it
    received_ns = (taken_us + age_us) * 1000
    assert abs(capture_stamp_ns(buffer_ms, received_ns) - taken_us * 1000) <= 1000


@pytest.mark.parametrize("buffer_ms", [0.0, 1.7e12, -1.0])
def test_stamps_of_another_clock_fall_back_to_the_moment_of_reception(buffer_ms: float) -> None:
    assert capture_stamp_ns(buffer_ms, 50_000_000_000_000) == 50_000_000_000_000
