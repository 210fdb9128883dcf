"""Verb `rollout`: evaluate a bundle in simulation, in process; `sim.closed_loop` says how.

With `--at-least` it is a gate for CI: exit code 1 where success is below the bound.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from episodes.contract import load_contract
from episodes.errors import ConfigError
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from sim.closed_loop import Film, evaluate
from sim.env import Split
from sim.evaluation import EpisodeResult, Summary, summarise
from sim.gl import RendererName
from sim.make import make_env
from sim.picture import default_camera
from sim.video import write_filmstrip, write_video

__all__ = ["Film", "RolloutConfig", "evaluate", "main", "rollout"]


@dataclass(frozen=True)
class RolloutConfig:
    """Evaluate a policy bundle in simulation, in process, and print its success rate with an interval."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Bundle folder that `armchair export` wrote."""
    contract: Path | None = None
    """Robot contract whose limits hold. None: the one inside the bundle."""
    env: str = ""
    """Environment. Empty: the one that the contract names."""
    episodes: int = 20
    """Goals to try."""
    first: int = 0
    """Number of the first goal."""
    seed: int = 0
    """Seed of the goals."""
    split: Split = "evaluation"
    """Which goals: evaluation or train; the two share none."""
    horizon: int | None = None
    """Steps per episode. None: the environment's own."""
    out: Path | None = None
    """Write the results as JSON to this file."""
    video: Path | None = None
    """Write an MP4 and a filmstrip (PNG) of each filmed episode into this folder."""
    films: int = 1
    """How many episodes to film."""
    camera: str = ""
    """Camera of the film. Empty: the contract's first one, else the environment's."""
    allow_looser_limits: bool = False
    """Take a contract whose limits are looser than those the policy was trained under."""
    renderer: RendererName = "auto"
    """What draws: EGL, OSMesa or, where no GL is installed, ray casting."""
    at_least: float | None = None
    """Fail (exit code 1) where success is below this share, 0 to 1. None: no bound."""
    bound_on: Literal["rate", "lower"] = "rate"
    """What the bound is for: the rate on these goals, which repeats exactly, or the lower end of its 95 %
    interval, which speaks of all goals (20 of 20 have 0.84)."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a bound that is no share."""
        if self.at_least is not None and not 0.0 <= self.at_least <= 1.0:
            raise ConfigError(f"--at-least {self.at_least:g}: write a share of successes, 0 to 1.")


def below_bound(config: RolloutConfig, summary: Summary) -> str | None:
    """What to tell where success is below `config.at_least`; None where it is not, or there is no bound."""
    if config.at_least is None or bounded(config, summary) >= config.at_least:
        return None
    what = "success rate" if config.bound_on == "rate" else "lower end of the success rate's interval"
    return f"{what} {bounded(config, summary):.3f} is below --at-least {config.at_least:g}"


def bounded(config: RolloutConfig, summary: Summary) -> float:
    """The number that the bound is for."""
    return summary.success.estimate if config.bound_on == "rate" else summary.success.lower


def rollout(
    config: RolloutConfig, progress: Callable[[int, int], None] | None = None
) -> tuple[list[EpisodeResult], Summary]:
    """Evaluate, and write what `config` asks for.

    Raises:
        ArmchairError: the bundle, the contract or a setting is wrong; see `Bundle.load`, `evaluate`.
    """
    if config.episodes < 1 or config.films < 0:
        raise ConfigError(f"--episodes {config.episodes} --films {config.films}: at least 1, at least 0.")
    robot = None if config.contract is None else load_contract(config.contract)
    bundle = Bundle.load(config.bundle, robot_contract=robot, allow_looser_limits=config.allow_looser_limits)
    contract = robot or bundle.contract
    environment = config.env or (contract.simulation.environment if contract.simulation else "")
    if not environment:
        raise ConfigError(f"{contract.source} names no environment (simulation.environment): write --env.")
    policy = Policy(bundle)
    cameras = contract.simulation.cameras if contract.simulation else ()
    frames: dict[int, list[NDArray[np.uint8]]] = {}
    env = make_env(environment, horizon=config.horizon, split=config.split, renderer=config.renderer)
    try:
        camera = config.camera or (cameras[0][1] if cameras else "")
        film = None if config.video is None else Film(camera or default_camera(env), episodes=config.films)
        results = evaluate(
            env,
            policy,
            contract,
            config.seed,
            range(config.first, config.first + config.episodes),
            film,
            shot=lambda episode, _, frame: frames.setdefault(episode, []).append(frame),
            progress=progress,
        )
        source, horizon = env.spec.source, env.spec.horizon
    finally:
        env.close()
    if config.video is not None and film is not None:
        for episode, pictures in frames.items():
            stem = config.video / f"{config.split}-s{config.seed}-e{episode:04d}"
            write_video(pictures, stem.with_suffix(".mp4"), fps=1e9 / contract.period_ns / film.every)
            write_filmstrip(pictures, stem.with_suffix(".png"))
    summary = summarise(results)
    if config.out is not None:
        _write_json(config, environment, source, horizon, policy, results, summary)
    return results, summary


def _write_json(
    config: RolloutConfig,
    environment: str,
    source: str,
    horizon: int,
    policy: Policy,
    results: Sequence[EpisodeResult],
    summary: Summary,
) -> None:
    timing = policy.timing()
    clamps: Counter[str] = Counter()
    for result in results:
        clamps.update(result.clamps)
    report = {
        "schema": "armchair/rollout/1",
        "bundle": policy.bundle.manifest.name,
        "environment": environment,
        "source": source,
        "split": config.split,
        "seed": config.seed,
        "horizon": horizon,
        **summary.as_dict(),
        "bound": None
        if config.at_least is None
        else {
            "at_least": config.at_least,
            "on": config.bound_on,
            "value": bounded(config, summary),
            "holds": below_bound(config, summary) is None,
        },
        "clamps": dict(clamps),
        "inference_ns": None if timing is None else asdict(timing),
        "results": [asdict(result) for result in results],
    }
    if config.out is None:
        return
    config.out.parent.mkdir(parents=True, exist_ok=True)
    partial = config.out.with_name(config.out.name + ".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, config.out)


def main(config: RolloutConfig) -> int:
    """Evaluate with a progress bar, then print the success rate.

    Returns:
        1 where control stopped the robot or success is below the bound, else 0.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("rollout"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("rollout", total=config.episodes)
        results, summary = rollout(config, lambda done, total: bar.update(task, completed=done, total=total))
    faults = {result.fault for result in results if result.fault is not None}
    print(
        f"success {summary.successes} of {summary.episodes}: {summary.success} (Wilson 95 %), "
        f"mean return {summary.mean_return:.1f}"
    )
    for fault in sorted(faults):
        print(f"control stopped: {fault}")
    failed = below_bound(config, summary)
    if failed is not None:
        print(f"failed: {failed}")
    return 1 if faults or failed else 0
