"""Bench `train` on a small scale and without its peer, which `make test-peers` has."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from bench import train as bench
from bench.train import TrainBenchConfig, batches, learner, main
from bench.train_pictures import picture_figures
from episodes.errors import ConfigError, MachineError
from policy.networks import MLP


@pytest.mark.parametrize("algo", ["iql", "cql"])
def test_both_sides_have_the_same_layers(algo) -> None:
    made = learner(algo, "fp32", False, print)
    inner = made._learner
    layers = [layer for layer in inner.policy.mean if isinstance(layer, torch.nn.Linear)]
    assert [layer.in_features for layer in layers] == [39, 256, 256]
    assert not any(isinstance(m, torch.nn.LayerNorm | torch.nn.Dropout) for m in inner.policy.modules())
    assert [tuple(layer.weight.shape) for layer in inner.q.ensemble.layers] == [
        (2, 43, 256),
        (2, 256, 256),
        (2, 256, 1),
    ]
    assert not any(type(module).__name__ == "EnsembleLayerNorm" for module in inner.q.modules())
    if algo == "iql":
        assert isinstance(inner.v.network, MLP)
        assert not any(isinstance(module, torch.nn.LayerNorm) for module in inner.v.modules())
    else:
        assert inner.config.samples == 10
        assert not inner.imitating
    assert [tuple(batch.observations.shape) for batch in batches()[:2]] == [(256, 39)] * 2


def test_ratios_are_those_of_neighbours_and_a_bound_that_breaks_is_said(
    tmp_path, monkeypatch, capsys
) -> None:
    """The machine slows down from turn to turn; the ratios do not notice it."""
    speeds = {"iql_d3rlpy": 100.0, "iql_fp32": 120.0, "iql_bf16": 150.0}
    calls: dict[str, int] = {}

    def rate(name: str):
        def measured() -> float:
            calls[name] = calls.get(name, 0) + 1
            return speeds.get(name, 10.0) / calls[name]

        return measured

    @contextmanager
    def peer(config: TrainBenchConfig):
        yield lambda algo: rate(f"{algo}_d3rlpy")

    monkeypatch.setattr(bench, "d3rlpy_updates", peer)
    monkeypatch.setattr(
        bench,
        "candidates",
        lambda algo, config, warn: {f"{algo}_{p}": rate(f"{algo}_{p}") for p in ("fp32", "bf16")},
    )
    assert main(TrainBenchConfig(folder=tmp_path, turns=3, pictures=0, compile=False)) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["figures"]["iql_fp32_over_d3rlpy"] == 1.2
    assert report["figures"]["iql_bf16_over_d3rlpy"] == 1.5
    assert report["figures"]["iql_d3rlpy_steps_per_s"] == round(100 / 3, 4)
    assert report["holds"] is False
    assert report["not_measured"] == ["cql_bf16_compiled_over_d3rlpy", "picture_idle_share"]


def test_the_bench_measures_ours_and_says_what_it_did_not_measure(tmp_path, capsys) -> None:
    config = TrainBenchConfig(
        folder=tmp_path / "made", turns=1, seconds=0.01, threads=1, compile=False, peer=False, pictures=0
    )
    before = torch.get_num_threads()
    assert main(config) == 0
    assert torch.get_num_threads() == before
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report["figures"]) == {
        f"{a}_{p}_steps_per_s" for a in ("iql", "cql") for p in ("fp32", "bf16")
    }
    assert all(value > 0 for value in report["figures"].values())
    assert len(report["not_measured"]) == 4


def test_waiting_for_pictures_is_measured_in_a_real_run(tmp_path) -> None:
    figures = picture_figures(tmp_path / "pictures", side=16, rows=8, steps=3)
    assert figures.keys() == {"picture_steps_per_s", "picture_idle_share", "picture_fetch_s"}
    assert 0 <= figures["picture_idle_share"] < 1
    assert figures["picture_steps_per_s"] > 0
    assert not (tmp_path / "pictures").exists()


def test_a_peer_that_dies_is_told_with_the_command_that_shows_why(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "peer_python", lambda folder, requirements: Path(sys.executable))
    monkeypatch.setattr(bench, "SCRIPT", tmp_path / "nothing.py")
    with (
        bench.d3rlpy_updates(TrainBenchConfig()) as peer,
        pytest.raises(
            MachineError, match=r"d3rlpy's process ended with 2; run it by hand.*nothing\.py 39 4 256 2"
        ),
    ):
        peer("iql")()


@pytest.mark.parametrize("setting", [{"turns": 0}, {"seconds": 0.0}, {"threads": 0}, {"pictures": 8}])
def test_settings_that_measure_nothing_are_refused(setting) -> None:
    with pytest.raises(ConfigError):
        TrainBenchConfig(**setting)
