"""The training loop that every learner shares: batches, metrics, checkpoints, and resuming bit for bit.

It knows nothing of policies or rewards. What it needs of a learner is the protocol `Learner`; what it trains
on is a named tuple of tensors with one row per sample.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from episodes.errors import ConfigError, DatasetError
from policy.checkpoint import Checkpoints, State, load_state, restore_rng, rng_state
from policy.metrics import METRICS_FILE, MetricsLog, latest_metrics
from policy.ranks import ALONE, Ranks, averaged_gradients
from policy.settings import require

Metrics = Mapping[str, Tensor]
"""Detached tensors of any shape. Only the loop reduces them, to their mean, and only when it logs."""

FINAL = "final"
"""Name of the checkpoint that a finished run leaves."""

PROGRESS_EVERY = 20

BatchT = TypeVar("BatchT", bound=tuple[Tensor, ...])
BatchT_co = TypeVar("BatchT_co", bound=tuple[Tensor, ...], covariant=True)
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


class Learner(Protocol[BatchT_contra]):
    """What is trained. Everything that changes with `update` is in its state."""

    def update(self, batch: BatchT_contra) -> Metrics:
        """One gradient step. Converting a metric to a number here would make every step wait for it."""
        ...

    def state_dict(self) -> State:
        """Networks and optimisers, as a tree of tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state_dict` returned."""
        ...


class Sampler(Protocol[BatchT_co]):
    """Where batches come from; its state says which one is next."""

    def sample(self) -> BatchT_co:
        """The next batch."""
        ...

    def state_dict(self) -> State:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state_dict` returned."""
        ...


class BatchSampler(Generic[BatchT]):
    """Draws rows with replacement, uniformly or by weight, from a generator of its own.

    Nothing else that draws random numbers can change the batches, and the generator's state is what resuming
    needs. The rows stay on the device where they are.
    """

    def __init__(
        self,
        rows: BatchT,
        batch_size: int,
        seed: int,
        *,
        weights: Tensor | None = None,
        beside: Tensor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """`rows` is a named tuple of tensors with the same first axis, the samples; None stands for a column
        that is not there. Row i is drawn in proportion to `weights` (N,), or as often as any other. From the
        rows `beside` (M,) as many are drawn again, behind the others. Each of `ranks` gets its share of every
        batch.

        Raises:
            ConfigError: `batch_size` is below 1.
            DatasetError: there are no rows, or none with a weight above 0.
        """
        require(batch_size >= 1, "batch-size", batch_size, "a batch needs at least one row")
        lengths = {len(tensor) for tensor in rows if tensor is not None}
        if lengths == {0} or len(lengths) != 1:
            raise DatasetError(f"there is nothing to draw batches from: the tensors have {lengths} rows.")
        self.rows = rows
        self.batch_size = batch_size
        self._size = lengths.pop()
        self._device = rows[0].device
        self._generator = torch.Generator().manual_seed(seed)
        self._beside = beside
        self._ranks = ranks
        self._cumulative = None if weights is None else self._checked(weights)
        # Rounding may put a point at the very end, behind the last row with a weight.
        self._last = self._size - 1 if weights is None else int(weights.nonzero()[-1])

    def _checked(self, weights: Tensor) -> Tensor:
        if weights.shape != (self._size,) or not (weights >= 0).all() or not weights.sum() > 0:
            raise DatasetError(
                f"there is nothing to draw batches from: {self._size} rows with weights of shape "
                f"{list(weights.shape)} that have to be 0 or more, and one of them above 0."
            )
        return weights.to("cpu", torch.float64).cumsum(0)

    def sample(self) -> BatchT:
        """The next batch."""
        index = self._ranks.share(self._draw())
        if self._beside is not None:
            again = torch.randint(len(self._beside), (self.batch_size,), generator=self._generator)
            index = torch.cat((index, self._beside[self._ranks.share(again)]))
        index = index.to(self._device)
        columns = (None if tensor is None else tensor.index_select(0, index) for tensor in self.rows)
        return type(self.rows)(*columns)

    def _draw(self) -> Tensor:
        if self._cumulative is None:
            return torch.randint(self._size, (self.batch_size,), generator=self._generator)
        total = self._cumulative[-1]
        points = torch.rand(self.batch_size, generator=self._generator, dtype=torch.float64) * total
        # A row of weight 0 has an empty interval: from the right, no point falls on it.
        return torch.searchsorted(self._cumulative, points, right=True).clamp(max=self._last)

    def state_dict(self) -> State:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._generator.set_state(state["generator"])


@dataclass(frozen=True)
class LoopConfig:
    """How long to train, and what to write when."""

    steps: int = 10_000
    """Gradient steps."""
    log_every: int = 250
    """Steps between rows of metrics.jsonl."""
    evaluate_every: int = 2_500
    """Steps between evaluations; the last step is always evaluated. 0: only the last step."""
    checkpoint_every: int = 2_500
    """Steps between checkpoints; the last step is always saved, as `final`. 0: only the last step."""
    keep_last: int = 2
    """How many numbered checkpoints are kept; 0 keeps all."""
    tensorboard: bool = True
    """Write TensorBoard event files beside metrics.jsonl."""
    wandb: str = ""
    """Project at Weights & Biases that gets the figures too; needs `pip install 'armchair[wandb]'`."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every"):
            require(getattr(self, name) >= 1, name.replace("_", "-"), getattr(self, name), "give 1 or more")
        for name in ("evaluate_every", "checkpoint_every", "keep_last"):
            require(getattr(self, name) >= 0, name.replace("_", "-"), getattr(self, name), "give 0 or more")


@dataclass(frozen=True)
class LoopResult:
    """What a finished run left."""

    step: int
    checkpoint: Path
    resumed_from: int | None
    """The step of the checkpoint that was taken up, or None for a run from the start."""
    seconds: float
    """Time of this call's training, without what was done before it was resumed."""
    steps_per_s: float
    metrics: dict[str, float]
    """The newest value of everything in metrics.jsonl."""


class TrainingInterrupted(KeyboardInterrupt):
    """Raised after SIGINT or SIGTERM, when the checkpoint is on disk. The message says where to go on."""

    def __init__(self, step: int, checkpoint: Path) -> None:
        super().__init__(
            f"stopped after step {step}; {checkpoint} is kept and the same command goes on from there."
        )
        self.step = step
        self.checkpoint = checkpoint


def run_loop(
    learner: Learner[BatchT],
    sampler: Sampler[BatchT],
    config: LoopConfig,
    folder: Path,
    *,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    ranks: Ranks = ALONE,
) -> LoopResult:
    """Train `learner` for `config.steps` steps in `folder`, from its newest checkpoint where it has one.

    A run that was stopped, killed or crashed goes on from there and ends with the same weights, bit for bit,
    and the same log (but for the speeds in it), given the same thread count. Whether the checkpoints belong
    to this configuration is for the caller to check.

    Args:
        evaluate: figures for the log after a number of steps. Training's random numbers do not notice it.
        progress: called with (steps done, steps in all).
        ranks: who trains together. All of them call this alike; the one that leads logs, evaluates and saves.

    Raises:
        ConfigError: the training diverged; nothing of that is saved.
        MachineError: the ranks do not have the same weights.
        TrainingInterrupted: SIGINT or SIGTERM came; the state was saved first. A second signal does not wait.
    """
    checkpoints = Checkpoints(folder / "checkpoints", config.keep_last)
    newest = checkpoints.newest()
    start = 0 if newest is None else _restore(newest, learner, sampler, ranks)
    ranks.agree("checkpoint to start from", start)
    step = logged_step = start
    waited_ns = 0
    begun = logged_ns = clock_ns()

    def save(name: str | None = None) -> Path:
        state = {"learner": learner.state_dict(), "sampler": sampler.state_dict(), **_random(ranks)}
        ranks.agree(f"state after {step} steps", (state["learner"], state["sampler"]))
        if ranks.leads:
            checkpoints.save({"step": step, **state}, step, name)
        ranks.wait()
        return checkpoints.path(name or f"step-{step:08d}")

    with (
        _log(folder, start, config, ranks) as log,
        stop_requests() as asked_to_stop,
        averaged_gradients(ranks),
    ):
        while step < config.steps:
            asked_ns = clock_ns()
            batch = sampler.sample()
            waited_ns += clock_ns() - asked_ns
            metrics = learner.update(batch)
            step += 1
            last = step == config.steps
            if last or step % config.log_every == 0:
                now = clock_ns()
                values = _prefixed("train", _means(metrics, step, ranks))
                if log is not None:
                    log.write(step, values | _speed(step - logged_step, now - logged_ns, waited_ns))
                logged_step, logged_ns, waited_ns = step, now, 0
            paused_ns = clock_ns()
            if log is not None and evaluate is not None and (last or _due(step, config.evaluate_every)):
                with torch.random.fork_rng(devices=_cuda_devices()):
                    figures = evaluate(step)
                if figures:
                    log.write(step, figures)
            stop = ranks.any(bool(asked_to_stop))
            if stop or last or _due(step, config.checkpoint_every):
                _means(metrics, step, ranks)
                path = save(FINAL if last else None)
                if stop:
                    raise TrainingInterrupted(step, path)
            logged_ns += clock_ns() - paused_ns
            if progress is not None and (last or step % PROGRESS_EVERY == 0):
                progress(step, config.steps)
    final = checkpoints.path(FINAL)
    if ranks.any(bool(asked_to_stop)):
        raise TrainingInterrupted(step, final)
    seconds = (clock_ns() - begun) / 1e9
    return LoopResult(
        step=step,
        checkpoint=final,
        resumed_from=start or None,
        seconds=seconds,
        steps_per_s=(step - start) / max(seconds, 1e-9),
        metrics=latest_metrics(folder / METRICS_FILE),
    )


def _speed(steps: int, taken_ns: int, waited_ns: int) -> dict[str, float]:
    """Steps per second, and the share of the time in which the learner waited for its batch."""
    taken_ns = max(taken_ns, 1)
    return {
        "speed/steps_per_s": round(steps / taken_ns * 1e9, 1),
        "speed/waiting_share": round(waited_ns / taken_ns, 4),
    }


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _cuda_devices() -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _log(
    folder: Path, start: int, config: LoopConfig, ranks: Ranks
) -> AbstractContextManager[MetricsLog | None]:
    if not ranks.leads:
        return nullcontext()
    return MetricsLog(folder, resume_step=start, tensorboard=config.tensorboard, wandb=config.wandb)


def _random(ranks: Ranks) -> State:
    """Torch's generators: of the rank that leads, and behind it of the others, whose noise is their own."""
    own = rng_state()
    if ranks.count == 1:
        return {"rng": own}
    cpu = ranks.gathered(own["cpu"])
    states: list[State] = [{"cpu": state} for state in cpu]
    if "cuda" in own:
        for state, cuda in zip(states, ranks.gathered(torch.stack(own["cuda"])), strict=True):
            state["cuda"] = list(cuda)
    return {"rng": states[0], "rng_beside": states[1:]}


def _restore(path: Path, learner: Learner[Any], sampler: Sampler[Any], ranks: Ranks) -> int:
    state = load_state(path)
    learner.load_state_dict(state["learner"])
    sampler.load_state_dict(state["sampler"])
    restore_rng(state["rng"] if ranks.leads else state["rng_beside"][ranks.rank - 1])
    return int(state["step"])


def _means(metrics: Metrics, step: int, ranks: Ranks) -> dict[str, float]:
    values = ranks.mean({name: float(value.float().mean()) for name, value in metrics.items()})
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise ConfigError(
            f"step {step}: {wrong[0]} is {values[wrong[0]]}, the training diverged. The checkpoints before "
            "it are kept. Lower --algo.lr, and look whether rewards or observations hold extreme values."
        )
    return values


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM while it is open, so that a step in progress can be finished and saved.

    Yields a list that stays empty until a signal came. A second signal acts as it would without this. Outside
    the main thread Python delivers no signals, and the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
