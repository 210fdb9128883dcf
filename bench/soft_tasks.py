"""The soft tasks that are learned from pictures, and with what: one recipe for all policies of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.legs import Leg
from sim.experts import Mix

TaskName = Literal["RopeFlattenEasy", "ClothFoldDiagonal", "PassWater"]
Sees = Literal["state", "pictures"]
CAMERA = "default_camera"
STREAMS: dict[Sees, str] = {"state": "state", "pictures": CAMERA}
LEARNED, TRUE, CLONED = "iql-learned", "iql-true", "bc"
_SMALL = ("--algo.hidden", "128", "128", "--algo.lr", "1e-3")
"""Half the width and three times the rate of the defaults: what a few thousand transitions need."""
LEGS = (
    Leg(TRUE, "IQL, true reward (the ceiling)", "iql", "truth", _SMALL),
    Leg(LEARNED, "IQL, learned reward", "iql", "learned", _SMALL),
    Leg(CLONED, "BC, blind to rewards", "bc", "truth", _SMALL),
)
RANDOM, SCRIPT = "random", "script"
ACTORS = {RANDOM: "random actions", SCRIPT: "the script"}
"""Who is tried beside the policies, on the same openings."""


@dataclass(frozen=True)
class Task:
    """How one task is recorded, judged and learned."""

    mix: Mix
    """Who acts in the recordings."""
    pairs: tuple[int, ...]
    """Pairs that the teacher compares, per round."""
    unsure_within: float
    """The teacher gives no answer where true rewards are nearer than this, in units of the reward."""
    steps: dict[Sees, int]
    """Gradient steps of each policy."""
    episodes: int = 100
    """Episodes to fit and learn from."""
    held_out: int = 30
    """Further episodes, of evaluation openings, to measure the reward on."""
    goals: int = 50
    """Openings to try policies on."""
    size: int = 64
    """Height and width of the pictures, for the teacher and for policies that see them."""
    options: dict[Sees, Sequence[str]] = field(default_factory=dict)
    """Further options of every training run."""

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The policies."""
        return LEGS


_SEEING = ("--encoder.kind", "workflow", "--batch-size", "64")
"""Three convolutions of 16 channels: what two cores can train within minutes."""

TASKS: dict[TaskName, Task] = {
    "RopeFlattenEasy": Task(
        Mix(expert=0.04, noisy=0.16, random=0.8, sigma_lower=0.5, sigma_upper=1.5),
        pairs=(1000, 500),
        unsure_within=0.02,
        steps={"state": 2_000, "pictures": 1_500},
        options={"pictures": _SEEING},
    ),
    # One opening and one step, so one trial a data seed: BC and IQL are told apart by who acts alone.
    "ClothFoldDiagonal": Task(
        Mix(expert=0.0, noisy=0.1, random=0.9, sigma_lower=0.1, sigma_upper=0.5, turning=0.0),
        pairs=(1000, 500),
        unsure_within=0.02,
        steps={"state": 1_000, "pictures": 1_000},
        episodes=300,
        held_out=50,
        goals=1,
        options={"pictures": _SEEING},
    ),
    # Chance spills nearly everything within a second, and what is spilled stays so.
    "PassWater": Task(
        Mix(expert=0.05, noisy=0.65, random=0.3, sigma_lower=0.05, sigma_upper=0.4, turning=0.5),
        pairs=(1000, 500),
        unsure_within=0.05,
        steps={"state": 2_000, "pictures": 1_000},
        episodes=40,
        held_out=8,
        goals=12,
        options={"pictures": _SEEING},
    ),
}
