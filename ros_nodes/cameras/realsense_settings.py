"""Parameters of a RealSense, by the names that realsense2_camera has for them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class AlignDepth:
    """Depth seen from the colour camera."""

    enable: bool = False
    """Publish aligned_depth_to_color."""


@dataclass(frozen=True)
class RgbCamera:
    """The colour sensor."""

    color_profile: str = "640x480x30"
    """Width, height and frames per second; 0x0x0: the device's default."""
    enable_auto_exposure: bool = True
    """Let the sensor choose the exposure."""
    exposure: int = 0
    """Exposure in the sensor's unit (100 µs on a D435), where it is not automatic."""
    global_time_enabled: bool = False
    """Let librealsense map stamps to host time instead of mapping the hardware clock here."""


@dataclass(frozen=True)
class DepthModule:
    """The depth sensor."""

    depth_profile: str = "640x480x30"
    """Width, height and frames per second; 0x0x0: the device's default."""
    enable_auto_exposure: bool = True
    """Let the sensor choose the exposure."""
    exposure: int = 0
    """Exposure in the sensor's unit (µs), where it is not automatic."""
    global_time_enabled: bool = False
    """Let librealsense map stamps to host time instead of mapping the hardware clock here."""


@dataclass(frozen=True)
class RealSenseConfig:
    """Parameters that realsense2_camera has too, by their names there."""

    serial_no: str = ""
    enable_color: bool = True
    enable_depth: bool = True
    enable_sync: bool = False
    initial_reset: bool = False
    align_depth: AlignDepth = field(default_factory=AlignDepth)
    rgb_camera: RgbCamera = field(default_factory=RgbCamera)
    depth_module: DepthModule = field(default_factory=DepthModule)
