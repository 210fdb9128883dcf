"""Small robots and ONNX graphs that the runtime's tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from episodes.contract import Contract, parse_contract
from policy.runtime.bundle import Bundle, TensorSpec, write_bundle_files

CAMERA_ROBOT = """
robot: tiny
rate_hz: 50
reference: state
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [a, b, c], max_age_ms: 50}
  front: {topic: camera/image, type: sensor_msgs/msg/Image, shape: [4, 5, 3], max_age_ms: 100}
actions:
  arm: {kind: cartesian_delta, topic: arm, type: std_msgs/msg/Float64MultiArray, names: [dx, dy],
        lower: [-1, -1], upper: [1, 1], on_timeout: stop}
  gripper: {kind: gripper, topic: gripper, type: std_msgs/msg/Float64MultiArray, names: [effort],
            lower: [-1], upper: [1]}
"""

PARITY = {"samples": 1000, "max_abs_difference": 1e-7, "tolerance": 1e-5, "holds": True}
INPUTS = (TensorSpec("state", "float32", (3,), "state"), TensorSpec("front", "uint8", (4, 5, 3), "front"))


def tiny_model(chunk: int = 2, dim: int = 3, external: str | None = None) -> bytes:
    """action[b, k] = state @ W + mean(front) + k; `external` moves W into a file of that name."""
    weights = np.arange(3 * dim, dtype=np.float32).reshape(3, dim) / 10.0
    offsets = (np.arange(chunk, dtype=np.float32)[:, None]) * np.ones((1, dim), dtype=np.float32)
    w = numpy_helper.from_array(weights, "w")
    if external is not None:
        w.data_location = TensorProto.EXTERNAL
        w.ClearField("raw_data")
        w.external_data.add(key="location", value=external)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["linear"]),
            helper.make_node("Unsqueeze", ["linear", "one"], ["wide"]),
            helper.make_node("Cast", ["front"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["brightness"], keepdims=0),
            helper.make_node("Unsqueeze", ["brightness", "both"], ["light"]),
            helper.make_node("Add", ["wide", "light"], ["lit"]),
            helper.make_node("Add", ["lit", "offsets"], ["action"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("front", TensorProto.UINT8, ["batch", 4, 5, 3]),
        ],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", chunk, dim])],
        [
            w,
            numpy_helper.from_array(offsets, "offsets"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
            numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "both"),
            numpy_helper.from_array(np.array([1, 2, 3], dtype=np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if external is None:
        onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def robot() -> Contract:
    """A robot with one delta arm, a gripper, a state and a camera."""
    return parse_contract(CAMERA_ROBOT, "tiny.yaml")


@pytest.fixture(scope="session")
def make_model() -> Callable[..., bytes]:
    return tiny_model


@pytest.fixture
def write_bundle(tmp_path: Path, robot: Contract) -> Callable[..., Bundle]:
    """Writes a good bundle at tmp_path/bundle; keywords replace what `write_bundle_files` is given."""

    def write(**changes: object) -> Bundle:
        given: dict[str, object] = {
            "name": "tiny",
            "algorithm": "bc",
            "created_utc": "2026-11-20T06:00:00Z",
            "model": tiny_model(),
            "contract": robot,
            "inputs": INPUTS,
            "parity": PARITY,
            "provenance": {"dataset": "none"},
            "chunk_length": 2,
            "chunk_execute": 1,
        }
        return write_bundle_files(tmp_path / "bundle", **(given | changes))  # type: ignore[arg-type]

    return write


ARM_ROBOT = """
robot: arm3
rate_hz: 100
reference: state
estop: [pendant]
observations:
  state: {topic: joint_states, type: sensor_msgs/msg/JointState, names: [finger, j2, j1, j0], max_age_ms: 40}
actions:
  arm: {kind: joint_position, topic: arm, type: std_msgs/msg/Float64MultiArray, names: [j0, j1, j2],
        lower: [-1.0, -2.0, 0.0], upper: [1.0, 2.0, 0.5], max_velocity: [2.0, 1.0, 0.5],
        max_acceleration: [8.0, 20.0, 3.0], max_deviation: [0.3, 0.3, 0.3], measured_by: state}
  gripper: {kind: gripper, topic: gripper, type: std_msgs/msg/Float64MultiArray, names: [finger],
            lower: [0.0], upper: [0.08], measured_by: state}
"""


@pytest.fixture(scope="session")
def arm() -> Contract:
    """A three-joint arm with a measured gripper and one e-stop source; the driver's joint order differs."""
    return parse_contract(ARM_ROBOT, "arm3.yaml")
