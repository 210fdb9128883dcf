"""Any Gymnasium environment with Box or Discrete actions as an `Env`.

- An observation is one vector, `state`: a dictionary's entries one after the other in the order of their
  keys, which Gymnasium sorts; a goal's are achieved_goal, desired_goal, observation. Pictures among the
  observations are the camera `observation`.
- A Discrete action of n is one number from 0 to n-1, rounded to the nearest.
- `terminated` is the environment's own; the horizon, and an environment that truncates by itself, truncate.
  A step that does both is terminated.
- Success is what `info` calls is_success or success; CartPole-v1 succeeds where the pole stands to the end,
  MountainCarContinuous where the car arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean
from sim.appearance import Appearance
from sim.env import EnvSpec, Split, Step, checked_action
from sim.gl import Choice, RendererName
from sim.gym import drawing, state
from sim.gym.camera import DEFAULT, SceneCamera, camera_names
from sim.gym.tasks import make_gym
from sim.render import Quality
from sim.states import packed, unpacked

_SALT = 7
_MOST_NUMBERS = 4_096
"""A Box with more entries than this is a picture."""
_DRAWN, _OBSERVED, _OWN = "screen", "observation", "rgb_array"
_ACTIONS = "/actions"


class GymEnv:
    """One Gymnasium environment.

    Args:
        name: gymnasium/ID, vlmrm/TASK or rl-vlm-f/CartPole.
        horizon: steps per episode; None for the environment's own.
        split: which seeds: the two share none.
        renderer: which library draws MuJoCo's environments; nothing is loaded before the first `render`.
        quality: `fast`, or `default` for shadows and multi-sampling.

    Raises:
        ConfigError: no such environment, spaces that do not fit, or a horizon below 1.
        MachineError: what it needs is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        horizon: int | None = None,
        split: Split = "train",
        renderer: RendererName = "auto",
        quality: Quality = "fast",
    ) -> None:
        if horizon is not None and horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        if split not in ("train", "evaluation"):
            raise ConfigError(f"split {split!r} is unknown: write 'train' or 'evaluation'.")
        made = make_gym(name)
        self._env: gymnasium.Env[Any, Any] = made.env
        self._inner: Any = made.env.unwrapped
        self._view, self._split = made.view, split
        self._wanted: RendererName = renderer
        self._quality: Quality = quality
        lower, upper, names = _box_of(name, self._env.action_space)
        vectors, self._picture_key = _parts(name, self._env.observation_space)
        self._keys = tuple(vectors)
        self._has_scene = hasattr(self._inner, "model") and hasattr(self._inner, "fullpath")
        self._spec = EnvSpec(
            name=name,
            period_ns=_period_ns(self._inner),
            horizon=made.horizon if horizon is None else horizon,
            action_lower=lower,
            action_upper=upper,
            action_names=names,
            observation_names={"state": tuple(entry for entries in vectors.values() for entry in entries)},
            cameras=self._cameras(),
            source=made.source,
        )
        self._seed: int | None = None
        self._taken: list[NDArray[np.float64]] = []
        self._last = Step({}, 0.0, False, False, False)
        self._picture: Any = None
        self._camera: SceneCamera | None = None
        self.appearance: Appearance | None = None
        """How pictures of a MuJoCo scene look other than modelled."""
        self._shown: gymnasium.Env[Any, Any] | None = None

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def renderer(self) -> Choice | None:
        """What draws and why, None before the first frame."""
        if self._camera is not None:
            return self._camera.choice
        return None

    @property
    def has_scene(self) -> bool:
        """Whether it is drawn from a MuJoCo scene."""
        return self._has_scene

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Raises ConfigError when seed or episode is negative."""
        if seed < 0 or episode < 0:
            raise ConfigError(f"seed {seed} and episode {episode}: both are 0 or more.")
        self._begin(seed_of(self._split, seed, episode))
        return self._last

    def step(self, action: ArrayLike) -> Step:
        """Advance by one step; see `Env.step`."""
        self._begun()
        if self._last.terminated or self._last.truncated:
            raise RuntimeError(
                f"the episode ended after {len(self._taken)} steps: reset before the next step"
            )
        self._take(checked_action(action, self._spec))
        return self._last

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state; see `Env.render`."""
        self._begun()
        if camera not in self._spec.cameras:
            known = did_you_mean(camera, self._spec.cameras)
            raise ConfigError(f"{self._spec.name} has no camera {camera!r}: {known}")
        if height < 1 or width < 1:
            raise ConfigError(
                f"a frame of {height}x{width} pixels cannot be drawn: both sides are 1 or more."
            )
        if self._has_scene and camera != _OBSERVED:
            if self._camera is None:
                self._camera = SceneCamera(self._inner, self._view, self._wanted, self._quality)
            self._camera.appearance = self.appearance
            return self._camera.render(camera, height, width)
        if camera == _DRAWN:
            return drawing.draw(self._inner, height, width)
        picture = self._picture if camera == _OBSERVED else self._own_picture()
        return np.asarray(cv2.resize(np.asarray(picture), (width, height), interpolation=cv2.INTER_AREA))

    def save_state(self) -> NDArray[np.uint8]:
        """The whole state; see `Env.save_state`."""
        seed, last = self._begun(), self._last
        entries: dict[str, NDArray[Any]] = {
            "/name": np.array(self._spec.name),
            "/seed": np.array(seed, dtype=np.uint64),
            "/last": np.array([last.reward, last.terminated, last.truncated, last.success]),
            "/state": last.observation["state"],
            _ACTIONS: np.array(self._taken).reshape(-1, len(self._spec.action_names)),
        }
        if self._picture_key is None and state.by_attributes(self._inner):
            entries.update(state.save(self._inner))
        return packed(entries)

    def restore_state(self, saved: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another environment."""
        try:
            entries = unpacked(saved)
            name = str(entries["/name"])
        except (ValueError, KeyError) as error:
            raise ConfigError(f"these bytes are no saved state of {self._spec.name} ({error}).") from error
        if name != self._spec.name:
            raise ConfigError(f"the saved state is one of {name}, this environment is {self._spec.name}.")
        self._begin(int(entries["/seed"]))
        actions = list(entries[_ACTIONS])
        if self._picture_key is None and state.by_attributes(self._inner):
            state.restore(self._inner, {k: v for k, v in entries.items() if k.count("/") == 2 or k in _PLAIN})
            reward, terminated, truncated, success = entries["/last"].tolist()
            observation = {"state": entries["/state"].copy()}
            self._taken = actions
            self._last = Step(observation, reward, bool(terminated), bool(truncated), bool(success))
        else:
            for action in actions:
                self._take(action)
        return self._last

    def close(self) -> None:
        """Free GL contexts and windows; see `Env.close`."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        for env in (self._shown, self._env):
            if env is not None:
                env.close()
        self._shown = None
        self._seed = None

    def _cameras(self) -> tuple[str, ...]:
        cameras: tuple[str, ...] = ()
        if self._has_scene:
            own = camera_names(self._inner)
            cameras = own if DEFAULT in own else (DEFAULT, *own)
        elif drawing.draws(self._inner):
            cameras = (_DRAWN,)
        elif _OWN in self._inner.metadata.get("render_modes", ()) and self._env.spec is not None:
            cameras = (_OWN,)
        return (*cameras, _OBSERVED) if self._picture_key is not None else cameras

    def _own_picture(self) -> Any:
        """What the environment draws itself, in an instance of its own that is brought to the same state."""
        assert self._env.spec is not None
        try:
            if self._shown is None:
                self._shown = gymnasium.make(
                    self._env.spec.id, render_mode=_OWN, max_episode_steps=-1, disable_env_checker=True
                )
            self._shown.reset(seed=self._begun())
            for action in self._taken:
                self._shown.step(self._native(action))
            return self._shown.render()
        except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
            raise MachineError(f"{self._spec.name} cannot be drawn: {error}") from error

    def _begun(self) -> int:
        if self._seed is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._seed

    def _begin(self, seed: int) -> None:
        observation, _ = self._env.reset(seed=seed)
        self._seed, self._taken = seed, []
        self._last = Step(self._vector(observation), 0.0, False, False, False)

    def _take(self, action: NDArray[np.float64]) -> None:
        observation, reward, terminated, truncated, info = self._env.step(self._native(action))
        self._taken.append(action)
        ended = not terminated and (truncated or len(self._taken) >= self._spec.horizon)
        self._last = Step(
            self._vector(observation),
            float(reward),
            bool(terminated),
            bool(ended),
            self._success(info, ended),
        )
        if terminated and isinstance(self._inner, Continuous_MountainCarEnv):
            self._last = Step(self._last.observation, float(reward), True, False, True)

    def _success(self, info: dict[str, Any], ended: bool) -> bool:
        told = info.get("is_success", info.get("success"))
        if told is not None:
            return bool(told)
        return bool(ended) and isinstance(self._inner, CartPoleEnv)

    def _native(self, action: NDArray[np.float64]) -> Any:
        space = self._env.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(np.floor(action[0] + 0.5))
        assert isinstance(space, spaces.Box)
        return np.clip(action.reshape(space.shape).astype(space.dtype), space.low, space.high)

    def _vector(self, observation: Any) -> dict[str, NDArray[np.float64]]:
        space = self._env.observation_space
        values = dict(_flat(observation, space))
        if self._picture_key is not None:
            self._picture = values[self._picture_key]
        parts = [np.asarray(values[key], dtype=np.float64).ravel() for key in self._keys]
        return {"state": np.concatenate(parts) if parts else np.zeros(0)}


_PLAIN = ("/physics", "/rng")


def seed_of(split: Split, seed: int, episode: int) -> int:
    """The seed that `gymnasium` is reset with: of training an even number, of evaluation an odd one."""
    drawn = np.random.SeedSequence([_SALT, seed, episode]).generate_state(1, np.uint64)[0]
    return 2 * (int(drawn) >> 2) + (split == "evaluation")


def _box_of(
    name: str, space: spaces.Space[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    if isinstance(space, spaces.Discrete):
        return np.zeros(1), np.array([space.n - 1.0]), ("choice",)
    if isinstance(space, spaces.Box):
        lower, upper = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
        if np.isfinite(lower).all() and np.isfinite(upper).all():
            return lower, upper, tuple(f"action_{i}" for i in range(len(lower)))
        raise ConfigError(f"{name}: its actions have no bounds, which a policy needs ({space}).")
    raise ConfigError(f"{name}: its actions are {space}; armchair takes Box and Discrete ones.")


def _parts(name: str, space: spaces.Space[Any]) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """Names of the vector observations' entries by key, and the key of a picture."""
    vectors: dict[str, tuple[str, ...]] = {}
    picture: str | None = None
    for key, part in _leaves(space):
        if isinstance(part, spaces.Box) and part.dtype == np.uint8 and len(part.shape) == 3:
            picture = key
        elif isinstance(part, spaces.Box) and int(np.prod(part.shape)) <= _MOST_NUMBERS:
            count = int(np.prod(part.shape))
            vectors[key] = tuple(f"{key}_{i}" for i in range(count))
        elif isinstance(part, spaces.Discrete | spaces.MultiBinary | spaces.MultiDiscrete):
            vectors[key] = tuple(f"{key}_{i}" for i in range(int(np.prod(part.shape or (1,)))))
        else:
            raise ConfigError(f"{name}: the observation {key!r} is {part}, which makes no vector or picture.")
    return vectors, picture


def _leaves(space: spaces.Space[Any], key: str = "") -> Iterator[tuple[str, spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from _leaves(part, f"{key}_{name}" if key else str(name))
    elif isinstance(space, spaces.Tuple):
        for number, part in enumerate(space.spaces):
            yield from _leaves(part, f"{key}_{number}" if key else f"part{number}")
    else:
        yield key or "state", space


def _flat(observation: Any, space: spaces.Space[Any], key: str = "") -> Iterator[tuple[str, Any]]:
    """The observation's leaves under the same keys as `_leaves`."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from _flat(observation[name], part, f"{key}_{name}" if key else str(name))
    elif isinstance(space, spaces.Tuple):
        for number, part in enumerate(space.spaces):
            yield from _flat(observation[number], part, f"{key}_{number}" if key else f"part{number}")
    else:
        yield key or "state", observation


def _period_ns(env: Any) -> int:
    """Simulated time of a step: MuJoCo's, the integration step, else that of a frame."""
    for name in ("dt", "tau"):
        value = getattr(env, name, None)
        if isinstance(value, float | int) and value > 0:
            return round(float(value) * 1e9)
    fps = env.metadata.get("render_fps") or 30
    return round(1e9 / float(fps))
