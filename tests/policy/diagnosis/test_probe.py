"""The figures that a run logs for its diagnosis, against formulas written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.diagnosis.features import (
    effective_rank,
    feature_cosine,
    feature_dot,
    flat_gap,
    gradient_norm,
)
from policy.diagnosis.probe import probe
from policy.metrics import read_metrics
from policy.regularise import Regularisers
from policy.train import train
from policy.transitions import Transitions
from tests.policy.states import assert_same_bits, final

CPU = torch.device("cpu")
IQL_SMALL = IQLConfig(hidden=(8, 8))
KINDS = [
    IQL_SMALL,
    CQLConfig(hidden=(8, 8), samples=2, bc_steps=5),
    BRACConfig(hidden=(8, 8), behaviour_steps=5),
    ORILConfig(discriminator_hidden=(8,), discriminator_steps=5, iql=IQL_SMALL),
]
every_kind = pytest.mark.parametrize("algo", KINDS, ids=lambda algo: algo.name)
COMMON = {
    "q", "q_std", "q_policy", "q_random", "td_error", "loss_policy", "feature_dot", "feature_cosine",
    "effective_rank", "log_likelihood", "action_error",
}  # fmt: skip
OWN = {
    "iql": {"loss_v"},
    "oril": {"loss_v"},
    "cql": {"conservative", "conservative_flat"},
    "brac": {"conservative", "log_likelihood_behaviour"},
}


def batch(rows: int = 20) -> Transitions:
    ended = (torch.arange(rows) % 5 == 0).float()
    expert = (torch.arange(rows) % 2 == 0).float()
    s, a, after = torch.randn(rows, 3), torch.rand(rows, 2) * 2 - 1, torch.randn(rows, 3)
    return Transitions(s, a, torch.rand(rows), after, ended, 1 - ended, expert=expert)


def trained(algo, steps: int = 8):
    torch.manual_seed(0)
    learner, rows = algo.build(3, 2, CPU), batch()
    for _ in range(steps):
        learner.update(rows)
    return learner, rows


@every_kind
def test_every_evaluation_logs_what_the_workflow_needs_of_both_splits(algo, make_config) -> None:
    config = make_config(algo=algo)
    train(config)
    rows = [row for row in read_metrics(config.run / "metrics.jsonl") if "diagnose/train/q" in row]
    assert [row["step"] for row in rows] == [10, 20, 30]
    for row in rows:
        figures = {name: value for name, value in row.items() if name.startswith("diagnose/")}
        wanted = COMMON | OWN[algo.name]
        assert {name.removeprefix("diagnose/valid/") for name in figures} >= wanted
        wanted = wanted | {"grad_norm_q", "grad_norm_policy"}
        assert {name.removeprefix("diagnose/train/") for name in figures} >= wanted
        assert all(math.isfinite(value) for value in figures.values())


@every_kind
def test_training_does_not_notice_that_it_is_looked_at(algo, make_config) -> None:
    often = make_config("often", algo=algo, loop={"evaluate_every": 3})
    once = make_config("once", algo=algo, loop={"evaluate_every": 0})
    for config in (often, once):
        train(config)
    assert_same_bits(final(often.run), final(once.run))


@every_kind
def test_looking_changes_neither_weights_nor_gradients_and_says_the_same_again(algo) -> None:
    learner, rows = trained(algo)
    before = {k: v for k, v in learner.state_dict().items() if k != "optimiser"}
    noise = torch.get_rng_state()
    first = probe(learner, rows, gradients=True)
    assert torch.equal(noise, torch.get_rng_state())
    torch.rand(3)
    assert probe(learner, rows, gradients=True) == first
    assert_same_bits(before, {k: v for k, v in learner.state_dict().items() if k != "optimiser"})


def test_cloning_has_no_critic_to_look_at() -> None:
    learner, rows = trained(BCConfig(hidden=(8,)))
    assert probe(learner, rows) == {}


@pytest.mark.parametrize("algo", [KINDS[2], KINDS[3]], ids=lambda algo: algo.name)
def test_nothing_is_said_of_a_critic_before_its_training_begins(algo) -> None:
    learner, rows = trained(algo, steps=5)
    assert probe(learner, rows) == {}


def test_the_values_of_iql_are_their_formulas() -> None:
    learner, rows = trained(IQL_SMALL)
    said = probe(learner, rows, gradients=True)
    with torch.no_grad():
        q = [[float(learner.q(rows.observations[i : i + 1], rows.actions[i : i + 1])[j]) for i in range(20)]
             for j in range(2)]  # fmt: skip
        v = [float(learner.v(rows.next_observations[i : i + 1])) for i in range(20)]
        acts = learner.policy(rows.observations)
        log_std = learner.policy.log_std
    target = [float(rows.rewards[i]) + 0.99 * (1 - float(rows.terminated[i])) * v[i] for i in range(20)]
    td = [(target[i] - q[j][i]) ** 2 for i in range(20) for j in range(2)]
    assert said["q"] == pytest.approx(np.mean(q), rel=1e-4)
    assert said["q_std"] == pytest.approx(np.std(q), rel=1e-3)
    assert said["td_error"] == pytest.approx(np.mean(td), rel=1e-4)
    assert said["q_policy"] == pytest.approx(learner.q(rows.observations, acts).mean().item(), rel=1e-4)
    normal = torch.distributions.Normal(acts, log_std.exp())
    assert said["log_likelihood"] == pytest.approx(
        normal.log_prob(rows.actions).sum(-1).mean().item(), rel=1e-4
    )
    assert said["action_error"] == pytest.approx((acts - rows.actions).square().mean().item(), rel=1e-4)
    learner.optimiser.zero_grad()
    learner.losses(rows)[0].backward()
    square = sum(float(p.grad.square().sum()) for p in learner.q.parameters())
    assert said["grad_norm_q"] == pytest.approx(square**0.5, rel=1e-4)


def test_td_error_and_conservative_part_of_cql_stand_apart_from_its_regularisers() -> None:
    regularise = Regularisers(l1=0.1, dr3=0.03)
    learner, rows = trained(CQLConfig(hidden=(8, 8), samples=2, weight=3.0, regularise=regularise))
    said = probe(learner, rows)
    torch.manual_seed(0)
    expected = learner.validate(rows)
    assert said["td_error"] == pytest.approx(expected["loss_td"].mean().item(), rel=1e-5)
    assert said["conservative"] == pytest.approx(expected["loss_cql"].mean().item(), rel=1e-5)
    assert {"penalty_l1", "penalty_dr3"} <= said.keys()


def test_a_critic_that_cannot_tell_actions_apart_has_the_flat_gap() -> None:
    learner, rows = trained(CQLConfig(hidden=(8, 8), samples=3, weight=2.0))
    with torch.no_grad():
        for parameter in learner.q.parameters():
            parameter.zero_()
        learner.q.ensemble.layers[-1].bias.fill_(4.0)
    said = probe(learner, rows)
    # Policy actions are drawn anew for the second figure, so the two agree as far as 20 rows average them.
    assert said["conservative"] == pytest.approx(said["conservative_flat"], rel=0.1)
    uniform_only = torch.full((6, 5), 2 * math.log(0.5))
    assert flat_gap(uniform_only, 1.0).item() == pytest.approx(math.log(6) + 2 * math.log(2))


def test_the_effective_rank_counts_singular_values_up_to_99_percent_of_their_sum() -> None:
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(40, 6)))
    v, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    for values, rank in (([1] * 6, 6), ([97, 1.5, 1, 0.3, 0.1, 0.1], 3), ([1, 0, 0, 0, 0, 0], 1)):
        features = torch.from_numpy(u @ np.diag(values) @ v)
        assert effective_rank(features) == rank
        assert effective_rank(features.T) == rank
    assert effective_rank(torch.zeros(5, 3)) == 0
    assert effective_rank(torch.full((5, 3), float("nan"))) == 0


def test_dot_products_and_cosines_of_features_are_means_over_rows() -> None:
    one, two = torch.tensor([[[1.0, 2.0], [0.0, 3.0]]]), torch.tensor([[[3.0, 1.0], [4.0, 0.0]]])
    assert feature_dot(one, two).item() == pytest.approx((5 + 0) / 2)
    assert feature_cosine(one, two).item() == pytest.approx((5 / 50**0.5 + 0) / 2)


def test_a_gradient_norm_is_taken_over_all_parameters_and_leaves_their_gradients_alone() -> None:
    x, y = torch.tensor([3.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    assert gradient_norm((x**2 + 8 * y).sum(), [x, y]).item() == pytest.approx(10.0)
    assert x.grad is None
    assert gradient_norm(x.sum(), [y]).item() == 0.0
