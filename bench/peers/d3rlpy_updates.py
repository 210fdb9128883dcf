"""Runs in d3rlpy's own environment: gradient steps of its IQL and CQL, as often as it is asked to.

Arguments: state width, action width, batch size, threads. Then, for each line `ALGO SECONDS` on standard
input, one line of JSON with gradient steps per second. ALGO is iql or cql. Batches are drawn beforehand,
since d3rlpy draws them row by row in Python: what is measured is its `update` alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import d3rlpy
    import numpy as np
    import torch
    from d3rlpy.dataset import TransitionMiniBatch
    from d3rlpy.models import VectorEncoderFactory

BATCHES = 16


def learner(name: str, state_dim: int, action_dim: int, rows: int):
    """IQL or CQL with two hidden layers of 256 and its other defaults; CQL takes 10 actions of each kind."""
    layers = VectorEncoderFactory([256, 256])
    shared = {"batch_size": rows, "actor_encoder_factory": layers, "critic_encoder_factory": layers}
    if name == "iql":
        config = d3rlpy.algos.IQLConfig(value_encoder_factory=layers, **shared)
    else:
        config = d3rlpy.algos.CQLConfig(n_action_samples=10, **shared)
    made = config.create(device="cpu:0")
    made.create_impl((state_dim,), action_dim)
    return made


def batches(state_dim: int, action_dim: int, rows: int) -> list[TransitionMiniBatch]:
    """Random transitions."""
    rng = np.random.default_rng(0)

    def normal(width: int) -> np.ndarray:
        return rng.normal(size=(rows, width)).astype(np.float32)

    def actions() -> np.ndarray:
        return rng.uniform(-1, 1, (rows, action_dim)).astype(np.float32)

    ones = np.ones((rows, 1), np.float32)
    return [
        TransitionMiniBatch(
            observations=normal(state_dim),
            actions=actions(),
            rewards=normal(1),
            next_observations=normal(state_dim),
            next_actions=actions(),
            terminals=np.zeros_like(ones),
            intervals=ones,
            transitions=(),
        )
        for _ in range(BATCHES)
    ]


def main() -> None:
    """Answer until standard input ends."""
    state_dim, action_dim, rows, threads = map(int, sys.argv[1:5])
    torch.set_num_threads(threads)
    answers = sys.stdout
    learners = {}
    drawn = batches(state_dim, action_dim, rows)
    for line in sys.stdin:
        name, seconds = line.split()
        with contextlib.redirect_stdout(sys.stderr):
            if name not in learners:
                learners[name] = learner(name, state_dim, action_dim, rows)
            made, steps, start = learners[name], 0, time.perf_counter()
            while time.perf_counter() - start < float(seconds):
                made.update(drawn[steps % BATCHES])
                steps += 1
            rate = steps / (time.perf_counter() - start)
        print(json.dumps({"algo": name, "steps_per_s": rate, "steps": steps}), file=answers, flush=True)


if __name__ == "__main__":
    main()
