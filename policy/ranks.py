"""One training in several processes, as `torchrun` starts them: each works on its share of every batch.

Every rank draws the same batch and takes every n-th row of it, and before an optimiser steps the gradients of
its parameters are averaged over the ranks. All losses here are means over the batch, so what is stepped along
is the gradient of the whole batch, and all ranks keep the same weights without ever sending them. Wrapping
modules in DistributedDataParallel would come to the same, but an update here goes through several networks,
some of them frozen for a while, and through their methods, which that wrapper does not pass on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from episodes.errors import MachineError

PATIENCE = timedelta(hours=12)
"""How long a rank waits for another, which may be evaluating. One that died is noticed by torchrun."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; of one that trains alone everything is the identity.

    What all ranks have to call together: `mean`, `any`, `gathered`, `agree` and `wait`.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    """Number among the processes of this machine, which is that of its GPU."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes files, evaluates and speaks; one of them does."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This rank's part of rows (N, …) that all ranks have alike: (N / count, …)."""
        return rows if self.count == 1 else rows[self.rank :: self.count]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each figure, averaged over the ranks."""
        if self.count == 1:
            return dict(values)
        summed = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(summed)
        return dict(zip(values, (summed / self.count).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether one rank at least says so."""
        if self.count == 1:
            return flag
        said = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(said)
        return bool(said)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """A tensor on the CPU of every rank, in order; they have one shape."""
        if self.count == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(found, tensor)
        return found

    def agree(self, what: str, value: object) -> None:
        """Make sure that all ranks have the same.

        Raises:
            MachineError: they do not, so that what they would compute together means nothing.
        """
        if self.count == 1:
            return
        digest = hashlib.sha256(_bytes(value)).digest()
        found = self.gathered(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        other = [rank for rank, one in enumerate(found) if not torch.equal(one, found[0])]
        if other:
            raise MachineError(
                f"rank {other[0]} of {self.count} has another {what} than rank 0. All ranks need the same "
                "command, files and software, and the run's folder on a disk that they share."
            )

    def wait(self) -> None:
        """Until every rank is here."""
        if self.count > 1:
            dist.barrier()


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process' place among those that torchrun started, or ALONE.

    Raises:
        MachineError: the others cannot be reached, or the machine has fewer GPUs than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if device == "cuda":
        if ranks.local >= torch.cuda.device_count():
            raise MachineError(
                f"--device cuda: rank {ranks.rank} wants GPU {ranks.local} of a machine that has "
                f"{torch.cuda.device_count()} GPUs. Give torchrun --nproc-per-node that many at most."
            )
        torch.cuda.set_device(ranks.local)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise MachineError(
            f"rank {ranks.rank} of {count}: cannot reach the other ranks ({error!s:.300}). On one machine "
            "use torchrun --standalone."
        ) from error
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


@contextmanager
def averaged_gradients(ranks: Ranks) -> Iterator[None]:
    """While it is open, every optimiser of this process steps along the mean of all ranks' gradients."""
    if ranks.count == 1:
        yield
        return

    def average(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        own = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        average_over(own, ranks.count)

    hook = register_optimizer_step_pre_hook(average)
    try:
        yield
    finally:
        hook.remove()


def average_over(gradients: Sequence[Tensor], count: int) -> None:
    """Average tensors over the ranks in place, in one message."""
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= count
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _bytes(value: object) -> bytes:
    if isinstance(value, Tensor):
        return value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        return b"".join(str(key).encode() + _bytes(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return b"".join(_bytes(item) for item in value)
    return repr(value).encode()
