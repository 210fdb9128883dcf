"""What the workflow needs to know of a critic, measured on fixed rows at every evaluation of a run.

The figures of Kumar et al. 2021 (A Workflow for Offline Model-Free Robotic RL, arXiv 2109.10813): average
dataset Q, TD error and conservative term apart, Q in and out of the distribution; and those of DR3 (arXiv
2112.04716): feature dot products and effective rank. All rows and all noise are the same at every
evaluation, so what changes from one to the next is the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policy.algorithms.brac import BRAC
from policy.algorithms.cql import CQL
from policy.algorithms.iql import IQL
from policy.algorithms.oril import ORIL
from policy.critic import frozen
from policy.diagnosis.features import (
    effective_rank,
    feature_cosine,
    feature_dot,
    flat_gap,
    gradient_norm,
)
from policy.observations import map_seen
from policy.policies import GaussianPolicy, TanhGaussianPolicy
from policy.protocols import PolicyLearner
from policy.transitions import Transitions, gather

PREFIX = "diagnose"
ROWS, PICTURE_ROWS = 2048, 256
"""Rows of each split that are looked at, evenly spaced."""
GRADIENT_ROWS = 256
"""Rows of the training split over which gradients are taken: a batch of the usual size."""
SEED = 0
"""Of the noise in the figures, the same at every evaluation."""

QLearner = IQL | CQL | BRAC


@dataclass(frozen=True)
class Probed:
    """A learner's critic, and rows with the reward that it learns from."""

    learner: QLearner
    rows: Transitions


def probe(learner: PolicyLearner, rows: Transitions, *, gradients: bool = False) -> dict[str, float]:
    """Figures of the learner's critic on `rows`; none for learners without one, or while it is not trained
    yet.

    Args:
        rows: as the networks see them, with pictures where the policy has cameras.
        gradients: measure gradient norms as well, over the first GRADIENT_ROWS rows.

    Returns:
        By name: q and q_std over both Q of the data's actions; q_policy (action at deployment) and q_random
        (uniform actions); td_error; conservative (CQL: w E[Z − Q]; BRAC: E[D̂]) and conservative_flat (CQL
        alone: its value for a critic that cannot tell actions apart); penalty_<name> of each regulariser;
        loss_policy, loss_v; feature_dot, feature_cosine and effective_rank; log_likelihood of the data's
        actions under the policy, log_likelihood_behaviour under BRAC's π_β, action_error (mean square);
        grad_norm_q and grad_norm_policy.
    """
    found = _critic(learner, rows)
    if found is None:
        return {}
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(SEED)
        figures = {**_losses(found), **_values(found), **_imitation(found)}
        if gradients:
            few = torch.arange(min(GRADIENT_ROWS, len(rows.rewards)), device=rows.rewards.device)
            figures |= _gradients(found.learner, _first(found.rows, few))
    return {name: float(value) for name, value in figures.items()}


def _critic(learner: PolicyLearner, rows: Transitions) -> Probed | None:
    if isinstance(learner, ORIL):
        if learner.steps <= learner.config.discriminator_steps:
            return None
        return Probed(learner.learner, learner.rewarded(rows))
    if isinstance(learner, BRAC) and learner.steps <= learner.config.behaviour_steps:
        return None
    return Probed(learner, rows) if isinstance(learner, IQL | CQL | BRAC) else None


def _losses(found: Probed) -> dict[str, Tensor]:
    """The parts of the losses, from what the learner says of held-out rows."""
    learner, rows = found.learner, found.rows
    said = {name: value.float().mean() for name, value in learner.validate(rows).items()}
    figures = {"td_error": said["loss_q" if isinstance(learner, IQL) else "loss_td"]}
    figures |= {k: v for k, v in said.items() if k in ("loss_policy", "loss_v") or k.startswith("penalty_")}
    if isinstance(learner, CQL):
        config = learner.config
        figures["conservative"] = said["loss_cql"]
        figures["conservative_flat"] = config.weight * flat_gap(
            learner.proposals(rows)[1], config.temperature
        )
    elif isinstance(learner, BRAC):
        figures["conservative"] = said["divergence"]
    return figures


@torch.no_grad()
def _values(found: Probed) -> dict[str, Tensor]:
    learner, rows = found.learner, found.rows
    q, policy = learner.q, learner.policy
    encoded = q.encode(rows.observations)
    data = q.values(encoded, rows.actions)
    ahead = q.values(q.encode(rows.next_observations), policy(rows.next_observations))
    uniform = torch.rand_like(rows.actions) * 2.0 - 1.0
    ranks = [effective_rank(features) for features in data.last.expand(2, -1, -1)]
    return {
        "q": data.q.float().mean(),
        "q_std": data.q.float().std(correction=0),
        "q_policy": q.values(encoded, policy(rows.observations)).q.float().mean(),
        "q_random": q.values(encoded, uniform).q.float().mean(),
        "feature_dot": feature_dot(data.last, ahead.last),
        "feature_cosine": feature_cosine(data.last, ahead.last),
        "effective_rank": torch.tensor(ranks, dtype=torch.float32).mean(),
    }


@torch.no_grad()
def _imitation(found: Probed) -> dict[str, Tensor]:
    learner, seen, actions = found.learner, found.rows.observations, found.rows.actions
    figures = {"action_error": (learner.policy(seen) - actions).square().mean()}
    if isinstance(learner.policy, GaussianPolicy | TanhGaussianPolicy):
        figures["log_likelihood"] = -learner.policy.imitation_loss(seen, actions).mean()
    if isinstance(learner, BRAC):
        figures["log_likelihood_behaviour"] = learner.behaviour.log_prob(seen, actions).mean()
    return figures


def _gradients(learner: QLearner, rows: Transitions) -> dict[str, Tensor]:
    if isinstance(learner, IQL):
        # Each loss has gradients in its own network alone, so their sum gives the norm of either.
        loss_q = loss_policy = learner.losses(rows)[0]
    elif isinstance(learner, CQL):
        alpha = learner.log_alpha.detach().exp()
        loss_q = learner.critic_loss(rows, alpha)[0]
        with frozen(learner.q):
            loss_policy = learner.actor_loss(rows, alpha, learner.log_alpha, learner.imitating)[0]
    else:
        loss_q = learner.critic_loss(rows)[0]
        loss_policy = learner.actor_loss(rows)[0]
    return {
        "grad_norm_q": gradient_norm(loss_q, learner.q.parameters()),
        "grad_norm_policy": gradient_norm(loss_policy, learner.policy.parameters()),
    }


def _first(rows: Transitions, index: Tensor) -> Transitions:
    """The rows of `index`, with their pictures where they have been fetched."""
    if isinstance(rows.observations, Tensor):
        return gather(rows, index)

    def pick(x: Tensor) -> Tensor:
        return x[index]

    plain = gather(rows._replace(observations=None, next_observations=None), index)
    return plain._replace(
        observations=map_seen(pick, rows.observations),
        next_observations=map_seen(pick, rows.next_observations),
    )


def evenly(rows: Transitions) -> Transitions:
    """At most ROWS of the rows (PICTURE_ROWS with pictures), evenly spaced."""
    most = ROWS if rows.frames is None else PICTURE_ROWS
    stride = -(-len(rows.rewards) // most)
    return gather(rows, torch.arange(0, len(rows.rewards), stride, device=rows.rewards.device))
