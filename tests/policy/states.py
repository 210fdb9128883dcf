"""What a run left, compared bit for bit, and a run that is stopped and taken up again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from policy import train as verb
from policy.checkpoint import load_state
from policy.metrics import read_metrics
from policy.run import TrainConfig
from policy.training import LoopResult
from tests.policy.worlds import TinyWorld


def train(config: TrainConfig, **rest: Any) -> LoopResult:
    """`policy.train.train`, with the simulation that the tiny robot's contract names."""
    return verb.train(config, make_env=TinyWorld, **rest)


def leaves(tree: Any, at: str = "") -> dict[str, Any]:
    """Tensors and plain values of a state by their path."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {path: leaf for key, node in items for path, leaf in leaves(node, f"{at}/{key}").items()}
    return {at: tree}


def assert_same_bits(a: Any, b: Any) -> None:
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    for path in a:
        if isinstance(a[path], torch.Tensor):
            assert torch.equal(a[path], b[path]), path
        else:
            assert a[path] == b[path], path


def final(run: Path) -> dict[str, Any]:
    return load_state(run / "checkpoints" / "final.safetensors")


def log(run: Path) -> list[dict[str, float]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{key: row[key] for key in row if not key.startswith("speed/")} for row in rows]


def interrupt_and_resume(config: TrainConfig, **rest: Any) -> None:
    """Train, send SIGINT at step 20, and take the run up again."""

    def interrupt(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, progress=interrupt, **rest)
    assert train(config, **rest).resumed_from == 21
