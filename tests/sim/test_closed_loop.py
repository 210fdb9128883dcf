"""The runtime path in process: the same numbers as stepping by hand, with the limits on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from episodes.contract import Contract, load_contract, parse_contract
from episodes.errors import BundleError, ConfigError, ContractError
from policy.runtime.bundle import Bundle, TensorSpec, write_bundle_files
from policy.runtime.infer import Policy
from sim.closed_loop import Film, evaluate
from sim.evaluation import Evaluator, each, summarise
from sim.experts import scripted_action
from sim.metaworld_env import MetaWorldEnv
from sim.rollout import RolloutConfig, rollout

CONTRACTS = Path(__file__).parents[2] / "launch" / "contracts"
STATE = CONTRACTS / "sawyer_sim_state.yaml"
TASK = "drawer-open-v3"


class ScriptPolicy:
    """MetaWorld's script behind the interface of a bundle's policy; its first `misses` actions can be
    spoilt."""

    def __init__(self, chunk: int = 1, execute: int = 1, gain: float = 1.0) -> None:
        self.bundle: Any = SimpleNamespace(manifest=SimpleNamespace(chunk_execute=execute))
        self.streams = ("state",)
        self.asked: list[NDArray[np.float64]] = []
        self._chunk, self._gain = chunk, gain

    def infer(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        self.asked.append(observation["state"])
        action = self._gain * np.clip(scripted_action(TASK, observation["state"]), -1.0, 1.0)
        return np.repeat(action[None], self._chunk, axis=0)


def linear_model(chunk: int = 1) -> bytes:
    """action = tanh(state @ W + b), (batch, chunk, 4)."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(0, 0.6, (39, 4)).astype(np.float32), "w")
    bias = numpy_helper.from_array(rng.normal(0, 0.2, (chunk, 4)).astype(np.float32), "b")
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    nodes = [
        helper.make_node("MatMul", ["state", "w"], ["linear"]),
        helper.make_node("Unsqueeze", ["linear", "axis"], ["wide"]),
        helper.make_node("Add", ["wide", "b"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["action"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "linear",
        [value("state", TensorProto.FLOAT, ["batch", 39])],
        [value("action", TensorProto.FLOAT, ["batch", chunk, 4])],
        [weights, bias, axis],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def bundle(folder: Path, chunk: int = 1, execute: int = 1) -> Bundle:
    return write_bundle_files(
        folder,
        name="linear",
        algorithm="bc",
        created_utc="2026-11-20T06:00:00Z",
        model=linear_model(chunk),
        contract=load_contract(STATE),
        inputs=[TensorSpec("state", "float32", (39,), "state")],
        parity={"samples": 1000, "max_abs_difference": 1e-7, "tolerance": 1e-5, "holds": True},
        provenance={},
        chunk_length=chunk,
        chunk_execute=execute,
    )


@pytest.fixture(scope="module")
def env() -> Iterator[MetaWorldEnv]:
    env = MetaWorldEnv(TASK, horizon=150, split="evaluation")
    yield env
    env.close()


@pytest.fixture(scope="module")
def short() -> Iterator[MetaWorldEnv]:
    env = MetaWorldEnv(TASK, horizon=20, split="evaluation")
    yield env
    env.close()


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(STATE)


def test_the_script_succeeds_through_control_without_a_clamp(env: MetaWorldEnv, contract: Contract) -> None:
    results = evaluate(env, ScriptPolicy(), contract, seed=0, episodes=3)
    assert [r.episode for r in results] == [0, 1, 2]
    for result in results:
        assert result.success
        assert result.success_step is not None
        assert 60 < result.success_step < 110
        assert result.steps == 150
        assert result.fault is None
        assert not result.clamps
    assert summarise(results).success.estimate == 1.0


def test_it_is_stepping_by_hand_without_a_shift(
    short: MetaWorldEnv, contract: Contract, tmp_path: Path
) -> None:
    policy = Policy(bundle(tmp_path / "b"))
    (result,) = evaluate(short, policy, contract, seed=1, episodes=[4])
    step = short.reset(seed=1, episode=4)
    total = 0.0
    while not step.truncated:
        step = short.step(policy.infer(step.observation)[0])
        total += step.reward
    assert result.return_ == total


def test_a_chunk_is_followed_for_as_long_as_the_bundle_says(
    short: MetaWorldEnv, contract: Contract, tmp_path: Path
) -> None:
    policy = Policy(bundle(tmp_path / "b", chunk=8, execute=5))
    (result,) = evaluate(short, policy, contract, seed=1, episodes=[4])
    timing = policy.timing()
    assert timing is not None
    assert timing.count == 4, "20 steps, one inference every 5"
    step = short.reset(seed=1, episode=4)
    total, plan = 0.0, np.zeros((0, 4))
    for k in range(20):
        if k % 5 == 0:
            plan = policy.infer(step.observation)
        step = short.step(plan[k % 5])
        total += step.reward
    assert result.return_ == pytest.approx(total, rel=0.05), "up to the blend where plans meet"


def test_the_policy_sees_each_observation_once_and_in_order(short: MetaWorldEnv, contract: Contract) -> None:
    policy = ScriptPolicy()
    evaluate(short, policy, contract, seed=2, episodes=[1])
    assert len(policy.asked) == 20
    np.testing.assert_array_equal(policy.asked[0], short.reset(seed=2, episode=1).observation["state"])
    for before, after in zip(policy.asked, policy.asked[1:], strict=False):
        np.testing.assert_array_equal(after[18:36], before[:18])


def test_limits_hold_and_clamps_are_counted(short: MetaWorldEnv) -> None:
    text = STATE.read_text().replace("upper: [1.0, 1.0, 1.0]", "upper: [0.2, 0.2, 0.2]")
    tight = parse_contract(text, "tight.yaml")
    (result,) = evaluate(short, ScriptPolicy(), tight, seed=0, episodes=[0])
    assert result.clamps["arm/box"] > 0
    assert result.fault is None


def test_an_action_that_is_not_finite_stops_the_robot_and_says_why(
    short: MetaWorldEnv, contract: Contract
) -> None:
    (result,) = evaluate(short, ScriptPolicy(gain=np.nan), contract, seed=0, episodes=[0])
    assert not result.success
    assert result.steps < 20
    assert result.fault is not None
    assert "finite" in result.fault


def test_a_contract_of_another_rate_is_refused(short: MetaWorldEnv) -> None:
    slow = parse_contract(STATE.read_text().replace("rate_hz: 80", "rate_hz: 20"), "slow.yaml")
    with pytest.raises(ContractError, match="write 80"):
        evaluate(short, ScriptPolicy(), slow, seed=0, episodes=1)


def test_filmed_episodes_give_their_frames(short: MetaWorldEnv, contract: Contract) -> None:
    shots: list[tuple[int, int]] = []
    film = Film("corner2", size=(24, 32), every=4, episodes=1)

    def shot(episode: int, tick: int, frame: NDArray[np.uint8]) -> None:
        assert frame.shape == (24, 32, 3)
        shots.append((episode, tick))

    plain = evaluate(short, ScriptPolicy(), contract, 0, [3, 5])
    assert evaluate(short, ScriptPolicy(), contract, 0, [3, 5], film, shot=shot) == plain
    assert shots == [(3, tick) for tick in range(0, 21, 4)]


def test_the_light_evaluation_agrees_with_the_runtime_path(tmp_path: Path) -> None:
    policy = Policy(bundle(tmp_path / "b"))
    batch = each(lambda observation: policy.infer(dict(observation))[0])
    with MetaWorldEnvs() as env:
        exact = evaluate(env, policy, load_contract(STATE), seed=5, episodes=5)
    for lanes in (1, 3):
        with Evaluator(f"metaworld/{TASK}", lanes=lanes, horizon=20) as evaluator:
            assert evaluator.evaluate(batch, seed=5, episodes=5) == exact


class MetaWorldEnvs:
    """A short-lived evaluation environment."""

    def __enter__(self) -> MetaWorldEnv:
        self._env = MetaWorldEnv(TASK, horizon=20, split="evaluation")
        return self._env

    def __exit__(self, *_: object) -> None:
        self._env.close()


def test_the_light_evaluation_refuses_wrong_actions() -> None:
    with Evaluator(f"metaworld/{TASK}", lanes=2, horizon=5) as evaluator:
        with pytest.raises(ContractError, match=r"takes \(2, 4\)"):
            evaluator.evaluate(lambda _: np.zeros((2, 3)), seed=0, episodes=2)
        with pytest.raises(ContractError, match="not finite"):
            evaluator.evaluate(lambda o: np.full((len(o["state"]), 4), np.nan), seed=0, episodes=2)
        assert evaluator.evaluate(lambda o: np.zeros((len(o["state"]), 4)), seed=0, episodes=[]) == []


def test_the_verb_writes_results_film_and_strip(tmp_path: Path) -> None:
    bundle(tmp_path / "b")
    config = RolloutConfig(
        tmp_path / "b", episodes=2, horizon=20, out=tmp_path / "r" / "out.json", video=tmp_path / "v"
    )
    results, summary = rollout(config)
    report = json.loads((tmp_path / "r" / "out.json").read_text())
    assert report["episodes"] == summary.episodes == len(results) == 2
    assert report["success_interval"][0] <= report["success_rate"] <= report["success_interval"][1]
    assert report["environment"] == f"metaworld/{TASK}"
    assert {p.name for p in (tmp_path / "v").iterdir()} == {
        "evaluation-s0-e0000.mp4",
        "evaluation-s0-e0000.png",
    }


def test_the_verb_refuses_a_bundle_that_does_not_fit_and_no_episodes(tmp_path: Path) -> None:
    bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="does not fit"):
        rollout(RolloutConfig(tmp_path / "b", contract=CONTRACTS / "sawyer_sim.yaml"))
    with pytest.raises(ConfigError, match="--episodes 0"):
        rollout(RolloutConfig(tmp_path / "b", episodes=0))
