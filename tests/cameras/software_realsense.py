"""A RealSense made of librealsense's own rs.software_device(): the real SDK with frames that the test makes.

Run as a module it is a camera process: the camera node on such a device, which plays by itself. With a number
as its first argument the device's stamp stands still from that frame on.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_nodes.cameras.realsense_device import sdk

WIDTH, HEIGHT, RATE_HZ = 64, 48, 30
PERIOD_MS = 1000.0 / RATE_HZ
FOCAL, CENTER = (50.0, 51.0), (32.5, 24.5)
DISTORTION = (0.1, -0.2, 0.01, 0.02, 0.3)


class SoftwareRealSense:
    """A D435-like device with a depth and a colour sensor."""

    def __init__(self, depth_units: float = 0.001) -> None:
        self.rs = rs = sdk()
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, "Software D435")
        self.device.register_info(rs.camera_info.serial_number, "123456")
        self._depth = self.device.add_sensor("Stereo Module")
        self._color = self.device.add_sensor("RGB Camera")
        self._profiles = {
            "depth": self._depth.add_video_stream(self._stream(rs.stream.depth, 0, 2, rs.format.z16)),
            "color": self._color.add_video_stream(self._stream(rs.stream.color, 1, 3, rs.format.rgb8)),
        }
        self._units = depth_units
        self._depth.add_read_only_option(rs.option.depth_units, depth_units)
        apart = rs.extrinsics()
        apart.rotation, apart.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0.0, 0, 0]
        self._profiles["depth"].register_extrinsics_to(self._profiles["color"], apart)
        self.device.create_matcher(rs.matchers.dlr_c)
        self._alive: list[NDArray[Any]] = []  # the SDK keeps no reference to pixels that it is given

    def _stream(self, kind: Any, uid: int, bytes_per_pixel: int, pixels: Any) -> Any:
        found = self.rs.intrinsics()
        found.width, found.height = WIDTH, HEIGHT
        (found.fx, found.fy), (found.ppx, found.ppy) = FOCAL, CENTER
        found.model, found.coeffs = self.rs.distortion.inverse_brown_conrady, list(DISTORTION)
        if kind == self.rs.stream.depth:
            found.model, found.coeffs = self.rs.distortion.brown_conrady, [0.0] * 5
        stream = self.rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fmt = kind, 0, uid, pixels
        stream.width, stream.height, stream.fps, stream.bpp = WIDTH, HEIGHT, RATE_HZ, bytes_per_pixel
        stream.intrinsics = found
        return stream

    def show(
        self,
        number: int,
        *,
        color: NDArray[np.uint8] | None = None,
        depth: NDArray[np.uint16] | None = None,
        system_time: bool = False,
        stamp_ms: float | None = None,
    ) -> None:
        """Hand the SDK one picture of each sensor, taken at `number` periods of the device's clock."""
        rs = self.rs
        for sensor, name, pixels in ((self._depth, "depth", depth), (self._color, "color", color)):
            if pixels is None:
                continue
            self._alive = [*self._alive[-20:], pixels]
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp = pixels, pixels.strides[1]
            frame.stride = pixels.strides[0]
            frame.timestamp = number * PERIOD_MS if stamp_ms is None else stamp_ms
            domain = rs.timestamp_domain
            frame.domain = domain.system_time if system_time else domain.hardware_clock
            frame.frame_number = number
            frame.profile = self._profiles[name].as_video_stream_profile()
            if name == "depth":
                frame.depth_units = self._units
            # The SDK pairs frames by the rate that they say they have.
            sensor.set_metadata(rs.frame_metadata_value.actual_fps, RATE_HZ * 1000)
            sensor.on_video_frame(frame)


def color_picture(number: int) -> NDArray[np.uint8]:
    """Noise that `number` decides."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def depth_picture(number: int) -> NDArray[np.uint16]:
    """A plane at 500 + number units."""
    return np.full((HEIGHT, WIDTH), 500 + number, np.uint16)


def main() -> int:
    """The camera node on a software device that plays for ever, or freezes."""
    from ros_nodes.camera_node import run_camera
    from ros_nodes.cameras.frames import Source
    from ros_nodes.cameras.parameters import CameraConfig, realsense_config
    from ros_nodes.cameras.realsense import RealSenseSource

    camera = SoftwareRealSense()
    last = int(sys.argv[1]) if sys.argv[1].isdigit() else sys.maxsize
    stopping = threading.Event()

    def play() -> None:
        number = 1
        while not stopping.wait(PERIOD_MS / 1e3):
            camera.show(number, color=color_picture(number), depth=depth_picture(number))
            number = min(number + 1, last)

    def new_source(config: CameraConfig) -> Source:
        return RealSenseSource(realsense_config(config), find_device=lambda: camera.device)

    player = threading.Thread(target=play)
    player.start()
    try:
        return run_camera(new_source)
    finally:
        stopping.set()
        player.join()


if __name__ == "__main__":
    sys.exit(main())
