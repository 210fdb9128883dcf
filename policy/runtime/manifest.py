"""`manifest.json` of a policy bundle as frozen dataclasses, read strictly.

Every value is checked when it is read, and an unknown key is refused: a key that is spelt wrongly must not
pass for one that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from episodes.errors import did_you_mean
from policy.runtime.json_object import JsonObject
from policy.runtime.onnx_graph import DTYPES

SCHEMA = "armchair/bundle/1"
MANIFEST_FILE = "manifest.json"
MODEL_FILE, CONTRACT_FILE, PARITY_FILE = "policy.onnx", "contract.yaml", "parity.json"
REQUIRED_FILES = (MODEL_FILE, CONTRACT_FILE, PARITY_FILE)
TASK_STREAM = "task"
"""Stream of an input that takes the instruction: its text as UTF-8, uint8 (n,), filled up with zeros."""
PLAN_STREAM = "plan"
"""Stream of an input that takes the plan to go on with: (chunk length, action dim), float32, the actions that
are due from the new chunk's beginning on; zeros where the plan is over."""
WEIGHTS_STREAM = "plan_weights"
"""Stream of the input beside it: (chunk length,), float32, how strongly each action is held to that plan."""
PLAN_STREAMS = (PLAN_STREAM, WEIGHTS_STREAM)
DEFAULT_PROVIDERS = ("CPUExecutionProvider",)

_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the graph. `shape` is that of one sample; the graph has a batch axis before it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stream: str | None = None
    """The contract's observation stream that fills an input; None for the output."""


@dataclass(frozen=True)
class ActionSpec:
    """One action channel as the policy was trained for it, in the order of the action vector."""

    name: str
    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A validated manifest."""

    name: str
    created_utc: str
    algorithm: str
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    rate_hz: float
    chunk_length: int
    """Actions per inference."""
    chunk_execute: int
    """How many of them are meant to be executed before the next inference."""
    action_channels: tuple[ActionSpec, ...]
    interface_sha256: str
    limits_sha256: str
    provenance: Mapping[str, object]
    files: Mapping[str, str]
    providers: tuple[str, ...] = DEFAULT_PROVIDERS
    """onnxruntime execution providers in order of preference; those the machine lacks are passed over."""

    def as_json(self) -> dict[str, object]:
        """The content of `manifest.json`."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "created_utc": self.created_utc,
            "algorithm": self.algorithm,
            "inputs": [
                {"name": t.name, "stream": t.stream, "dtype": t.dtype, "shape": list(t.shape)}
                for t in self.inputs
            ],
            "outputs": [
                {"name": self.output.name, "dtype": self.output.dtype, "shape": list(self.output.shape)}
            ],
            "rate_hz": self.rate_hz,
            "chunk": {"length": self.chunk_length, "execute": self.chunk_execute},
            "action_channels": [
                {"name": c.name, "kind": c.kind, "names": list(c.names)} for c in self.action_channels
            ],
            "providers": list(self.providers),
            "interface_sha256": self.interface_sha256,
            "limits_sha256": self.limits_sha256,
            "provenance": dict(self.provenance),
            "files": dict(self.files),
        }


def parse_manifest(text: str, source: str) -> Manifest:
    """Validate the text of a `manifest.json`; `source` is named in errors.

    Raises:
        BundleError: naming file, key, value and what belongs there.
    """
    top = JsonObject.root(text, source)
    schema = top.text("schema")
    if schema != SCHEMA:
        raise top.error("schema", schema, f"this armchair reads {SCHEMA!r}: export the policy anew with it")
    keys = "schema name created_utc algorithm inputs outputs rate_hz chunk action_channels"
    top.only(*f"{keys} providers interface_sha256 limits_sha256 provenance files".split())
    inputs = tuple(_tensor(node, with_stream=True) for node in top.objects("inputs"))
    for tensor in inputs:
        if [t.name for t in inputs].count(tensor.name) > 1:
            raise top.error("inputs", tensor.name, "two inputs have this name")
    outputs = top.objects("outputs")
    if len(outputs) != 1:
        raise top.error("outputs", len(outputs), "a policy has exactly one output, the action")
    output = _tensor(outputs[0], with_stream=False)
    if output.name != "action" or len(output.shape) != 2:
        raise outputs[0].error(
            "name", f"{output.name} {list(output.shape)}", "write 'action' with shape [chunk, action dim]"
        )
    chunk = top.child("chunk")
    chunk.only("length", "execute")
    length, execute = chunk.whole("length"), chunk.whole("execute")
    if length != output.shape[0]:
        raise chunk.error("length", length, f"the output has room for {output.shape[0]} actions")
    if execute > length:
        raise chunk.error("execute", execute, f"only {length} actions are there to execute")
    channels = []
    for node in top.objects("action_channels"):
        node.only("name", "kind", "names")
        channels.append(ActionSpec(node.text("name"), node.text("kind"), node.texts("names")))
    files = top.child("files")
    for name in REQUIRED_FILES:
        files.text(name)
    hashes = {name: files.text(name) for name in files.data}
    for name, value in hashes.items():
        if not _SHA256.match(value):
            raise files.error(name, value, "write the file's sha256, 64 lower-case hexadecimal digits")
    return Manifest(
        name=top.text("name"),
        created_utc=top.text("created_utc"),
        algorithm=top.text("algorithm"),
        inputs=inputs,
        output=output,
        rate_hz=top.number("rate_hz"),
        chunk_length=length,
        chunk_execute=execute,
        action_channels=tuple(channels),
        interface_sha256=top.text("interface_sha256"),
        limits_sha256=top.text("limits_sha256"),
        provenance=top.child("provenance").data,
        files=hashes,
        providers=top.texts("providers") if "providers" in top.data else DEFAULT_PROVIDERS,
    )


def _tensor(node: JsonObject, *, with_stream: bool) -> TensorSpec:
    node.only("name", "dtype", "shape", *(["stream"] if with_stream else []))
    dtype = node.text("dtype")
    if dtype not in DTYPES.values():
        raise node.error("dtype", dtype, did_you_mean(dtype, DTYPES.values()).rstrip("."))
    stream = node.text("stream") if with_stream else None
    return TensorSpec(node.text("name"), dtype, node.sizes("shape"), stream)
