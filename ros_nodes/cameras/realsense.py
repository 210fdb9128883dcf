"""Intel RealSense through pyrealsense2, with the parameters, topics and stamps of realsense2_camera.

The sensors are opened one by one, as realsense2_camera does it, and not through rs.pipeline: so the same code
runs on rs.software_device(). What differs on purpose: stamps come from the hardware clock and are mapped by
`clock.DeviceClock`, unless `global_time_enabled` asks for librealsense's own mapping.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.frames import (
    ALIGNED_DEPTH,
    COLOR,
    DEPTH,
    Clock,
    Device,
    Frame,
    Picture,
    SourceLost,
    StreamInfo,
    parse_profile,
)
from ros_nodes.cameras.realsense_device import (
    choose_profiles,
    device_name,
    find_device_by_serial,
    info,
    sdk,
    set_options,
    stream_info,
)
from ros_nodes.cameras.realsense_settings import RealSenseConfig

QUEUE = 2
"""Frames that the SDK keeps: the capture thread takes them at once, and an old one is worth nothing."""
RESET_S = 20.0
_MM = 0.001


class RealSenseSource:
    """One RealSense camera: colour, depth, and depth aligned to colour.

    `find_device` gives the rs.device; the default looks for `serial_no` among those that are plugged in.
    """

    def __init__(self, config: RealSenseConfig, find_device: Callable[[], Any] | None = None) -> None:
        sdk()  # a missing library is no device that may yet appear
        if not (config.enable_color or config.enable_depth):
            raise ConfigError("parameters 'enable_color' and 'enable_depth' are both false: nothing to do.")
        self._aligning = config.align_depth.enable and config.enable_color and config.enable_depth
        if config.align_depth.enable and not self._aligning:
            raise ConfigError(
                "parameter 'align_depth.enable' is true: it needs 'enable_color' and 'enable_depth'."
            )
        wanted = ((COLOR, config.enable_color), (DEPTH, config.enable_depth), (ALIGNED_DEPTH, self._aligning))
        self.streams = tuple(stream for stream, is_wanted in wanted if is_wanted)
        sizes = {
            COLOR: parse_profile(config.rgb_camera.color_profile, "rgb_camera.color_profile"),
            DEPTH: parse_profile(config.depth_module.depth_profile, "depth_module.depth_profile"),
        }
        self._sizes = {stream: size for stream, size in sizes.items() if stream in self.streams}
        self._config = config
        self._synced = config.enable_sync or self._aligning
        self._find_device = find_device or (lambda: find_device_by_serial(config.serial_no))
        self._reset_done = not config.initial_reset
        self._started: list[Any] = []
        self._device: Any = None
        self._sink: Any = None
        self._align: Any = None
        self._depth_scale = 1.0

    def open(self) -> Device:
        """Open and start the sensors; see `Source.open`."""
        rs = sdk()
        try:
            device = self._find_device()
            if not self._reset_done:
                device = self._reset(device)
            self._device = device
            chosen = choose_profiles(device, self._sizes)
            self._start(rs, chosen)
            infos = {stream: stream_info(profile) for stream, (_, profile) in chosen.items()}
            name = device_name(device)
        except RuntimeError as error:
            raise MachineError(f"the RealSense camera does not answer: {error}.") from error
        if self._aligning:
            infos[ALIGNED_DEPTH] = StreamInfo(infos[DEPTH].rate_hz, infos[COLOR].intrinsics)
        return Device(name, infos)

    def _reset(self, device: Any) -> Any:
        """Reset the hardware once and wait until it is back on the bus."""
        self._reset_done = True
        device.hardware_reset()
        deadline_s = time.monotonic() + RESET_S
        while True:
            time.sleep(0.5)
            try:
                return self._find_device()
            except MachineError:
                if time.monotonic() > deadline_s:
                    raise

    def _start(self, rs: Any, chosen: dict[str, tuple[Any, Any]]) -> None:
        config = self._config
        if DEPTH in chosen:
            sensor = chosen[DEPTH][0]
            supports = sensor.supports(rs.option.depth_units)
            self._depth_scale = sensor.get_option(rs.option.depth_units) / _MM if supports else 1.0
        for stream, settings in ((COLOR, config.rgb_camera), (DEPTH, config.depth_module)):
            if stream in chosen:
                set_options(chosen[stream][0], settings)
        self._sink = rs.syncer(QUEUE) if self._synced else rs.frame_queue(QUEUE)
        self._align = rs.align(rs.stream.color) if self._aligning else None
        by_sensor: dict[str, tuple[Any, list[Any]]] = {}
        for sensor, profile in chosen.values():
            by_sensor.setdefault(info(sensor, rs.camera_info.name), (sensor, []))[1].append(profile)
        for sensor, profiles in by_sensor.values():
            sensor.open(profiles)
            self._started.append(sensor)
        for sensor, _ in by_sensor.values():
            sensor.start(self._sink)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or set of frames of one moment where they are synchronised; see `Source.read`."""
        rs = sdk()
        milliseconds = max(1, round(timeout_s * 1e3))
        try:
            wait = self._sink.try_wait_for_frames if self._synced else self._sink.try_wait_for_frame
            there, found = wait(milliseconds)
            received_ns = time.monotonic_ns()
            if there:
                return self._frame(rs, found, received_ns)
            if not self._device.is_connected():
                raise SourceLost("the RealSense camera was unplugged.")
            return None
        except RuntimeError as error:
            raise SourceLost(f"the RealSense camera failed: {error}.") from error

    def _frame(self, rs: Any, found: Any, received_ns: int) -> Frame:
        frames = found if self._synced else (found,)
        by_kind = {frame.get_profile().stream_type(): frame for frame in frames}
        color, depth = by_kind.get(rs.stream.color), by_kind.get(rs.stream.depth)
        pictures = []
        if color is not None:
            pixels = np.asarray(color.get_data()).copy()
            pictures.append(Picture(COLOR, pixels, int(color.get_frame_number())))
        if depth is not None:
            pictures.append(Picture(DEPTH, self._millimetres(depth), int(depth.get_frame_number())))
        if self._aligning and color is not None and depth is not None:
            aligned = self._align.process(found).get_depth_frame()
            pictures.append(Picture(ALIGNED_DEPTH, self._millimetres(aligned), pictures[-1].number))
        # One stamp for the set, as realsense2_camera has it; colour's, since colour is what others align to.
        first: Any = color if color is not None else depth
        stamp_ns = round(first.get_timestamp() * 1e6)
        hardware = first.get_frame_timestamp_domain() == rs.timestamp_domain.hardware_clock
        clock = Clock.DEVICE if hardware else Clock.SYSTEM
        return Frame(tuple(pictures), stamp_ns, clock, received_ns)

    def _millimetres(self, frame: Any) -> NDArray[np.uint16]:
        """Depth (H, W, 1) in mm, 0 where there is none (REP 118)."""
        raw = np.asarray(frame.get_data())
        if abs(self._depth_scale - 1.0) < 1e-6:
            return raw[..., None].copy()
        scaled = np.rint(raw * np.float32(self._depth_scale))
        return np.minimum(scaled, np.iinfo(np.uint16).max).astype(np.uint16)[..., None]

    def close(self) -> None:
        """Stop and free the sensors; what a lost device answers to that does not matter."""
        for sensor in self._started:
            for end in (sensor.stop, sensor.close):
                with contextlib.suppress(RuntimeError):
                    end()
        self._started = []
        self._device = self._sink = self._align = None
