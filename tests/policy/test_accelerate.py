"""torch.compile and CUDA graphs, where they are asked for and where they cannot be had."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from episodes.errors import ConfigError
from policy.accelerate import Acceleration, Compiled, accelerate
from policy.algorithms.bc import BCConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.graphs import WARM_UP, Captured, Cuda
from policy.run import read_config
from policy.train import train
from policy.transitions import Transitions
from tests.policy.states import assert_same_bits, final, interrupt_and_resume, log

CPU = torch.device("cpu")
ALGORITHMS = [IQLConfig(hidden=(8, 8)), CQLConfig(hidden=(8, 8), samples=2, bc_steps=4)]
each = pytest.mark.parametrize("algo", ALGORITHMS, ids=lambda algo: algo.name)


def batch(rows: int = 16) -> Transitions:
    s, a, zeros = torch.randn(rows, 3), torch.rand(rows, 2) * 2 - 1, torch.zeros(rows)
    return Transitions(s, a, torch.rand(rows), torch.randn(rows, 3), zeros, zeros)


class Refusing:
    """A compiler that draws a random number and then gives up, as torch's does where g++ is missing."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def fail(*arguments: Any) -> Any:
            self.calls += 1
            torch.rand(())
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand a long trace")

        return fail


@each
def test_without_a_compiler_training_goes_on_and_says_so_once(algo, make_config, monkeypatch) -> None:
    said: list[str] = []
    train(make_config("plain", algo=algo))
    compiler = Refusing()
    monkeypatch.setattr(torch, "compile", compiler)
    train(make_config("asked", algo=algo, compile=True), warn=said.append)
    assert compiler.calls == len(said) == {"iql": 1, "cql": 2}[algo.name]
    assert all("could not be compiled (RuntimeError: InvalidCxxCompiler" in text for text in said)
    assert all("\n" not in text for text in said)
    plain, asked = (make_config(run).run for run in ("plain", "asked"))
    assert_same_bits(final(plain), final(asked))
    assert log(plain) == log(asked)
    assert read_config(asked).compile


def test_a_mistake_in_the_function_itself_is_not_taken_for_the_compilers(monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)

    def wrong(x: torch.Tensor) -> torch.Tensor:
        return x @ torch.zeros(7, 1)

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Compiled(wrong, warnings.warn)(torch.zeros(2, 3))


def test_an_algorithm_that_gains_nothing_says_so_and_trains(make_config) -> None:
    said: list[str] = []
    train(make_config(algo=BCConfig(hidden=(8,)), compile=True), warn=said.append)
    assert said == ["--compile: nothing in algo:bc gains from it; it runs as without."]


@pytest.mark.parametrize("algo", [*ALGORITHMS, BCConfig(hidden=(8,))], ids=lambda algo: algo.name)
def test_cuda_graphs_without_cuda_are_refused_with_what_to_do(algo, make_config) -> None:
    with pytest.raises(ConfigError, match=r"--cuda-graphs: only NVIDIA GPUs.*--device cuda"):
        train(make_config(algo=algo, cuda_graphs=True))


def test_cuda_graphs_of_an_algorithm_without_them_are_refused() -> None:
    learner = BCConfig(hidden=(8,)).build(3, 2, CPU)
    with pytest.raises(ConfigError, match="algo:bc cannot be captured; algo:iql and algo:cql can"):
        accelerate(learner, Acceleration(cuda_graphs=True), "bc", torch.device("cuda"))


class StandIn(Cuda):
    """In the place of a GPU: it records a function by what it does and replays it on the same tensors.

    What it cannot show, and no machine without a GPU can: that torch.cuda accepts the kernels of a step in a
    capture. `test_a_run_of_cuda_graphs_…` does, where there is a GPU.
    """

    def __init__(self) -> None:
        self.recorded = 0

    def aside(self) -> Any:
        return nullcontext()

    def join(self) -> None:
        return None

    def record(self, function: Callable[[], Any]) -> Any:
        self.recorded += 1
        result: dict[str, torch.Tensor] = {}

        class Replay:
            def replay(self) -> None:
                result.update(function())

        return Replay(), result


@each
def test_a_captured_step_does_what_the_step_does(algo) -> None:
    torch.manual_seed(0)
    plain, captured = algo.build(3, 2, CPU), algo.build(3, 2, CPU)
    captured.load_state_dict(plain.state_dict())
    cuda, steps = StandIn(), captured.step
    captured._step = Captured(steps, captured.state_dict, cuda)
    batches = [batch() for _ in range(8)]
    figures = []
    for learner in (plain, captured):
        torch.manual_seed(1)
        figures.append([{k: v.clone() for k, v in learner.update(one).items()} for one in batches])
    # The second phase of CQL is a graph of its own, captured in the middle of training.
    assert cuda.recorded == {"iql": 1, "cql": 2}[algo.name]
    assert_same_bits(plain.state_dict(), captured.state_dict())
    assert_same_bits(figures[0], figures[1])


def test_warming_up_leaves_no_trace_and_a_batch_of_another_size_has_a_graph_of_its_own() -> None:
    total, seen = torch.zeros(()), []

    def function(rows: tuple[torch.Tensor, None]) -> dict[str, torch.Tensor]:
        seen.append(len(rows[0]))
        total.add_(rows[0].sum() + torch.rand(()))
        return {"total": total.clone()}

    cuda = StandIn()
    captured = Captured(function, lambda: {"total": total}, cuda)
    torch.manual_seed(0)
    expected = torch.rand(3).double().sum() + 2 + 2 + 3
    torch.manual_seed(0)
    for rows in (2, 2, 3):
        captured((torch.ones(rows), None))
    assert total.item() == pytest.approx(expected.item(), abs=1e-5)
    assert seen == [2] * (WARM_UP + 2) + [3] * (WARM_UP + 1)
    assert cuda.recorded == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: a real capture takes an NVIDIA GPU")
@each
def test_a_run_of_cuda_graphs_resumes_bit_for_bit_and_equals_one_without(algo, make_config) -> None:
    captured, whole, plain = (
        make_config(run, algo=algo, device="cuda", cuda_graphs=graphs)
        for run, graphs in (("stopped", True), ("whole", True), ("plain", False))
    )
    interrupt_and_resume(captured)
    train(whole)
    assert_same_bits(final(whole.run), final(captured.run))
    train(plain)
    for name, value in final(plain.run)["learner"]["policy"].items():
        torch.testing.assert_close(final(whole.run)["learner"]["policy"][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.long
@each
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_run_resumes_bit_for_bit_and_follows_one_without(algo, precision, make_config) -> None:
    compiled, whole, plain = (
        make_config(run, algo=algo, precision=precision, compile=on)
        for run, on in (("stopped", True), ("whole", True), ("plain", False))
    )
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own compiler
        interrupt_and_resume(compiled, warn=said.append)
        train(whole, warn=said.append)
    assert said == [], "this test takes a C++ compiler"
    assert_same_bits(final(whole.run), final(compiled.run))
    assert log(whole.run) == log(compiled.run)
    train(plain)
    assert log(plain.run) != log(whole.run), "nothing was compiled"
    tolerance = {"fp32": 1e-4, "bf16": 2e-2}[precision]
    for name, value in final(plain.run)["learner"]["policy"].items():
        found = final(whole.run)["learner"]["policy"][name]
        torch.testing.assert_close(found, value, rtol=tolerance, atol=tolerance)


@pytest.mark.long
def test_the_real_compiler_falls_back_where_there_is_no_cxx(tmp_path: Path, monkeypatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (str(tmp_path / "no-such-g++"),))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    monkeypatch.delenv("CXX", raising=False)
    torch.compiler.reset()
    said: list[str] = []
    x = torch.linspace(0, 1, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Compiled(lambda x: x.sin() + 2.5, said.append)(x)
    assert torch.equal(found, x.sin() + 2.5)
    assert len(said) == 1
    assert "could not be compiled" in said[0]
    torch.compiler.reset()
