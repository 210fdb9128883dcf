"""Picture messages to numpy, without cv_bridge, and what can be told of a compressed one without decoding it.

Times measured on 1280×720 frames: reading a picture is a view (0.4 µs), while turning BGR into RGB costs a
copy. A compressed picture that is recorded keeps its bytes: decoding and encoding it again would cost 9 ms
and lose quality.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from episodes.contract import ObservationStream
from episodes.messages import Array, Decoder, MessageError, checked, vector_decoder

IMAGE_ENCODINGS = {
    ("uint8", 3): "rgb8",
    ("uint8", 1): "mono8",
    ("uint16", 1): "16UC1",
    ("float32", 1): "32FC1",
}
"""Encoding that a picture stream of (dtype, channels) is published with."""

_DECODED = {
    "rgb8": ("uint8", 3),
    "bgr8": ("uint8", 3),
    "mono8": ("uint8", 1),
    "16UC1": ("uint16", 1),
    "mono16": ("uint16", 1),
    "32FC1": ("float32", 1),
}
_PNG = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))


def decoder(stream: ObservationStream) -> Decoder:
    """A function from a message of `stream.type` to its sample, shape and dtype as in the contract.

    Pictures are views into the message. The function raises MessageError when a message does not fit.
    """
    where = f"stream {stream.name!r} on {stream.topic}"
    kind = stream.type.rsplit("/", 1)[1]
    if kind == "Image":
        return lambda message: checked(stream, where, decode_image(message, where))
    if kind == "CompressedImage":
        return lambda message: checked(stream, where, decode_compressed(stream, message, where))
    return vector_decoder(stream)


def decode_image(message: Any, where: str) -> Array:
    """A sensor_msgs Image as an array (H, W, C); a view where the layout allows, bgr8 becomes RGB.

    Raises:
        MessageError: an encoding that is not rgb8, bgr8, mono8, mono16, 16UC1 or 32FC1, or too few bytes.
    """
    known = _DECODED.get(message.encoding)
    if known is None:
        raise MessageError(
            f"{where}: encoding {message.encoding!r} is not supported; publish one of {', '.join(_DECODED)}."
        )
    dtype = np.dtype(known[0]).newbyteorder(">" if message.is_bigendian else "<")
    height, width, row = message.height, message.width, message.width * known[1] * dtype.itemsize
    if not height or not width or message.step < row or len(message.data) < message.step * height:
        raise MessageError(
            f"{where}: {len(message.data)} bytes with step {message.step} cannot hold {height}×{width} "
            f"{message.encoding} pixels: the frame is cut short."
        )
    rows = np.frombuffer(message.data, np.uint8, message.step * height).reshape(height, message.step)
    pixels = (rows if message.step == row else np.ascontiguousarray(rows[:, :row])).view(dtype)
    pixels = pixels.reshape(height, width, known[1])
    if message.encoding == "bgr8":
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return pixels if dtype.isnative else pixels.astype(dtype.newbyteorder("="))


def decode_compressed(stream: ObservationStream, message: Any, where: str) -> Array:
    """A sensor_msgs CompressedImage (JPEG or PNG) as an array (H, W, C).

    Raises:
        MessageError: the bytes are no picture.
    """
    colour = stream.shape[2] == 3
    pixels = _imdecode(message.data, cv2.IMREAD_COLOR if colour else cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise MessageError(f"{where}: {len(message.data)} bytes of {message.format!r} are no JPEG or PNG.")
    if colour:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _imdecode(data: Any, flag: int) -> Array | None:
    """OpenCV raises on some damaged headers and returns None on others."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels)


def passed_through(stream: ObservationStream, message: Any) -> NDArray[np.uint8] | None:
    """The bytes (n,) of a CompressedImage that can be stored as they are, None where they must be decoded.

    They can where the stream is 8-bit and they are JPEG. What the header says is held against the contract
    and the end must be there, so that a picture that was cut short is not taken for a whole one.

    Raises:
        MessageError: the bytes are a picture of another shape, or cut short.
    """
    data = np.frombuffer(message.data, np.uint8)
    if stream.dtype != "uint8" or bytes(data[:2]) != b"\xff\xd8":
        return None
    where = f"stream {stream.name!r} on {stream.topic}"
    shape = jpeg_shape(bytes(data[: 1 << 16]))
    if shape is None or not bytes(data[-64:]).rstrip(b"\0").endswith(b"\xff\xd9"):
        raise MessageError(f"{where}: {len(data)} bytes of JPEG are damaged or cut short.")
    if shape != stream.shape:
        raise MessageError(
            f"{where}: the picture is {list(shape)}, the contract says {list(stream.shape)}: set the camera "
            "or the contract."
        )
    return data


def jpeg_shape(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of a JPEG (ITU T.81, B.2.2), None where there is none."""
    position = 2
    while position + 9 < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length, _, height, width, channels = struct.unpack_from(">HBHHB", data, position + 2)
        if marker in _START_OF_FRAME:
            return height, width, channels
        if length < 2 or marker == 0xDA:
            return None
        position += 2 + length
    return None


def encode_png(picture: Array) -> NDArray[np.uint8]:
    """A picture (H, W, C), uint8 or uint16, as PNG bytes (n,): lossless, at the fastest level."""
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.shape[2] == 3 else picture
    done, data = cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise MessageError(f"a picture of shape {picture.shape} could not be encoded as PNG.")
    return np.asarray(data, dtype=np.uint8).reshape(-1)
