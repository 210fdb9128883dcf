"""Bench `lockstep`: ticks per second of simulation, policy and control in lock-step over DDS.

Each leg runs the stack `deploy-sim` with real processes and a policy of the size that the demo deploys. The
render-only rate is what the same environment does in this process: step and draw one picture, nothing else.
Rates are those of the session: from the release of an episode to its last answer.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.machine import machine
from episodes.contract import Contract, load_contract
from episodes.errors import ContractError
from policy.runtime.bundle import TensorSpec, write_bundle_files
from ros_nodes import dds
from ros_nodes.stacks import DeploySim, resolved
from ros_nodes.up import run_stack
from sim.make import make_env
from sim.world import World

STATE_TICKS_PER_S = 400.0
CAMERA_SHARE = 0.5


@dataclass(frozen=True)
class LockstepConfig:
    """Measure ticks per second in lock-step over DDS."""

    episodes: int = 4
    """Episodes per leg; the first one, which warms up, does not count."""
    horizon: int = 500
    """Ticks per episode."""
    render_ticks: int = 200
    """Steps of each of the four render-only measurements."""
    recorded: bool = True
    """Also measure with the recorder attached (extra figures without a bound)."""


def main(config: LockstepConfig) -> int:
    """Measure, and print one JSON object last."""
    state = Path(resolved(Path("launch/contracts/sawyer_sim_state.yaml")))
    camera = Path(resolved(Path("launch/contracts/sawyer_sim.yaml")))
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="armchair-lockstep-") as name:
        folder = Path(name)
        legs = {"state": (state, False), "camera": (camera, False)}
        if config.recorded:
            legs |= {"state_recorded": (state, True), "camera_recorded": (camera, True)}
        rates, renderer = _as_a_node(camera, config)
        for leg, (contract, recorded) in legs.items():
            print(f"{leg}: {config.episodes} episodes of {config.horizon} ticks", flush=True)
            figures[f"{leg}_ticks_per_s"] = leg_rate(config, contract, folder / leg, recorded=recorded)
            if leg == "camera":
                # On both sides of the camera leg: other work on the machine moves both alike.
                rates += _as_a_node(camera, config)[0]
    render_hz = statistics.median(rates)
    figures["render_only_ticks_per_s"] = render_hz
    figures["camera_share_of_render_only"] = figures["camera_ticks_per_s"] / render_hz
    bounds = {"state_ticks_per_s": STATE_TICKS_PER_S, "camera_share_of_render_only": CAMERA_SHARE}
    report = {
        "bench": "lockstep",
        "figures": {key: round(value, 3) for key, value in figures.items()},
        "bounds": {key: {"at_least": bound} for key, bound in bounds.items()},
        "holds": all(figures[key] >= bound for key, bound in bounds.items()),
        "machine": machine(renderer),
    }
    print(json.dumps(report))
    return 0


def leg_rate(config: LockstepConfig, contract: Path, folder: Path, *, recorded: bool) -> float:
    """Ticks per second of one leg: median over its episodes without the first."""
    bundle = write_small_bundle(folder / "bundle", load_contract(contract))
    stack = DeploySim(
        bundle=bundle,
        contract=contract,
        dataset=folder / "dataset" if recorded else None,
        episodes=config.episodes,
        horizon=config.horizon,
    )
    result = run_stack(stack, folder / "run")
    rows = result.results["episodes"] if result.results else []
    rates = [row["ticks"] / row["wall_s"] for row in rows]
    return float(statistics.median(rates[1:] or rates))


def render_only(contract_path: Path, ticks: int, repeats: int = 1) -> tuple[list[float], str]:
    """(steps with one picture each per second of each repeat, what drew), of the environment alone."""
    contract = load_contract(contract_path)
    if contract.simulation is None:
        raise ContractError(f"{contract.source}: key 'simulation' is missing.")
    env = make_env(contract.simulation.environment, horizon=ticks + 1)
    world = World(contract, env)
    action = np.zeros(contract.action_dim)
    rates = []
    try:
        for repeat in range(repeats + 1):  # the first one warms up
            world.reset(0, repeat)
            began_s = time.perf_counter()
            for _ in range(ticks):
                world.apply(action)
                world.samples()
            rates.append(ticks / (time.perf_counter() - began_s))
        choice = getattr(env, "renderer", None)
        return rates[1:], "" if choice is None else f"{choice.name} ({choice.reason})"
    finally:
        world.close()


def _as_a_node(contract: Path, config: LockstepConfig) -> tuple[list[float], str]:
    """`render_only` in a process of its own with the environment of a node: the same malloc, the same GL."""
    with dds.variables(dds.MALLOC), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(render_only, contract, config.render_ticks, 2).result()


def write_small_bundle(
    folder: Path, contract: Contract, *, seed: int = 0, chunk: int = 1, execute: int = 1
) -> Path:
    """A bundle with an untrained policy, state → 256 → 256 → tanh, for measurements of what surrounds it."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    width = contract.observations["state"].shape[0]
    sizes = (width, 256, 256, chunk * contract.action_dim)
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((16, width)).astype(np.float32)
    nodes, weights, x, expected = [], [], "state", samples
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        matrix = (rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], [f"h{i}"]))
        nodes.append(helper.make_node("Tanh", [f"h{i}"], [f"a{i}"]))
        x, expected = f"a{i}", np.tanh(expected @ matrix)
    shape = numpy_helper.from_array(np.array([-1, chunk, contract.action_dim]), "shape")
    nodes.append(helper.make_node("Reshape", [x, "shape"], ["action"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", chunk, contract.action_dim])],
        [*weights, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["action"], {"state": samples})
    difference = float(np.abs(found.reshape(expected.shape) - expected).max())
    write_bundle_files(
        folder,
        name="small",
        algorithm="untrained",
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model.SerializeToString(),
        contract=contract,
        inputs=[TensorSpec("state", "float32", (width,), "state")],
        parity={
            "samples": len(samples),
            "max_abs_difference": difference,
            "tolerance": 1e-5,
            "holds": difference < 1e-5,
            "against": "numpy",
        },
        provenance={},
        chunk_length=chunk,
        chunk_execute=execute,
    )
    return folder
