"""A recorded episode once more: from the same goal and the recorded commands, checked frame by frame.

A recording holds no states of the simulator but what these follow from: environment, split, seed and number
of the episode, and every command. Each tick is simulated again and what the contract's vectors and the truth
say of it is compared with the recording to the last bit, so that a picture drawn now is one of that episode,
or there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from episodes.errors import EpisodeError
from episodes.reader import Episode
from sim.env import Split
from sim.gl import RendererName
from sim.make import make_env
from sim.randomise import Randomisation
from sim.render import Quality
from sim.world import EPISODE_START_NS, TRUTH_STREAM, World

_COLLECTED = re.compile(r"^s(\d+)-e(\d+)$")


@dataclass(frozen=True)
class Origin:
    """What an episode is made from, beside its commands."""

    environment: str
    seed: int
    episode: int
    split: Split | None
    """Which goals; None where the recording does not say, which the first frame then decides."""
    source: str
    """What simulated it, with versions; empty where the recording does not say."""
    randomise: Randomisation = field(default_factory=Randomisation)
    """What differed from episode to episode."""


def origin_of(
    recorded: Episode, *, seed: int | None = None, episode: int | None = None, split: Split | None = None
) -> Origin:
    """Where an episode comes from. What is given wins over what the recording says.

    Raises:
        EpisodeError: the recording does not say it.
    """
    said: dict[str, Any] = next((dict(e.value) for e in recorded.events if e.name == "collect"), {})
    simulation = recorded.contract.simulation
    environment = said.get("environment") or (simulation.environment if simulation else "")
    if not environment:
        raise EpisodeError(
            f"{recorded.path}: it does not say which environment it was recorded in (no event 'collect', no "
            "key simulation.environment in its contract), so it cannot be simulated again."
        )
    named = _COLLECTED.match(recorded.episode_id)
    seed = seed if seed is not None else said.get("seed", int(named[1]) if named else None)
    episode = episode if episode is not None else said.get("episode", int(named[2]) if named else None)
    if seed is None or episode is None:
        raise EpisodeError(
            f"{recorded.path}: it does not say which seed and episode it is (no event 'collect', and its id "
            f"{recorded.episode_id!r} is not of the form s0-e0001). Write --seed and --episode."
        )
    chosen = split or said.get("split")
    if chosen is not None and chosen not in get_args(Split):
        raise EpisodeError(f"{recorded.path}: the event 'collect' says split {chosen!r}; write --split.")
    try:
        randomise = Randomisation(**said.get("randomise", {}))
    except TypeError as error:
        raise EpisodeError(f"{recorded.path}: the event 'collect' says randomise: {error}.") from error
    source = str(said.get("source", ""))
    return Origin(str(environment), int(seed), int(episode), chosen, source, randomise)


class Replay:
    """Runs a recorded episode again. Iterating gives the world at every frame, T + 1 in all.

    Args:
        recorded: the episode; it stays open while this is used.
        origin: where it comes from.
        renderer: what draws; it need not be what drew the recording.
        quality: `fast`, or `default` for shadows and multi-sampling.

    Raises:
        EpisodeError: the recording has no commands, or was not recorded in lock-step with the environment.
        ContractError: its contract does not fit the environment.
        ConfigError: there is no such environment.
    """

    def __init__(
        self,
        recorded: Episode,
        origin: Origin,
        *,
        renderer: RendererName = "auto",
        quality: Quality = "fast",
    ) -> None:
        self.origin = origin
        self._path, self._actions = recorded.path, _actions(recorded)
        self._vectors = frozenset(
            name
            for name, stream in recorded.contract.observations.items()
            if not stream.is_image and len(recorded.stream(name))
        )
        self._recorded = {name: recorded.stream(name).read() for name in self._vectors}
        self._truth = recorded.streams[TRUTH_STREAM].read() if TRUTH_STREAM in recorded.streams else None
        self._names = {name: recorded.stream(name).names or () for name in self._vectors}
        self._check_stamps(recorded)
        splits = get_args(Split) if origin.split is None else (origin.split,)
        for split in splits:
            env = make_env(
                origin.environment,
                horizon=len(self._actions),
                split=split,
                renderer=renderer,
                quality=quality,
                randomise=origin.randomise,
            )
            self.world = World(recorded.contract, env)
            self.world.reset(origin.seed, origin.episode)
            if split == splits[-1] or self._difference() is None:
                return
            self.world.close()

    def __iter__(self) -> Iterator[World]:
        """The world at every frame.

        Raises:
            EpisodeError: what is simulated is not what was recorded.
        """
        self.world.reset(self.origin.seed, self.origin.episode)
        for tick in range(len(self._actions) + 1):
            if tick:
                self.world.apply(self._actions[tick - 1])
            difference = self._difference()
            if difference is not None:
                raise EpisodeError(self._refusal(difference))
            yield self.world

    def __len__(self) -> int:
        """Frames: one more than there are commands."""
        return len(self._actions) + 1

    def close(self) -> None:
        """Free the environment."""
        self.world.close()

    def _check_stamps(self, recorded: Episode) -> None:
        """Frame k and command k stand at t_k, and nothing is missing."""
        steps, period_ns = len(self._actions), recorded.contract.period_ns
        expected = EPISODE_START_NS + period_ns * np.arange(steps + 1, dtype=np.int64)
        if not self._vectors:
            raise EpisodeError(
                f"{self._path}: it holds pictures alone, and no state to compare a simulation with. Record "
                "with a contract that has the stream 'state'."
            )
        commands = recorded.commands
        stamps = {name: recorded.stream(name).stamp_ns for name in sorted(self._vectors)}
        lockstep = commands is not None and np.array_equal(commands.stamp_ns, expected[:-1])
        for name, found in stamps.items():
            if not lockstep or not np.array_equal(found, expected):
                raise EpisodeError(
                    f"{self._path}: stream {name!r} has {len(found)} samples and the commands are "
                    f"{steps}, which do not stand at 1 s + k · {period_ns} ns: it was not recorded in "
                    "lock-step with its environment (a real robot, a real-time simulation, or edited), so "
                    "its commands do not say where the simulation was."
                )

    def _difference(self) -> tuple[str, NDArray[Any], NDArray[Any]] | None:
        """The first stream whose sample is not the recorded one, as (stream, recorded, simulated)."""
        world, tick = self.world, self.world.tick
        for name, now in sorted(world.samples(self._vectors).items()):
            then = self._recorded[name][tick]
            if then.tobytes() != np.asarray(now, dtype=then.dtype).tobytes():
                return name, then, np.asarray(now)
        if tick and self._truth is not None and len(self._truth) == len(self._actions):
            then = self._truth[tick - 1]
            if then.tobytes() != world.truth.astype(then.dtype).tobytes():
                return TRUTH_STREAM, then, world.truth
        return None

    def _refusal(self, difference: tuple[str, NDArray[Any], NDArray[Any]]) -> str:
        stream, then, now = difference
        entry = int(np.flatnonzero(np.asarray(then) != np.asarray(now, dtype=then.dtype))[0])
        names = self._names.get(stream, ("reward", "success"))
        tick, spec = self.world.tick, self.world.env.spec
        what = f"entry {entry}" + (f" ({names[entry]})" if entry < len(names) else "")
        cause = (
            "the goal is another one: write the --split, --seed and --episode that it was recorded with"
            if tick == 0
            else "other versions of the simulator, or another machine's arithmetic"
        )
        made = f"{spec.name}, seed {self.origin.seed}, episode {self.origin.episode}"
        by = f"recorded by {self.origin.source}, simulated by {spec.source}"
        return (
            f"{self._path}: at frame {tick} stream {stream!r}, {what}, was recorded as {then[entry]!r} and "
            f"is simulated as {now[entry]!r} ({made}, {by}). Pictures of it would not be pictures of this "
            f"episode, so none is drawn. Likely: {cause}."
        )


def _actions(recorded: Episode) -> NDArray[np.float64]:
    commands = recorded.commands
    if commands is None:
        raise EpisodeError(f"{recorded.path}: it holds no commands, so there is nothing to simulate again.")
    return commands.values
