"""Domain randomisation: an environment that looks, and is seen, a little different in every episode.

Camera pose, light and textures change what is drawn; latency, noise and dropouts what is observed. All of it
is a function of (seed, episode) and the options, so that an episode can be made again by itself, and all of
it is off by default. Reward, success and the physics stay as they are.
Tobin et al., "Domain randomization for transferring deep neural networks from simulation to the real world"
(2017).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError
from sim.appearance import Appearance, Spread
from sim.env import Env, EnvSpec, Step
from sim.gl import Choice
from sim.states import packed, unpacked

_SALT = 8
_SCENE, _EPISODE, _STEP, _VECTOR, _PICTURE = 0, 1, 2, 3, 4
"""Words of the seeds of the random streams, so that they are independent."""


@dataclass(frozen=True)
class Randomisation:
    """What changes from episode to episode. Everything is 0, off, unless it is asked for."""

    camera_m: float = 0.0
    """Standard deviation of where each camera stands, m along each axis."""
    camera_deg: float = 0.0
    """Standard deviation of how each camera is turned, degrees about each of its axes."""
    fov_deg: float = 0.0
    """Standard deviation of the vertical field of view, degrees."""
    light: float = 0.0
    """Each light is brighter or darker by up to this share, its colour off by up to a tenth of it."""
    light_m: float = 0.0
    """Standard deviation of where each light stands, m, and of its direction."""
    texture: float = 0.0
    """Colours of materials, shapes and textures are mixed with random ones by up to this share."""
    latency_steps: int = 0
    """All observations of an episode are so many steps old, drawn from 0 to this, both included."""
    noise: float = 0.0
    """Standard deviation of normal noise on every entry of a vector, in its own unit (m, rad)."""
    pixel_noise: float = 0.0
    """Standard deviation of normal noise on every channel of a pixel, of 255."""
    dropout: float = 0.0
    """Probability that a step brings nothing new: vectors and pictures stay those of the step before."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a negative option, a share above 1, or a dropout of 1."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value) or value < 0:
                raise ConfigError(f"randomise: {field.name} {value:g}: write 0 (off) or more.")
        for name in ("light", "texture"):
            if getattr(self, name) > 1.0:
                raise ConfigError(f"randomise: {name} {getattr(self, name):g}: write a share, 0 to 1.")
        if self.dropout >= 1.0:
            raise ConfigError(f"randomise: dropout {self.dropout:g}: write a probability below 1.")

    @property
    def spread(self) -> Spread:
        """What changes the looks of a scene."""
        names = [field.name for field in dataclasses.fields(Spread)]
        return Spread(**{name: getattr(self, name) for name in names})

    def as_dict(self) -> dict[str, float]:
        """What is on, for the record of an episode."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}


class RandomisedEnv:
    """An environment whose episodes differ as `options` say; otherwise the environment itself.

    Args:
        env: any environment.
        options: what changes.

    Raises:
        ConfigError: the looks are to change and no MuJoCo scene is drawn.
    """

    def __init__(self, env: Env, options: Randomisation) -> None:
        self.env = env
        self.options = options
        self._looks = options.spread != Spread()
        if self._looks and not (hasattr(env, "appearance") and getattr(env, "has_scene", True)):
            raise ConfigError(
                f"{env.spec.name} has no MuJoCo scene whose cameras, lights or textures could change: leave "
                "camera_m, camera_deg, fov_deg, light, light_m and texture at 0."
            )
        self._late = options.latency_steps > 0 or options.dropout > 0.0
        self._spec = dataclasses.replace(env.spec, source=f"{env.spec.source}, randomised")
        self._identity: tuple[int, int] | None = None
        self._tick, self._shown, self._lag = 0, 0, 0
        self._kept: dict[int, tuple[NDArray[np.uint8], dict[str, NDArray[np.float64]]]] = {}
        self._true: Step | None = None

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def renderer(self) -> Choice | None:
        """What draws and why; None before the first frame."""
        return self.env.renderer

    @property
    def true_step(self) -> Step:
        """What the environment returned last, as it is: what scripted experts act on."""
        if self._true is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._true

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`."""
        self._true = self.env.reset(seed=seed, episode=episode)
        self._begin((seed, episode))
        return self._observed()

    def step(self, action: ArrayLike) -> Step:
        """Advance by one period; see `Env.step`."""
        self._true = self.env.step(action)
        self._tick += 1
        self._keep()
        if self.options.dropout == 0.0 or self._rng(_STEP, self._tick).uniform() >= self.options.dropout:
            self._shown = max(self._shown, self._tick - self._lag)
        for tick in [tick for tick in self._kept if tick < min(self._shown, self._tick - self._lag)]:
            del self._kept[tick]
        return self._observed()

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """What is seen at present; see `Env.render`."""
        identity = self._begun()
        if self._shown == self._tick:
            picture = self.env.render(camera, height, width)
        else:
            now = self.env.save_state()
            self.env.restore_state(self._kept[self._shown][0])
            picture = self.env.render(camera, height, width)
            self.env.restore_state(now)
        if self.options.pixel_noise == 0.0 or not identity:
            return picture
        rng = self._rng(_PICTURE, self._shown, self._spec.cameras.index(camera), height, width)
        noisy = picture + 255.0 * self.options.pixel_noise * rng.standard_normal(picture.shape)
        return np.rint(np.clip(noisy, 0.0, 255.0)).astype(np.uint8)

    def save_state(self) -> NDArray[np.uint8]:
        """The whole state; see `Env.save_state`."""
        entries: dict[str, NDArray[Any]] = {
            "identity": np.array(self._begun()),
            "ticks": np.array([self._tick, self._shown]),
            "now": self.env.save_state(),
        }
        entries.update({f"then/{tick}": kept[0] for tick, kept in self._kept.items()})
        return packed(entries)

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another environment."""
        try:
            entries = unpacked(state)
            seed, episode = (int(value) for value in entries["identity"])
            tick, shown = (int(value) for value in entries["ticks"])
            now = entries["now"]
        except (ValueError, KeyError) as error:
            raise ConfigError(f"these bytes are no saved state of {self._spec.name}, randomised.") from error
        self._true = self.env.restore_state(now)
        self._begin((seed, episode))
        self._kept = {}
        for name, then in entries.items():
            if name.startswith("then/"):
                step = self.env.restore_state(then)
                self._kept[int(name.removeprefix("then/"))] = (then, step.observation)
        self._true = self.env.restore_state(now)
        self._tick, self._shown = tick, shown
        return self._observed()

    def close(self) -> None:
        """Free GL contexts; see `Env.close`."""
        self.env.close()
        self._identity = None

    def _begin(self, identity: tuple[int, int]) -> None:
        self._identity = identity
        self._tick = self._shown = 0
        self._lag = int(self._rng(_EPISODE).integers(self.options.latency_steps + 1))
        if self._looks:
            looks: Any = self.env
            looks.appearance = Appearance(self.options.spread, (_SALT, *identity, _SCENE))
        self._kept = {}
        self._keep()

    def _keep(self) -> None:
        if self._late:
            self._kept[self._tick] = (self.env.save_state(), self.true_step.observation)

    def _observed(self) -> Step:
        true = self.true_step
        seen = true.observation if self._shown == self._tick else self._kept[self._shown][1]
        if self.options.noise:
            rng = self._rng(_VECTOR, self._shown)
            seen = {
                name: value + self.options.noise * rng.standard_normal(len(value))
                for name, value in sorted(seen.items())
            }
        return dataclasses.replace(true, observation={name: seen[name].copy() for name in true.observation})

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng([_SALT, *self._begun(), *words])

    def _begun(self) -> tuple[int, int]:
        if self._identity is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._identity


def true_observation(env: Env, step: Step) -> dict[str, NDArray[np.float64]]:
    """What `step` would have shown without noise and delay: what a scripted expert goes by."""
    return env.true_step.observation if isinstance(env, RandomisedEnv) else step.observation
