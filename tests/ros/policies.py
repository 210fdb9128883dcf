"""Small bundles that read pictures, joints, an instruction or the plan under way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from episodes.contract import Contract
from policy.runtime.bundle import TensorSpec, write_bundle_files
from policy.runtime.manifest import PLAN_STREAM, WEIGHTS_STREAM

TASK_BYTES = 32
_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def write_mean_bundle(
    folder: Path, contract: Contract, streams: Sequence[str], *, name: str = "mean", offset: float = 0.0
) -> Path:
    """A policy whose every action is the mean of all its inputs, each scaled by 1/255, plus `offset`.

    The stream 'task' is the instruction.
    """
    inputs = []
    for stream in streams:
        found = contract.observations.get(stream)
        shape = (TASK_BYTES,) if found is None else found.shape
        dtype = "uint8" if found is None or found.is_image else "float32"
        inputs.append(TensorSpec(stream, dtype, shape, stream))
    dim, nodes = contract.action_dim, []
    for spec in inputs:
        axes = list(range(1, len(spec.shape) + 1))
        nodes += [
            helper.make_node("Cast", [spec.name], [f"{spec.name}_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{spec.name}_f"], [f"{spec.name}_m"], axes=axes, keepdims=0),
        ]
    nodes += [
        helper.make_node("Sum", [f"{spec.name}_m" for spec in inputs], ["sum"]),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["mean"]),
        helper.make_node("Unsqueeze", ["mean", "axes"], ["row"]),
        helper.make_node("Expand", ["row", "shape"], ["action"]),
    ]
    constants = {
        "scale": np.float32(1 / 255), "offset": np.float32(offset), "axes": np.array([1, 2]),
        "shape": np.array([1, 1, dim]),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(s.name, _TYPES[s.dtype], ["batch", *s.shape]) for s in inputs],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 1, dim])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    write_bundle_files(
        folder, name=name, algorithm="none", created_utc="2026-01-01T00:00:00+00:00",
        model=model.SerializeToString(), contract=contract, inputs=inputs, provenance={},
        parity={"samples": 1, "max_abs_difference": 0.0, "tolerance": 1e-5, "holds": True},
    )  # fmt: skip
    return folder


def write_continuing_bundle(folder: Path, contract: Contract, length: int, step: float) -> Path:
    """A policy that plans from the measured pose on, `step` further with each action in its first entry, and
    is held to the plan under way by its weights. It reads `state`, whatever the order of its names."""
    dim, read = contract.action_dim, contract.observations["state"]
    order = np.zeros((len(read.names or ()), dim), np.float32)
    for column, name in enumerate(contract.action_names):
        order[(read.names or ()).index(name), column] = 1.0
    onwards = np.zeros((length, dim), np.float32)
    onwards[:, 0] = step * np.arange(length)
    node = helper.make_node
    nodes = [
        node("MatMul", ["state", "order"], ["pose"]),
        node("Unsqueeze", ["pose", "one"], ["row"]),
        node("Add", ["row", "onwards"], ["own"]),
        node("Unsqueeze", ["weights", "two"], ["w"]),
        node("Sub", ["plan", "own"], ["away"]),
        node("Mul", ["w", "away"], ["held"]),
        node("Add", ["own", "held"], ["action"]),
    ]
    inputs = [
        TensorSpec("state", "float32", read.shape, "state"),
        TensorSpec("plan", "float32", (length, dim), PLAN_STREAM),
        TensorSpec("weights", "float32", (length,), WEIGHTS_STREAM),
    ]
    constants = {"order": order, "onwards": onwards, "one": np.array([1]), "two": np.array([2])}
    graph = helper.make_graph(
        nodes,
        "continuing",
        [helper.make_tensor_value_info(s.name, _TYPES[s.dtype], ["batch", *s.shape]) for s in inputs],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", length, dim])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    write_bundle_files(
        folder, name="continuing", algorithm="none", created_utc="2026-01-01T00:00:00+00:00",
        model=model.SerializeToString(), contract=contract, inputs=inputs, provenance={},
        parity={"samples": 1, "max_abs_difference": 0.0, "tolerance": 1e-5, "holds": True},
        chunk_length=length, chunk_execute=1,
    )  # fmt: skip
    return folder
