"""Figures of a critic's features and losses, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

RANK_LOSS = 0.01
"""δ of the effective rank: the share of the singular values' sum that may be left out."""


def effective_rank(features: Tensor, loss: float = RANK_LOSS) -> int:
    """srank_δ(Φ) = min { k : Σ_{i≤k} σ_i / Σ_i σ_i ≥ 1 − δ } of features Φ (N, width).

    σ_i are the singular values, largest first (Kumar et al. 2021, Implicit Under-Parameterization, arXiv
    2010.14498, section 3, δ = 0.01). Features that are all zero, or not finite, have rank 0.
    """
    if not features.isfinite().all():
        return 0
    values = torch.linalg.svdvals(_gram_root(features.detach().to(torch.float64)))
    total = values.sum()
    if not total > 0:
        return 0
    share = values.cumsum(0) / total
    return int((share < 1.0 - loss).sum()) + 1


def _gram_root(features: Tensor) -> Tensor:
    """A square matrix (width, width) with the singular values of tall `features`: R of their QR."""
    if len(features) <= features.shape[1]:
        return features
    return torch.linalg.qr(features, mode="r").R


def feature_dot(features: Tensor, next_features: Tensor) -> Tensor:
    """Mean of φ(s, a)ᵀ φ(s′, a′) over all rows, what DR3 keeps small (arXiv 2112.04716, Eq. 5)."""
    return (features.float() * next_features.float()).sum(dim=-1).mean()


def feature_cosine(features: Tensor, next_features: Tensor) -> Tensor:
    """Mean cosine of the angle between φ(s, a) and φ(s′, a′); rows with a zero vector count as 0."""
    return torch.nn.functional.cosine_similarity(features.float(), next_features.float(), dim=-1).mean()


def gradient_norm(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """‖∂loss/∂θ‖₂ over all `parameters` together, without touching their `.grad`."""
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    squares = [gradient.float().square().sum() for gradient in found if gradient is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())


def flat_gap(log_mu: Tensor, temperature: float) -> Tensor:
    """E[T log Σ_i exp(−log μ_i / T)]: what CQL's E[Z(s) − Q(s, a)] is for a critic that cannot tell actions
    apart. `log_mu` (K, B) as in `policy.algorithms.cql.conservative_gap`.

    With Q(s, ·) = c everywhere, Z(s) − Q(s, a) = T log Σ exp((c − log μ_i)/T) − c, from which c falls out.
    """
    return (temperature * torch.logsumexp(-log_mu / temperature, dim=0)).mean()
