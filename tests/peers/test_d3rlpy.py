"""d3rlpy 2.8.1, unmodified, answers the bench with gradient steps per second."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.train import TrainBenchConfig, d3rlpy_updates

pytestmark = [pytest.mark.peers, pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]


def test_d3rlpy_makes_steps_of_both_algorithms() -> None:
    config = TrainBenchConfig(peers=ROOT / "runs" / "peers", seconds=1.0)
    with d3rlpy_updates(config) as peer:
        rates = {algo: peer(algo)() for algo in ("iql", "cql")}
    # An IQL step has a twelfth of a CQL step's work.
    assert rates["iql"] > rates["cql"] > 0
