"""Verb `sim show`: what an environment is, and what it looks like when somebody acts in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from episodes.screen import screen
from sim.contracts import contract_text
from sim.env import EnvSpec, Split
from sim.gl import RendererName
from sim.make import make_env
from sim.picture import RenderConfig, Who, default_camera, play, who_acts
from sim.picture import main as render
from sim.window import need_display
from sim.window import show as show_frames


@dataclass(frozen=True)
class ShowConfig:
    """Say what an environment is: spaces, names, cameras, horizon, source."""

    environment: tyro.conf.Positional[str]
    """Environment (armchair sim list)."""
    window: bool = False
    """Show an episode in a window; needs a display."""
    film: Path | None = None
    """Write an episode as an MP4."""
    contract: Path | None = None
    """Write a robot contract that fits the environment, with its first camera."""
    camera: str = ""
    """Camera. Empty: the first one, or of MetaWorld corner2."""
    height: int = 480
    """Rows of the pictures, and columns."""
    who: Who | None = None
    """Who acts. None: the scripted expert, or chance where there is none."""
    seed: int = 0
    """Seed of the goal."""
    episode: int = 0
    """Number of the goal."""
    split: Split = "train"
    """Which goals: training or evaluation."""
    renderer: RendererName = "auto"
    """What draws: EGL, OSMesa or, where no GL is installed, ray casting."""


def main(config: ShowConfig) -> int:
    """Print, and show what is asked for.

    Raises:
        ArmchairError: there is no such environment or camera, or no display.
    """
    if config.window:
        need_display()
    env = make_env(config.environment, split=config.split, renderer=config.renderer)
    console = screen()
    who = config.who or who_acts(config.environment)
    try:
        for line in described(env.spec, who_acts(config.environment) == "expert"):
            console.print(line)
        camera = config.camera or (default_camera(env) if env.spec.cameras else "")
        if config.contract is not None:
            config.contract.parent.mkdir(parents=True, exist_ok=True)
            cameras = (camera,) if camera else ()
            config.contract.write_text(contract_text(env.spec, cameras, (84, 84)), encoding="utf-8")
            console.print(f"contract: {config.contract}")
        if config.window:
            played = play(env, who, env.spec.horizon, config.seed, config.episode)
            frames = (world.render(camera, config.height, config.height) for world, _ in played)
            show_frames(frames, env.spec.period_ns * 1e-9, f"{env.spec.name}, {who}")
    finally:
        env.close()
    if config.film is not None:
        return render(
            RenderConfig(
                config.environment,
                out=config.film,
                camera=config.camera,
                height=config.height,
                who=config.who,
                seed=config.seed,
                episode=config.episode,
                split=config.split,
                renderer=config.renderer,
            )
        )
    return 0


def described(spec: EnvSpec, has_expert: bool) -> list[str]:
    """What is fixed about an environment, line by line."""
    lines = [
        f"{spec.name}",
        f"  source        {spec.source}",
        f"  step          {spec.period_ns / 1e6:g} ms ({1e9 / spec.period_ns:g} Hz)",
        f"  horizon       {spec.horizon} steps",
        f"  expert        {'scripted' if has_expert else 'none'}",
        f"  cameras       {', '.join(spec.cameras) or 'none'}",
    ]
    for name, low, high in zip(spec.action_names, spec.action_lower, spec.action_upper, strict=True):
        lines.append(f"  action        {name} in [{low:g}, {high:g}]")
    for stream, names in spec.observation_names.items():
        lines.append(f"  observation   {stream} ({len(names)}): {', '.join(names)}")
    return lines
