"""What must agree within a bundle: manifest, contract, parity report and graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.contract import Contract
from episodes.errors import BundleError
from policy.runtime.bundle_files import EXPORT_ANEW
from policy.runtime.json_object import JsonObject
from policy.runtime.manifest import (
    CONTRACT_FILE,
    MANIFEST_FILE,
    PLAN_STREAM,
    PLAN_STREAMS,
    TASK_STREAM,
    ActionSpec,
    Manifest,
    TensorSpec,
)
from policy.runtime.onnx_graph import TensorInfo, read_onnx_graph


@dataclass(frozen=True)
class Parity:
    """How closely the ONNX graph follows the trained network: largest absolute difference over `samples`."""

    samples: int
    max_abs_difference: float
    tolerance: float


def action_channels(contract: Contract) -> tuple[ActionSpec, ...]:
    return tuple(ActionSpec(c.name, c.kind, c.names) for c in contract.actions.values())


def check_contract(manifest: Manifest, contract: Contract, path: Path) -> None:
    """The manifest repeats what the contract says, so that a reader of either is told the truth."""

    def differs(key: str, found: object, expected: object) -> BundleError:
        return BundleError(
            f"{path}: key '{key}' is {found!r}, but the bundle's {CONTRACT_FILE} says "
            f"{expected!r}. {EXPORT_ANEW}"
        )

    if manifest.interface_sha256 != contract.interface_sha256:
        raise differs("interface_sha256", manifest.interface_sha256, contract.interface_sha256)
    if manifest.limits_sha256 != contract.limits_sha256:
        raise differs("limits_sha256", manifest.limits_sha256, contract.limits_sha256)
    if manifest.rate_hz != contract.rate_hz:
        raise differs("rate_hz", manifest.rate_hz, contract.rate_hz)
    if taken := sorted(set(contract.observations) & set(PLAN_STREAMS)):
        raise BundleError(
            f"{path}: the bundle's {CONTRACT_FILE} has an observation stream {taken[0]!r}, which is what a "
            f"policy that goes on with its plan calls that plan. Give the stream another name. {EXPORT_ANEW}"
        )
    expected = action_channels(contract)
    if manifest.action_channels != expected:
        raise differs(
            "action_channels",
            [(c.name, c.kind, list(c.names)) for c in manifest.action_channels],
            [(c.name, c.kind, list(c.names)) for c in expected],
        )
    if manifest.output.shape[1] != contract.action_dim:
        raise differs("outputs[0].shape[1]", manifest.output.shape[1], contract.action_dim)
    for tensor in manifest.inputs:
        stream = contract.observations.get(tensor.stream or "")
        if stream is None and tensor.stream == TASK_STREAM:
            if tensor.dtype != "uint8" or len(tensor.shape) != 1:
                raise differs(f"inputs.{tensor.name}", [tensor.dtype, list(tensor.shape)], ["uint8", ["n"]])
            continue
        if stream is None and tensor.stream in PLAN_STREAMS:
            _check_plan(tensor, manifest, path)
            continue
        if stream is None:
            raise differs(f"inputs.{tensor.name}.stream", tensor.stream, sorted(contract.observations))
        if tensor.shape != stream.shape:
            raise differs(f"inputs.{tensor.name}.shape", list(tensor.shape), list(stream.shape))
        if stream.is_image and tensor.dtype != stream.dtype:
            raise differs(f"inputs.{tensor.name}.dtype", tensor.dtype, stream.dtype)


def _check_plan(tensor: TensorSpec, manifest: Manifest, path: Path) -> None:
    """A policy that can go on with a plan takes both the plan and its weights, of its own chunk's size."""
    shape = manifest.output.shape if tensor.stream == PLAN_STREAM else manifest.output.shape[:1]
    if (tensor.dtype, tensor.shape) != ("float32", shape):
        raise BundleError(
            f"{path}: key 'inputs.{tensor.name}' is {tensor.dtype} {list(tensor.shape)}: the stream "
            f"{tensor.stream!r} of chunks of {list(manifest.output.shape)} is float32 {list(shape)}. "
            f"{EXPORT_ANEW}"
        )
    found = [t.stream for t in manifest.inputs if t.stream in PLAN_STREAMS]
    if sorted(map(str, found)) != sorted(PLAN_STREAMS):
        raise BundleError(
            f"{path}: key 'inputs' has the streams {found}: a policy that goes on with a plan takes each of "
            f"{' and '.join(PLAN_STREAMS)} once. {EXPORT_ANEW}"
        )


def check_parity(text: str, path: Path) -> Parity:
    report = JsonObject.root(text, str(path))
    parity = Parity(report.whole("samples"), report.number("max_abs_difference"), report.number("tolerance"))
    if not report.truth("holds") or parity.max_abs_difference > parity.tolerance:
        raise BundleError(
            f"{path}: the ONNX graph does not follow the trained network: largest difference "
            f"{parity.max_abs_difference:g} over {parity.samples} samples, tolerance {parity.tolerance:g}. "
            "Look for an operator that exports differently, and export the policy anew."
        )
    return parity


def check_graph(manifest: Manifest, model: bytes, path: Path) -> None:
    graph = read_onnx_graph(model, str(path))
    if graph.external_files:
        raise BundleError(
            f"{path}: the graph wants to read further files ({', '.join(graph.external_files)}). "
            "Export with the weights inside the ONNX file (external_data=False)."
        )
    _check_tensors("input", manifest.inputs, graph.inputs, path)
    _check_tensors("output", (manifest.output,), graph.outputs, path)


def _check_tensors(
    what: str, specs: tuple[TensorSpec, ...], found: Mapping[str, TensorInfo], path: Path
) -> None:
    names = {spec.name for spec in specs}
    if names != set(found):
        raise BundleError(
            f"{path}: the graph's {what}s are {sorted(found)}, but {MANIFEST_FILE} lists "
            f"{sorted(names)}. {EXPORT_ANEW}"
        )
    for spec in specs:
        info = found[spec.name]
        if info.dtype != spec.dtype:
            raise BundleError(
                f"{path}: {what} '{spec.name}' is {info.dtype} in the graph, but {spec.dtype} in "
                f"{MANIFEST_FILE}. {EXPORT_ANEW}"
            )
        batch, *sample = info.shape or (0,)
        if batch not in (None, 1) or tuple(sample) != spec.shape:
            shown = ["batch" if size is None else size for size in info.shape]
            raise BundleError(
                f"{path}: {what} '{spec.name}' has the shape {shown} in the graph, but {MANIFEST_FILE} says "
                f"{['batch', *spec.shape]} (the batch axis is free, all others are fixed). {EXPORT_ANEW}"
            )
