"""Batches that are fetched ahead are the sampler's own, in order, and resume where they stood."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from policy.prefetch import Prefetched, prefetched
from policy.training import BatchSampler


class Rows(NamedTuple):
    x: Tensor


def sampler(seed: int = 1) -> BatchSampler[Rows]:
    return BatchSampler(Rows(torch.arange(50.0)), 8, seed)


def drawn(source: BatchSampler[Rows] | Prefetched[Rows], count: int) -> list[list[float]]:
    return [source.sample().x.tolist() for _ in range(count)]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_the_batches_are_those_of_the_sampler(pool) -> None:
    assert drawn(Prefetched(sampler(), pool), 6) == drawn(sampler(), 6)


def test_a_state_is_followed_by_the_batch_that_lay_ready(pool) -> None:
    ahead = Prefetched(sampler(), pool)
    fresh = ahead.state_dict()
    first = drawn(ahead, 3)
    state = ahead.state_dict()
    rest = drawn(ahead, 4)
    plain, other = sampler(seed=9), Prefetched(sampler(seed=7), pool)
    drawn(other, 2)
    for again in (plain, other):
        again.load_state_dict(state)
        assert drawn(again, 4) == rest
        again.load_state_dict(fresh)
        assert drawn(again, 3) == first


def test_the_next_batch_is_fetched_while_the_step_runs(pool) -> None:
    fetched = threading.Event()

    class Watched(BatchSampler[Rows]):
        calls = 0

        def sample(self) -> Rows:
            self.calls += 1
            batch = super().sample()
            if self.calls == 2:
                fetched.set()
            return batch

    Prefetched(Watched(Rows(torch.arange(50.0)), 8, 1), pool).sample()
    assert fetched.wait(60), "nobody fetched the second batch before it was asked for"


def test_what_goes_wrong_while_fetching_is_raised_by_the_call_that_needs_it(pool) -> None:
    class Failing(BatchSampler[Rows]):
        calls = 0

        def sample(self) -> Rows:
            self.calls += 1
            if self.calls == 2:
                raise OSError("the file is gone")
            return super().sample()

    ahead = Prefetched(Failing(Rows(torch.arange(50.0)), 8, 1), pool)
    ahead.sample()
    with pytest.raises(OSError, match="the file is gone"):
        ahead.sample()


def test_the_thread_ends_with_the_block() -> None:
    with prefetched(sampler()) as ahead:
        ahead.sample()
        assert any(thread.name.startswith("next batch") for thread in threading.enumerate())
    assert not any(thread.name.startswith("next batch") for thread in threading.enumerate())
