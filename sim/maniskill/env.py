"""A ManiSkill task as an `Env`: batches of one become vectors, and `success` ends an episode by itself.

A saved state is the seed and the actions since, which restoring takes again: PhysX's contacts cannot be
saved.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean
from sim.bridge.frames import Frame
from sim.bridge.process import Worker
from sim.env import EnvSpec, Split, Step, checked_action
from sim.gl import Choice
from sim.maniskill.install import python
from sim.states import packed, unpacked

PREFIX = "maniskill/"
_SALT = 11
_LONGEST = 1_000
"""Steps of a task that declares no limit."""
_OPEN_S, _ANSWER_S = 600.0, 120.0


class ManiSkillEnv:
    """One ManiSkill task, on the CPU.

    Args:
        task: its id, for example PickCube-v1.
        horizon: steps per episode; None for ManiSkill's.
        split: which seeds: the two share none.
        interpreter: the Python that has ManiSkill; None for what the variable names.
        pythonpath: PYTHONPATH of its process; None for armchair's own.
        settings: further arguments of the task, for example `{"control_mode": "pd_ee_delta_pose"}`.

    Raises:
        ConfigError: unknown task or split, actions that are no box, or a horizon below 1.
        MachineError: ManiSkill or a task's assets are missing, or its process died.
    """

    def __init__(
        self,
        task: str,
        *,
        horizon: int | None = None,
        split: Split = "train",
        interpreter: str | None = None,
        pythonpath: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        if horizon is not None and horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        if split not in ("train", "evaluation"):
            raise ConfigError(f"split {split!r} is unknown: write 'train' or 'evaluation'.")
        self._split: Split = split
        paths = {} if pythonpath is None else {"PYTHONPATH": pythonpath}
        name = PREFIX + task
        self._worker = Worker(name, interpreter or python(), "maniskill_worker.py", paths)
        try:
            asked = {"task": task, "settings": settings or {}}
            opened = self._worker.call("open", asked, limit_s=_OPEN_S, patient=True)
            told, low, high = opened.text, opened.arrays["low"], opened.arrays["high"]
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise ConfigError(f"{name}: its actions have no bounds, which a policy needs.")
        except BaseException:
            self._worker.close()
            raise
        self._why = str(told["why"])
        self._spec = EnvSpec(
            name=name,
            period_ns=round(1e9 / float(told["control_hz"])),
            horizon=int(told["horizon"] or _LONGEST) if horizon is None else horizon,
            action_lower=low.astype(np.float64),
            action_upper=high.astype(np.float64),
            action_names=tuple(f"action_{i}" for i in range(low.size)),
            observation_names={
                "state": tuple(f"{key}_{i}" for key, size in told["entries"] for i in range(int(size)))
            },
            cameras=tuple(told["cameras"]),
            source=f"{told['version']}, PhysX on the CPU"
            + ("" if told["cameras"] else f"; no pictures without Vulkan ({self._why})"),
        )
        self._seed: int | None = None
        self._taken: list[NDArray[np.float64]] = []
        self._last = Step({}, 0.0, False, False, False)

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def renderer(self) -> Choice | None:
        """None: SAPIEN draws."""
        return None

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Raises ConfigError when seed or episode is negative."""
        if seed < 0 or episode < 0:
            raise ConfigError(f"seed {seed} and episode {episode}: both are 0 or more.")
        drawn = int(np.random.SeedSequence([_SALT, seed, episode]).generate_state(1)[0])
        return self._begin(2 * (drawn >> 2) + (self._split == "evaluation"))

    def step(self, action: ArrayLike) -> Step:
        """Advance by one control step; see `Env.step`. Raises MachineError where its process died."""
        self._begun()
        if self._last.terminated or self._last.truncated:
            raise RuntimeError(
                f"the episode ended after {len(self._taken)} steps: reset before the next step"
            )
        return self._take(checked_action(action, self._spec))

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state; see `Env.render`. Raises MachineError where there is no Vulkan."""
        self._begun()
        if not self._spec.cameras:
            raise MachineError(
                f"{self._spec.name} cannot be drawn: SAPIEN draws by Vulkan, which does not start here "
                f"({self._why}). It needs libvulkan1 and an NVIDIA driver with its nvidia_icd.json. "
                "States, rewards and success need none."
            )
        if camera not in self._spec.cameras:
            known = did_you_mean(camera, self._spec.cameras)
            raise ConfigError(f"{self._spec.name} has no camera {camera!r}: {known}")
        if height < 1 or width < 1:
            raise ConfigError(
                f"a frame of {height}x{width} pixels cannot be drawn: both sides are 1 or more."
            )
        picture = self._worker.call("render", {"camera": camera}, limit_s=_ANSWER_S).arrays["picture"]
        return np.asarray(cv2.resize(picture[..., :3], (width, height), interpolation=cv2.INTER_AREA))

    def save_state(self) -> NDArray[np.uint8]:
        """The seed and the actions since; see `Env.save_state`."""
        actions = np.array(self._taken).reshape(-1, len(self._spec.action_names))
        seed = np.array(self._begun(), dtype=np.int64)
        return packed({"name": np.array(self._spec.name), "seed": seed, "actions": actions})

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another environment."""
        try:
            entries = unpacked(state)
            name, seed, actions = str(entries["name"]), int(entries["seed"]), entries["actions"]
        except (ValueError, KeyError) as error:
            raise ConfigError(f"these bytes are no saved state of {self._spec.name} ({error}).") from error
        if name != self._spec.name or actions.shape[1:] != self._spec.action_lower.shape:
            raise ConfigError(f"the saved state is one of {name}, this environment is {self._spec.name}.")
        step = self._begin(seed)
        for action in actions:
            step = self._take(action)
        return step

    def close(self) -> None:
        """End ManiSkill's process; see `Env.close`."""
        self._worker.close()
        self._seed = None

    def _begun(self) -> int:
        if self._seed is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._seed

    def _begin(self, seed: int) -> Step:
        reply = self._worker.call("reset", {"seed": seed}, limit_s=_ANSWER_S)
        self._seed, self._taken = seed, []
        self._last = Step(self._seen(reply), 0.0, False, False, False)
        return self._last

    def _take(self, action: NDArray[np.float64]) -> Step:
        reply = self._worker.call("step", arrays={"action": action}, limit_s=_ANSWER_S)
        self._taken.append(action)
        terminated = bool(reply.text["terminated"])
        truncated = not terminated and len(self._taken) >= self._spec.horizon
        success = bool(reply.text["info"].get("success", False))
        self._last = Step(self._seen(reply), float(reply.text["reward"]), terminated, truncated, success)
        return self._last

    def _seen(self, reply: Frame) -> dict[str, NDArray[np.float64]]:
        return {"state": np.asarray(reply.arrays["observation"], dtype=np.float64)}
