"""One training in several processes: real ones, started by torchrun, over gloo."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from episodes.errors import ConfigError, MachineError
from policy.algorithms.bc import BCConfig
from policy.algorithms.gail import GAILConfig
from policy.algorithms.iql import IQLConfig
from policy.metrics import METRICS_FILE, read_metrics
from policy.ranks import ALONE, Ranks, joined
from policy.train import train
from policy.training import BatchSampler
from tests.policy.states import assert_same_bits, final

ROOT = Path(__file__).parents[2]
QUIET = IQLConfig(hidden=(16, 16), policy_dropout=0.0)
LOOP = {"steps": 60, "log_every": 20, "evaluate_every": 30, "checkpoint_every": 20}


class Rows(NamedTuple):
    values: torch.Tensor
    nothing: torch.Tensor | None


def torchrun(run: Path, data: Path, *words: str, ranks: int = 2, steps: int = 60) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
        "-m", "armchair", "train", str(run), "--data.files", str(data), "--steps", str(steps),
        "--log-every", "20", "--evaluate-every", "30", "--checkpoint-every", "20", "--no-tensorboard",
        "--batch-size", "16", "--num-threads", "1", *words, "algo:iql", "--algo.hidden", "16", "16",
    ]  # fmt: skip


def finished(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def alone(make_config) -> Callable[..., Path]:
    def run(algo: IQLConfig = QUIET) -> Path:
        config = make_config("alone", algo=algo, loop=LOOP)
        train(config)
        return config.run

    return run


def test_two_processes_learn_what_one_does(alone, prepared, tmp_path) -> None:
    done = finished([*torchrun(tmp_path / "two", prepared), "--algo.policy-dropout", "0"])
    assert done.stdout.count("60 steps") == 1
    alone()
    one, two = final(tmp_path / "alone"), final(tmp_path / "two")
    for part in ("policy", "q", "q_target", "v"):
        for name, tensor in one["learner"][part].items():
            found = two["learner"][part][name]
            np.testing.assert_allclose(found, tensor, rtol=0, atol=2e-5, err_msg=f"{part} {name}")
    assert torch.equal(one["sampler"]["generator"], two["sampler"]["generator"])
    rows = [read_metrics(run / METRICS_FILE) for run in (tmp_path / "alone", tmp_path / "two")]
    for before, after in zip(*rows, strict=True):
        same = {name: value for name, value in before.items() if not name.startswith("speed/")}
        assert {name: after[name] for name in same} == pytest.approx(same, rel=1e-3, abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_of_two_that_was_stopped_ends_bit_for_bit_like_one_that_was_not(
    how, prepared, tmp_path
) -> None:
    """With dropout, so that the random numbers of both processes matter. SIGKILL hits the second one."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finished(torchrun(whole, prepared, steps=400))
    process = subprocess.Popen(
        torchrun(stopped, prepared, steps=400), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: list((stopped / "checkpoints").glob("step-*.safetensors")), process)
        if how == signal.SIGKILL:
            subprocess.run(["kill", "-KILL", workers_of(process.pid)[1]], check=True)
        else:
            process.send_signal(how)
        errors = process.communicate(timeout=120)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert not (stopped / "checkpoints" / "final.safetensors").exists(), errors
    finished(torchrun(stopped, prepared, steps=400))
    assert_same_bits(final(whole), final(stopped))


@pytest.mark.long
def test_a_run_is_not_taken_up_with_another_number_of_processes(alone, prepared, tmp_path) -> None:
    run = alone(IQLConfig(hidden=(16, 16)))
    done = subprocess.run(torchrun(run, prepared), cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "torchrun's processes: 1 -> 2" in done.stderr


def test_the_shares_of_all_ranks_make_the_batch_of_one() -> None:
    rows = (torch.arange(40).unsqueeze(-1), None)
    beside = torch.arange(30, 40)
    kinds = {"plain": {}, "weighted": {"weights": torch.arange(40.0)}, "beside": {"beside": beside}}
    for kind, options in kinds.items():
        whole = BatchSampler(Rows(*rows), 12, 3, **options).sample().values
        parts = [
            BatchSampler(Rows(*rows), 12, 3, ranks=Ranks(rank, 3), **options).sample().values
            for rank in range(3)
        ]
        assert [len(part) for part in parts] == [len(whole) // 3] * 3, kind
        assert sorted(torch.cat(parts).flatten().tolist()) == sorted(whole.flatten().tolist()), kind


def test_what_processes_cannot_share_is_refused(make_config) -> None:
    two = Ranks(0, 2)
    with pytest.raises(ConfigError, match=r"--batch-size 15: 2 processes share every batch"):
        train(make_config(algo=BCConfig(), batch_size=15), ranks=two)
    with pytest.raises(ConfigError, match=r"--algo gail"):
        train(make_config(algo=GAILConfig()), ranks=two)
    with pytest.raises(ConfigError, match=r"--cuda-graphs"):
        train(make_config(algo=BCConfig(), cuda_graphs=True), ranks=two)


def test_a_process_that_nobody_started_with_others_trains_alone(monkeypatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as ranks:
        assert ranks is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(MachineError, match=r"rank 1 of 2: cannot reach"), joined("cpu"):
        pass


def workers_of(pid: int) -> list[str]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(found) == 2
    return found


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)
