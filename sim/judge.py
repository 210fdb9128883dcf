"""Rollouts while a policy trains: success on a few unseen goals, and a film of the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.contract import load_contract
from episodes.errors import ConfigError
from sim.closed_loop import Film, evaluate
from sim.env import Env
from sim.evaluation import summarise
from sim.make import make_env
from sim.video import write_filmstrip, write_video

Act = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float64]]
"""One observation {stream: (...)} to one action (dim,)."""


@dataclass(frozen=True)
class JudgeConfig:
    """What to try a policy on."""

    env: str
    """Environment, as `make_env` knows it."""
    episodes: int = 10
    """Goals of the evaluation split, from the first on."""
    seed: int = 0
    """Seed of the goals."""
    horizon: int | None = None
    """Steps per episode. None: the environment's own."""
    films: Path | None = None
    """Folder for a film (MP4) and a filmstrip (PNG) of the first goal, per evaluation."""
    camera: str = ""
    """Camera of the film. Empty: the contract's first one, else corner2, else the environment's first."""


class Judge:
    """Tries a policy on the same goals each time, through alignment, limits and control, as `armchair
    rollout` tries an exported bundle; but it asks for an action at every tick, also of a policy that plans
    several. The environment is kept until `close`."""

    def __init__(self, config: JudgeConfig, contract: Path, streams: Sequence[str]) -> None:
        """`contract` is read at the first call; `streams` are the observations that the policy reads.

        Raises:
            ConfigError: no episodes, or no steps.
        """
        for name in ("episodes", "horizon"):
            value = getattr(config, name)
            if value is not None and value < 1:
                raise ConfigError(f"--rollouts.{name} {value}: give 1 or more.")
        self.config = config
        self._contract = contract
        self._streams = tuple(streams)
        self._env: Env | None = None

    def __call__(self, step: int, act: Act) -> dict[str, float]:
        """`success` (a share), `return` (the mean sum of true rewards) and `episodes`, after `step` steps.

        Raises:
            ConfigError: there is no such environment or camera.
            ContractError: the contract does not fit the environment.
        """
        config, contract = self.config, load_contract(self._contract)
        if self._env is None:
            self._env = make_env(config.env, horizon=config.horizon, split="evaluation")
        named = contract.simulation.cameras if contract.simulation else ()
        known = self._env.spec.cameras
        camera = config.camera or (named[0][1] if named else "corner2" if "corner2" in known else known[0])
        film = None if config.films is None else Film(camera)
        frames: list[NDArray[np.uint8]] = []
        found = summarise(
            evaluate(
                self._env,
                _EveryTick(act, self._streams),
                contract,
                config.seed,
                config.episodes,
                film,
                shot=lambda episode, tick, frame: frames.append(frame),
            )
        )
        if config.films is not None and film is not None:
            stem = config.films / f"step-{step:08d}"
            write_video(frames, stem.with_suffix(".mp4"), fps=1e9 / contract.period_ns / film.every)
            write_filmstrip(frames, stem.with_suffix(".png"))
        return {
            "success": found.success.estimate,
            "return": found.mean_return,
            "faults": float(found.faults),
            "episodes": float(found.episodes),
        }

    def close(self) -> None:
        """Free the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


class _EveryTick:
    """A function of one observation, as the closed loop takes a bundle's policy: chunks of one action."""

    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(chunk_execute=1))

    def __init__(self, act: Act, streams: tuple[str, ...]) -> None:
        self._act = act
        self.streams = streams

    def infer(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        return self._act(observation)[None]
