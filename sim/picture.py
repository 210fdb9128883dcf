"""Verb `sim render`: a still or a film of an environment, or of a recorded episode simulated again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from episodes.dataset import INDEX, Dataset
from episodes.errors import ConfigError, did_you_mean
from episodes.layout import SUFFIX
from episodes.reader import Episode
from episodes.screen import progress_bar, screen
from sim.behaviours import acts
from sim.env import Env, Split
from sim.gl import RendererName
from sim.make import make_env
from sim.redraw import Redraw, redraw
from sim.render import Quality
from sim.replay import Replay, origin_of
from sim.video import write_filmstrip, write_video

Who = Literal["expert", "random"]
Frame = NDArray[np.uint8]
_FASTEST_FPS = 40.0


@dataclass(frozen=True)
class RenderConfig:
    """Draw an environment, or a recorded episode again: another camera, another resolution.

    A recorded episode is simulated again from its goal and its commands; every frame is compared with the
    recording to the last bit, and where they differ nothing is drawn.
    """

    target: tyro.conf.Positional[str]
    """Environment (armchair sim list), an episode file (.h5), or a data set folder (with --into)."""
    out: Path | None = None
    """File to write: .mp4 a film, .png a still, or with --strip a strip of stills."""
    into: Path | None = None
    """Write a data set with the pictures as one more stream, for armchair label; the target is a data set."""
    camera: str = ""
    """Camera. Empty: the environment's first one, or of MetaWorld corner2."""
    height: int = 480
    """Rows in pixels."""
    width: int = 0
    """Columns in pixels. 0: as many as rows."""
    stream: str = ""
    """Name of the new stream in --into. Empty: CAMERA_HEIGHT."""
    who: Who | None = None
    """Who acts in an environment. None: its scripted expert, or chance where there is none."""
    seed: int | None = None
    """Seed of the goal. None: 0, or the recording's."""
    episode: int | None = None
    """Number of the goal. None: 0, or the recording's."""
    split: Split | None = None
    """Which goals. None: train, or the recording's."""
    steps: int | None = None
    """Steps of a film. None: the environment's horizon, or all of a recording."""
    at: int | None = None
    """Step of a still. None: the first of all."""
    strip: int = 0
    """Make the PNG a strip of so many stills, from the first to the last step."""
    renderer: RendererName = "auto"
    """What draws: EGL, OSMesa or, where no GL is installed, ray casting."""
    quality: Quality = "fast"
    """fast, or default: MuJoCo's shadows and multi-sampling, fifteen times slower in software."""
    workers: int = 0
    """Processes for --into. 0: one per core."""
    image_storage: Annotated[Literal["lzf", "raw", "jpeg"], tyro.conf.arg(name="image-storage")] = "lzf"
    """How --into stores pictures; lzf and raw are lossless."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width or self.height


def main(config: RenderConfig) -> int:
    """Draw, and say where it is.

    Raises:
        ArmchairError: the target or a setting is wrong, or an episode cannot be simulated again.
    """
    if config.height < 1 or config.width < 0:
        raise ConfigError(f"--height {config.height} --width {config.width}: write 1 or more.")
    if (config.out is None) == (config.into is None):
        raise ConfigError("write --out FILE.png, --out FILE.mp4 or, for a data set, --into FOLDER.")
    if config.into is not None:
        return _redraw(config, config.into)
    assert config.out is not None
    frames, fps, note = _frames(config, wanted_ticks(config))
    if config.out.suffix == ".mp4":
        write_video(frames, config.out, fps=fps)
    else:
        write_filmstrip(frames, config.out, count=max(1, config.strip))
    screen().print(f"{config.out}: {len(frames)} frames of {config.size[0]}x{config.size[1]}, {note}")
    return 0


def wanted_ticks(config: RenderConfig) -> Callable[[int, int], bool]:
    """Whether a tick of T + 1 is drawn: called with the tick and T.

    Raises:
        ConfigError: a file of another kind, or settings that exclude each other.
    """
    kind = "" if config.out is None else config.out.suffix
    if kind == ".mp4":
        if config.strip or config.at is not None:
            raise ConfigError("--strip and --at are for a PNG: write --out FILE.png.")
        return lambda tick, total: True
    if kind != ".png":
        raise ConfigError(f"--out {config.out}: write a file that ends in .png or .mp4.")
    if config.strip:
        if config.at is not None:
            raise ConfigError("--strip takes stills from first to last, --at one: write one of the two.")
        return lambda tick, total: tick in np.linspace(0, total, config.strip).round().astype(int)
    return lambda tick, total: tick == min(config.at or 0, total)


def _frames(config: RenderConfig, wanted: Callable[[int, int], bool]) -> tuple[list[Frame], float, str]:
    """The frames, frames per second of a film, and a line about them."""
    if config.target.endswith(SUFFIX):
        with Episode.open(config.target) as recorded:
            replay = Replay(
                recorded,
                origin_of(recorded, seed=config.seed, episode=config.episode, split=config.split),
                renderer=config.renderer,
                quality=config.quality,
            )
            try:
                ticks = ((world.env, world.tick) for world in replay)
                shot = _shoot(config, ticks, len(replay) - 1, wanted, replay.world.env)
            finally:
                replay.close()
        return *shot, "the recorded states, bit for bit"
    if Path(config.target, INDEX).exists():
        raise ConfigError(f"{config.target} is a data set: write --into FOLDER, or name one of its episodes.")
    env = make_env(
        config.target, split=config.split or "train", renderer=config.renderer, quality=config.quality
    )
    try:
        total = env.spec.horizon if config.steps is None else min(config.steps, env.spec.horizon)
        if config.out is not None and config.out.suffix == ".png" and not config.strip:
            total = min(config.at or 0, total)
        who = config.who or who_acts(config.target)
        played = play(env, who, total, config.seed or 0, config.episode or 0)
        return *_shoot(config, played, total, wanted, env), f"{who} acts"
    finally:
        env.close()


def who_acts(environment: str) -> Who:
    """The expert where there is one, else chance."""
    try:
        acts(environment, "expert", 0, 0)
    except ConfigError:
        return "random"
    return "expert"


def play(env: Env, who: Who, steps: int, seed: int, episode: int) -> Iterator[tuple[Env, int]]:
    """Run an episode; gives the environment and the tick at each of up to `steps` + 1 frames."""
    spec = env.spec
    behaviour = acts(spec.name, who, seed, episode)
    rng = behaviour.rng()
    step = env.reset(seed=seed, episode=episode)
    yield env, 0
    for tick in range(steps):
        action = behaviour.act(step.observation["state"], rng, tick, spec.action_lower, spec.action_upper)
        step = env.step(action)
        yield env, tick + 1
        if step.terminated or step.truncated:
            return


def default_camera(env: Env) -> str:
    """The camera that shows an environment best: of MetaWorld corner2, of others the first.

    Raises:
        ConfigError: it has none.
    """
    cameras = env.spec.cameras
    if not cameras:
        raise ConfigError(f"{env.spec.name} has no camera, so it cannot be drawn.")
    return "corner2" if "corner2" in cameras else cameras[0]


def _shoot(
    config: RenderConfig,
    ticks: Iterator[tuple[Env, int]],
    total: int,
    wanted: Callable[[int, int], bool],
    env: Env,
) -> tuple[list[Frame], float]:
    camera = config.camera or default_camera(env)
    if camera not in env.spec.cameras:
        raise ConfigError(
            f"--camera {camera}: {env.spec.name} has no such camera; {did_you_mean(camera, env.spec.cameras)}"
        )
    film = config.out is not None and config.out.suffix == ".mp4"
    fps = 1e9 / env.spec.period_ns
    every = max(1, round(fps / _FASTEST_FPS)) if film else 1
    limit = total if config.steps is None else min(config.steps, total)
    frames = []
    for world, tick in ticks:
        if tick > limit:
            break
        if wanted(tick, limit) and (tick % every == 0 or tick == limit):
            frames.append(world.render(camera, *config.size))
    return frames, fps / every


def _redraw(config: RenderConfig, into: Path) -> int:
    if not Path(config.target, INDEX).exists():
        raise ConfigError(
            f"{config.target}: --into takes a data set folder (with {INDEX}). Of one episode make a film: "
            "--out FILE.mp4."
        )
    if config.seed is not None or config.episode is not None:
        raise ConfigError("--seed and --episode are for one episode; of a data set each says its own.")
    if not config.camera:
        raise ConfigError("--into needs --camera: armchair sim show ENV lists the cameras.")
    Dataset.open(config.target)
    what = Redraw(
        source=Path(config.target),
        into=into,
        camera=config.camera,
        size=config.size,
        stream=config.stream,
        split=config.split,
        renderer=config.renderer,
        quality=config.quality,
        image_storage=config.image_storage,
    )
    with progress_bar("render") as progress:
        drawn, there = redraw(what, config.workers or os.cpu_count() or 1, progress)
    screen().print(
        f"{into}: {drawn} episodes drawn, {there} were there; label them with: armchair label {into} "
        f"--stream {what.name}"
    )
    return 0
