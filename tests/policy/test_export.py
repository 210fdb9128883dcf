"""A bundle does what the network does, on every stream, inside the contract's bounds, or is not written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import BundleError, ConfigError, DatasetError
from policy.algorithms.bc import BCConfig
from policy.checkpoint import Checkpoints, load_state
from policy.data import load_data
from policy.export import ExportConfig, Tolerance, compare, export, main, onnx_bytes
from policy.run import load_policy
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.train import train


@pytest.fixture
def trained(make_config):
    """A run on two streams whose policy often meets the bounds."""
    config = make_config(data={"streams": ("wrench", "state")}, algo=BCConfig(hidden=(8,), lr=0.1))
    train(config)
    return config


def examples(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=(count, width)).astype(np.float32)
        for name, width in (("wrench", 2), ("state", 3))
    }


def test_the_robots_runtime_returns_what_the_trained_network_returns(trained, tiny, capsys) -> None:
    assert main(ExportConfig(trained.run)) == 0
    printed = capsys.readouterr().out
    assert "differs from PyTorch by" in printed
    assert "one inference here, one thread: median" in printed
    bundle = Bundle.load(trained.run / "bundle")
    policy = Policy(bundle)
    graph = load_policy(trained.run).graph
    rows = load_data(trained.data).train.observations.numpy()
    for row in rows[:30]:
        observation = {"wrench": row[:2].astype(np.float64), "state": row[2:].astype(np.float64)}
        action = policy.infer(observation)
        assert action.shape == (1, 2)
        assert ((action >= tiny.lower) & (action <= tiny.upper)).all()
        np.testing.assert_allclose(action[0], graph.act(observation), rtol=0, atol=1e-6)


def test_a_bundle_says_where_it_comes_from_and_how_well_it_agrees(trained) -> None:
    bundle = export(ExportConfig(trained.run, samples=50, name="first"))
    parity = json.loads((bundle.path / "parity.json").read_text())
    assert parity["samples"] == 50
    assert parity["holds"]
    assert parity["max_abs_difference"] < parity["tolerance"] == 1e-5
    assert bundle.manifest.name == "first"
    assert bundle.manifest.algorithm == "bc"
    assert [(t.name, t.shape) for t in bundle.manifest.inputs] == [("wrench", (2,)), ("state", (3,))]
    provenance = bundle.manifest.provenance
    assert provenance["step"] == 30
    assert provenance["checkpoint"] == "final"
    assert provenance["data_sha256"] == load_data(dataclasses.replace(trained.data, reward="zero")).sha256
    assert provenance["config"]["algo"]["hidden"] == [8]


def test_the_graph_holds_nothing_of_the_machine_it_was_made_on(trained) -> None:
    policy = load_policy(trained.run)
    model = onnx_bytes(policy.graph, examples(5))
    assert str(Path(__file__).parents[2]).encode() not in model
    assert b"stack_trace" not in model


def test_a_graph_that_does_not_follow_the_network_is_not_written(trained, monkeypatch) -> None:
    import policy.export as verb

    other = load_policy(trained.run)
    other.graph.policy.mean[-1].bias.data += 1e-3
    wrong = onnx_bytes(other.graph, examples(5))
    monkeypatch.setattr(verb, "onnx_bytes", lambda graph, rows: wrong)
    with pytest.raises(BundleError, match=r"bundle: not written. .* differs from PyTorch by .*1e-05"):
        export(ExportConfig(trained.run))
    assert not (trained.run / "bundle").exists()


def test_a_network_that_returns_nan_is_not_written(trained) -> None:
    checkpoints = Checkpoints(trained.run / "checkpoints", 0)
    state = load_state(checkpoints.path("final"))
    state["learner"]["policy"]["mean.0.weight"][0, 0] = float("nan")
    checkpoints.save(state, 30, "final")
    with pytest.raises(BundleError, match="differs from PyTorch by nan"):
        export(ExportConfig(trained.run))
    assert not (trained.run / "bundle").exists()


def test_parity_is_the_largest_difference_over_batch_and_single_rows(trained) -> None:
    policy = load_policy(trained.run)
    model = onnx_bytes(policy.graph, examples(5))
    rows = examples(100)
    assert compare(policy.graph, model, rows, Tolerance(absolute=1e-5)).holds
    policy.graph.action_range.upper -= 0.25
    parity = compare(policy.graph, model, rows, Tolerance(absolute=1e-5))
    assert not parity.holds
    assert parity.max_abs_difference == pytest.approx(0.25, abs=1e-6)
    assert (parity.samples, parity.single_samples) == (100, 64)


def test_data_of_another_robot_and_missing_checkpoints_are_refused(
    trained, tmp_path: Path, tiny, rng
) -> None:
    other = tiny.write(
        tmp_path / "o.h5", [tiny.episode(rng)], contract=tiny.contract.replace("rate_hz: 20", "rate_hz: 25")
    )
    with pytest.raises(BundleError, match=r"o\.h5: its interface is not the one"):
        export(ExportConfig(trained.run, files=(other,)))
    with pytest.raises(DatasetError, match=r"best\.safetensors: there is no such checkpoint.*final"):
        export(ExportConfig(trained.run, checkpoint="best"))
    for settings in ({"samples": 0}, {"tolerance": 0.0}):
        with pytest.raises(ConfigError, match=f"--{next(iter(settings))} 0"):
            export(ExportConfig(trained.run, **settings))


def test_exporting_again_replaces_the_bundle(trained) -> None:
    first = export(ExportConfig(trained.run, name="a"))
    assert export(ExportConfig(trained.run, name="b")).manifest.name == "b"
    assert first.model == Bundle.load(first.path).model
