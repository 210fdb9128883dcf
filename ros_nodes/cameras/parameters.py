"""The parameters of the camera node. Groups of them are nested dataclasses: group.name in ROS."""

from __future__ import annotations

from dataclasses import dataclass, field

from episodes.errors import ConfigError
from ros_nodes.cameras.files import FilesConfig, FileSource
from ros_nodes.cameras.frames import COLOR, Source
from ros_nodes.cameras.realsense import RealSenseSource
from ros_nodes.cameras.realsense_settings import AlignDepth, DepthModule, RealSenseConfig, RgbCamera
from ros_nodes.cameras.v4l2 import V4l2Config, V4l2Source

BACKENDS = ("realsense", "v4l2", "files")


@dataclass(frozen=True)
class CameraConfig:
    """Parameters of the camera node."""

    backend: str = ""
    """What delivers the pictures: realsense, v4l2 or files."""
    camera_name: str = ""
    """Name of the camera in topics and frames; empty: the node's name."""
    camera_namespace: str = "camera"
    """Topics are <camera_namespace>/<camera_name>/color/image_raw and so on."""
    color_namespace: str = COLOR
    """The part 'color' of these topics; empty: camera/front/image_raw, as in simulation and usb_cam."""
    frame_id: str = ""
    """Optical frame of the pictures; empty: <camera_name>_color_optical_frame, and _depth_ for depth."""
    jpeg_quality: int = 95
    """Quality of the JPEG pictures, 1 to 100. May be changed while the node runs."""
    camera_info_url: str = ""
    """Calibration file (path or file:///path) of a camera that holds none; set_camera_info writes it."""
    latency_ms: float = 0.0
    """Taken off every stamp: from exposure to the moment that the driver's stamp tells."""
    wait_for_device_timeout: float = 30.0
    """Seconds that the device may take to appear at the start, then the node ends; negative: for ever."""
    reconnect_timeout: float = 6.0
    """Longest time between two attempts to open a device that was lost, s."""
    silent_timeout: float = 5.0
    """Seconds without a frame after which the device is closed and opened anew."""
    serial_no: str = ""
    """RealSense: serial number, with a leading underscore or without; empty: the only one."""
    enable_color: bool = True
    """RealSense: colour."""
    enable_depth: bool = True
    """RealSense: depth."""
    enable_sync: bool = False
    """RealSense: pair colour and depth of one moment, under one stamp. Always so where depth is aligned."""
    initial_reset: bool = False
    """RealSense: reset the hardware first; cures a camera that was left in a bad state."""
    align_depth: AlignDepth = field(default_factory=AlignDepth)
    rgb_camera: RgbCamera = field(default_factory=RgbCamera)
    depth_module: DepthModule = field(default_factory=DepthModule)
    v4l2: V4l2Config = field(default_factory=V4l2Config)
    files: FilesConfig = field(default_factory=FilesConfig)


def make_source(config: CameraConfig) -> Source:
    """The backend.

    Raises:
        ConfigError: no such backend, or its parameters cannot work.
    """
    if config.backend == "realsense":
        return RealSenseSource(realsense_config(config))
    if config.backend == "v4l2":
        return V4l2Source(config.v4l2)
    if config.backend == "files":
        return FileSource(config.files)
    raise ConfigError(f"parameter 'backend' is {config.backend!r}: write one of {', '.join(BACKENDS)}.")


def realsense_config(config: CameraConfig) -> RealSenseConfig:
    """The part of the parameters that concerns a RealSense."""
    return RealSenseConfig(
        config.serial_no,
        config.enable_color,
        config.enable_depth,
        config.enable_sync,
        config.initial_reset,
        config.align_depth,
        config.rgb_camera,
        config.depth_module,
    )
