"""Topics of a camera: raw pictures, JPEG, calibration. Named as realsense2_camera and image_transport do."""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from episodes.errors import StackError
from episodes.picture_messages import IMAGE_ENCODINGS
from ros_nodes.cameras.frames import ALIGNED_DEPTH, COLOR, DEPTH
from ros_nodes.cameras.intrinsics import Intrinsics
from ros_nodes.convert import set_stamp
from ros_nodes.pictures.outlet import PictureOutlet

CAMERA = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""Writers of pictures: reliable, for recorders want each one; a policy reads the newest of them."""

_TOPICS = {
    COLOR: "{color}image_raw",
    DEPTH: "depth/image_rect_raw",
    ALIGNED_DEPTH: "aligned_depth_to_color/image_raw",
}
_OPTICAL = {COLOR: "color", DEPTH: "depth", ALIGNED_DEPTH: "color"}


def topic_of(stream: str, base: str, color_namespace: str = COLOR) -> str:
    """Topic of the raw pictures of a stream: camera/front/color/image_raw."""
    color = f"{color_namespace}/" if color_namespace else ""
    return f"{base}/{_TOPICS[stream].format(color=color)}"


def optical_frame_of(stream: str, camera_name: str) -> str:
    """Frame of a stream (REP 103: z forward in *_optical_frame); aligned depth has the colour camera's."""
    return f"{camera_name}_{_OPTICAL[stream]}_optical_frame"


class StreamTopics:
    """Publishes one stream. Messages that nobody listens to are not made; calibration always is."""

    def __init__(
        self, node: Node, topic: str, frame_id: str, *, compressed: bool, handed: bool = True
    ) -> None:
        """`handed`: processes of this host may take raw pictures from shared memory."""
        self._raw = node.create_publisher(Image, topic, CAMERA)
        self._handed = PictureOutlet(node, topic) if handed else None
        self._compressed = (
            node.create_publisher(CompressedImage, f"{topic}/compressed", CAMERA) if compressed else None
        )
        self._info = node.create_publisher(CameraInfo, f"{topic.rsplit('/', 1)[0]}/camera_info", CAMERA)
        self._image = Image()
        self._image.header.frame_id = frame_id
        self._jpeg = CompressedImage()
        self._jpeg.header.frame_id = frame_id
        self._frame_id = frame_id
        self.jpegs = 0
        """How many pictures were encoded."""

    def publish(
        self, pixels: NDArray[Any], stamp_ns: int, intrinsics: Intrinsics | None, jpeg_quality: int
    ) -> None:
        """Publish one picture, (H, W, C), with its calibration; all of it stamped `stamp_ns`."""
        encoding = encoding_of(pixels)
        # First: whoever takes it does not wait for the message, whose transport takes milliseconds.
        if self._handed is not None:
            self._handed.publish(pixels, stamp_ns, encoding, self._frame_id)
        if self._raw.get_subscription_count():
            set_stamp(self._image.header.stamp, stamp_ns)
            self._raw.publish(serialised_picture(self._image, pixels))
        if self._compressed is not None and self._compressed.get_subscription_count():
            self._jpeg.format = jpeg_format(encoding)
            data = array.array("B")
            data.frombytes(encode_jpeg(pixels, jpeg_quality))
            self._jpeg.data = data
            set_stamp(self._jpeg.header.stamp, stamp_ns)
            self._compressed.publish(self._jpeg)
            self.jpegs += 1
        height, width = pixels.shape[:2]
        info = camera_info(intrinsics, width, height)
        info.header.frame_id = self._frame_id
        set_stamp(info.header.stamp, stamp_ns)
        self._info.publish(info)

    def flush(self, patience_s: float) -> None:
        """Wait until reliable subscribers have acknowledged what was published."""
        for publisher in filter(None, (self._raw, self._compressed, self._info)):
            publisher.wait_for_all_acked(Duration(seconds=patience_s))


def serialised_picture(message: Image, pixels: NDArray[Any]) -> bytes:
    """The CDR bytes of `message` (its header counts, it has no data) with a picture (H, W, C).

    The pixels are the last field: they are appended to the few bytes of the rest. rclpy would copy them into
    the message, from there into a C structure and from there into the bytes.

    Raises:
        StackError: pixels of a type that no encoding has.
    """
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding_of(pixels)
    message.step = pixels.nbytes // message.height
    head = serialize_message(message)
    length = pixels.nbytes.to_bytes(4, sys.byteorder)
    return b"".join((head[:-4], length, np.ascontiguousarray(pixels).reshape(-1).data))


def encoding_of(pixels: NDArray[Any]) -> str:
    """rgb8, mono8, 16UC1 or 32FC1.

    Raises:
        StackError: none of these.
    """
    encoding = IMAGE_ENCODINGS.get((str(pixels.dtype), pixels.shape[2]))
    if encoding is None:
        raise StackError(f"a camera delivered pictures of {pixels.dtype} {list(pixels.shape)}: no encoding.")
    return encoding


def jpeg_format(encoding: str) -> str:
    """CompressedImage.format as compressed_image_transport writes it.

    The last word tells subscribers what to convert from: colour decodes to bgr8 there, whatever was put in.
    """
    return f"{encoding}; jpeg compressed {'bgr8' if encoding == 'rgb8' else 'mono8'}"


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """JPEG of RGB (H, W, 3) or grey (H, W, 1)."""
    source = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
    done, data = cv2.imencode(".jpg", source, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise StackError(f"OpenCV encodes no JPEG of {list(pixels.shape)} pixels.")
    return data.tobytes()


def camera_info(intrinsics: Intrinsics | None, width: int, height: int) -> CameraInfo:
    """The message; with `k` all zero, which means uncalibrated, where nothing is known of this size."""
    if intrinsics is None or (intrinsics.width, intrinsics.height) != (width, height):
        return CameraInfo(width=width, height=height)
    return CameraInfo(
        width=width,
        height=height,
        distortion_model=intrinsics.distortion_model,
        d=list(intrinsics.d),
        k=list(intrinsics.k),
        r=list(intrinsics.r),
        p=list(intrinsics.projection),
    )


def intrinsics_of(info: CameraInfo) -> Intrinsics:
    """The calibration in a message."""
    k, r, p = (tuple(float(v) for v in values) for values in (info.k, info.r, info.p))
    return Intrinsics(
        info.width, info.height, k, info.distortion_model, tuple(float(v) for v in info.d), r, p
    )
