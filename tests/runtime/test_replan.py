"""Real-time chunking: the plan that is being executed travels with the request, and the answer keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Contract
from episodes.errors import BundleError
from policy.runtime.bundle import Bundle
from policy.runtime.chunks import Chunk, ChunkBuffer, ChunkConfig
from policy.runtime.infer import Policy
from policy.runtime.replan import PlanRequest
from tests.ros.policies import write_continuing_bundle

MS = 1_000_000
PERIOD_NS = 10 * MS


def plan(start_ns: int = 100 * MS, n: int = 10) -> Chunk:
    actions = np.arange(n, dtype=np.float64)[:, None] * np.array([1.0, 2.0, 3.0, 0.0])
    return Chunk(start_ns, start_ns, PERIOD_NS, actions)


@pytest.fixture
def buffer(arm: Contract) -> ChunkBuffer:
    buffer = ChunkBuffer(arm, ChunkConfig(blend_steps=3, grace_ns=0))
    buffer.push(plan(), 100 * MS)
    return buffer


def answer(request: PlanRequest, n: int = 12, rest: float = 50.0, off: float = 0.0) -> Chunk:
    """What a policy that continues plans returns: the frozen prefix, then something of its own."""
    actions = np.full((n, 4), rest)
    actions[: request.frozen] = request.prefix[: request.frozen] + off
    return Chunk(request.observation_ns, request.start_ns, request.period_ns, actions, frozen=request.frozen)


def test_a_request_carries_the_plan_from_the_observation_on(buffer: ChunkBuffer) -> None:
    request = buffer.request(140 * MS, 142 * MS, inference_ns=25 * MS, period_ns=PERIOD_NS)
    assert (request.start_ns, request.period_ns) == (140 * MS, PERIOD_NS)
    assert request.prefix[:, 0].tolist() == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    # The answer is expected at 167 ms: the actions due at 140, 150 and 160 will have been executed.
    assert request.frozen == 3


def test_the_latency_of_the_actuator_freezes_more(arm: Contract) -> None:
    buffer = ChunkBuffer(arm, ChunkConfig(grace_ns=0, latency_ns=20 * MS))
    buffer.push(plan(), 80 * MS)
    assert buffer.request(140 * MS, 142 * MS, 25 * MS, PERIOD_NS).frozen == 5


def test_without_a_plan_nothing_is_frozen(arm: Contract) -> None:
    request = ChunkBuffer(arm).request(140 * MS, 142 * MS, 25 * MS, PERIOD_NS)
    assert request.prefix.shape == (0, 4)
    assert request.frozen == 0
    assert request.weights(5).tolist() == [0.0] * 5


def test_a_plan_that_ends_too_early_is_frozen_to_its_end(buffer: ChunkBuffer) -> None:
    request = buffer.request(180 * MS, 181 * MS, 100 * MS, PERIOD_NS)
    assert len(request.prefix) == request.frozen == 2


def test_weights_are_those_of_the_paper(buffer: ChunkBuffer) -> None:
    request = buffer.request(140 * MS, 142 * MS, 25 * MS, PERIOD_NS)
    horizon, delay, execute = 10, 3, 4
    assert len(request.prefix) == horizon - execute
    expected = []
    for i in range(horizon):
        c = (horizon - execute - i) / (horizon - execute - delay + 1)
        soft = c * (np.exp(c) - 1) / (np.e - 1)
        expected.append(1.0 if i < delay else soft if i < horizon - execute else 0.0)
    np.testing.assert_allclose(request.weights(horizon), expected, atol=1e-15)


def test_a_continued_plan_takes_over_without_a_blend_or_a_jump(buffer: ChunkBuffer) -> None:
    request = buffer.request(140 * MS, 142 * MS, 25 * MS, PERIOD_NS)
    assert buffer.push(answer(request), 155 * MS)
    seen = [buffer.at(t * MS) for t in (160, 170, 180)]
    assert [float(p.action[0]) for p in seen if p] == [6.0, 50.0, 50.0]
    assert buffer.counts["prefix_differs"] == 0


def test_float32_rounding_of_the_prefix_is_no_difference(buffer: ChunkBuffer) -> None:
    request = buffer.request(140 * MS, 142 * MS, 25 * MS, PERIOD_NS)
    buffer.push(answer(request, off=1e-6), 155 * MS)
    assert buffer.counts["prefix_differs"] == 0


def test_an_answer_that_does_not_keep_the_plan_is_counted_and_blended_like_any_other(
    buffer: ChunkBuffer,
) -> None:
    request = buffer.request(140 * MS, 142 * MS, 25 * MS, PERIOD_NS)
    buffer.push(answer(request, off=1.0), 160 * MS)
    assert buffer.counts["prefix_differs"] == 1
    first = buffer.at(160 * MS)
    assert first is not None
    assert first.action[0] == 0.25 * 7.0 + 0.75 * 6.0


def test_a_chunk_that_claims_more_than_it_holds_is_refused(arm: Contract) -> None:
    chunk = Chunk(0, 0, PERIOD_NS, np.zeros((2, 4)), frozen=3)
    assert chunk.fault(arm) == "it says that 3 of its 2 actions repeat the old plan"


def test_a_graph_that_takes_the_plan_under_way_keeps_what_is_frozen_and_is_free_without_one(
    arm: Contract, buffer: ChunkBuffer, tmp_path: Path
) -> None:
    policy = Policy(Bundle.load(write_continuing_bundle(tmp_path / "b", arm, 12, 0.5)))
    assert policy.continues_plans
    assert policy.streams == ("state",)
    seen = {"state": np.array([0.01, 0.2, 0.3, 0.4])}  # finger, j2, j1, j0
    free = policy.infer(seen)
    own = np.array([0.4, 0.3, 0.2, 0.01]) + 0.5 * np.arange(12)[:, None] * np.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(free, own, atol=1e-6)
    request = buffer.request(140 * MS, 142 * MS, inference_ns=25 * MS, period_ns=PERIOD_NS)
    chunk = policy.continue_plan(seen, request)
    assert (chunk.start_ns, chunk.frozen) == (140 * MS, 3)
    np.testing.assert_allclose(chunk.actions[:3], request.prefix[:3], atol=1e-6)
    weights = request.weights(12)[:6, None]
    soft = weights * request.prefix + (1.0 - weights) * own[:6]
    np.testing.assert_allclose(chunk.actions[:6], soft, atol=1e-5)
    np.testing.assert_allclose(chunk.actions[6:], own[6:], atol=1e-6)
    assert buffer.push(chunk, 160 * MS)
    assert not buffer.counts["prefix_differs"]


@pytest.mark.parametrize(
    ("at", "key", "value", "says"),
    [
        (1, "shape", [11, 4], r"inputs.plan' is float32 \[11, 4\]"),
        (2, "stream", "plan", r"has the streams \['plan', 'plan'\]"),
        (2, "dtype", "float64", "inputs.weights' is float64"),
    ],
)
def test_a_bundle_whose_plan_does_not_fit_its_chunks_is_refused(
    arm: Contract, tmp_path: Path, at: int, key: str, value: object, says: str
) -> None:
    folder = write_continuing_bundle(tmp_path / "b", arm, 12, 0.5)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"][at][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=says):
        Bundle.load(folder)
