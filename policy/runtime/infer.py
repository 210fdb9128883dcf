"""The policy of a bundle as an onnxruntime session: one observation in, one action chunk out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from episodes.errors import ArmchairError, BundleError, MachineError
from policy.runtime.bundle import Bundle
from policy.runtime.chunks import Chunk
from policy.runtime.manifest import PLAN_STREAM, PLAN_STREAMS, WEIGHTS_STREAM, TensorSpec
from policy.runtime.replan import PlanRequest

Actions = NDArray[np.float64]

_ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    value for value in vars(ort_errors).values() if isinstance(value, type) and issubclass(value, Exception)
)


class ObservationError(ArmchairError):
    """Raised when an observation cannot be given to the policy. Nothing is filled in for what is missing."""


@dataclass(frozen=True)
class Timing:
    """Percentiles over the last inferences, ns."""

    count: int
    """Inferences since the start, warm-up left out."""
    p50_ns: int
    p95_ns: int
    p99_ns: int
    max_ns: int


class Policy:
    """Runs the graph of a verified bundle.

    The threads are fixed and do not spin between calls, since a control loop may share the machine. A policy
    that returns something non-finite is not judged here: control refuses it, in one place.
    """

    def __init__(
        self,
        bundle: Bundle,
        providers: Sequence[str] | None = None,
        threads: int = 1,
        *,
        warm_up: int = 3,
        window: int = 1024,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Open the session and run it `warm_up` times on zeros (the first inferences are slow).

        Args:
            providers: onnxruntime execution providers in order; all must be on this machine, and the first
                must start. Default: those of the manifest that are; one that does not start is passed over.
            threads: threads of one inference.
            window: inferences that the timing percentiles look back on.

        Raises:
            BundleError: onnxruntime refuses the graph, or the output is not as the manifest says.
            MachineError: a provider is missing on this machine.
        """
        self.bundle = bundle
        manifest = bundle.manifest
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        chosen = _choose_providers(providers, manifest.providers)
        try:
            self._session = onnxruntime.InferenceSession(bundle.model, options, providers=list(chosen))
        except _ORT_ERRORS as error:
            raise BundleError(
                f"{bundle.path / 'policy.onnx'}: onnxruntime {onnxruntime.__version__} refuses the graph "
                f"({error}). Export with an opset that this version knows."
            ) from error
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        if providers is not None and chosen[0] not in self.providers:
            raise MachineError(
                f"onnxruntime could not start {chosen[0]} and offers {', '.join(self.providers)}. Install "
                "its libraries (CUDA, cuDNN, TensorRT), or choose CPUExecutionProvider."
            )
        first = self.providers[0]
        order = chosen if providers is not None else manifest.providers
        self.passed_over: tuple[str, ...] = order[: order.index(first)] if first in order else order
        """Providers that were preferred and are not on this machine, or did not start."""
        self._inputs = manifest.inputs
        self._shape = manifest.output.shape
        self._clock_ns = clock_ns
        self._durations = np.zeros(window, dtype=np.int64)
        self._count = 0
        for _ in range(warm_up):
            self._run({t.name: np.zeros((1, *t.shape), dtype=t.dtype) for t in self._inputs})
        self.reset_timing()

    @property
    def streams(self) -> tuple[str, ...]:
        """The observation streams that the policy reads, each once."""
        read = dict.fromkeys(t.stream or t.name for t in self._inputs)
        return tuple(name for name in read if name not in PLAN_STREAMS)

    @property
    def continues_plans(self) -> bool:
        """Whether it can be held to the beginning of its plan (`continue_plan`)."""
        return any(t.stream == PLAN_STREAM for t in self._inputs)

    def infer(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The action chunk for one observation: float64 (chunk, action dim), in contract order.

        `observation` maps stream names to single samples (H, W, C) or (n,); further streams are ignored.
        Vectors may be of any float or whole-number type, pictures must have the manifest's.

        A policy that can go on with a plan is held to none.

        Raises:
            ObservationError: a stream is missing, has another shape or type, or holds a non-finite number.
        """
        plans = [t for t in self._inputs if t.stream in PLAN_STREAMS]
        free = {str(t.stream): np.zeros(t.shape, t.dtype) for t in plans}
        return self._infer({**observation, **free} if free else observation)

    def _infer(self, observation: Mapping[str, NDArray[Any]]) -> Actions:
        feed = {tensor.name: self._take(tensor, observation) for tensor in self._inputs}
        begin = self._clock_ns()
        chunk = self._run(feed)
        self._durations[self._count % len(self._durations)] = self._clock_ns() - begin
        self._count += 1
        return chunk

    def plan(
        self, observation: Mapping[str, NDArray[Any]], observation_ns: int, latency_ns: int = 0
    ) -> Chunk:
        """`infer` as a chunk whose first action is due `latency_ns` after its observation.

        Raises:
            ObservationError: as `infer`.
        """
        return Chunk(
            observation_ns=observation_ns,
            start_ns=observation_ns + latency_ns,
            period_ns=self.bundle.contract.period_ns,
            actions=self.infer(observation),
        )

    def continue_plan(self, observation: Mapping[str, NDArray[Any]], request: PlanRequest) -> Chunk:
        """A chunk that keeps the first `request.frozen` actions of the plan and is held to the others by
        Equation 5 of real-time chunking (`replan`). Only where it `continues_plans`.

        Raises:
            ObservationError: as `infer`.
        """
        length, dim = self._shape
        kept = min(len(request.prefix), length)
        plan = np.zeros((length, dim), dtype=np.float32)
        plan[:kept] = request.prefix[:kept]
        weights = np.where(np.arange(length) < kept, request.weights(length), 0.0)
        told = {PLAN_STREAM: plan, WEIGHTS_STREAM: weights.astype(np.float32)}
        return Chunk(
            observation_ns=request.observation_ns,
            start_ns=request.start_ns,
            period_ns=request.period_ns,
            actions=self._infer({**observation, **told}),
            frozen=min(request.frozen, kept),
        )

    def timing(self) -> Timing | None:
        """Percentiles over the last `window` inferences; None before the first one."""
        if self._count == 0:
            return None
        seen = self._durations[: min(self._count, len(self._durations))]
        p50, p95, p99 = (int(p) for p in np.percentile(seen, (50, 95, 99)))
        return Timing(self._count, p50, p95, p99, int(seen.max()))

    @property
    def last_ns(self) -> int | None:
        """How long the last inference took; None before the first one."""
        return int(self._durations[(self._count - 1) % len(self._durations)]) if self._count else None

    def reset_timing(self) -> None:
        """Forget all durations."""
        self._durations[:] = 0
        self._count = 0

    def _run(self, feed: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        try:
            (action,) = self._session.run(["action"], feed)
        except _ORT_ERRORS as error:
            raise BundleError(
                f"{self.bundle.path / 'policy.onnx'}: the graph failed while it ran ({error}). "
                "Export the policy anew with `armchair export`."
            ) from error
        if action.shape != (1, *self._shape):
            raise BundleError(
                f"{self.bundle.path / 'policy.onnx'}: the output has the shape {list(action.shape)}, the "
                f"manifest promises {[1, *self._shape]}. Export the policy anew with `armchair export`."
            )
        return np.asarray(action[0], dtype=np.float64)

    def _take(self, tensor: TensorSpec, observation: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        stream = tensor.stream or tensor.name
        if stream not in observation:
            raise ObservationError(
                f"stream {stream!r} is missing from the observation (there are {sorted(observation)}): "
                f"policy {self.bundle.manifest.name!r} does not run without it. "
                "Check that its topic is published."
            )
        value = np.asarray(observation[stream])
        if value.shape != tensor.shape:
            raise ObservationError(
                f"stream {stream!r} has the shape {list(value.shape)}, policy "
                f"{self.bundle.manifest.name!r} expects {list(tensor.shape)}. Compare contract and driver."
            )
        if not np.can_cast(value.dtype, tensor.dtype, casting="same_kind"):
            raise ObservationError(
                f"stream {stream!r} is {value.dtype}, policy {self.bundle.manifest.name!r} expects "
                f"{tensor.dtype}, and a conversion would lose values."
            )
        with np.errstate(over="ignore"):
            batch = np.ascontiguousarray(value[np.newaxis], dtype=tensor.dtype)
        if batch.dtype.kind == "f" and not np.isfinite(batch).all():
            where = np.argwhere(~np.isfinite(batch[0]))[0].tolist()
            raise ObservationError(
                f"stream {stream!r} holds {value[tuple(where)]} at index {where}: a policy is never run on "
                "non-finite input. Check the driver of that sensor."
            )
        return batch


def _choose_providers(asked: Sequence[str] | None, preferred: Sequence[str]) -> tuple[str, ...]:
    available = onnxruntime.get_available_providers()
    if asked is None:
        chosen = [name for name in preferred if name in available]
    else:
        chosen = list(asked)
        if missing := [name for name in chosen if name not in available]:
            raise MachineError(
                f"onnxruntime on this machine has no {', '.join(missing)}; it has {', '.join(available)}. "
                "NVIDIA machines need onnxruntime-gpu in the place of onnxruntime."
            )
    if not chosen:
        raise MachineError(
            f"none of the providers {', '.join(preferred) or '(none)'} is on this machine, which has "
            f"{', '.join(available)}. Add CPUExecutionProvider to the manifest's providers."
        )
    return tuple(chosen)
