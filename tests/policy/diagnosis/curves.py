"""Logs of runs as they would be: dataset Q of a wanted shape, losses of wanted sizes."""

from __future__ import annotations

import numpy as np


def log_of(
    q,
    *,
    every: int = 100,
    unexplained=0.05,
    held_out=None,
    separation=None,
    cosine: float = 0.5,
    noise: float = 0.0,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Rows of a log with dataset Q `q` (n,), or a function of the run's share in [0, 1]; so the others."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, 40)
    values = np.asarray(q(share) if callable(q) else q, float)
    share = np.linspace(0, 1, len(values))
    values = values + noise * rng.normal(size=len(values))

    def at(figure, k: int) -> float:
        return float(figure(share[k]) if callable(figure) else figure)

    rows = []
    for k in range(len(values)):
        u = at(unexplained, k)
        # With var Q = 4, td / (td + 4) is u.
        row = {
            "step": (k + 1) * every,
            "diagnose/train/q": float(values[k]),
            "diagnose/train/td_error": 4 * u / (1 - u),
            "diagnose/train/q_std": 2.0,
            "diagnose/train/feature_cosine": cosine,
        }
        if held_out is not None:
            v = at(held_out, k)
            row |= {"diagnose/valid/td_error": 4 * v / (1 - v), "diagnose/valid/q_std": 2.0}
        if separation is not None:
            row["diagnose/train/conservative_flat"] = 5.0
            row["diagnose/train/conservative"] = 5.0 * (1 - at(separation, k))
        rows.append(row)
    return rows


def hump(x):
    """Rises to 10 at 0.4, falls to 3."""
    return np.where(x < 0.4, 10 * x / 0.4, 10 - 7 * (x - 0.4) / 0.6)


def settling(x):
    """Rises towards 10 and stays."""
    return 10 * (1 - np.exp(-6 * x))
