"""Real SoftGym as an `Env`: old gym's four values become five, and FleX stays in its own process.

What SoftGym calls `done` at its horizon is truncation; an episode of one step terminates. FleX is not
deterministic, by its manual: over real FleX a seed and its actions fix an initial state and nearly the rest.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean
from sim.bridge.frames import Frame
from sim.bridge.process import Worker
from sim.env import EnvSpec, Split, Step, checked_action
from sim.gl import Choice
from sim.pbd.compiled import cache_folder
from sim.softgym.registry import TASKS as EQUIVALENTS
from sim.softgym.registry import make_task
from sim.softgym.task import Score, point_names
from sim.softgym_real.install import TASKS, RealTask, SoftGymInstall, found
from sim.states import packed, unpacked

PREFIX = "softgym/"
TRAIN_SHARE = 0.8
"""SoftGym trains on the first 80 % of the initial states and evaluates on the rest."""
Observation = Literal["key_point", "point_cloud", "cam_rgb"]
_OBSERVED = "observation"
_ONE_POSE = ("pickerpickplace", "pickerplace", "picker_qpg")
"""Modes whose step goes on until the picker has arrived."""


class RealSoftGymEnv:
    """A task of real SoftGym. Positions are metres, y is up; actions are in [-1, 1].

    Args:
        task: as in SoftGym's registry, for example RopeFlatten.
        horizon: steps per episode; None for SoftGym's.
        split: which initial states: the first 80 %, or the rest.
        observation: what the stream `state` holds: key points, or every particle, padded with zeros. With
            `cam_rgb` there is no vector, and the camera `observation` is what SoftGym observes.
        pickers: whether pictures show the pickers; None as the class draws. Only RL-VLM-F's classes can hide
            them.
        camera_size: pixels of FleX's picture, both ways; others are resized from it, as SoftGym does.
        install: where SoftGym is; None for what the environment variables name.
        settings: further arguments of the task's class, for example `{"action_mode": "pickerpickplace"}`.

    Raises:
        ConfigError: unknown task, split or observation, or a horizon below 1.
        MachineError: SoftGym, FleX, CUDA or the initial states are missing, or its process died.
    """

    def __init__(
        self,
        task: str,
        *,
        horizon: int | None = None,
        split: Split = "train",
        observation: Observation = "key_point",
        pickers: bool | None = None,
        camera_size: int = 720,
        install: SoftGymInstall | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        if horizon is not None and horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        if split not in ("train", "evaluation"):
            raise ConfigError(f"split {split!r} is unknown: write 'train' or 'evaluation'.")
        if observation not in ("key_point", "point_cloud", "cam_rgb"):
            raise ConfigError(
                f"observation {observation!r} is unknown: write 'key_point', 'point_cloud' or 'cam_rgb'."
            )
        where = found() if install is None else install
        self._where, self._split, self._observation = where, split, observation
        self._known = TASKS.get(task, RealTask("", 0))
        keep = where.keep(cache_folder())
        if where.variations is not None:
            keep.mkdir(parents=True, exist_ok=True)
        given = {"headless": where.headless, "camera_width": camera_size, "camera_height": camera_size}
        if horizon is not None:
            given["horizon"] = horizon
        self._worker = Worker(PREFIX + task, where.python, "softgym_worker.py", where.variables)
        try:
            opened = self._worker.call(
                "open",
                {
                    "task": task,
                    "observation": observation,
                    "settings": {**given, **(settings or {})},
                    "check_cuda": where.check_cuda,
                    "states": None if where.states is None else str(where.states.absolute()),
                    "variations": where.variations,
                    "keep": str(keep),
                },
                limit_s=where.open_s,
                patient=True,
            )
            self._told = opened.text
            if pickers is False and not self._told["hides"]:
                raise ConfigError(f"{PREFIX}{task}: the installed SoftGym cannot hide the pickers.")
            self._spec = self._spec_of(task, opened)
        except BaseException:
            self._worker.close()
            raise
        self._hide = pickers is False
        self._begun_with: tuple[int, int] | None = None
        self._taken = 0
        self._last = Step({}, 0.0, False, False, False)
        self._score = Score(0.0, 0.0, 0.0, False, {})
        self._picture: NDArray[Any] | None = None

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def renderer(self) -> Choice | None:
        """None: FleX draws."""
        return None

    @property
    def variation(self) -> int:
        """Number of the present episode's initial state."""
        return self._begun()[0]

    @property
    def score(self) -> Score:
        """Performance, normalised performance and further figures of the present state, from SoftGym's
        info."""
        self._begun()
        return self._score

    @property
    def points(self) -> NDArray[np.float64]:
        """(n, 3) every particle of the present state, m."""
        self._begun()
        return np.asarray(self._call("points").arrays["points"], dtype=np.float64)

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Episodes of a seed take their initial states in turn, from a
        place that the seed chooses, as the equivalents do. Raises ConfigError when seed or episode is
        negative."""
        if seed < 0 or episode < 0:
            raise ConfigError(f"seed {seed} and episode {episode}: both are 0 or more.")
        total = int(self._told["variations"])
        first = int(TRAIN_SHARE * total) if total > 1 else 0
        low, high = (0, first) if self._split == "train" and total > 1 else (first, total)
        offset = int(np.random.default_rng(seed).integers(high - low))
        drawn = int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
        return self._begin(low + (offset + episode) % (high - low), drawn)

    def step(self, action: ArrayLike) -> Step:
        """Advance by one period; see `Env.step`. Raises MachineError where FleX diverged, or its process
        died."""
        self._begun()
        if self._last.terminated or self._last.truncated:
            raise RuntimeError(f"the episode ended after {self._taken} steps: reset before the next step")
        value = checked_action(action, self._spec)
        reply = self._worker.call("step", arrays={"action": value}, limit_s=self._where.answer_s)
        self._taken += 1
        return self._take(reply)

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
        if camera == _OBSERVED:
            assert self._picture is not None
            picture = self._picture[:, :, :3].astype(np.uint8)
        else:
            asked = {"camera": camera, "height": height, "width": width, "hide": self._hide}
            picture = self._call("render", asked).arrays["picture"]
        if picture.shape != (height, width, 3):
            picture = np.asarray(cv2.resize(picture, (width, height)))
        return np.asarray(picture, dtype=np.uint8)

    def save_state(self) -> NDArray[np.uint8]:
        """SoftGym's state and what its classes remember beside it; see `Env.save_state`."""
        variation, seed = self._begun()
        reply = self._call("save")
        tree = np.frombuffer(json.dumps(reply.text["tree"]).encode(), dtype=np.uint8)
        last = self._last
        head = {
            "name": np.array(self._spec.name),
            "begun": np.array([variation, seed, self._taken], dtype=np.int64),
            "last": np.array([last.reward, last.terminated, last.truncated]),
            "tree": tree,
        }
        return packed({**head, **{f"array/{name}": value for name, value in reply.arrays.items()}})

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another environment."""
        try:
            entries = unpacked(state)
            name, tree = str(entries["name"]), json.loads(entries["tree"].tobytes())
            variation, seed, taken = (int(value) for value in entries["begun"])
            reward, terminated, truncated = entries["last"].tolist()
        except (ValueError, KeyError) as error:
            raise ConfigError(f"these bytes are no saved state of {self._spec.name} ({error}).") from error
        if name != self._spec.name or not 0 <= variation < self._told["variations"]:
            raise ConfigError(f"the saved state is one of {name}, this environment is {self._spec.name}.")
        arrays = {key.removeprefix("array/"): v for key, v in entries.items() if key.startswith("array/")}
        asked = {"variation": variation, "seed": seed, "tree": tree, "reward": reward}
        reply = self._worker.call("restore", asked, arrays, limit_s=self._where.answer_s)
        self._begun_with, self._taken = (variation, seed), taken
        step = self._take(reply)
        self._last = Step(step.observation, reward, bool(terminated), bool(truncated), step.success)
        return self._last

    def close(self) -> None:
        """End SoftGym's process; see `Env.close`."""
        self._worker.close()
        self._begun_with = None

    def _begin(self, variation: int, seed: int) -> Step:
        reply = self._call("reset", {"variation": variation, "seed": seed})
        self._begun_with, self._taken = (variation, seed), 0
        return self._take(reply)

    def _begun(self) -> tuple[int, int]:
        if self._begun_with is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._begun_with

    def _call(self, op: str, text: dict[str, Any] | None = None) -> Frame:
        return self._worker.call(op, text, limit_s=self._where.answer_s)

    def _take(self, reply: Frame) -> Step:
        """The step that a reply tells of. Where `done` comes before the horizon the task ended by itself."""
        info, seen = reply.text["info"], reply.arrays["observation"]
        reward, done = float(reply.text["reward"]), bool(reply.text["done"])
        if not (np.isfinite(reward) and np.isfinite(seen).all()):
            raise MachineError(
                f"{self._spec.name}: FleX diverged in step {self._taken}: the reward is {reward}, and "
                f"{int((~np.isfinite(seen)).sum())} numbers of the observation are not finite. Reset."
            )
        if self._observation == "cam_rgb":
            self._picture, observation = seen, {}
        else:
            observation = {"state": seen.astype(np.float64).ravel()}
        normalized = float(info.get("normalized_performance", 0.0))
        performance = float(info.get("performance", reward))
        solved = _solved(self._known, info, performance, normalized)
        standard = ("performance", "normalized_performance", "success")
        further = {k: float(v) for k, v in info.items() if k not in standard and not isinstance(v, str)}
        self._score = Score(performance, performance, normalized, solved, further)
        at_end = self._taken >= self._spec.horizon
        early = done and (not at_end or self._spec.horizon == 1)
        ended = done or at_end
        self._last = Step(
            observation,
            reward,
            early or (at_end and self._spec.horizon == 1),
            ended and not early and self._spec.horizon > 1,
            solved,
        )
        return self._last

    def _spec_of(self, task: str, opened: Frame) -> EnvSpec:
        """Names and step are those of the equivalent where the sizes agree, so that contracts and policies
        fit both; a step that goes on until arrival has no time of its own in SoftGym."""
        told, dimension = self._told, opened.arrays["low"].size
        own = make_task(task) if task in EQUIVALENTS else None
        actions = tuple(f"action_{i}" for i in range(dimension))
        period_s = float(told["step_s"])
        if own is not None and len(own.task.actions.names) == dimension:
            actions = own.task.actions.names
            if told["action_mode"] in _ONE_POSE:
                period_s = 0.01 * own.task.actions.steps
        length = int(np.prod(told["observation"], dtype=np.int64))
        names: dict[str, tuple[str, ...]] = {"state": tuple(f"state_{i}" for i in range(length))}
        if own is not None and self._observation == "key_point" and len(own.task.state_names) == length:
            names = {"state": own.task.state_names}
        elif own is not None and self._observation == "point_cloud":
            pickers = own.task.state_names[len(own.task.state_names) - own.picker_entries :]
            points, rest = divmod(length - len(pickers), 3)
            if rest == 0:
                names = {"state": point_names(points) + pickers}
        elif self._observation == "cam_rgb":
            names = {}
        cameras = [c for c in told["cameras"] if c != "default_camera"]
        return EnvSpec(
            name=PREFIX + task,
            period_ns=round(period_s * 1e9),
            horizon=int(told["horizon"]),
            action_lower=-np.ones(dimension),
            action_upper=np.ones(dimension),
            action_names=actions,
            observation_names=names,
            cameras=("default_camera", *cameras, *(() if names else (_OBSERVED,))),
            source=f"SoftGym on FleX ({told['versions']}), {told['variations']} initial states",
        )


def _solved(known: RealTask, info: dict[str, Any], performance: float, normalized: float) -> bool:
    """SoftGym's own success where it declares one, else the bound of `RealTask`."""
    if "success" in info:
        return bool(info["success"])
    if known.solved_reward is not None:
        return performance > known.solved_reward
    return normalized >= known.solved
