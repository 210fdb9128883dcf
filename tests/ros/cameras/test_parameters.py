"""The camera node's parameters: groups with dots, the vendor's names, what is refused and what is locked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from episodes.errors import ConfigError
from ros_nodes import qos
from ros_nodes.camera_node import SETTABLE
from ros_nodes.cameras.files import FilesConfig, FileSource
from ros_nodes.cameras.parameters import CameraConfig, make_source
from ros_nodes.cameras.realsense import RealSenseSource
from ros_nodes.cameras.topics import CAMERA, jpeg_format, optical_frame_of, serialised_picture, topic_of
from ros_nodes.cameras.v4l2 import V4l2Source
from ros_nodes.parameters import declare, parameters_of

from ..conftest import ROOT

MakeNode = Callable[..., Node]


@pytest.fixture
def make_node(domain: int) -> Iterator[MakeNode]:
    """A node with parameters as from its command line."""
    contexts = []

    def make(name: str = "camera", file: Path | None = None, **parameters: object) -> Node:
        words = [w for k, v in parameters.items() for w in ("-p", f"{k}:={v}")]
        words += ["--params-file", str(file)] if file else []
        context = rclpy.Context()
        contexts.append(context)
        rclpy.init(
            args=["camera", "--ros-args", *words],
            context=context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        return Node(name, context=context)

    yield make
    for context in contexts:
        context.try_shutdown()


def test_the_names_are_those_of_realsense2_camera_and_each_parameter_is_described(
    make_node: MakeNode,
) -> None:
    parameters = {name: doc for name, _, doc in parameters_of(CameraConfig)}
    vendor = {
        "camera_name", "camera_namespace", "serial_no", "enable_color", "enable_depth", "enable_sync",
        "initial_reset", "align_depth.enable", "rgb_camera.color_profile", "depth_module.depth_profile",
        "rgb_camera.enable_auto_exposure", "rgb_camera.exposure", "depth_module.exposure",
        "rgb_camera.global_time_enabled", "wait_for_device_timeout", "reconnect_timeout",
    }  # fmt: skip
    assert vendor <= set(parameters)
    assert all(parameters.values()), [name for name, doc in parameters.items() if not doc]
    node = make_node()
    declare(node, CameraConfig)
    descriptor = node.describe_parameter("rgb_camera.color_profile")
    assert descriptor.type == ParameterType.PARAMETER_STRING
    assert "frames per second" in descriptor.description


def test_values_of_the_command_line_get_into_their_groups_and_the_rest_keeps_its_defaults(
    make_node: MakeNode,
) -> None:
    node = make_node(
        **{"rgb_camera.color_profile": "1280x720x30", "align_depth.enable": "true", "backend": "realsense"}
    )
    config = declare(node, CameraConfig)
    assert config.rgb_camera.color_profile == "1280x720x30"
    assert config.align_depth.enable
    assert config.depth_module == CameraConfig().depth_module
    assert isinstance(make_source(config), RealSenseSource)
    assert make_source(config).streams == ("color", "depth", "aligned_depth_to_color")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rgb_camera.color_profil": "x"}, "did you mean 'rgb_camera.color_profile'"),
        ({"files.rate_hz": "fast"}, "files.rate_hz"),
        ({"serial_no": "123456"}, "serial_no"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused_by_name(
    make_node: MakeNode, parameters: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        declare(make_node(**parameters), CameraConfig)


def test_only_the_jpeg_quality_may_change_while_the_node_runs(make_node: MakeNode) -> None:
    node = make_node()
    declare(node, CameraConfig, settable=SETTABLE)
    (quality,) = node.set_parameters([Parameter("jpeg_quality", value=80)])
    (profile,) = node.set_parameters([Parameter("rgb_camera.color_profile", value="1x1x1")])
    assert quality.successful
    assert not profile.successful
    assert "rgb_camera.color_profile: locked" in profile.reason


def test_each_backend_has_its_source_and_others_are_refused_with_the_choice() -> None:
    assert isinstance(make_source(CameraConfig(backend="v4l2")), V4l2Source)
    with pytest.raises(ConfigError, match="realsense, v4l2, files"):
        make_source(CameraConfig(backend="webcam"))
    with pytest.raises(ConfigError, match=r"files\.path"):
        make_source(CameraConfig(backend="files"))
    assert isinstance(make_source(CameraConfig(backend="files", files=FilesConfig("x"))), FileSource)


def test_topics_and_frames_are_named_as_realsense2_camera_names_them() -> None:
    names = {
        stream: topic_of(stream, "camera/front") for stream in ("color", "depth", "aligned_depth_to_color")
    }
    assert names == {
        "color": "camera/front/color/image_raw",
        "depth": "camera/front/depth/image_rect_raw",
        "aligned_depth_to_color": "camera/front/aligned_depth_to_color/image_raw",
    }
    assert topic_of("color", "camera/front", "") == "camera/front/image_raw", "as the simulation has it"
    frames = [optical_frame_of(stream, "front") for stream in names]
    assert frames == [f"front_{kind}_optical_frame" for kind in ("color", "depth", "color")]


def test_formats_are_those_that_compressed_image_transport_writes() -> None:
    assert jpeg_format("rgb8") == "rgb8; jpeg compressed bgr8"
    assert jpeg_format("mono8") == "mono8; jpeg compressed mono8"


def test_pictures_are_published_reliably_so_that_a_recorder_matches() -> None:
    assert CAMERA.reliability == qos.RECORD.reliability
    assert CAMERA.depth == 5


def test_the_manual_names_every_parameter_and_its_example_is_accepted(
    make_node: MakeNode, tmp_path: Path
) -> None:
    manual = (ROOT / "docs/cameras.md").read_text()
    missing = [name for name, _, _ in parameters_of(CameraConfig) if f"`{name}`" not in manual]
    assert not missing
    example = tmp_path / "cameras.yaml"
    example.write_text(manual.split("```yaml\n")[1].split("```")[0])
    configs = {name: declare(make_node(name, example), CameraConfig) for name in ("wrist", "front", "replay")}
    assert configs["wrist"].align_depth.enable
    assert configs["wrist"].serial_no == "_123456789"
    assert configs["front"].v4l2.profile == "1280x720x30"
    assert configs["replay"].files.loop
    assert all(make_source(config).streams for config in configs.values())


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding"),
    [((3, 5, 3), "uint8", "rgb8"), ((2, 7, 1), "uint16", "16UC1"), ((4, 3, 1), "float32", "32FC1")],
)
def test_a_picture_is_serialised_to_the_message_that_ros_reads(
    shape: tuple[int, int, int], dtype: str, encoding: str
) -> None:
    pixels = np.arange(np.prod(shape), dtype=dtype).reshape(shape)[::-1]  # not contiguous
    message = Image()
    message.header.frame_id = "front_color_optical_frame"
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 34
    read = deserialize_message(serialised_picture(message, pixels), Image)
    assert read.header == message.header
    assert (read.height, read.width, read.encoding) == (*shape[:2], encoding)
    assert read.step == shape[1] * shape[2] * pixels.itemsize
    assert read.data.tobytes() == pixels.tobytes()
