"""SoftGym's tasks, or rather their equivalents, as an `Env`; actions in [-1, 1], as its `normalize` has
them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError
from sim.appearance import Appearance
from sim.env import EnvSpec, Split, Step, checked_action
from sim.gl import Choice, RendererName
from sim.render import Quality
from sim.softgym.cache import InitialStates
from sim.softgym.drawing import Canvas
from sim.softgym.registry import make_task, parts_of
from sim.softgym.task import PREFIX, STEP_S, Score, point_names

TRAIN_SHARE = 0.8
"""SoftGym trains on the first 80 % of the initial states and evaluates on the rest."""
Observation = Literal["key_point", "point_cloud"]


class SoftGymEnv:
    """One of SoftGym's tasks on position-based dynamics. Positions are SoftGym's: metres, y is up.

    Args:
        task: as in SoftGym's registry, for example RopeFlatten; with `-full` in SoftGym's own size.
        horizon: steps per episode; None for SoftGym's.
        split: which initial states; the two share none, but for tasks that always begin alike.
        observation: what the stream `state` holds: key points, or every particle, padded with zeros. The
            camera is `render`.
        pickers: whether pictures show the pickers; None as the task has it.
        renderer: which library draws; nothing is loaded before the first `render`.
        quality: `fast`, or `default` for shadows and multi-sampling.

    Raises:
        ConfigError: unknown task or split, or a horizon below 1.
    """

    def __init__(
        self,
        task: str,
        *,
        horizon: int | None = None,
        split: Split = "train",
        observation: Observation = "key_point",
        pickers: bool | None = None,
        renderer: RendererName = "auto",
        quality: Quality = "fast",
    ) -> None:
        if horizon is not None and horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        if split not in ("train", "evaluation"):
            raise ConfigError(f"split {split!r} is unknown: write 'train' or 'evaluation'.")
        if observation not in ("key_point", "point_cloud"):
            raise ConfigError(f"observation {observation!r} is unknown: write 'key_point' or 'point_cloud'.")
        entry = make_task(task)
        self._task, self._initial_states = entry.task, InitialStates(entry.task, entry.key)
        self._hidden = entry.hides_pickers if pickers is None else not pickers
        self._split: Split = split
        self._observation: Observation = observation
        self._wanted: RendererName = renderer
        self._quality: Quality = quality
        actions = self._task.actions
        names = self._task.state_names
        if observation == "point_cloud":
            names = point_names(self._task.most_points) + names[len(names) - entry.picker_entries :]
        self._picker_entries = entry.picker_entries
        self._spec = EnvSpec(
            name=PREFIX + task,
            period_ns=round(actions.steps * STEP_S * 1e9),
            horizon=self._task.horizon if horizon is None else horizon,
            action_lower=-np.ones(len(actions.names)),
            action_upper=np.ones(len(actions.names)),
            action_names=actions.names,
            observation_names={"state": names},
            cameras=tuple(self._task.look().cameras),
            source="armchair's equivalent of SoftGym on position-based dynamics, not SoftGym",
        )
        self._variation: int | None = None
        self._taken = 0
        self._canvas: Canvas | None = None
        self.appearance: Appearance | None = None
        """How pictures look other than modelled."""

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def renderer(self) -> Choice | None:
        """What draws and why, None before the first frame."""
        return None if self._canvas is None else self._canvas.choice

    @property
    def variation(self) -> int:
        """Number of the present episode's initial state."""
        return self._begun()

    @property
    def score(self) -> Score:
        """Performance, normalised performance and further figures of the present state."""
        self._begun()
        return self._task.score()

    @property
    def points(self) -> NDArray[np.float64]:
        """(n, 3) every particle of the present state, m."""
        self._begun()
        return self._task.points()

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Episodes of a seed take their initial states in turn, from a
        place that the seed chooses. Raises ConfigError when seed or episode is negative."""
        if seed < 0 or episode < 0:
            raise ConfigError(f"seed {seed} and episode {episode}: both are 0 or more.")
        total = self._task.variations
        first = round(TRAIN_SHARE * total) if total > 1 else 0
        low, high = (0, first) if self._split == "train" and total > 1 else (first, total)
        offset = int(np.random.default_rng(seed).integers(high - low))
        self._variation = low + (offset + episode) % (high - low)
        self._task.begin(self._initial_states.get(self._variation))
        self._taken = 0
        step = self._look()
        return Step(step.observation, 0.0, False, False, step.success)

    def step(self, action: ArrayLike) -> Step:
        """Advance by one period; see `Env.step`. An episode of one step terminates, longer ones are
        truncated."""
        self._begun()
        if self._taken >= self._spec.horizon:
            raise RuntimeError(f"the episode ended after {self._taken} steps: reset before the next step")
        share = (checked_action(action, self._spec) + 1.0) / 2.0
        own = self._task.actions
        self._task.act(own.lower + share * (own.upper - own.lower))
        self._taken += 1
        return self._look()

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state; see `Env.render`."""
        self._begun()
        look = self._task.look()
        if self._canvas is None:
            self._canvas = Canvas(parts_of(self._task, hidden=self._hidden), self._wanted, self._quality)
        self._canvas.appearance = self.appearance
        return self._canvas.render(look, camera, height, width)

    def save_state(self) -> NDArray[np.uint8]:
        """The whole state; see `Env.save_state`."""
        head = np.array([self._begun(), self._taken], dtype=np.float64)
        return np.frombuffer(np.concatenate([head, self._task.save()]).tobytes(), dtype=np.uint8).copy()

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another task."""
        raw = np.ascontiguousarray(state, dtype=np.uint8).tobytes()
        refusal = f"the saved state is not one of {self._spec.name}: restore it where it came from."
        if len(raw) % 8 != 0 or len(raw) < 16:
            raise ConfigError(refusal)
        values = np.frombuffer(raw)
        variation = int(values[0])
        if values[0] != variation or not 0 <= variation < self._task.variations:
            raise ConfigError(refusal)
        self._task.begin(self._initial_states.get(variation))
        if len(self._task.save()) != len(values) - 2:
            self._variation = None
            raise ConfigError(refusal)
        self._variation, self._taken = variation, int(values[1])
        self._task.restore(values[2:])
        return self._look()

    def close(self) -> None:
        """Free GL contexts; see `Env.close`."""
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None
        self._variation = None

    def _begun(self) -> int:
        if self._variation is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._variation

    def _look(self) -> Step:
        score = self._task.score()
        ended = self._taken >= self._spec.horizon
        single = self._spec.horizon == 1
        state = self._task.state()
        if self._observation == "point_cloud":
            cloud = np.zeros((self._task.most_points, 3))
            points = self._task.points()
            cloud[: len(points)] = points
            state = np.concatenate([cloud.ravel(), state[len(state) - self._picker_entries :]])
        return Step(
            {"state": state}, float(score.reward), ended and single, ended and not single, bool(score.success)
        )
