"""The next batch is fetched while the step before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic

from policy.checkpoint import State
from policy.training import BatchSampler, BatchT


class Prefetched(Generic[BatchT]):
    """A sampler whose next batch is drawn in a thread beside the training step.

    The batches, and the state that a checkpoint keeps, are those of the sampler alone: the state is always
    the one from which the batch that was handed out last is followed by the one that lies ready.
    """

    def __init__(self, sampler: BatchSampler[BatchT], pool: ThreadPoolExecutor) -> None:
        """`pool` has one thread; the sampler is left to it."""
        self._sampler = sampler
        self._pool = pool
        self._state = sampler.state_dict()
        self._next: Future[BatchT] | None = None

    def sample(self) -> BatchT:
        """The next batch; what went wrong while it was fetched is raised here."""
        batch = self._sampler.sample() if self._next is None else self._next.result()
        self._state = self._sampler.state_dict()
        self._next = self._pool.submit(self._sampler.sample)
        return batch

    def state_dict(self) -> State:
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._next is not None:
            self._next.result()
            self._next = None
        self._sampler.load_state_dict(state)
        self._state = self._sampler.state_dict()


@contextmanager
def prefetched(sampler: BatchSampler[BatchT]) -> Iterator[Prefetched[BatchT]]:
    """`sampler` with a thread that fetches ahead; the thread ends with the block."""
    with ThreadPoolExecutor(1, thread_name_prefix="next batch") as pool:
        yield Prefetched(sampler, pool)
