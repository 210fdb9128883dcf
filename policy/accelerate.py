"""What makes a learner's update faster without changing what it computes: torch.compile and CUDA graphs.

A learner that gains from either has `accelerate`, in which it hands over those of its functions where it
pays. Such a function changes tensors alone: a Python number that it counted would be counted once, while it
is traced, and never again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import torch

from episodes.errors import ConfigError
from policy.checkpoint import State, restore_rng, rng_state
from policy.graphs import Captured
from policy.precision import Precision, hidden_layers_in
from policy.training import BatchT_contra, Learner, Metrics

F = TypeVar("F", bound=Callable[..., Any])
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Acceleration:
    """How a learner's functions are made faster."""

    compile: bool = False
    cuda_graphs: bool = False
    warn: Warn = warnings.warn

    def compiled(self, function: F) -> F:
        """`function` through torch.compile, where that is on."""
        return cast(F, Compiled(function, self.warn)) if self.compile else function

    def captured(self, function: F, state: Callable[[], Mapping[str, Any]]) -> F:
        """`function` as a CUDA graph, where that is on. `state` gives every tensor that it changes, as
        `state_dict` does."""
        return cast(F, Captured(function, state)) if self.cuda_graphs else function


@runtime_checkable
class Accelerable(Protocol):
    """A learner with functions that can be made faster."""

    def accelerate(self, how: Acceleration) -> None:
        """Replace them; called once, before the first update."""
        ...


def accelerate(learner: object, how: Acceleration, name: str, device: torch.device) -> None:
    """Accelerate `learner`, which `--algo` calls `name`, as far as it can be.

    Raises:
        ConfigError: CUDA graphs were asked for without CUDA, or of a learner that has none.
    """
    if not (how.compile or how.cuda_graphs):
        return
    if how.cuda_graphs and device.type != "cuda":
        raise ConfigError("--cuda-graphs: only NVIDIA GPUs have them. Add --device cuda, or leave it out.")
    if isinstance(learner, Accelerable):
        learner.accelerate(how)
    elif how.cuda_graphs:
        raise ConfigError(f"--cuda-graphs: algo:{name} cannot be captured; algo:iql and algo:cql can.")
    else:
        how.warn(f"--compile: nothing in algo:{name} gains from it; it runs as without.")


def capturable(optimiser: torch.optim.Optimizer, how: Acceleration) -> None:
    """Have `optimiser` count its steps on the GPU, as a graph has to."""
    if how.cuda_graphs:
        for group in optimiser.param_groups:
            group["capturable"] = True


class Reduced(Generic[BatchT_contra]):
    """A learner whose updates, and nothing else of it, run with hidden layers of a precision."""

    def __init__(self, learner: Learner[BatchT_contra], precision: Precision) -> None:
        self._learner = learner
        self._precision: Precision = precision

    def update(self, batch: BatchT_contra) -> Metrics:
        with hidden_layers_in(self._precision):
            return self._learner.update(batch)

    def state_dict(self) -> State:
        return self._learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._learner.load_state_dict(state)


class Compiled:
    """A function through torch.compile, or as it is where it cannot be compiled, which is said once.

    It is compiled at the first call. Random numbers are drawn by the same kernels as without, so that only
    rounding differs.
    """

    def __init__(self, function: Callable[..., Any], warn: Warn) -> None:
        self._eager = function
        self._warn = warn
        self._chosen: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self._chosen is None:
            return self._first(arguments)
        return self._chosen(*arguments)

    def _first(self, arguments: tuple[Any, ...]) -> Any:
        before = rng_state()
        compiled = torch.compile(self._eager, dynamic=False, options={"fallback_random": True})
        try:
            result = compiled(*arguments)
        except RuntimeError as error:
            # The compiler raises several kinds of RuntimeError; a mistake of ours raises again just below.
            restore_rng(before)
            result = self._eager(*arguments)
            self._chosen = self._eager
            self._warn(
                f"--compile: {self._eager.__qualname__} runs without it, more slowly but with the same "
                f"result; it could not be compiled ({_short(error)}). On a CPU that takes a C++ compiler, "
                "such as Debian's g++."
            )
            return result
        self._chosen = compiled
        return result


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
