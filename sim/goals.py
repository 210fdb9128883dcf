"""Which goal an episode has: a pure function of (split, seed, episode)."""

from __future__ import annotations

from episodes.errors import ConfigError
from sim.env import Split

GOALS_PER_SET = 50
"""MetaWorld draws this many goals per task set."""
SETS_PER_SEED = 1_000
MAX_SEED = (2**32 - 1) // (2 * SETS_PER_SEED) - 1
"""Task sets are drawn from numpy's legacy generator, which takes 32 bits."""


def goal_seed(split: Split, seed: int, episode: int) -> tuple[int, int]:
    """The task set `k` (the seed of MetaWorld's MT1) and the index in it.

    Training takes even k and evaluation odd ones, and no two seeds share a k: so no goal is used twice, be
    it in training and evaluation or under two seeds.

    Raises:
        ConfigError: a split that is no split, or a seed or episode out of range.
    """
    if split not in ("train", "evaluation"):
        raise ConfigError(f"split {split!r} is unknown: 'train' or 'evaluation'.")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed {seed} is out of range: 0 to {MAX_SEED}.")
    if not 0 <= episode < GOALS_PER_SET * SETS_PER_SEED:
        raise ConfigError(
            f"episode {episode} is out of range: 0 to {GOALS_PER_SET * SETS_PER_SEED - 1} per seed."
        )
    block, index = divmod(episode, GOALS_PER_SET)
    return 2 * (seed * SETS_PER_SEED + block) + (split == "evaluation"), index
