"""The graph reader sees what onnx sees, and no bytes lead it astray."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from episodes.errors import BundleError
from policy.runtime.onnx_graph import read_onnx_graph


def test_external_data_hidden_in_a_branch_of_the_graph_is_found() -> None:
    tensor = numpy_helper.from_array(np.zeros(2, dtype=np.float32), "hidden")
    tensor.external_data.add(key="location", value="deep.bin")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2])],
    )
    nested = helper.make_graph(
        [helper.make_node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch)],
        "nested",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, [2])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["action"], then_branch=nested, else_branch=branch)],
        "g",
        [helper.make_tensor_value_info("yes", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [2])],
    )
    model: onnx.ModelProto = helper.make_model(graph)
    assert read_onnx_graph(model.SerializeToString(), "m").external_files == ("deep.bin",)


def test_what_the_reader_sees_is_what_onnx_sees(make_model: Callable[..., bytes]) -> None:
    data = make_model(chunk=4)
    graph = read_onnx_graph(data, "m")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert set(graph.inputs) == {i.name for i in session.get_inputs()} == {"state", "front"}
    assert graph.inputs["front"].shape == (None, 4, 5, 3)
    assert graph.inputs["front"].dtype == "uint8"
    assert graph.outputs["action"].shape == (None, 4, 3)


@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_graph_reader(data: bytes) -> None:
    with contextlib.suppress(BundleError):
        read_onnx_graph(data, "fuzz.onnx")


@given(cut=st.integers(0, 700), byte=st.integers(0, 255))
def test_no_damage_to_a_real_graph_crashes_the_reader(
    make_model: Callable[..., bytes], cut: int, byte: int
) -> None:
    data = bytearray(make_model())
    data[cut % len(data)] = byte
    with contextlib.suppress(BundleError):
        read_onnx_graph(bytes(data), "fuzz.onnx")
