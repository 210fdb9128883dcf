"""RealSense through the real SDK: a software device instead of the USB camera, everything behind it as it is.

Not covered for want of hardware: USB enumeration and unplugging, hardware_reset, exposure options. These
tests fail, and say which package is missing, where libusb-1.0-0 is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.frames import ALIGNED_DEPTH, COLOR, DEPTH, Clock, Frame
from ros_nodes.cameras.realsense import RealSenseSource
from ros_nodes.cameras.realsense_settings import AlignDepth, DepthModule, RealSenseConfig, RgbCamera

from .software_realsense import (
    CENTER,
    DISTORTION,
    FOCAL,
    HEIGHT,
    PERIOD_MS,
    WIDTH,
    SoftwareRealSense,
    color_picture,
    depth_picture,
)

SIZE = "64x48x30"
ROOT = Path(__file__).resolve().parents[2]


def config(**rest: object) -> RealSenseConfig:
    settings: dict[str, object] = {"rgb_camera": RgbCamera(SIZE), "depth_module": DepthModule(SIZE)}
    return RealSenseConfig(**(settings | rest))  # type: ignore[arg-type]


def frames(source: RealSenseSource, camera: SoftwareRealSense, count: int, first: int = 1) -> list[Frame]:
    """Show `count` pairs of pictures, one after the other, and read all that comes of it."""
    found: list[Frame] = []
    for number in range(first, first + count):
        camera.show(number, color=color_picture(number), depth=depth_picture(number))
        while (frame := source.read(0.05)) is not None:
            found.append(frame)
    return found


def test_colour_depth_and_aligned_depth_come_together_under_colour_s_stamp() -> None:
    camera = SoftwareRealSense()
    source = RealSenseSource(config(align_depth=AlignDepth(True)), lambda: camera.device)
    assert source.streams == (COLOR, DEPTH, ALIGNED_DEPTH)
    device = source.open()
    try:
        whole = [frame for frame in frames(source, camera, 12) if len(frame.pictures) == 3]
    finally:
        source.close()
    assert device.name == "Software D435 123456"
    assert len(whole) >= 10, "the SDK may only miss the first pair, before it knows both streams"
    for frame in whole:
        color, depth, aligned = frame.pictures
        number = color.number
        assert number is not None
        assert frame.stamp_ns == pytest.approx(number * PERIOD_MS * 1e6, abs=1e3)
        assert frame.clock is Clock.DEVICE
        np.testing.assert_array_equal(color.pixels, color_picture(number))
        np.testing.assert_array_equal(depth.pixels[..., 0], depth_picture(number))
        assert (aligned.pixels.shape, aligned.pixels.dtype) == ((HEIGHT, WIDTH, 1), np.uint16)
        inside = aligned.pixels[HEIGHT // 2, WIDTH // 2, 0]
        assert inside == 500 + number, "the same place and lens: alignment leaves the middle where it is"
    received = [frame.received_ns for frame in whole]
    assert received == sorted(received)
    assert received[-1] <= time.monotonic_ns()


def test_calibration_comes_from_the_device_and_aligned_depth_has_colour_s() -> None:
    camera = SoftwareRealSense()
    source = RealSenseSource(config(align_depth=AlignDepth(True)), lambda: camera.device)
    infos = source.open().streams
    source.close()
    color = infos[COLOR].intrinsics
    assert color is not None
    assert infos[ALIGNED_DEPTH].intrinsics == color != infos[DEPTH].intrinsics
    assert (color.width, color.height, color.distortion_model) == (WIDTH, HEIGHT, "plumb_bob")
    assert (color.k[0], color.k[4], color.k[2], color.k[5]) == (*FOCAL, *CENTER)
    np.testing.assert_allclose(color.d, DISTORTION, rtol=1e-6)
    assert all(info.rate_hz == 30.0 for info in infos.values())


def test_depth_in_other_units_becomes_millimetres_and_what_is_too_far_stays_at_the_end_of_the_range() -> None:
    camera = SoftwareRealSense(depth_units=0.0025)
    source = RealSenseSource(config(enable_color=False), lambda: camera.device)
    source.open()
    picture = np.zeros((HEIGHT, WIDTH), np.uint16)
    picture[0, :3] = 400, 26_214, 60_000
    camera.show(1, depth=picture)
    frame = source.read(5.0)
    source.close()
    assert frame is not None
    assert frame.pictures[0].pixels[0, :4, 0].tolist() == [1000, 65535, 65535, 0]


def test_without_synchronisation_each_picture_comes_by_itself_with_its_own_stamp() -> None:
    camera = SoftwareRealSense()
    source = RealSenseSource(config(), lambda: camera.device)
    source.open()
    found = frames(source, camera, 3)
    source.close()
    assert [[p.stream for p in frame.pictures] for frame in found] == [[DEPTH], [COLOR]] * 3


def test_stamps_that_librealsense_has_mapped_already_are_taken_as_host_time() -> None:
    camera = SoftwareRealSense()
    source = RealSenseSource(config(enable_depth=False), lambda: camera.device)
    source.open()
    camera.show(1, color=color_picture(1), system_time=True, stamp_ms=1_700_000_000_123.5)
    frame = source.read(5.0)
    source.close()
    assert frame is not None
    assert frame.clock is Clock.SYSTEM
    assert abs(frame.stamp_ns - 1_700_000_000_123_500_000) < 1000


def test_a_silent_camera_yields_nothing_in_time_and_can_be_opened_again() -> None:
    camera = SoftwareRealSense()
    source = RealSenseSource(config(enable_sync=True), lambda: camera.device)
    source.open()
    assert source.read(0.01) is None
    source.close()
    source.open()
    assert frames(source, camera, 3)
    source.close()


def test_a_profile_that_the_camera_lacks_is_refused_with_those_that_it_has() -> None:
    camera = SoftwareRealSense()
    wrong = config(rgb_camera=RgbCamera("1920x1080x30"))
    with pytest.raises(ConfigError, match=r"no color at 1920x1080x30.*rgb_camera.color_profile.*64x48x30"):
        RealSenseSource(wrong, lambda: camera.device).open()
    default = RealSenseSource(config(rgb_camera=RgbCamera("0x0x0")), lambda: camera.device)
    assert default.open().streams[COLOR].rate_hz == 30.0
    default.close()


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to do"):
        RealSenseSource(config(enable_color=False, enable_depth=False))
    with pytest.raises(ConfigError, match=r"align_depth\.enable"):
        RealSenseSource(config(enable_depth=False, align_depth=AlignDepth(True)))


def test_a_camera_that_is_not_plugged_in_is_named_with_what_is() -> None:
    with pytest.raises(MachineError, match=r"no RealSense camera 987 \(found: none\)"):
        RealSenseSource(config(serial_no="_987")).open()


def test_a_missing_libusb_is_named_with_its_package(tmp_path: Path) -> None:
    (tmp_path / "pyrealsense2.py").write_text("raise ImportError('libusb-1.0.so.0: cannot open')\n")
    code = "from ros_nodes.cameras.realsense_device import sdk; sdk()"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "MachineError" in done.stderr
    assert "apt-get install libusb-1.0-0" in done.stderr
