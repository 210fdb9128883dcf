"""Every algorithm's bundle: against PyTorch with every kind of eyes, and through control in simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.gail import GAILConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.encoders import EncoderConfig
from policy.export import ExportConfig, export
from policy.run import load_policy
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.towers import TowerConfig
from policy.train import train

ALGORITHMS = [
    IQLConfig(hidden=(8,)),
    BCConfig(hidden=(8,), chunk=3),
    BCConfig(hidden=(8,), policy="tanh_gaussian"),
    CQLConfig(hidden=(8,), samples=2, bc_steps=1),
    BRACConfig(hidden=(8,), behaviour_steps=1),
    ORILConfig(discriminator_hidden=(8,), discriminator_steps=1, iql=IQLConfig(hidden=(8,))),
]
"""GAIL sees vectors alone, and says so: test_gail.py. Parity on vectors: test_conformance.py."""
GAIL = GAILConfig(hidden=(8,), episodes=1, horizon=3, bc_steps=2)
ROOT = Path(__file__).resolve().parents[2]
TIMM = "test_vit"


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TowerConfig:
    """A small vision transformer of timm, its weights drawn at random: published ones are not at hand."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tower") / "weights.pt"
    torch.save(timm.create_model(TIMM, pretrained=False, num_classes=0).state_dict(), path)
    return TowerConfig("timm", TIMM, path)


def name_of(algo: Any) -> str:
    return f"{algo.name}-{algo.policy}" if algo.name == "bc" else algo.name


@pytest.mark.long
@pytest.mark.parametrize("eyes", ["small", "workflow-resnet", "tower"])
@pytest.mark.parametrize("algo", ALGORITHMS, ids=name_of)
def test_a_bundle_is_within_1e_5_of_pytorch_and_with_deep_eyes_within_1e_4_of_the_largest_action(
    algo, eyes, request, make_config, tiny, tmp_path: Path, rng
) -> None:
    contract = tiny.contract.replace("shape: [4, 5, 3]", "shape: [20, 24, 3]")
    episodes = []
    for _ in range(2):
        frames = rng.integers(0, 256, (7, 20, 24, 3), np.uint8)
        episodes.append(tiny.episode(rng, 6) | {"obs/front": frames[:-1], "next_obs/front": frames[1:]})
    kind = {"tower": request.getfixturevalue("tower")} if eyes == "tower" else {}
    config = make_config(
        algo=algo,
        data={"files": (tiny.write(tmp_path / "p.h5", episodes, contract=contract),),
              "streams": ("state", "front")},
        encoder=EncoderConfig(kind="small" if eyes == "tower" else eyes, features=8),
        loop={"steps": 4}, batch_size=4, **kind,
    )  # fmt: skip
    train(config)
    bundle = export(ExportConfig(config.run))
    parity, largest = bundle.parity, float(np.abs([tiny.lower, tiny.upper]).max())
    allowed = 1e-5 if eyes == "small" else 1e-4 * largest
    assert parity.tolerance <= allowed
    assert parity.max_abs_difference < parity.tolerance
    assert json.loads((bundle.path / "parity.json").read_text())["samples"] == 12
    policy, graph = Policy(Bundle.load(bundle.path)), load_policy(config.run).graph
    for _ in range(3):
        seen = {"state": rng.normal(size=3), "front": rng.integers(0, 256, (20, 24, 3), np.uint8)}
        actions = policy.infer(seen)
        assert actions.shape == (getattr(algo, "chunk", 1), 2)
        np.testing.assert_allclose(actions[0], graph.act(seen), rtol=0, atol=allowed)


@pytest.mark.long
@pytest.mark.parametrize("algo", [*ALGORITHMS, GAIL], ids=name_of)
def test_a_bundle_drives_the_simulated_sawyer_through_alignment_inference_and_control(
    algo, make_config, tiny, tmp_path: Path, rng
) -> None:
    """The nodes run this very code; that they agree with it over DDS is the lock-step tests' matter."""
    from sim.closed_loop import evaluate
    from sim.make import make_env

    contract = (ROOT / "launch" / "contracts" / "sawyer_sim_state.yaml").read_text()
    frames = rng.normal(size=(13, 39))
    episode = tiny.episode(rng, 12) | {
        "obs/state": frames[:-1], "next_obs/state": frames[1:], "actions": rng.uniform(-1, 1, (12, 4))
    }  # fmt: skip
    path = tiny.write(tmp_path / "p.h5", [episode], contract=contract)
    config = make_config(algo=algo, data={"files": (path,)}, loop={"steps": 4})
    train(config, make_env=make_env)
    policy = Policy(Bundle.load(export(ExportConfig(config.run)).path))
    env = make_env("metaworld/drawer-open-v3", horizon=6)
    (result,) = evaluate(env, policy, policy.bundle.contract, seed=0, episodes=1)
    env.close()
    assert result.fault is None
    assert result.steps == 6
    timing = policy.timing()
    assert timing is not None
    assert timing.p50_ns > 0
