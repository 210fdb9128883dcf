"""The environment interface: what a task looks like to collection, rollouts and the simulation node.

The shape is that of dm_env and Gymnasium with three differences that offline learning from recordings
needs: the goal is a function of (seed, episode), so that any episode can be made again by itself;
    `terminated` and `truncated`
never mix; and the whole state can be saved and restored in the middle of an episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ContractError
from sim.gl import Choice

Split = Literal["train", "evaluation"]
"""Which set of goals: the two share none."""


@dataclass(frozen=True)
class ActionChannel:
    """Entries of an action that a robot contract commands together."""

    name: str
    kind: str
    """One of the contract's kinds of action."""
    entries: tuple[str, ...]
    """Among the names of the action."""
    max_velocity: tuple[float, ...] | None = None
    """Of each entry, unit/s."""
    measured_by: str | None = None
    """The vector observation that measures them under the same names."""


@dataclass(frozen=True)
class EnvSpec:
    """What is fixed about an environment."""

    name: str
    """As given to `make_env`, for example metaworld/drawer-open-v3."""
    period_ns: int
    """Simulated time of one step, ns."""
    horizon: int
    """Steps after which an episode is truncated."""
    action_lower: NDArray[np.float64]
    """(dim,) lower bound of the action."""
    action_upper: NDArray[np.float64]
    """(dim,) upper bound of the action."""
    action_names: tuple[str, ...]
    """Names of the action's entries."""
    observation_names: dict[str, tuple[str, ...]]
    """Vector observations: stream name -> names of its entries."""
    cameras: tuple[str, ...]
    """Names that `render` takes."""
    source: str
    """What implements it, with versions."""
    channels: tuple[ActionChannel, ...] = ()
    """How a contract made for it divides the action; empty where names and bounds say it
    (`sim.contracts`)."""
    rest_action: NDArray[np.float64] | None = None
    """(dim,) the action that leaves the robot where an episode begins; None for zero."""


@dataclass(frozen=True)
class Step:
    """What a reset or a step returns."""

    observation: dict[str, NDArray[np.float64]]
    """Vector observations after the step."""
    reward: float
    """Dense task reward of the state just reached; 0 at reset."""
    terminated: bool
    """The task ended by itself: no future reward exists."""
    truncated: bool
    """The horizon was reached: the episode stops, the task would go on."""
    success: bool
    """The task's own success flag for the state just reached."""


class Env(Protocol):
    """A task in simulation. `sim.conformance` tests what is promised here."""

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        ...

    @property
    def renderer(self) -> Choice | None:
        """What draws and why; None before the first frame."""
        ...

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin episode `episode` of `seed`. These two (and the goal split chosen when the environment was
        made) alone fix the goal and, with the actions, every later number and pixel."""
        ...

    def step(self, action: ArrayLike) -> Step:
        """Advance by one period. Entries beyond the bounds are clipped to them.

        Raises:
            ContractError: the action has the wrong shape or holds NaN or infinity.
            RuntimeError: before the first reset, or after the episode ended.
        """
        ...

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state as (height, width, 3) uint8 RGB, the right way up."""
        ...

    def save_state(self) -> NDArray[np.uint8]:
        """Everything that the future depends on, as one flat array of bytes."""
        ...

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back to a saved state, of this or another instance of the same environment."""
        ...

    def close(self) -> None:
        """Free GL contexts. May be called twice."""
        ...


def checked_action(action: ArrayLike, spec: EnvSpec) -> NDArray[np.float64]:
    """`action` as a (dim,) float64 array clipped to the bounds of `spec`.

    Raises:
        ContractError: wrong shape, or an entry that is not finite (named).
    """
    value = np.asarray(action, dtype=np.float64)
    if value.shape != spec.action_lower.shape:
        raise ContractError(
            f"{spec.name}: an action of shape {value.shape} was given; it takes {spec.action_lower.shape}: "
            f"{', '.join(spec.action_names)}."
        )
    if not np.all(np.isfinite(value)):
        bad = ", ".join(
            f"{name}={entry}"
            for name, entry in zip(spec.action_names, value, strict=True)
            if not np.isfinite(entry)
        )
        raise ContractError(
            f"{spec.name}: the action is not finite ({bad}). The policy that made it diverged or got NaN "
            "as input."
        )
    return np.clip(value, spec.action_lower, spec.action_upper)
