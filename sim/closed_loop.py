"""A policy in the loop, in process, by the very code that runs on the robot.

Each tick goes through the causal aligner, the bundle's ONNX graph, the controller with its limits and the
environment, as the nodes do it in lock-step; a bundle scores the same here and over DDS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from episodes.align import Aligned, CausalAligner
from episodes.contract import Contract, Source
from policy.runtime.bundle import Bundle
from policy.runtime.chunks import Chunk
from policy.runtime.control import ControlConfig, Controller, Inputs
from policy.runtime.measured import Measured
from policy.runtime.state import Heartbeat
from sim.env import Env
from sim.evaluation import EpisodeResult
from sim.world import World


class RunsOnTicks(Protocol):
    """What `evaluate` needs of a policy; `policy.runtime.infer.Policy` has it."""

    bundle: Bundle

    @property
    def streams(self) -> tuple[str, ...]:
        """The observation streams that it reads."""
        ...

    def infer(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The action chunk (chunk, dim) for one observation."""
        ...


@dataclass(frozen=True)
class Film:
    """Which episodes to film, and how."""

    camera: str
    """Camera of the environment."""
    size: tuple[int, int] = (240, 240)
    """Height and width in pixels."""
    every: int = 2
    """Ticks per frame."""
    episodes: int = 1
    """The first so many."""


Shot = Callable[[int, int, NDArray[np.uint8]], None]
"""Called with episode, tick and frame (H, W, 3) of a filmed episode."""


def evaluate(
    env: Env,
    policy: RunsOnTicks,
    contract: Contract,
    seed: int,
    episodes: int | Sequence[int],
    render: Film | None = None,
    *,
    shot: Shot | None = None,
    control: ControlConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[EpisodeResult]:
    """Run a policy through alignment, inference, control and the environment.

    Args:
        env: made with the split of goals to evaluate on.
        policy: a bundle's policy.
        contract: the robot's contract, whose limits hold.
        seed: of the goals.
        episodes: how many (from 0), or which.
        render: what to film.
        shot: takes the filmed frames.
        control: settings of control.
        progress: called with (done, total).

    Returns:
        One result per episode. Success means at any step within the horizon; a fault of control ends an
        episode.

    Raises:
        ContractError: the contract does not fit the environment.
    """
    numbers = list(range(episodes)) if isinstance(episodes, int) else list(episodes)
    runner = _Runner(World(contract, env), policy, control)
    results = []
    for done, number in enumerate(numbers, start=1):
        filming = render if render is not None and done <= render.episodes else None
        results.append(runner.run(seed, number, filming, shot))
        if progress is not None:
            progress(done, len(numbers))
    return results


class _Runner:
    def __init__(self, world: World, policy: RunsOnTicks, control: ControlConfig | None) -> None:
        contract = world.contract
        self._world, self._policy, self._contract, self._control = world, policy, contract, control
        self._execute_ns = policy.bundle.manifest.chunk_execute * contract.period_ns
        self._aligned = (*dict.fromkeys((*policy.streams, contract.reference)),)
        controller = Controller(contract, control)
        self._measured = controller.measured_streams
        self._needed = frozenset((*self._aligned, *self._measured))

    def run(self, seed: int, episode: int, film: Film | None, shot: Shot | None) -> EpisodeResult:
        world, contract = self._world, self._contract
        streams = {name: contract.observations[name] for name in self._aligned}
        aligner = CausalAligner(streams, contract.reference)
        controller = Controller(contract, self._control)
        world.reset(seed, episode)
        clamps: Counter[str] = Counter()
        next_ns: int | None = None
        fault: str | None = None
        while not world.over:
            now_ns = world.stamp_ns
            self._shoot(film, shot, episode)
            samples = world.samples(self._needed)
            for name in self._aligned:
                aligner.push(name, samples[name], now_ns, now_ns)
            chunk = None
            if next_ns is None or now_ns >= next_ns:
                aligned = aligner.at(now_ns)
                if isinstance(aligned, Aligned):
                    actions = self._policy.infer(aligned.values)
                    chunk = Chunk(aligned.observation_ns, now_ns, contract.period_ns, actions, Source.POLICY)
                    next_ns = now_ns + self._execute_ns
            inputs = self._inputs(chunk, samples, now_ns)
            if world.tick == 0 and not (reply := controller.enable(now_ns, inputs)).accepted:
                fault = f"control could not be enabled: {reply.why}"
                break
            command = controller.tick(now_ns, inputs)
            clamps.update(command.clamps)
            if command.fault is not None or command.action is None:
                fault = command.fault.message if command.fault else "control sends nothing"
                break
            world.apply(command.action)
        else:
            self._shoot(film, shot, episode)
        return EpisodeResult(
            seed=seed,
            episode=episode,
            success=world.success_tick is not None,
            success_step=world.success_tick,
            return_=world.return_,
            steps=world.tick,
            clamps=dict(clamps),
            fault=fault,
        )

    def _inputs(self, chunk: Chunk | None, samples: dict[str, NDArray[Any]], now_ns: int) -> Inputs:
        return Inputs(
            chunk=chunk,
            measured={name: Measured(samples[name], now_ns) for name in self._measured},
            estop={name: Heartbeat(False, now_ns) for name in self._contract.estop},
            observation_ns=now_ns,
        )

    def _shoot(self, film: Film | None, shot: Shot | None, episode: int) -> None:
        if film is not None and shot is not None and self._world.tick % film.every == 0:
            shot(episode, self._world.tick, self._world.env.render(film.camera, *film.size))
