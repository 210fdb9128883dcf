"""The loop that every learner shares, on a learner of one weight that also draws random numbers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from episodes.errors import ConfigError, DatasetError
from policy.checkpoint import load_state
from policy.metrics import read_metrics
from policy.training import BatchSampler, LoopConfig, TrainingInterrupted, run_loop, stop_requests


class Rows(NamedTuple):
    x: Tensor
    y: Tensor


class Line:
    """Fits y = w x with noise from torch's global generator in every step, and can be told to diverge."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.optimiser = torch.optim.Adam([self.weight], lr=0.05)
        self.poison_at = -1
        self.updates = 0

    def update(self, batch: Rows) -> Mapping[str, Tensor]:
        self.updates += 1
        noise = torch.randn(len(batch.x)) * 0.1
        errors = (self.weight * batch.x - batch.y + noise).square()
        self.optimiser.zero_grad()
        errors.mean().backward()
        self.optimiser.step()
        bad = float("nan") if self.updates == self.poison_at else 0.0
        return {"loss": errors.detach() + bad, "weight": self.weight.detach().clone()}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight.detach().clone(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight.data.copy_(state["weight"])
        self.optimiser.load_state_dict(state["optimiser"])


def rows(count: int = 50) -> Rows:
    x = torch.linspace(-1, 1, count)
    return Rows(x, 2 * x)


def config(**settings: Any) -> LoopConfig:
    return LoopConfig(**({"steps": 40, "log_every": 5, "evaluate_every": 10, "checkpoint_every": 15,
                          "tensorboard": False} | settings))  # fmt: skip


def run(folder: Path, learner: Line | None = None, loop: LoopConfig | None = None, **hooks: Any):
    torch.manual_seed(0)
    return run_loop(learner or Line(), BatchSampler(rows(), 8, seed=1), loop or config(), folder, **hooks)


def final(folder: Path) -> dict[str, Any]:
    return load_state(folder / "checkpoints" / "final.safetensors")


def log(folder: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if not key.startswith("speed/")}
        for row in read_metrics(folder / "metrics.jsonl")
    ]


def stop_at(step: int, number: int = signal.SIGINT):
    """A progress callback that has the process receive a signal in the middle of training."""

    def progress(done: int, total: int) -> None:
        if done >= step:
            signal.raise_signal(number)

    return progress


def test_the_loop_trains_and_leaves_metrics_and_a_final_checkpoint(tmp_path: Path) -> None:
    result = run(tmp_path, loop=config(steps=200))
    assert result.step == 200
    assert result.resumed_from is None
    assert result.checkpoint == tmp_path / "checkpoints" / "final.safetensors"
    assert abs(final(tmp_path)["learner"]["weight"].item() - 2) < 0.1
    assert [row["step"] for row in log(tmp_path)] == list(range(5, 201, 5))
    assert result.metrics["train/weight"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_next_run_ends_bit_for_bit_like_one_never_stopped(tmp_path, number) -> None:
    evaluate = lambda step: {"evaluate/step": float(step)}  # noqa: E731
    run(tmp_path / "a", evaluate=evaluate)
    with pytest.raises(TrainingInterrupted, match=r"stopped after step 21.*is kept") as stopped:
        run(tmp_path / "b", evaluate=evaluate, progress=stop_at(20, number))
    assert stopped.value.checkpoint.is_file()
    result = run(tmp_path / "b", Line(), evaluate=evaluate)
    assert result.resumed_from == 21
    a, b = final(tmp_path / "a"), final(tmp_path / "b")
    assert a["learner"]["weight"] == b["learner"]["weight"]
    assert torch.equal(a["rng"]["cpu"], b["rng"]["cpu"])
    assert torch.equal(a["sampler"]["generator"], b["sampler"]["generator"])
    assert log(tmp_path / "a") == log(tmp_path / "b")


def test_a_crash_goes_on_from_the_last_checkpoint_and_leaves_the_same_log(tmp_path: Path) -> None:
    def crash(done: int, total: int) -> None:
        raise ZeroDivisionError

    run(tmp_path / "a")
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "b", progress=crash)
    assert log(tmp_path / "b")[-1]["step"] == 20
    assert run(tmp_path / "b").resumed_from == 15
    assert final(tmp_path / "a")["learner"]["weight"] == final(tmp_path / "b")["learner"]["weight"]
    assert log(tmp_path / "a") == log(tmp_path / "b")


def test_a_log_whose_last_line_was_cut_short_is_mended_on_resuming(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, progress=stop_at(20))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 25, "train/lo')
    run(tmp_path)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(5, 41, 5))


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    first = run(tmp_path)
    learner = Line()
    again = run(tmp_path, learner)
    assert learner.updates == 0
    assert again.resumed_from == 40
    assert again.metrics == first.metrics


def test_a_signal_in_the_last_step_still_stops_what_comes_after(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        run(
            tmp_path,
            evaluate=lambda step: signal.raise_signal(signal.SIGINT) or {},
            loop=config(evaluate_every=0),
        )
    assert run(tmp_path).resumed_from == 40


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    def impatient(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(tmp_path, progress=impatient)
    assert not isinstance(stopped.value, TrainingInterrupted)


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tmp_path)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path)))
    thread.start()
    thread.join()
    assert results[0].step == 40


def test_evaluation_does_not_disturb_training(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b", evaluate=lambda step: {"evaluate/x": torch.rand(()).item()})
    assert final(tmp_path / "a")["learner"]["weight"] == final(tmp_path / "b")["learner"]["weight"]


def test_evaluations_happen_when_due_and_at_the_end(tmp_path: Path) -> None:
    steps: list[int] = []
    run(tmp_path, loop=config(steps=25), evaluate=lambda step: steps.append(step) or {"evaluate/x": 1.0})
    assert steps == [10, 20, 25]
    assert [row["step"] for row in log(tmp_path) if "evaluate/x" in row] == [10, 20, 25]


def test_metrics_are_means_and_only_taken_when_logged(tmp_path: Path) -> None:
    class Counting(Line):
        reductions = 0

        def update(self, batch: Rows) -> Mapping[str, Tensor]:
            super().update(batch)
            owner = self

            class Probe:
                def float(self) -> Tensor:
                    owner.reductions += 1
                    return torch.tensor([1.0, 3.0])

            return {"probe": Probe()}

    learner = Counting()
    run(tmp_path, learner, config(steps=20, log_every=10, checkpoint_every=0))
    assert learner.reductions == 3
    assert [row["train/probe"] for row in log(tmp_path)] == [2.0, 2.0]


def test_a_diverging_run_stops_and_keeps_the_checkpoints_before(tmp_path: Path) -> None:
    learner = Line()
    learner.poison_at = 30
    with pytest.raises(ConfigError, match=r"step 30: loss is nan, the training diverged.*--algo\.lr"):
        run(tmp_path, learner)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000015.safetensors"]
    assert log(tmp_path)[-1]["step"] == 25


def test_the_time_of_evaluations_is_not_counted_in_the_speed(tmp_path: Path) -> None:
    now = [0]

    def clock_ns() -> int:
        return now[0]

    class Timed(Line):
        def update(self, batch: Rows) -> Mapping[str, Tensor]:
            now[0] += 1_000_000
            return super().update(batch)

    def slow_evaluation(step: int) -> dict[str, float]:
        now[0] += 10**12
        return {}

    run(tmp_path, Timed(), evaluate=slow_evaluation, clock_ns=clock_ns)
    speeds = [row["speed/steps_per_s"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert speeds == [1000.0] * 8


def test_the_log_says_what_share_of_the_time_the_learner_waited_for_batches(tmp_path: Path) -> None:
    now = [0]

    class Slow(BatchSampler[Rows]):
        def sample(self) -> Rows:
            now[0] += 250_000
            return super().sample()

    class Timed(Line):
        def update(self, batch: Rows) -> Mapping[str, Tensor]:
            now[0] += 750_000
            return super().update(batch)

    run_loop(Timed(), Slow(rows(), 8, seed=1), config(), tmp_path, clock_ns=lambda: now[0])
    logged = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["speed/waiting_share"] for row in logged] == [0.25] * 8


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    run(tmp_path, loop=config(steps=33), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(20, 33), (33, 33)]


def test_tensorboard_files_are_written_when_wanted(tmp_path: Path) -> None:
    run(tmp_path, loop=config(tensorboard=True))
    assert any("tfevents" in name for name in os.listdir(tmp_path / "tensorboard"))


def test_batches_depend_on_the_seed_and_on_nothing_else() -> None:
    def batches(seed: int, disturb: bool = False) -> list[Tensor]:
        sampler = BatchSampler(rows(), 4, seed)
        drawn = []
        for _ in range(5):
            if disturb:
                torch.rand(3)
            drawn.append(sampler.sample().x)
        return drawn

    assert all(map(torch.equal, batches(1), batches(1, disturb=True)))
    assert not all(map(torch.equal, batches(1), batches(2)))


def test_batches_keep_rows_together_and_cover_all_of_them() -> None:
    sampler = BatchSampler(rows(10), 500, seed=0)
    batch = sampler.sample()
    assert isinstance(batch, Rows)
    torch.testing.assert_close(batch.y, 2 * batch.x)
    counts = torch.unique(batch.x, return_counts=True)[1]
    assert len(counts) == 10
    assert counts.min() > 20


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert len(BatchSampler(rows(1), 64, seed=0).sample().x) == 64


def test_an_empty_batch_and_empty_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="--batch-size 0"):
        BatchSampler(rows(), 0, seed=0)
    with pytest.raises(DatasetError, match="nothing to draw batches from"):
        BatchSampler(rows(0), 4, seed=0)


@pytest.mark.parametrize("setting", ["steps", "log_every", "evaluate_every", "checkpoint_every", "keep_last"])
def test_settings_of_the_loop_that_cannot_work_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"--{setting.replace('_', '-')} -1"):
        LoopConfig(**{setting: -1})


def test_stop_requests_names_the_signals_that_came() -> None:
    with stop_requests() as stop:
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        assert stop == [signal.SIGTERM]
