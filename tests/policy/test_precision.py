"""bfloat16 in the hidden layers while training, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policy.accelerate import Reduced
from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.critic import TwinQ
from policy.encoders import EncoderConfig
from policy.export import ExportConfig, export
from policy.networks import MLP, EnsembleMLP
from policy.observations import Observations, ObservationSpace
from policy.precision import hidden_layers_in
from policy.regularise import Regularisers
from policy.run import load_policy
from policy.train import train
from policy.transitions import Transitions
from tests.policy.states import assert_same_bits, final, interrupt_and_resume, log

CPU = torch.device("cpu")
KINDS = [
    IQLConfig(hidden=(8, 8), regularise=Regularisers(dr3=0.01)),
    IQLConfig(hidden=(8, 8), regularise=Regularisers(vib=0.01, vib_dim=4)),
    BCConfig(hidden=(8, 8)),
    CQLConfig(hidden=(8, 8), samples=2, bc_steps=25),
    BRACConfig(hidden=(8, 8), behaviour_steps=15),
    ORILConfig(discriminator_hidden=(8,), discriminator_steps=15, iql=IQLConfig(hidden=(8, 8))),
]


def batch(rows: int = 16) -> Transitions:
    s, a, zeros = torch.randn(rows, 3), torch.rand(rows, 2) * 2 - 1, torch.zeros(rows)
    return Transitions(s, a, torch.rand(rows), torch.randn(rows, 3), zeros, zeros)


@pytest.mark.parametrize(
    "network",
    [
        lambda: MLP(5, (64, 64), 3, layer_norm=True),
        lambda: EnsembleMLP(2, 5, (64, 64), 3, layer_norm=True),
        lambda: EnsembleMLP(2, 5, (64, 64), 3, bottleneck=8),
        lambda: EnsembleMLP(2, 5, (64, 64), 3, residual=True),
    ],
    ids=["mlp", "ensemble", "bottleneck", "residual"],
)
def test_hidden_layers_round_to_bfloat16_and_the_last_layer_does_not(network) -> None:
    torch.manual_seed(0)
    network, x = network().eval(), torch.randn(40, 5)
    whole = network(x)
    inputs: list[torch.Tensor] = []
    last = network[-1] if isinstance(network, MLP) else network.layers[-1]
    last.register_forward_hook(lambda _, seen, out: inputs.extend((*seen, out)))
    with hidden_layers_in("bf16"):
        rounded = network(x)
        rounded.square().mean().backward()
    features, out = inputs
    # What the last layer reads has the 8 bits of bfloat16, what it returns has more.
    assert features.dtype == out.dtype == torch.float32
    if not (isinstance(network, EnsembleMLP) and network.residual):
        assert torch.equal(features, features.bfloat16().float())
    assert not torch.equal(out, out.bfloat16().float())
    assert 0 < (rounded - whole).abs().max() < 0.03 * whole.abs().max()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    torch.testing.assert_close(network(x), whole, rtol=0, atol=0)


def test_the_last_layers_gradient_is_that_of_float32() -> None:
    torch.manual_seed(0)
    network, x = MLP(5, (64,), 3), torch.randn(40, 5)
    with hidden_layers_in("bf16"):
        features = torch.relu(network[0](x.bfloat16().float())).detach()
        out = network(x)
        out.sum().backward()
    expected = features.sum(dim=0).expand(3, -1)
    # A gradient product in bfloat16 would leave it with 8 bits.
    gradient = network[-1].weight.grad
    assert not torch.equal(gradient, gradient.bfloat16().float())
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=0.02)


def test_a_critic_of_one_layer_is_exact_in_every_precision() -> None:
    torch.manual_seed(0)
    q, s, a = TwinQ(3, 2, ()), torch.randn(6, 3), torch.randn(4, 6, 2)
    whole = q(s, a)
    with hidden_layers_in("bf16"):
        assert torch.equal(q(s, a), whole)


def test_picture_encoders_are_hidden_layers() -> None:
    torch.manual_seed(0)
    space = ObservationSpace(3, ((16, 16, 3),), EncoderConfig(features=8))
    q = TwinQ(space, 2, (16,))
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    seen, a = Observations(torch.randn(4, 3), (images,)), torch.randn(4, 2)
    whole = q.encode(seen)
    with hidden_layers_in("bf16"):
        rounded = q.encode(seen)
        q(seen, a).sum().backward()
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - whole).abs().max() < 0.05
    assert all(parameter.grad is not None for parameter in q.parameters())


@pytest.mark.parametrize("algo", KINDS, ids=lambda algo: algo.name)
def test_a_step_keeps_weights_optimiser_and_metrics_in_float32_and_follows_the_exact_one(algo) -> None:
    torch.manual_seed(0)
    exact = algo.build(3, 2, CPU)
    rounded = algo.build(3, 2, CPU)
    rounded.load_state_dict(exact.state_dict())
    data = batch()
    torch.manual_seed(1)
    expected = exact.update(data)
    torch.manual_seed(1)
    found = Reduced(rounded, "bf16").update(data)
    dtypes = {leaf.dtype for leaf in tensors(rounded.state_dict())} | {x.dtype for x in found.values()}
    assert dtypes == {torch.float32}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(value.mean() - found[name].mean()) <= 0.05 * value.abs().max() + 0.02, name
    assert any(not torch.equal(value, found[name]) for name, value in expected.items())


def tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("algo", KINDS[1:], ids=lambda algo: algo.name)
def test_a_bf16_run_that_was_stopped_ends_bit_for_bit_like_one_never_stopped(algo, make_config) -> None:
    whole, stopped, plain = (
        make_config(run, algo=algo, precision=precision, loop={"log_every": 5})
        for run, precision in (("whole", "bf16"), ("stopped", "bf16"), ("plain", "fp32"))
    )
    interrupt_and_resume(stopped)
    train(whole)
    assert_same_bits(final(whole.run), final(stopped.run))
    assert log(whole.run) == log(stopped.run)
    train(plain)
    assert log(whole.run) != log(plain.run)


def test_evaluations_while_training_see_the_float32_policy_that_is_exported(make_config) -> None:
    seen = []
    observation = {"state": np.array([0.5, -1.0, 0.25])}
    config = make_config(algo=BCConfig(hidden=(8, 8)), precision="bf16")
    train(config, evaluate=lambda step, act: seen.append(act(observation)) or {})
    assert (load_policy(config.run).graph.act(observation) == seen[-1]).all()
    assert export(ExportConfig(config.run)).parity.max_abs_difference < 1e-5
