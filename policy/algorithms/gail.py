"""Generative adversarial imitation learning (Ho, Ermon 2016, arXiv 1606.03476) with TRPO, in a live
environment.

A discriminator D tells the expert's state-action pairs from the policy's; the policy is rewarded for what D
takes for the expert's. It needs no reward, but an environment to try things in.

    L_D(ψ) = E_E[ −log D ] + E_π[ −log(1 − D) ] − η (E_E[ H(D) ] + E_π[ H(D) ]),   D = σ(f_ψ(s, a))
                                                              Eq. 17, with 1 − D for the paper's D
    r(s, a) = −log(1 − D(s, a)),  or log D(s, a)
    max_φ  E[ π_φ(a|s)/π_old(a|s) Â ] + λ H(π_φ)   with  E[ KL(π_old ‖ π_φ) ] ≤ δ    Eq. 18, by TRPO
    L_V(θ) = E[ (V_θ(s, t) − (Â + V_old(s, t)))² ]

An episode is a problem of `horizon` steps, and V knows which step it is at: nothing comes behind the last
one, whether the task ended there or the episode was cut off. To ask V for a future behind the cut fails: the
state where an episode was cut off is one where nothing was ever learned, the value that V invents there
outweighs the rewards of a short episode, and the policy walks to wherever V extrapolates to the most.
What differs from the paper's code and from that of offline RL-VLM-F: docs/algorithms/gail.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from episodes.errors import ConfigError
from policy.algorithms.bc import imitation_loss
from policy.checkpoint import State
from policy.critic import ValueNet
from policy.live import Episode, Live
from policy.networks import MLP
from policy.observations import ObservationSpace, as_space
from policy.policies import LOG_STD_MAX, LOG_STD_MIN, GaussianPolicy
from policy.settings import require
from policy.training import Metrics
from policy.transitions import Experts, Transitions
from policy.trust_region import TrustRegion, gaussian_kl, generalised_advantages, trust_region_step

Sign = Literal["positive", "negative"]


@dataclass(frozen=True)
class GAILConfig:
    """Imitates the named experts in a live simulation of their task. One step is one round: episodes, D, π,
    V."""

    name: ClassVar[str] = "gail"
    uses_rewards: ClassVar[bool] = False
    experts: ClassVar[Experts] = "only"

    episodes: int = 10
    """Episodes that the policy runs per round."""
    horizon: int = 150
    """Steps after which an episode is cut off, and what the problem's rewards are added up to."""
    env_seed: int = 0
    """Seed of the environment's goals."""
    bc_steps: int = 0
    """Gradient steps of behaviour cloning before the first round; they count as steps of the run."""
    reward: Sign = "positive"
    """positive: −log(1 − D), from 0 on, so that a longer episode is never worse. negative: log D, up to 0,
    for tasks that end with success, which a positive reward would put off."""
    discount: float = 0.99
    """γ."""
    trace: float = 0.97
    """λ of the advantages."""
    entropy: float = 0.0
    """λ of H(π)."""
    trust_region: TrustRegion = field(default_factory=TrustRegion)
    """The policy's step."""
    discriminator_steps: int = 5
    """Gradient steps of D per round, each on the round's expert batch and as many of the policy's pairs."""
    discriminator_lr: float = 3e-4
    """Adam's learning rate of D."""
    discriminator_entropy: float = 1e-3
    """η, what keeps D from being certain."""
    value_steps: int = 20
    """Gradient steps of V per round, each on all of the round's states."""
    value_lr: float = 1e-3
    """Adam's learning rate of V."""
    bc_lr: float = 1e-3
    """Adam's learning rate of behaviour cloning."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network."""
    initial_log_std: float = -1.0
    """log σ that the policy explores with at first."""

    def build(self, observation: int | ObservationSpace, action_dim: int, device: torch.device) -> GAIL:
        """A learner with fresh weights drawn from torch's global generator.

        Raises:
            ConfigError: the policy is to see cameras.
        """
        return GAIL(self, observation, action_dim, device)

    def __post_init__(self) -> None:
        for name in ("episodes", "horizon", "discriminator_steps", "value_steps"):
            value = getattr(self, name)
            require(value >= 1, f"algo.{name.replace('_', '-')}", value, "give 1 or more")
        for name in ("discriminator_lr", "value_lr", "bc_lr"):
            value = getattr(self, name)
            require(value > 0, f"algo.{name.replace('_', '-')}", value, "give a number above 0")
        for name in ("discount", "trace"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"algo.{name}", value, "give a number from 0 to 1")
        for name in ("bc_steps", "entropy", "discriminator_entropy"):
            value = getattr(self, name)
            require(value >= 0, f"algo.{name.replace('_', '-')}", value, "give 0 or more")
        bounds = LOG_STD_MIN, LOG_STD_MAX
        require(
            bounds[0] <= self.initial_log_std <= bounds[1],
            "algo.initial-log-std",
            self.initial_log_std,
            f"give a number from {bounds[0]:g} to {bounds[1]:g}",
        )
        require(min(self.hidden, default=1) > 0, "algo.hidden", self.hidden, "give widths above 0")


def discriminator_loss(expert_logits: Tensor, policy_logits: Tensor, entropy: float = 0.0) -> Tensor:
    """L_D of f_ψ at the expert's pairs (B,) and at the policy's; `entropy` is η."""

    def uncertainty(logits: Tensor) -> Tensor:  # H(D) = −D log D − (1 − D) log(1 − D)
        return (nn.functional.softplus(logits) - logits * logits.sigmoid()).mean()

    loss = nn.functional.softplus(-expert_logits).mean() + nn.functional.softplus(policy_logits).mean()
    return loss - entropy * (uncertainty(expert_logits) + uncertainty(policy_logits))


def imitation_reward(logits: Tensor, sign: Sign = "positive") -> Tensor:
    """r = −log(1 − D), or log D, (B,)."""
    if sign == "negative":
        return -nn.functional.softplus(-logits)
    return nn.functional.softplus(logits)


def surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, log_std: Tensor, weight: float
) -> Tensor:
    """E[π/π_old Â] + λ H(π); H of a Gaussian is Σ log σ and a constant, which is left out."""
    return ((log_prob - old_log_prob).exp() * advantages).mean() + weight * log_std.sum()


@dataclass(frozen=True)
class _Round:
    """What one round's episodes gave, all their steps behind one another."""

    s: Tensor
    a: Tensor
    timed: Tensor
    """s and the share of the horizon that has passed, what V sees."""
    advantages: Tensor
    returns: Tensor
    metrics: dict[str, Tensor]


class GAIL:
    """The networks of one run and their update. `connect` gives it the environment before its first
    update."""

    def __init__(
        self, config: GAILConfig, observation: int | ObservationSpace, action_dim: int, device: torch.device
    ) -> None:
        space = as_space(observation)
        if space.cameras:
            raise ConfigError(
                "--data.streams: GAIL runs its environment without pictures; give it vector streams alone."
            )
        self.config = config
        self.policy = GaussianPolicy(space.vector_dim, action_dim, config.hidden).to(device)
        self.policy.log_std.data.fill_(config.initial_log_std)
        self.value = ValueNet(space.vector_dim + 1, config.hidden).to(device)
        self.discriminator = MLP(space.vector_dim + action_dim, config.hidden, 1).to(device)
        self.optimisers = {
            "policy": torch.optim.Adam(self.policy.parameters(), lr=config.bc_lr, fused=True),
            "value": torch.optim.Adam(self.value.parameters(), lr=config.value_lr, fused=True),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(), lr=config.discriminator_lr, fused=True
            ),
        }
        self.live: Live | None = None
        self.steps = self.episodes = 0

    def connect(self, live: Live) -> None:
        """Where the policy is tried."""
        self.live = live

    @property
    def log_std(self) -> Tensor:
        """log σ of the policy within its bounds, (dim,)."""
        return self.policy.log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def logits(self, s: Tensor, a: Tensor) -> Tensor:
        """f_ψ(s, a), (B,). Actions count as the environment gets them, clipped to [-1, 1]."""
        return self.discriminator(torch.cat((s, a.clamp(-1.0, 1.0)), dim=-1)).squeeze(-1)

    def update(self, batch: Transitions) -> Metrics:
        """One round on a batch of the expert's transitions, or at first one step of behaviour cloning.

        Raises:
            ConfigError: no environment is connected.
        """
        self.steps += 1
        if self.steps <= self.config.bc_steps:
            loss = imitation_loss(self.policy.imitation_loss(batch.observations, batch.actions))
            self._step("policy", loss)
            return {"loss_bc": loss.detach()}
        episodes = self._collect()
        metrics = self._discriminate(batch, episodes)
        found = self._judge(episodes)
        metrics |= found.metrics | self._improve(found)
        for _ in range(self.config.value_steps):
            loss = (self.value(found.timed) - found.returns).square().mean()
            self._step("value", loss)
        return {**metrics, "loss_v": loss.detach()}

    def _step(self, name: str, loss: Tensor) -> None:
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[name].step()

    def _collect(self) -> list[Episode]:
        if self.live is None:
            raise ConfigError(
                "algo:gail tries its policy in a live environment, and none is connected. The contract "
                "of the prepared files has to name one under 'simulation', and `armchair train` makes it."
            )

        def draw(s: Tensor) -> Tensor:
            mean = self.policy(s)
            return mean + self.log_std.exp() * torch.randn_like(mean)

        episodes = []
        for _ in range(self.config.episodes):
            seed, number = self.config.env_seed, self.episodes
            episodes.append(self.live.run(draw, seed=seed, episode=number, most_steps=self.config.horizon))
            self.episodes += 1
        return episodes

    def _discriminate(self, batch: Transitions, episodes: list[Episode]) -> dict[str, Tensor]:
        s = torch.cat([episode.observations[:-1] for episode in episodes])
        a = torch.cat([episode.actions for episode in episodes])
        for _ in range(self.config.discriminator_steps):
            pick = torch.randint(len(a), (len(batch.actions),)).to(a.device)
            expert = self.logits(batch.observations, batch.actions)
            policy = self.logits(s[pick], a[pick])
            loss = discriminator_loss(expert, policy, self.config.discriminator_entropy)
            self._step("discriminator", loss)
        return {
            "loss_discriminator": loss.detach(),
            "d_expert": expert.detach().sigmoid(),
            "d_policy": policy.detach().sigmoid(),
            "success": torch.tensor([float(episode.success) for episode in episodes]),
            "task_return": torch.tensor([episode.task_return for episode in episodes]),
            "episode_steps": torch.tensor([float(len(episode.actions)) for episode in episodes]),
        }

    @torch.no_grad()
    def _judge(self, episodes: list[Episode]) -> _Round:
        """Advantages and what V is to say. V counts in units of the sum of γᵗ, which keeps it as small as a
        reward; of the advantages only the normalised ones are used, so the unit changes no policy."""
        config = self.config
        unit = sum(config.discount**t for t in range(config.horizon))
        advantages, returns, rewards, timed = [], [], [], []
        for episode in episodes:
            s = episode.observations
            passed = torch.arange(len(s), device=s.device, dtype=s.dtype) / config.horizon
            seen = torch.cat((s, passed.unsqueeze(-1)), dim=-1)[:-1]
            reward = imitation_reward(self.logits(s[:-1], episode.actions), config.reward)
            values = self.value(seen)
            ahead = torch.cat((values[1:], values.new_zeros(1)))
            advantage = generalised_advantages(reward / unit, values, ahead, config.discount, config.trace)
            advantages.append(advantage)
            returns.append(advantage + values)
            rewards.append(reward)
            timed.append(seen)
        every = torch.cat(advantages)
        return _Round(
            s=torch.cat([episode.observations[:-1] for episode in episodes]),
            a=torch.cat([episode.actions for episode in episodes]),
            timed=torch.cat(timed),
            advantages=(every - every.mean()) / (every.std(correction=0) + 1e-8),
            returns=torch.cat(returns),
            metrics={"reward": torch.cat(rewards)},
        )

    def _improve(self, found: _Round) -> dict[str, Tensor]:
        policy, config = self.policy, self.config
        with torch.no_grad():
            old_mean, old_log_std = policy(found.s), self.log_std.clone()
            old_log_prob = -policy.imitation_loss(found.s, found.a)

        def gain() -> Tensor:
            log_prob = -policy.imitation_loss(found.s, found.a)
            return surrogate(log_prob, old_log_prob, found.advantages, self.log_std, config.entropy)

        def divergence() -> Tensor:
            return gaussian_kl(old_mean, old_log_std, policy(found.s), self.log_std).mean()

        moved, taken = trust_region_step(list(policy.parameters()), gain, divergence, config.trust_region)
        return {
            "kl": moved,
            "step_taken": torch.tensor(float(taken)),
            "log_std": policy.log_std.detach().clone(),
        }

    @torch.no_grad()
    def validate(self, batch: Transitions) -> Metrics:
        """How the policy and D see held-out transitions; those of experts and others together."""
        error = self.policy(batch.observations) - batch.actions
        imitation = self.policy.imitation_loss(batch.observations, batch.actions)
        d = self.logits(batch.observations, batch.actions).sigmoid()
        return {"loss_bc": imitation_loss(imitation), "action_error": error.square(), "d": d}

    def state_dict(self) -> State:
        networks = {n: getattr(self, n).state_dict() for n in ("policy", "value", "discriminator")}
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {**networks, "optimisers": optimisers, "steps": self.steps, "episodes": self.episodes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("policy", "value", "discriminator"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.steps, self.episodes = state["steps"], state["episodes"]
