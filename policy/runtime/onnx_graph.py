"""What an ONNX file declares: its inputs, its outputs and the files it wants to read beside itself.

A robot has onnxruntime but not the `onnx` package, and onnxruntime opens external tensor files on its own
while it loads a model. So the protobuf wire format is read here, before a session exists: a model may only
bring the bytes whose checksum was verified. Field numbers are those of onnx/onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from episodes.errors import BundleError

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}
MAX_DEPTH = 32
"""Deepest nesting of sub-graphs that is followed; exported policies have two or three levels."""

_GRAPH, _FUNCTION, _TRAINING = 7, 25, 20
_Field = tuple[int, int | memoryview]


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output. Dimensions without a fixed size are None."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxGraph:
    """The outside of a model: what goes in, what comes out, and which further files it names."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    external_files: tuple[str, ...]


def read_onnx_graph(data: bytes, source: str) -> OnnxGraph:
    """Read the declarations of the ONNX model in `data`; `source` is named in errors.

    Raises:
        BundleError: the bytes are no ONNX model.
    """
    try:
        return _read_model(memoryview(data))
    except _WireError as error:
        raise BundleError(
            f"{source}: this is not an ONNX model ({error}). Export the policy anew with `armchair export`."
        ) from error


class _WireError(ValueError):
    """The bytes do not follow the protobuf wire format, or hold no graph."""


def _read_model(model: memoryview) -> OnnxGraph:
    graph: memoryview | None = None
    external: list[str] = []
    for number, value in _fields(model):
        if number == _GRAPH:
            graph = _message(value)
            _walk_graph(graph, external, 0)
        elif number == _FUNCTION:
            _walk_nodes(_message(value), 7, external, 0)
        elif number == _TRAINING:
            for part, body in _fields(_message(value)):
                if part in (1, 2):
                    _walk_graph(_message(body), external, 0)
    if graph is None:
        raise _WireError("it holds no graph")
    constants = {_text(name) for tensor in _all(graph, 5) for name in _all(tensor, 8)}
    inputs = dict(_value_info(info) for info in _all(graph, 11))
    outputs = dict(_value_info(info) for info in _all(graph, 12))
    return OnnxGraph(
        inputs={name: info for name, info in inputs.items() if name not in constants},
        outputs=outputs,
        external_files=tuple(dict.fromkeys(external)),
    )


def _walk_graph(graph: memoryview, external: list[str], depth: int) -> None:
    for tensor in _all(graph, 5):
        _walk_tensor(tensor, external)
    for sparse in _all(graph, 15):
        _walk_sparse(sparse, external)
    _walk_nodes(graph, 1, external, depth)


def _walk_nodes(owner: memoryview, node_field: int, external: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _WireError(f"its graphs are nested deeper than {MAX_DEPTH}")
    for node in _all(owner, node_field):
        for attribute in _all(node, 5):
            for number, value in _fields(attribute):
                if number in (5, 10):
                    _walk_tensor(_message(value), external)
                elif number in (22, 23):
                    _walk_sparse(_message(value), external)
                elif number in (6, 11):
                    _walk_graph(_message(value), external, depth + 1)


def _walk_sparse(sparse: memoryview, external: list[str]) -> None:
    for number, value in _fields(sparse):
        if number in (1, 2):
            _walk_tensor(_message(value), external)


def _walk_tensor(tensor: memoryview, external: list[str]) -> None:
    """External data counts when either marker is set, since readers differ in which of them they obey."""
    for number, value in _fields(tensor):
        if number == 14 and value == 1:
            external.append("(unnamed)")
        elif number == 13:
            entry = dict(_fields(_message(value)))
            if 1 in entry and 2 in entry and _text(entry[1]) == "location":
                external.append(_text(entry[2]))


def _value_info(info: memoryview) -> tuple[str, TensorInfo]:
    name, dtype, shape = "", "no tensor", []
    for number, value in _fields(info):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for tensor in _all(_message(value), 1):
                for part, body in _fields(tensor):
                    if part == 1 and isinstance(body, int):
                        dtype = DTYPES.get(body, f"ONNX type {body}")
                    elif part == 2:
                        shape = [_dimension(dim) for dim in _all(_message(body), 1)]
    return name, TensorInfo(dtype, tuple(shape))


def _dimension(dim: memoryview) -> int | None:
    size = None
    for number, value in _fields(dim):
        size = value if number == 1 and isinstance(value, int) else None
    return size


def _all(message: memoryview, number: int) -> Iterator[memoryview]:
    return (_message(value) for found, value in _fields(message) if found == number)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _WireError("a message stands where a number should, or the other way round")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_message(value)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _WireError("a name is not UTF-8") from error


def _fields(message: memoryview) -> Iterator[_Field]:
    """(field number, value) in file order; numbers as int, everything with a length as a view."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _WireError(f"wire type {wire} at byte {at}")
        if at + size > end:
            raise _WireError(f"it ends {at + size - end} bytes too early")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _WireError("it ends in the middle of a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _WireError("a number is longer than 10 bytes")
