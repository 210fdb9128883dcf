"""One trust-region policy step (TRPO: Schulman et al. 2015, arXiv 1502.05477) and generalised advantages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from policy.settings import require


@dataclass(frozen=True)
class TrustRegion:
    """Settings of a step; KL in nats."""

    max_kl: float = 0.01
    """Largest mean KL(π_old ‖ π_new) of a step."""
    damping: float = 0.1
    """Multiple of the identity that is added to the Fisher matrix."""
    iterations: int = 10
    """Conjugate-gradient iterations."""
    halvings: int = 10
    """How often a step that fails is halved before it is given up."""
    accept: float = 0.1
    """Least share of the improvement that the linear model promised."""

    def __post_init__(self) -> None:
        at = "algo.trust-region"
        require(self.max_kl > 0, f"{at}.max-kl", self.max_kl, "give a number above 0")
        require(self.damping >= 0, f"{at}.damping", self.damping, "give 0 or more")
        require(self.iterations >= 1, f"{at}.iterations", self.iterations, "give 1 or more")
        require(self.halvings >= 0, f"{at}.halvings", self.halvings, "give 0 or more")
        require(0 <= self.accept < 1, f"{at}.accept", self.accept, "give a share from 0 to 1")


def generalised_advantages(
    rewards: Tensor, values: Tensor, next_values: Tensor, discount: float, trace: float
) -> Tensor:
    """Â_t = Σ_k (γλ)ᵏ δ_{t+k}, δ_t = r_t + γ V(s_{t+1}) − V(s_t), of one episode (T,).

    Schulman et al. 2016 (arXiv 1506.02438), Eq. 16. `next_values` (T,) are V(s_{t+1}), 0 where nothing
    comes behind the last step.
    """
    deltas = rewards + discount * next_values - values
    advantages = torch.zeros_like(deltas)
    running = torch.zeros(())
    for t in range(len(deltas) - 1, -1, -1):
        running = deltas[t] + discount * trace * running
        advantages[t] = running
    return advantages


def gaussian_kl(mean_old: Tensor, log_std_old: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(old) ‖ N(new)) of diagonal Gaussians, (B,)."""
    variance_old, variance = (2 * log_std_old).exp(), (2 * log_std).exp()
    terms = log_std - log_std_old + (variance_old + (mean_old - mean).square()) / (2 * variance) - 0.5
    return terms.sum(dim=-1)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """x with A x = b for a symmetric positive definite A that is known by its `product` with a vector."""
    x = torch.zeros_like(b)
    residual, direction = b.clone(), b.clone()
    norm = residual.dot(residual)
    for _ in range(iterations):
        if norm < tolerance:
            break
        image = product(direction)
        step = norm / direction.dot(image)
        x = x + step * direction
        residual = residual - step * image
        fresh = residual.dot(residual)
        direction = residual + fresh / norm * direction
        norm = fresh
    return x


def flat_gradient(loss: Tensor, parameters: Sequence[nn.Parameter], *, create_graph: bool = False) -> Tensor:
    """The gradient of `loss` as one vector."""
    found = torch.autograd.grad(loss, parameters, create_graph=create_graph)
    return torch.cat([gradient.reshape(-1) for gradient in found])


def trust_region_step(
    parameters: Sequence[nn.Parameter],
    surrogate: Callable[[], Tensor],
    divergence: Callable[[], Tensor],
    config: TrustRegion,
) -> tuple[Tensor, bool]:
    """Move `parameters` so that `surrogate` rises while `divergence` stays within `max_kl`.

    Args:
        surrogate: what is to rise, a scalar of the parameters as they are.
        divergence: the mean KL from where they stood when this was called, twice differentiable there.

    Returns:
        The divergence of the step that was taken, and whether one was; without one nothing has moved.
    """
    before = surrogate()
    gradient = flat_gradient(before, parameters)
    slope = flat_gradient(divergence(), parameters, create_graph=True)

    def fisher(vector: Tensor) -> Tensor:
        curved = torch.autograd.grad(slope.dot(vector), parameters, retain_graph=True)
        return torch.cat([part.reshape(-1) for part in curved]) + config.damping * vector

    direction = conjugate_gradient(fisher, gradient, config.iterations)
    curvature = direction.dot(fisher(direction))
    start = parameters_to_vector(parameters).detach()
    none = torch.zeros(()), False
    if not torch.isfinite(curvature) or curvature <= 0:
        return none
    full = (2 * config.max_kl / curvature).sqrt() * direction
    promised = gradient.dot(full)
    for halving in range(config.halvings + 1):
        share = 0.5**halving
        vector_to_parameters(start + share * full, parameters)
        with torch.no_grad():
            gained, moved = surrogate() - before, divergence()
        if moved <= config.max_kl and gained > config.accept * share * promised:
            return moved, True
    vector_to_parameters(start, parameters)
    return none
