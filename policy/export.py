"""The verb `export`: a checkpoint in, a bundle that a robot runs out, with proof that both agree."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Mapping
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

from episodes.errors import BundleError, MachineError
from policy.data import DataConfig
from policy.graph import PolicyGraph
from policy.run import TrainedPolicy, load_policy
from policy.runtime.bundle import Bundle, TensorSpec, write_bundle_files
from policy.runtime.infer import Policy
from policy.settings import require, to_json
from policy.train import load_run_data
from policy.training import FINAL

OPSET = 20
TOLERANCE, DEEP_TOLERANCE = 1e-5, 1e-4
BATCH_ROWS = 256
MOST_PICTURES = 256
"""Recorded pictures that are compared; a thousand of them would take minutes with a deep network."""
TIMED_ROWS = 200
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
    tolerance: float | None = None
    """Largest absolute difference of an action entry, in the contract's units, that still counts as equal.
    Left out, it is 1e-5, and for residual picture encoders and frozen towers 1e-4 of the largest action."""
    name: str = ""
    """Name of the bundle in its manifest; the run folder's name when left out."""


@dataclass(frozen=True)
class Tolerance:
    """What difference of an action entry still counts as equal: in its own units, or relative to the largest
    entry that is compared."""

    absolute: float = 0.0
    relative: float = 0.0

    def of(self, expected: NDArray[np.float32]) -> float:
        """The allowed difference, in the units of `expected`."""
        return self.absolute + self.relative * float(np.abs(expected).max())


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
    require(
        config.tolerance is None or config.tolerance > 0,
        "tolerance",
        config.tolerance,
        "give a number above 0",
    )
    trained = load_policy(config.run, config.checkpoint)
    rows = _recorded(config, trained)
    model = onnx_bytes(trained.graph, rows)
    parity = compare(trained.graph, model, rows, _tolerance(config, trained))
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
        inputs=[TensorSpec(name, str(x.dtype), x.shape[1:], name) for name, x in rows.items()],
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
        chunk_length=getattr(trained.config.algo, "chunk", 1),
        chunk_execute=getattr(trained.config.algo, "executed", 1),
    )


def _tolerance(config: ExportConfig, trained: TrainedPolicy) -> Tolerance:
    if config.tolerance is not None:
        return Tolerance(absolute=config.tolerance)
    deep = trained.config.encoder.kind == "workflow-resnet" or trained.config.tower.kind != "none"
    deep = deep and bool(trained.cameras)
    return Tolerance(relative=DEEP_TOLERANCE) if deep else Tolerance(absolute=TOLERANCE)


def onnx_bytes(graph: PolicyGraph, rows: Mapping[str, NDArray[Any]]) -> bytes:
    """The policy as one ONNX file, weights inside: an input (batch, …) per stream of `rows`, which are
    examples of them (N, …), and the output `action`.

    Raises:
        MachineError: onnx or onnxscript is not installed.
    """
    examples = tuple(torch.from_numpy(np.zeros((2, *x.shape[1:]), x.dtype)) for x in rows.values())
    # One name for the axis that all inputs share: the exporter warns when it meets a second one.
    batch = ({0: torch.export.Dim("batch", min=1)}, *({0: torch.export.Dim.DYNAMIC} for _ in examples[1:]))
    try:
        with _quiet(), _plain_attention():
            program = torch.onnx.export(
                graph,
                examples,
                dynamo=True,
                input_names=list(rows),
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
    graph: PolicyGraph, model: bytes, rows: Mapping[str, NDArray[Any]], tolerance: Tolerance
) -> Parity:
    """Run both on observations `rows`, (N, …) per stream, in batches and some one at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    count = len(next(iter(rows.values())))
    starts = range(0, count, BATCH_ROWS)
    batches = [slice(start, min(start + BATCH_ROWS, count)) for start in starts]
    with torch.inference_mode():
        parts = [graph(*(torch.from_numpy(x[part]) for x in rows.values())).numpy() for part in batches]
    expected = np.concatenate(parts)
    singles = [slice(row, row + 1) for row in range(min(SINGLE_ROWS, count))]
    worst, finite = 0.0, True
    for part in (*batches, *singles):
        found = session.run(["action"], {name: x[part] for name, x in rows.items()})[0]
        finite = finite and bool(np.isfinite(found).all())
        worst = max(worst, float(np.abs(found.astype(np.float64) - expected[part]).max()))
    allowed = tolerance.of(expected)
    return Parity(count, worst if finite else float("nan"), allowed, len(singles))


def inference_ms(bundle: Bundle, rows: Mapping[str, NDArray[Any]]) -> tuple[float, float]:
    """Median and 99th percentile, ms, of one observation through the robot's runtime with one thread."""
    policy = Policy(bundle)
    count = len(next(iter(rows.values())))
    for number in range(TIMED_ROWS):
        policy.infer({name: x[number % count] for name, x in rows.items()})
    timing = policy.timing()
    assert timing is not None
    return timing.p50_ns / 1e6, timing.p99_ns / 1e6


def main(config: ExportConfig) -> int:
    """Export, and say how well it agrees and how long it takes."""
    bundle = export(config)
    console = Console()
    console.print(
        f"{bundle.path}: differs from PyTorch by {bundle.parity.max_abs_difference:.1e} at most, over "
        f"{bundle.parity.samples} recorded observations (tolerance {bundle.parity.tolerance:.1e})",
        soft_wrap=True,
    )
    trained = load_policy(config.run, config.checkpoint)
    p50, p99 = inference_ms(bundle, _recorded(replace(config, samples=TIMED_ROWS), trained))
    console.print(f"one inference here, one thread: median {p50:.2f} ms, 99 % within {p99:.2f} ms")
    return 0


def _recorded(config: ExportConfig, trained: TrainedPolicy) -> dict[str, NDArray[Any]]:
    """Evenly spaced recorded observations (N, …) by stream, as the robot's runtime gives them."""
    files = config.files or trained.config.data.files
    data = load_run_data(replace(trained.config, data=_unlabelled(trained)), files)
    if data.contract.interface_sha256 != trained.contract.interface_sha256:
        raise BundleError(
            f"{files[0]}: its interface is not the one that {config.run} was trained on. Give prepared files "
            "of the same robot with --files."
        )
    total = len(data.train.rewards)
    most = min(config.samples, total) if data.pictures is None else min(config.samples, total, MOST_PICTURES)
    index = np.linspace(0, total - 1, most).round().astype(np.int64)
    vectors = data.train.observations.numpy()[index]
    widths = np.cumsum(list(trained.streams.values()))[:-1]
    rows: dict[str, NDArray[Any]] = {}
    if trained.streams:
        rows |= dict(zip(trained.streams, np.split(vectors, widths, axis=1), strict=True))
    if data.pictures is not None and data.train.frames is not None:
        pictures = data.pictures.before(data.train.frames.numpy()[index])
        rows |= dict(zip(trained.cameras, pictures, strict=True))
    return rows


def _unlabelled(trained: TrainedPolicy) -> DataConfig:
    """The run's data without rewards and experts: only observations are looked at."""
    return replace(trained.config.data, reward="zero", prior=(), weights=())


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as products and a softmax: torch's fused kernel of inference has no counterpart in ONNX."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


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
