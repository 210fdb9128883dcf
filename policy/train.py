"""The verb `train`: prepared files and a configuration in, a run folder with checkpoints out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from episodes.errors import ConfigError, MachineError
from policy.accelerate import Acceleration, Reduced, accelerate
from policy.algorithms.gail import GAIL
from policy.checkpoint import Checkpoints
from policy.data import OfflineData, load_data
from policy.diagnosis.probe import PREFIX, evenly, probe
from policy.graph import PolicyGraph
from policy.live import Live
from policy.normalise import Normaliser
from policy.pictures import PictureSampler
from policy.prefetch import prefetched
from policy.protocols import Evaluate, MakeEnv, MakeJudge, PolicyLearner
from policy.ranks import ALONE, Ranks, joined
from policy.run import (
    CONTRACT_FILE,
    FILMS,
    TrainConfig,
    build_graph,
    check_same_run,
    observation_space,
    only_one,
    save_tower,
    write_run_files,
)
from policy.seeds import runs_of, train_seeds
from policy.settings import require, to_json
from policy.towers import Tower, features, load_checkpoint, tower_sha256
from policy.training import BatchSampler, LoopResult, TrainingInterrupted, run_loop
from policy.transitions import Transitions, gather

__all__ = ["TrainConfig", "main", "train"]

VALIDATION_ROWS, VALIDATION_PICTURES = 10_000, 256
"""Held-out transitions that an evaluation looks at, evenly spaced; more would make it felt in the speed."""


def train(
    config: TrainConfig,
    *,
    evaluate: Evaluate | None = None,
    make_env: MakeEnv | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = warnings.warn,
    ranks: Ranks = ALONE,
) -> LoopResult:
    """Train in `config.run`, from its newest checkpoint where it has one; a finished run returns at once.

    Args:
        evaluate: judges the policy at `loop.evaluate_every`, logged as `evaluate/<name>`.
        make_env: makes the environment that an algorithm tries its policy in.
        progress: called with (steps done, steps in all).
        warn: told what was asked for and cannot be had, such as `compile` without a compiler.
        ranks: the processes that train this run together, as `torchrun` starts them.

    Raises:
        ConfigError: a setting cannot work, or the folder holds checkpoints of another configuration (all
            differences are listed), or the training diverged.
        DatasetError: the prepared files are wrong.
        MachineError: no such device, or another process trains in this folder.
        TrainingInterrupted: a signal came; the state is kept.
    """
    require(config.num_threads >= 1, "num-threads", config.num_threads, "give 1 or more")
    require(
        config.precision == "fp32" or config.algo.name != "gail",
        "precision",
        config.precision,
        "GAIL's step takes second derivatives and compares small divergences; leave it at fp32",
    )
    require(
        not config.seeds, "seeds", config.seeds, "this trains one run; `armchair train` takes several seeds"
    )
    _check_ranks(config, ranks)
    require(
        not config.rollouts.env or evaluate is not None or not ranks.leads,
        "rollouts.env",
        config.rollouts.env,
        "rollouts are made by `armchair train`; who calls `train` gives `evaluate`",
    )
    device = _device(config.device, ranks)
    data = load_run_data(config)
    with only_one(config.run) if ranks.leads else nullcontext(), _threads(config.num_threads):
        tower, data = _through_tower(config, data, device)
        if Checkpoints(config.run / "checkpoints", 0).newest() is not None:
            check_same_run(config, data, ranks.count)
        elif ranks.leads:
            write_run_files(config, data, ranks.count)
            if tower is not None:
                save_tower(config.run, tower)
        ranks.agree("configuration or data", (to_json(replace(config, run=Path())), data.sha256))
        torch.manual_seed(config.seed)
        space = observation_space(config, data.streams, data.cameras, tower)
        learner = config.algo.build(space, data.contract.action_dim, device)
        normaliser = Normaliser(data.mean, data.std, config.data.std_floor)
        graph = build_graph(learner, data.contract, data.streams, data.cameras, normaliser, device, tower)
        rows = data.train.to(device).scaled(graph.normaliser, graph.action_range)
        held_out = None
        if data.valid is not None:
            held_out = _thin(data.valid).to(device).scaled(graph.normaliser, graph.action_range)

        looked_at = {"train": evenly(rows)} | ({} if held_out is None else {"valid": evenly(held_out)})

        def judge(step: int) -> Mapping[str, float]:
            figures = {} if held_out is None else _validate(learner, data, held_out)
            for split, some in looked_at.items():
                seen = some if data.pictures is None else data.pictures.observe(some)
                found = probe(learner, seen, gradients=split == "train")
                figures |= {f"{PREFIX}/{split}/{name}": value for name, value in found.items()}
            if evaluate is not None:
                figures |= {f"evaluate/{name}": value for name, value in evaluate(step, graph.act).items()}
            return figures

        accelerate(learner, Acceleration(config.compile, config.cuda_graphs, warn), config.algo.name, device)
        trained = Reduced(learner, config.precision)
        sampler = _sampler(config, data, rows, ranks)
        if not ranks.leads:
            # The weights are drawn alike everywhere; noise that is drawn alike would be less of it.
            torch.manual_seed((config.seed << 16) + ranks.rank)
        fetching = nullcontext(sampler) if data.pictures is None else prefetched(sampler)
        with _connected(learner, data, graph, make_env), fetching as batches:
            return run_loop(
                trained, batches, config.loop, config.run, evaluate=judge, progress=progress, ranks=ranks
            )


@contextmanager
def _connected(
    learner: PolicyLearner, data: OfflineData, graph: PolicyGraph, make_env: MakeEnv | None
) -> Iterator[None]:
    """Give a learner that tries its policy an environment, until the block ends."""
    if not isinstance(learner, GAIL) or make_env is None:
        yield
        return
    live = _live(learner.config.horizon, data, graph, make_env)
    learner.connect(live)
    with closing(live.env):
        yield


def _live(horizon: int, data: OfflineData, graph: PolicyGraph, make_env: MakeEnv) -> Live:
    simulation = data.contract.simulation
    if simulation is None:
        raise ConfigError(
            f"algo:gail: the contract of {data.contract.robot} names no simulation, and this algorithm has "
            "to try its policy somewhere. Use algo:oril, which learns from recordings alone."
        )
    env = make_env(simulation.environment, horizon=horizon)
    return Live(env, graph.normaliser, graph.action_range, tuple(data.streams))


def _through_tower(
    config: TrainConfig, data: OfflineData, device: torch.device
) -> tuple[Tower | None, OfflineData]:
    """The frozen tower of the run, and the data with its features behind the vectors."""
    if config.tower.kind == "none" or data.pictures is None:
        require(
            config.tower.kind == "none", "tower.kind", config.tower.kind, "name a camera in --data.streams"
        )
        return None, data
    tower = Tower(config.tower)
    load_checkpoint(tower, config.tower)
    sides = {}
    for name in ("train", "valid"):
        rows: Transitions | None = getattr(data, name)
        if rows is not None:
            here, ahead = features(tower, data.pictures, rows, device)
            sides[name] = rows._replace(
                observations=torch.cat((rows.observations, here), dim=1),
                next_observations=torch.cat((rows.next_observations, ahead), dim=1),
                frames=None,
                next_frames=None,
            )
    seen = sides["train"].observations.numpy()
    return tower, replace(
        data,
        **sides,
        pictures=None,
        mean=seen.mean(axis=0, dtype=np.float64),
        std=seen.std(axis=0, dtype=np.float64),
        tower_sha256=tower_sha256(tower),
    )


def load_run_data(config: TrainConfig, files: tuple[Path, ...] = ()) -> OfflineData:
    """The data of a run as its algorithm wants them, from `files` in the place of its own where given.

    Raises:
        DatasetError: the prepared files are wrong.
        ConfigError: settings that do not fit them.
    """
    algo = config.algo
    require(
        config.data.n_step == 1 or algo.experts != "beside",
        "data.n-step",
        config.data.n_step,
        f"{algo.name} makes its reward of single transitions: leave it at 1",
    )
    source = config.data if algo.uses_rewards else replace(config.data, reward="zero")
    if files:
        source = replace(source, files=files, prior=(), weights=())
    return load_data(
        source,
        discount=getattr(algo, "discount", 1.0),
        chunk=getattr(algo, "chunk", 1),
        experts=algo.experts != "ignored" and not files,
    )


def _sampler(
    config: TrainConfig, data: OfflineData, rows: Transitions, ranks: Ranks
) -> BatchSampler[Transitions]:
    weights, beside = data.weights, None
    if config.algo.experts != "ignored" and data.train.expert is not None:
        if config.algo.experts == "beside":
            beside = data.train.expert.nonzero().squeeze(-1)
        else:
            weights = data.train.expert * (1.0 if weights is None else weights)
    if data.pictures is None:
        return BatchSampler(rows, config.batch_size, config.seed, weights=weights, beside=beside, ranks=ranks)
    return PictureSampler(
        rows,
        config.batch_size,
        config.seed,
        data.pictures,
        config.encoder,
        weights=weights,
        beside=beside,
        ranks=ranks,
    )


def main(config: TrainConfig, *, make_env: MakeEnv | None = None, make_judge: MakeJudge | None = None) -> int:
    """Train with a progress bar, and say what came out; of several seeds as JSON on the last line.

    `make_env` as in `train`; `make_judge` makes the rollouts that `config.rollouts` asks for. Started by
    `torchrun`, all processes train one run, and the first of them speaks.
    """
    with joined(config.device) as ranks:
        if not ranks.leads:
            for one in runs_of(config) if config.seeds else [config]:
                train(one, make_env=make_env, ranks=ranks)
            return 0

        def train_one(one: TrainConfig) -> LoopResult:
            with rollouts_of(one, make_judge) as evaluate:
                return _train_with_bar(one, evaluate, make_env, ranks)

        if config.seeds:
            print(json.dumps(train_seeds(config, train_one)))
        else:
            train_one(config)
    return 0


@contextmanager
def rollouts_of(config: TrainConfig, make_judge: MakeJudge | None) -> Iterator[Evaluate | None]:
    """The judge of the rollouts that a run asks for, until the block ends; None where it asks for none."""
    wanted = config.rollouts
    if not wanted.env or make_judge is None:
        yield None
        return
    judge = make_judge(
        wanted.env,
        contract=config.run / CONTRACT_FILE,
        streams=config.data.streams,
        episodes=wanted.episodes,
        seed=wanted.seed,
        horizon=wanted.horizon,
        films=config.run / FILMS if wanted.video else None,
        camera=wanted.camera,
    )
    with closing(judge):
        yield judge


def _train_with_bar(
    config: TrainConfig, evaluate: Evaluate | None, make_env: MakeEnv | None, ranks: Ranks
) -> LoopResult:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"train {config.algo.name}", total=config.loop.steps)
            result = train(
                config,
                evaluate=evaluate,
                make_env=make_env,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                warn=lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True),
                ranks=ranks,
            )
    except TrainingInterrupted as stopped:
        console.print(f"[yellow]{stopped}[/]")
        raise
    table = Table("figure", "value")
    for name, value in result.metrics.items():
        table.add_row(name, f"{value:.4g}")
    out = Console()
    out.print(table)
    done = f"{result.step} steps"
    if result.resumed_from is not None:
        done += f", taken up at {result.resumed_from}"
    speed = f"{result.seconds:.1f} s, {result.steps_per_s:.0f} steps/s"
    out.print(f"{done}, {speed} -> {result.checkpoint}", soft_wrap=True)
    return result


def _check_ranks(config: TrainConfig, ranks: Ranks) -> None:
    if ranks.count == 1:
        return
    require(
        config.batch_size % ranks.count == 0,
        "batch-size",
        config.batch_size,
        f"{ranks.count} processes share every batch; give a multiple of that",
    )
    require(
        not config.cuda_graphs, "cuda-graphs", True, "a graph cannot wait for other processes; leave it out"
    )
    require(
        config.algo.name != "gail", "algo", "gail", "its step tries itself in one simulation; train it alone"
    )


def _device(name: str, ranks: Ranks) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError("--device cuda: torch finds no GPU here. Use --device cpu, or install the driver.")
    return torch.device(name, ranks.local) if name == "cuda" and ranks.count > 1 else torch.device(name)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have torch use `count` CPU threads; the thread count is part of what fixes a result bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _thin(rows: Transitions) -> Transitions:
    most = VALIDATION_ROWS if rows.frames is None else VALIDATION_PICTURES
    stride = -(-len(rows.rewards) // most)
    return gather(rows, torch.arange(0, len(rows.rewards), stride))


def _validate(learner: PolicyLearner, data: OfflineData, rows: Transitions) -> dict[str, float]:
    seen = rows if data.pictures is None else data.pictures.observe(rows)
    return {f"valid/{name}": float(value.mean()) for name, value in learner.validate(seen).items()}


class _Speed(ProgressColumn):
    """Steps per second of a progress bar."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} steps/s")
