"""Inference: the same chunk for the same observation, and no observation that was not really there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from episodes.errors import BundleError, MachineError
from policy.runtime.bundle import Bundle
from policy.runtime.control import Controller, Inputs
from policy.runtime.infer import ObservationError, Policy

Write = Callable[..., Bundle]


def observation(**changes: Any) -> dict[str, NDArray[Any]]:
    good: dict[str, NDArray[Any]] = {
        "state": np.array([0.5, -1.0, 2.0]),
        "front": np.full((4, 5, 3), 7, dtype=np.uint8),
    }
    return good | changes


def test_a_chunk_is_float64_and_equals_the_graph_by_hand(write_bundle: Write) -> None:
    chunk = Policy(write_bundle()).infer(observation())
    weights = np.arange(9, dtype=np.float32).reshape(3, 3) / 10.0
    expected = np.array([0.5, -1.0, 2.0], dtype=np.float32) @ weights + 7 + np.array([[0.0], [1.0]])
    assert chunk.dtype == np.float64
    assert chunk.shape == (2, 3)
    np.testing.assert_allclose(chunk, expected, rtol=1e-6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_the_same_observation_gives_the_same_bytes(write_bundle: Write, values: list[float]) -> None:
    bundle = write_bundle()
    first, second = Policy(bundle), Policy(bundle, threads=2)
    seen = observation(state=np.array(values))
    expected = first.infer(seen).tobytes()
    assert first.infer(seen).tobytes() == expected
    assert second.infer(seen).tobytes() == expected


def test_a_missing_stream_is_refused_and_never_filled_with_zeros(write_bundle: Write) -> None:
    seen = observation()
    del seen["front"]
    with pytest.raises(ObservationError, match=r"stream 'front' is missing.*there are \['state'\]"):
        Policy(write_bundle()).infer(seen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": np.zeros(4)}, r"stream 'state' has the shape \[4\].*expects \[3\]"),
        ({"front": np.zeros((5, 4, 3), np.uint8)}, r"stream 'front' has the shape \[5, 4, 3\]"),
        ({"front": np.zeros((4, 5, 3))}, "stream 'front' is float64.*expects uint8"),
        ({"state": np.array([0.0, np.nan, 0.0])}, r"stream 'state' holds nan at index \[1\]"),
        ({"state": np.array([0.0, 0.0, np.inf])}, r"stream 'state' holds inf at index \[2\]"),
        ({"state": np.array([1e300, 0.0, 0.0])}, r"stream 'state' holds 1e\+300 at index \[0\]"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(
    write_bundle: Write, changes: dict[str, NDArray[Any]], message: str
) -> None:
    with pytest.raises(ObservationError, match=message):
        Policy(write_bundle()).infer(observation(**changes))


def test_further_streams_and_strided_arrays_are_welcome(write_bundle: Write) -> None:
    policy = Policy(write_bundle())
    flipped = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)[:, ::-1]
    chunk = policy.infer(observation(front=flipped, joints=np.zeros(9)))
    assert chunk.tobytes() == policy.infer(observation(front=flipped.copy())).tobytes()
    assert policy.streams == ("state", "front")


def test_percentiles_come_from_the_last_inferences_without_the_warm_up(write_bundle: Write) -> None:
    durations = [1000, 10, 20, 30, 40]
    ticks = iter(t for d in durations for t in (0, d))
    policy = Policy(write_bundle(), window=4, warm_up=2, clock_ns=lambda: next(ticks))
    assert policy.timing() is None
    for _ in durations:
        policy.infer(observation())
    timing = policy.timing()
    assert timing is not None
    assert (timing.count, timing.p50_ns, timing.max_ns) == (5, 25, 40)
    policy.reset_timing()
    assert policy.timing() is None


def test_providers_of_the_manifest_that_the_machine_lacks_are_passed_over(write_bundle: Write) -> None:
    bundle = write_bundle(providers=("NoSuchExecutionProvider", "CPUExecutionProvider"))
    assert Policy(bundle).providers == ("CPUExecutionProvider",)
    with pytest.raises(MachineError, match="has no NoSuchExecutionProvider; it has"):
        Policy(bundle, providers=("NoSuchExecutionProvider",))
    with pytest.raises(MachineError, match="none of the providers NoSuchExecutionProvider"):
        Policy(write_bundle(providers=("NoSuchExecutionProvider",)))


CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], list[str]], list[list[str]]]:
    """onnxruntime as on a machine with a GPU, as far as the choice goes: the graph itself runs on the CPU.

    Takes what the package offers and what really starts; gives the lists that sessions are asked for.
    """

    def make(offers: list[str], starts: list[str]) -> list[list[str]]:
        asked: list[list[str]] = []

        class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
            def __init__(self, model: bytes, options: Any, providers: list[str]) -> None:
                asked.append(providers)
                super().__init__(model, options, providers=[CPU])

            def get_providers(self) -> list[str]:
                return [name for name in asked[-1] if name in starts]

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offers)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        return asked

    return make


def test_providers_are_taken_in_the_manifests_order_as_far_as_the_machine_has_and_starts_them(
    write_bundle: Write, gpu_machine: Callable[[list[str], list[str]], list[list[str]]]
) -> None:
    bundle = write_bundle(providers=(TENSORRT, CUDA, CPU))
    asked = gpu_machine([CPU, CUDA, TENSORRT], [CPU, CUDA, TENSORRT])
    policy = Policy(bundle)
    assert (asked[-1], policy.providers[0], policy.passed_over) == ([TENSORRT, CUDA, CPU], TENSORRT, ())
    asked = gpu_machine([CPU, CUDA], [CPU, CUDA])
    policy = Policy(bundle)
    assert (asked[-1], policy.providers[0], policy.passed_over) == ([CUDA, CPU], CUDA, (TENSORRT,))
    # onnxruntime-gpu offers both wherever it is installed, also where the driver or TensorRT itself is not.
    gpu_machine([CPU, CUDA, TENSORRT], [CPU])
    policy = Policy(bundle)
    assert (policy.providers, policy.passed_over) == ((CPU,), (TENSORRT, CUDA))
    with pytest.raises(MachineError, match=f"could not start {CUDA} and offers {CPU}"):
        Policy(bundle, providers=(CUDA, CPU))


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_a_gpu_gives_the_chunk_of_the_cpu(write_bundle: Write, provider: str) -> None:
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"onnxruntime has no {provider} here: what it makes of a graph is not covered")
    bundle = write_bundle(providers=(provider, CPU))
    try:
        policy = Policy(bundle, providers=(provider, CPU))
    except MachineError as error:
        pytest.skip(f"{error} What {provider} makes of a graph is not covered.")
    np.testing.assert_allclose(
        policy.infer(observation()), Policy(bundle, providers=(CPU,)).infer(observation()), rtol=1e-3
    )


def test_a_graph_that_onnxruntime_refuses_is_a_bundle_error(
    write_bundle: Write, make_model: Callable[..., bytes]
) -> None:
    proto = onnx.load_from_string(make_model())
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match=r"policy.onnx: onnxruntime .* refuses the graph"):
        Policy(write_bundle(model=proto.SerializeToString()))


def test_a_graph_that_lies_about_its_output_is_caught_in_the_warm_up(
    write_bundle: Write, make_model: Callable[..., bytes]
) -> None:
    proto = onnx.load_from_string(make_model(chunk=3))
    info = helper.make_tensor_value_info("action", onnx.TensorProto.FLOAT, ["batch", 2, 3])
    proto.graph.output[0].CopyFrom(info)
    with pytest.raises(BundleError, match=r"shape \[1, 3, 3\], the manifest promises \[1, 2, 3\]|refuses"):
        Policy(write_bundle(model=proto.SerializeToString()))


def test_a_plan_of_the_policy_goes_through_control_unchanged(write_bundle: Write) -> None:
    bundle = write_bundle()
    policy, controller = Policy(bundle), Controller(bundle.contract)
    controller.enable(1_000_000_000)
    seen = {"state": np.array([0.1, -0.1, 0.05]), "front": np.zeros((4, 5, 3), dtype=np.uint8)}
    chunk = policy.plan(seen, 1_000_000_000)
    expected = policy.infer(seen)
    command = controller.tick(1_000_000_000, Inputs(chunk=chunk, observation_ns=1_000_000_000))
    assert command.action is not None
    assert command.action.tobytes() == expected[0].tobytes()
