"""Finding a RealSense and its stream profiles, and setting its sensors: what needs a device, not a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.frames import COLOR, DEPTH, StreamInfo
from ros_nodes.cameras.intrinsics import Intrinsics
from ros_nodes.cameras.realsense_settings import DepthModule, RgbCamera

Size = tuple[int, int, int]
"""Width, height, frames per second."""


def sdk() -> Any:
    """The module pyrealsense2.

    Raises:
        MachineError: it is not installed, or the libusb that it needs is not.
    """
    try:
        import pyrealsense2
    except ImportError as error:
        raise MachineError(
            f"pyrealsense2 cannot be loaded ({error}): install it with pip, and the system package that it "
            "needs: apt-get install libusb-1.0-0."
        ) from error
    return pyrealsense2


def find_device_by_serial(serial_no: str) -> Any:
    """The camera with this serial number, or the only one; a leading underscore, which keeps ROS from reading
    a number, is dropped.

    Raises:
        MachineError: it is not plugged in.
        ConfigError: several are, and none was chosen.
    """
    rs = sdk()
    wanted = serial_no.removeprefix("_")
    found = {info(d, rs.camera_info.serial_number): d for d in rs.context().query_devices()}
    if not wanted and len(found) > 1:
        raise ConfigError(
            f"{len(found)} RealSense cameras are plugged in: set the parameter 'serial_no' to one of "
            f"{', '.join(sorted(found))}."
        )
    if not found or (wanted and wanted not in found):
        raise MachineError(
            f"no RealSense camera {wanted or 'is plugged in'} (found: {', '.join(sorted(found)) or 'none'}): "
            "check cable and udev rules."
        )
    return found[wanted or next(iter(found))]


def choose_profiles(device: Any, sizes: Mapping[str, Size]) -> dict[str, tuple[Any, Any]]:
    """Sensor and stream profile of each stream in `sizes`; zeros take the device's default.

    Raises:
        ConfigError: the device does not offer it.
    """
    rs = sdk()
    chosen = {}
    for stream, kind, pixels, key in (
        (COLOR, rs.stream.color, rs.format.rgb8, "rgb_camera.color_profile"),
        (DEPTH, rs.stream.depth, rs.format.z16, "depth_module.depth_profile"),
    ):
        if stream not in sizes:
            continue
        offered = [
            (sensor, profile)
            for sensor in device.query_sensors()
            for profile in sensor.get_stream_profiles()
            if profile.stream_type() == kind and profile.format() == pixels
        ]
        size = sizes[stream]
        fitting = [
            (sensor, profile)
            for sensor, profile in offered
            if _fits(profile, size) and (any(size) or profile.is_default() or len(offered) == 1)
        ]
        if not fitting:
            there = sorted({"x".join(map(str, size_of(p))) for _, p in offered}) or ["no such stream"]
            raise ConfigError(
                f"{device_name(device)} has no {stream} at {'x'.join(map(str, size))}: set the parameter "
                f"{key!r} to one of {', '.join(there)} (USB 2 offers fewer)."
            )
        chosen[stream] = fitting[0]
    return chosen


def size_of(profile: Any) -> Size:
    """Width, height and frames per second of a stream profile."""
    video = profile.as_video_stream_profile()
    return video.width(), video.height(), video.fps()


def _fits(profile: Any, size: Size) -> bool:
    return all(not wanted or wanted == has for wanted, has in zip(size, size_of(profile), strict=True))


def device_name(device: Any) -> str:
    """Model and serial number."""
    keys = sdk().camera_info
    return f"{info(device, keys.name)} {info(device, keys.serial_number)}"


def info(owner: Any, key: Any) -> str:
    """What a device or sensor says of itself, '?' where it does not."""
    return str(owner.get_info(key)) if owner.supports(key) else "?"


def set_options(sensor: Any, settings: RgbCamera | DepthModule) -> None:
    """Exposure and whose clock stamps; sensors lack some of these options."""
    rs = sdk()
    options = [(rs.option.global_time_enabled, float(settings.global_time_enabled))]
    options.append((rs.option.enable_auto_exposure, float(settings.enable_auto_exposure)))
    if not settings.enable_auto_exposure and settings.exposure:
        options.append((rs.option.exposure, float(settings.exposure)))
    for option, value in options:
        if sensor.supports(option) and not sensor.is_option_read_only(option):
            sensor.set_option(option, value)


def stream_info(profile: Any) -> StreamInfo:
    """Rate and calibration of a stream profile, with the distortion model that ROS has for it."""
    rs = sdk()
    video = profile.as_video_stream_profile()
    found = video.get_intrinsics()
    model = "equidistant" if found.model == rs.distortion.kannala_brandt4 else "plumb_bob"
    return StreamInfo(
        float(video.fps()),
        Intrinsics.pinhole(
            found.width,
            found.height,
            (found.fx, found.fy),
            (found.ppx, found.ppy),
            distortion_model=model,
            d=tuple(float(c) for c in found.coeffs),
        ),
    )
