"""CUDA graphs: a function's kernels recorded once and launched together from then on.

On a GPU small networks wait for Python to launch their kernels one by one; a graph launches them in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from policy.checkpoint import restore_rng, rng_state

WARM_UP = 3
"""Calls before the capture, in which libraries allocate and choose what a capture may not."""


class Graph(Protocol):
    """A recorded graph; `torch.cuda.CUDAGraph` is one."""

    def replay(self) -> None:
        """Run what was recorded, on the tensors that it was recorded with."""
        ...


class Cuda:
    """The calls of torch.cuda that a capture takes, in one place so that a test can stand in for a GPU."""

    def aside(self) -> AbstractContextManager[object]:
        """A stream beside the current one, as warming up has to run on."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(stream)

    def join(self) -> None:
        """Wait for everything."""
        torch.cuda.synchronize()

    def record(self, function: Callable[[], Any]) -> tuple[Graph, Any]:
        """Record `function` without running its kernels; what it returned is filled by each replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
        return graph, result


class Captured:
    """`function(batch, *flags)` as one CUDA graph per value of the flags.

    The batch is copied into tensors of the graph's own, and results are overwritten by the next call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        state: Callable[[], Mapping[str, Any]],
        cuda: Cuda | None = None,
    ) -> None:
        """`state` gives every tensor that `function` changes, as the very tensors and not as copies."""
        self._function = function
        self._state = state
        self._cuda = cuda or Cuda()
        self._graphs: dict[object, tuple[Graph, list[Tensor], Any]] = {}

    def __call__(self, batch: Any, *flags: object) -> Any:
        leaves, layout = pytree.tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = (flags, layout, tuple(tensor.shape for tensor in tensors))
        if key not in self._graphs:
            self._graphs[key] = self._capture(leaves, layout, flags)
        graph, own, result = self._graphs[key]
        for mine, given in zip(own, tensors, strict=True):
            mine.copy_(given)
        graph.replay()
        return result

    def _capture(
        self, leaves: list[Any], layout: pytree.TreeSpec, flags: tuple[object, ...]
    ) -> tuple[Graph, list[Tensor], Any]:
        copies = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        batch = pytree.tree_unflatten(copies, layout)
        before = {path: tensor.clone() for path, tensor in _tensors(self._state())}
        generators = rng_state()
        with self._cuda.aside():
            for _ in range(WARM_UP):
                self._function(batch, *flags)
        self._cuda.join()
        # Warming up made steps, and an optimiser's first step makes its state, which starts at zero. Tensors
        # are put back in place: the graph will hold their addresses.
        with torch.no_grad():
            for path, tensor in _tensors(self._state()):
                tensor.copy_(before[path]) if path in before else tensor.zero_()
        restore_rng(generators)
        graph, result = self._cuda.record(lambda: self._function(batch, *flags))
        return graph, [copy for copy in copies if isinstance(copy, Tensor)], result


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for path, leaf in pytree.tree_flatten_with_path(state)[0]:
        if isinstance(leaf, Tensor):
            yield pytree.keystr(path), leaf
