"""Who acts while data of the arm is collected: the scripted expert, the same with noise, or chance.

Everything is a function of (seed, episode), as in `sim.experts`. What is not the expert's own passes the
limiter that control uses, so that every recorded command is one that the arm may be sent.

The noise is drawn anew for each command, and at sigma 1 the limiter lets most of it through. What it cuts
goes on for several ticks and looks like a motion of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policy.runtime.safety import Limiter, Limits
from sim.arm6.env import PERIOD_NS, PREFIX
from sim.arm6.expert import GAIN, SPEED, Expert
from sim.arm6.kinematics import solve, tool_down
from sim.arm6.model import GRIPPER, HOME
from sim.arm6.tasks import AZIMUTH_RAD, HEIGHT_M, RADIUS_M
from sim.experts import Kind, in_words

Vector = NDArray[np.float64]
_PERIOD_S = PERIOD_NS * 1e-9
_NOISE = GAIN * _PERIOD_S**2 / np.sqrt(6.0)
"""(7,) Noise of sigma 1, rad and m: its second difference is the expert's largest, 5.5 mrad for joint 1."""
_WAY_TICKS = (8, 30)
"""How many ticks chance keeps one target."""
_YAW_RAD = 0.8
"""The targets of chance lie where those of the tasks do, the tool pointing down and turned by up to this."""


@dataclass
class ArmBehaviour:
    """Who acts in one episode of arm6/...; `sim.behaviours.Acts` says how it is used."""

    kind: Kind
    """expert, noisy or random."""
    environment: str
    """arm6/reach, arm6/pick-place, arm6/push or arm6/drawer."""
    seed: int
    """Seed of the collection."""
    episode: int
    """Index of the episode in it."""
    sigma: float = 0.0
    """Standard deviation of the noise, in units of `_NOISE` (noisy only)."""
    switch_step: int | None = None
    """Step from which chance acts (some of the noisy ones)."""
    _expert: Expert = field(init=False, repr=False, compare=False)
    _limiter: Limiter | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConfigError for an environment that has no expert here."""
        self._expert = Expert(self.environment.removeprefix(PREFIX))
        self._target = np.zeros(7)
        self._until = 0

    @property
    def label(self) -> str:
        """For people and file attributes, for example `noisy sigma=1.32 random-from=80`."""
        return in_words(self.kind, self.sigma, self.switch_step)

    def rng(self) -> np.random.Generator:
        """The generator to hand to `act`, new for each run of the episode."""
        return np.random.default_rng([self.seed, self.episode, 1])

    def act(self, state: Vector, rng: np.random.Generator, step: int, lower: Vector, upper: Vector) -> Vector:
        """The action (7,) of step `step`, counted from 0 and called for every step, inside the bounds."""
        if step == 0:
            self._expert.reset(state)
            self._limiter = Limiter(_limits(lower, upper))
            self._limiter.start(0, np.asarray(state[:7], dtype=np.float64))
            self._until = 0
        if self.kind == "expert" or self._limiter is None:
            return np.clip(self._expert.act(step), lower, upper)
        if self.kind == "random" or (self.switch_step is not None and step >= self.switch_step):
            wanted = self._by_chance(step, rng)
        else:
            wanted = self._expert.act(step) + self.sigma * _NOISE * rng.standard_normal(7)
        return self._limiter.step((step + 1) * PERIOD_NS, np.clip(wanted, lower, upper))[0]

    def _by_chance(self, step: int, rng: np.random.Generator) -> Vector:
        """Some pose over the table, another one every now and then."""
        if step >= self._until:
            self._until = step + int(rng.integers(*_WAY_TICKS))
            radius, azimuth = rng.uniform(*RADIUS_M), rng.uniform(-AZIMUTH_RAD, AZIMUTH_RAD)
            point = np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), rng.uniform(*HEIGHT_M)])
            rotation = tool_down(azimuth + rng.uniform(-_YAW_RAD, _YAW_RAD))
            self._target = HOME.copy()
            self._target[:6] = solve(point, rotation, np.array([azimuth, *HOME[1:6]]))
            self._target[6] = rng.uniform(GRIPPER.lower, GRIPPER.upper)
        return self._target


def _limits(lower: Vector, upper: Vector) -> Limits:
    """What the expert keeps to, and the bounds of the contract."""
    endless, none = np.full(7, np.inf), np.zeros(7, dtype=bool)
    return Limits(
        lower=lower, upper=upper, velocity=SPEED, acceleration=GAIN, deviation=endless,
        workspace_lower=-endless, workspace_upper=endless, metres=np.ones(7), stop_is_zero=none,
        is_delta=none, period_ns=PERIOD_NS,
    )  # fmt: skip
