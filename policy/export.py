"""The verb `export`: a checkpoint in, a bundle that a robot runs out, with proof that both agree."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from episodes.errors import BundleError, MachineError
from policy.data import load_data
from policy.graph import PolicyGraph
from policy.run import TrainedPolicy, load_policy
from policy.runtime.bundle import Bundle, TensorSpec, write_bundle_files
from policy.settings import require, to_json
from policy.training import FINAL

OPSET = 20
SINGLE_ROWS = 64
"""Observations that are also run one at a time, as the robot does: kernels differ with the batch size."""


@dataclass(frozen=True)
class ExportConfig:
    """Export a trained policy as an ONNX bundle, and compare it with PyTorch on recorded observations."""

    run: tyro.conf.Positional[Path]
    """Folder of the run that `armchair train` wrote."""
    out: Path | None = None
    """Folder of the bundle to write; RUN/bundle when left out."""
    checkpoint: str = FINAL
    """Name of the checkpoint, such as final or step-00005000."""
    files: tuple[Path, ...] = ()
    """Prepared files whose observations are compared; those of the training when left out."""
    samples: int = 1000
    """How many recorded observations are compared; all of them where there are fewer."""
    tolerance: float = 1e-5
    """Largest absolute difference of an action entry, in the contract's units, that still counts as equal."""
    name: str = ""
    """Name of the bundle in its manifest; the run folder's name when left out."""


@dataclass(frozen=True)
class Parity:
    """How closely an ONNX graph follows the network that it came from."""

    samples: int
    max_abs_difference: float
    tolerance: float
    single_samples: int
    """How many of the samples were also run in a batch of one."""

    @property
    def holds(self) -> bool:
        """False as well where the difference is not a number."""
        return self.max_abs_difference < self.tolerance


def export(config: ExportConfig) -> Bundle:
    """Write the bundle, or raise and leave what stood there.

    Raises:
        DatasetError: there is no such run, checkpoint or prepared file.
        BundleError: the ONNX graph does not follow PyTorch within `tolerance`, or the folder is taken.
        MachineError: the packages for exporting are missing.
    """
    require(config.samples >= 1, "samples", config.samples, "give 1 or more")
    require(config.tolerance > 0, "tolerance", config.tolerance, "give a number above 0")
    trained = load_policy(config.run, config.checkpoint)
    rows = _recorded(config, trained)
    model = onnx_bytes(trained.graph, trained.streams)
    parity = compare(trained.graph, model, trained.streams, rows, config.tolerance)
    folder = config.out or config.run / "bundle"
    if not parity.holds:
        raise BundleError(
            f"{folder}: not written. The ONNX graph differs from PyTorch by {parity.max_abs_difference:g} in "
            f"an action entry, over {parity.samples} recorded observations; the tolerance is "
            f"{parity.tolerance:g}. Look for non-finite weights or an operator that exports differently, or "
            "raise --tolerance knowingly."
        )
    return write_bundle_files(
        folder,
        name=config.name or config.run.resolve().name,
        algorithm=trained.config.algo.name,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model,
        contract=trained.contract,
        inputs=[TensorSpec(name, "float32", (width,), name) for name, width in trained.streams.items()],
        parity={
            "samples": parity.samples,
            "single_samples": parity.single_samples,
            "max_abs_difference": parity.max_abs_difference,
            "tolerance": parity.tolerance,
            "holds": parity.holds,
            "torch": str(torch.__version__),
            "onnxruntime": onnxruntime.__version__,
            "machine": platform.machine(),
        },
        provenance={
            "checkpoint": trained.checkpoint,
            "step": trained.step,
            "data_sha256": trained.data_sha256,
            "config": to_json(trained.config),
        },
    )


def onnx_bytes(graph: PolicyGraph, streams: dict[str, int]) -> bytes:
    """The policy as one ONNX file: an input (batch, width) per stream, output `action`, weights inside.

    Raises:
        MachineError: onnx or onnxscript is not installed.
    """
    rows = tuple(torch.zeros(2, width) for width in streams.values())
    # One name for the axis that all inputs share: the exporter warns when it meets a second one.
    batch = ({0: torch.export.Dim("batch", min=1)}, *({0: torch.export.Dim.DYNAMIC} for _ in rows[1:]))
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                rows,
                dynamo=True,
                input_names=list(streams),
                output_names=["action"],
                dynamic_shapes=(batch,),
                opset_version=OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise MachineError(
            f"exporting needs the package {error.name!r}: pip install onnx onnxscript."
        ) from error
    if program is None:
        raise BundleError("torch.onnx.export returned no graph. Install the torch that the lock file names.")
    model = program.model_proto
    _clear_metadata(model)
    return bytes(model.SerializeToString(deterministic=True))


def _clear_metadata(model: Any) -> None:
    """Drop the exporter's notes, which hold paths of this machine: the same policy is the same bytes."""
    graph = model.graph
    parts = (graph.node, graph.initializer, graph.input, graph.output, graph.value_info)
    for message in (model, graph, *(item for part in parts for item in part)):
        del message.metadata_props[:]
        message.doc_string = ""


def compare(
    graph: PolicyGraph,
    model: bytes,
    streams: dict[str, int],
    rows: NDArray[np.float32],
    tolerance: float,
) -> Parity:
    """Run both on observations `rows` (N, D), streams side by side, all at once and some one at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    columns = np.split(rows, np.cumsum(list(streams.values()))[:-1], axis=1)
    with torch.inference_mode():
        expected = graph(*(torch.from_numpy(column) for column in columns)).numpy()

    def run(part: slice) -> NDArray[np.float32]:
        feed = {name: column[part] for name, column in zip(streams, columns, strict=True)}
        return session.run(["action"], feed)[0]

    singles = range(min(SINGLE_ROWS, len(rows)))
    found = [(run(slice(None)), expected)]
    found += [(run(slice(row, row + 1)), expected[row : row + 1]) for row in singles]
    worst = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in found)
    finite = all(np.isfinite(a).all() for a, _ in found)
    return Parity(len(rows), worst if finite else float("nan"), tolerance, len(singles))


def main(config: ExportConfig) -> int:
    """Export, and say how well it agrees."""
    bundle = export(config)
    console = Console()
    console.print(
        f"{bundle.path}: differs from PyTorch by {bundle.parity.max_abs_difference:.1e} at most, over "
        f"{bundle.parity.samples} recorded observations (tolerance {bundle.parity.tolerance:g})",
        soft_wrap=True,
    )
    return 0


def _recorded(config: ExportConfig, trained: TrainedPolicy) -> NDArray[np.float32]:
    """Evenly spaced recorded observations (N, D), float32 as the robot's runtime gives them."""
    source = trained.config.data
    data = load_data(replace(source, files=config.files or source.files, reward="zero"))
    observations: Tensor = data.train.observations
    if data.contract.interface_sha256 != trained.contract.interface_sha256:
        raise BundleError(
            f"{source.files[0] if not config.files else config.files[0]}: its interface is not the one that "
            f"{config.run} was trained on. Give prepared files of the same robot with --files."
        )
    count = min(config.samples, len(observations))
    index = np.linspace(0, len(observations) - 1, count).round().astype(np.int64)
    return observations.numpy()[index]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its passes at warning level, one line each."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
