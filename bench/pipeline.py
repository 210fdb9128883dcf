"""The main job: record, judge, learn, export, deploy, report; every stage resumable. Verb `demo`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from bench import deployment, evaluation, held_out
from bench.legs import LEGS, Leg, complete, train_legs
from bench.machine import machine
from bench.stages import ProgressCallback, Stages, alone
from bench.summary import figures_of, write_figures
from episodes.errors import ConfigError
from sim.experts import Mix

if TYPE_CHECKING:
    from reward.rounds import RoundsConfig


@dataclass(frozen=True)
class DemoConfig:
    """Run the whole loop on this machine: collect, judge, learn, export, deploy over ROS 2, report.

    Finished stages are kept: the same command goes on where it was stopped.
    """

    out: Path = Path("runs/demo")
    """Folder of everything that the demo makes; the report is OUT/report.html."""
    seed: int = 0
    """Seed of goals, behaviours, pairs, networks and batches."""
    contract: Path = Path("launch/contracts/sawyer_sim.yaml")
    """Robot contract; its simulation section names the task and the camera."""
    judge: Literal["auto", "scripted", "gemini"] = "auto"
    """Who compares the pictures. auto: Gemini when GEMINI_API_KEY is set, else the scripted teacher."""
    episodes: int = 100
    """Episodes to collect."""
    mix: Mix = field(default_factory=Mix)
    """Who acts in them."""
    held_out: int = 0
    """Further episodes of the same mix to which no reward is fitted and from which no policy learns: the
    reward's quality is measured on them."""
    horizon: int = 150
    """Steps per episode."""
    pairs: tuple[int, ...] = (1500, 1500, 1500)
    """Pairs of frames that the judge compares, per round."""
    steps: int = 10_000
    """Gradient steps of each policy."""
    goals: int = 20
    """Unseen goals to evaluate on."""
    ros: bool = True
    """Record the expert episodes and deploy through ROS 2. Off: all in process, without a deployment."""
    workers: int = field(default_factory=lambda: max(1, min(4, len(os.sched_getaffinity(0)))))
    """Processes at a time."""

    def __post_init__(self) -> None:
        for name in ("episodes", "horizon", "steps", "goals", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: write 1 or more.")
        if self.held_out < 0:
            raise ConfigError(f"--held-out {self.held_out}: write 0 (none) or more.")


@dataclass
class Demo:
    """The stages and where their results lie."""

    config: DemoConfig
    stages: Stages
    legs: Sequence[Leg] = LEGS

    @property
    def data(self) -> Path:
        """The dataset."""
        return self.config.out / "data"

    @property
    def prepared(self) -> Path:
        """The training file."""
        return self.config.out / "train.h5"

    def run(self) -> dict[str, Any]:
        """Run every stage; the figures of report.json."""
        config, stages = self.config, self.stages
        began = time.monotonic()
        data_settings = {
            "seed": config.seed,
            "episodes": config.episodes,
            "horizon": config.horizon,
            "mix": asdict(config.mix),
            "contract": config.contract.read_text(),
        }
        collected: tuple[str, ...] = ("collect",)
        if config.ros:
            stages.run(
                "collect-ros",
                "collect: experts over ROS 2",
                data_settings,
                self._collect_ros,
                outputs=[self.data],
            )
            collected = ("collect-ros", "collect")
        stages.run(
            "collect", "collect: the others in process", data_settings, self._collect,
            after=collected[:-1], outputs=[] if config.ros else [self.data],
        )  # fmt: skip
        judge = asdict(self._rounds())
        model = self.config.out / "reward-model"
        stages.run(
            "judge",
            "judge pairs and fit the reward",
            judge,
            self._judge_and_fit,
            after=["collect"],
            outputs=[model],
        )
        if config.held_out:
            self._run_held_out(data_settings)
        stages.run("relabel", "relabel every episode", {}, self._relabel, after=["judge"])
        stages.run(
            "prepare",
            "prepare the training file",
            {},
            self._prepare,
            after=["relabel"],
            outputs=[self.prepared],
        )
        legs = {"steps": config.steps, "seed": config.seed, "legs": complete(self.legs)}
        runs, bundles = config.out / "runs", config.out / "bundles"
        stages.run(
            "learn", f"learn: {len(self.legs)} policies", legs, self._learn, after=["prepare"], outputs=[runs]
        )
        stages.run("export", "export ONNX bundles", {}, self._export, after=["learn"], outputs=[bundles])
        goals = {"goals": config.goals, "horizon": config.horizon}
        stages.run("evaluate", "evaluate on unseen goals", goals, self._evaluate, after=["export"])
        if config.ros:
            folder = config.out / "deployment"
            stages.run(
                "deploy", "deploy over ROS 2", goals, self._deploy, after=["evaluate"], outputs=[folder]
            )
        figures = figures_of(asdict(config), self.legs, stages.records, machine(self._renderer()))
        figures["wall_s"] = round(time.monotonic() - began, 1)
        return figures

    def _renderer(self) -> str:
        return str(self.stages.records["collect"].result["renderer"])

    def _judge(self) -> Literal["scripted", "gemini"]:
        if self.config.judge != "auto":
            return self.config.judge
        return "gemini" if os.environ.get("GEMINI_API_KEY") else "scripted"

    def _collect_ros(self, progress: ProgressCallback) -> dict[str, Any]:
        config = self.config
        return deployment.record_experts(
            self.data, config.contract, config.out / "ros-collect",
            episodes=config.episodes, mix=config.mix, horizon=config.horizon, seed=config.seed,
            progress=progress,
        )  # fmt: skip

    def _collect(self, progress: ProgressCallback) -> dict[str, Any]:
        from sim.collect import CollectConfig, collect

        config = self.config
        done = collect(
            CollectConfig(
                dataset=self.data, contract=config.contract, episodes=config.episodes, seed=config.seed,
                mix=config.mix, horizon=config.horizon, workers=config.workers,
            ),
            progress,
        )  # fmt: skip
        return {"recorded": len(done.recorded), "kept": len(done.kept), "renderer": done.renderer}

    def _run_held_out(self, data_settings: dict[str, Any]) -> None:
        config, data = self.config, self.config.out / "held-out"

        def collect(progress: ProgressCallback) -> dict[str, Any]:
            return held_out.collect(
                data, config.contract,
                episodes=config.held_out, seed=config.seed, mix=config.mix, horizon=config.horizon,
                workers=config.workers, progress=progress,
            )  # fmt: skip

        def measure(progress: ProgressCallback) -> dict[str, Any]:
            return held_out.measure(data, config.out / "reward-model", seed=config.seed, progress=progress)

        settings = {**data_settings, "episodes": config.held_out}
        self.stages.run("held-out", "collect held-out episodes", settings, collect, outputs=[data])
        self.stages.run("quality", "measure the reward on them", {}, measure, after=["judge", "held-out"])

    def _rounds(self) -> RoundsConfig:
        from reward.judging import JudgeConfig
        from reward.rounds import RoundsConfig

        return RoundsConfig(
            dataset=self.data, out=self.config.out / "reward-model", who=JudgeConfig(judge=self._judge()),
            pairs=self.config.pairs, seed=self.config.seed, labels="demo",
        )  # fmt: skip

    def _judge_and_fit(self, progress: ProgressCallback) -> dict[str, Any]:
        from reward.rounds import run

        result = run(self._rounds(), progress)
        rounds = [
            {"pairs": each.pairs, "labelled": each.labelled, "epochs": each.epochs, **each.quality.as_json()}
            for each in result.rounds
        ]
        return {"judge": self._judge(), "rounds": rounds, "calls": result.calls, "cost_usd": result.cost_usd}

    def _relabel(self, progress: ProgressCallback) -> dict[str, Any]:
        from reward.relabel import RelabelConfig, relabel

        done = relabel(RelabelConfig(self.data, reward=self.config.out / "reward-model"), progress)
        return {"labeller": done.labeller, "written": done.written, "quality": done.quality.as_json()}

    def _prepare(self, progress: ProgressCallback) -> dict[str, Any]:
        from episodes.prepare import prepare

        done = prepare(self.data, self.prepared, reward="truth", progress=progress, validation_fraction=0.0)
        return {"episodes": done.episodes, "transitions": done.transitions, "labellers": done.labellers}

    def _learn(self, progress: ProgressCallback) -> dict[str, Any]:
        config = self.config
        runs = train_legs(
            self.legs, config.out / "runs", self.prepared,
            steps=config.steps, seed=config.seed, workers=config.workers, progress=progress,
        )  # fmt: skip
        return {"runs": runs}

    def _export(self, progress: ProgressCallback) -> dict[str, Any]:
        from policy.export import ExportConfig, export

        bundles, parity = {}, {}
        for done, leg in enumerate(self.legs, start=1):
            bundle = export(
                ExportConfig(self.config.out / "runs" / leg.name, self.config.out / "bundles" / leg.name)
            )
            bundles[leg.name], parity[leg.name] = str(bundle.path), asdict(bundle.parity)
            progress(done, len(self.legs))
        return {"bundles": bundles, "parity": parity}

    def _evaluate(self, progress: ProgressCallback) -> dict[str, Any]:
        config = self.config
        bundles = {leg.name: config.out / "bundles" / leg.name for leg in self.legs}
        return evaluation.evaluate_legs(
            bundles, config.contract, seed=config.seed, goals=config.goals, horizon=config.horizon,
            workers=config.workers, progress=progress,
        )  # fmt: skip

    def _deploy(self, progress: ProgressCallback) -> dict[str, Any]:
        config = self.config
        return deployment.deploy(
            config.out / "bundles" / "iql-learned", config.contract, config.out / "deployment",
            goals=config.goals, horizon=config.horizon, seed=config.seed,
            in_process=self.stages.records["evaluate"].result["results"]["iql-learned"], progress=progress,
        )  # fmt: skip


def run_demo(config: DemoConfig, console: Console, legs: Sequence[Leg] = LEGS) -> dict[str, Any]:
    """Run the main job with these legs and return the figures of its report.

    Raises:
        MachineError: another demo runs in this folder.
    """
    with alone(config.out):
        return Demo(config, Stages(config.out, console), legs).run()


def main(config: DemoConfig) -> int:
    """Run the demo, write the report, print the success table last."""
    console = Console(highlight=False)
    console.print(f"[bold]armchair demo[/], seed {config.seed}, into {config.out}")
    figures = run_demo(config, console)
    report = write_figures(config.out, figures)
    table = Table("policy", "success on unseen goals", "95 % interval")
    for leg in figures["success"]:
        low, high = leg["interval"]
        table.add_row(leg["title"], f"{leg['successes']} of {leg['episodes']}", f"{low:.2f} to {high:.2f}")
    deployed = figures["deployment"]
    if deployed is not None:
        low, high = deployed["interval"]
        table.add_row(
            "IQL, learned reward, deployed over ROS 2",
            f"{deployed['successes']} of {deployed['episodes']}",
            f"{low:.2f} to {high:.2f}",
        )
    for warning in figures["warnings"]:
        console.print(f"[yellow]{warning}[/]")
    console.print(f"report: {report} ({figures['wall_s']:.0f} s)")
    console.print(table)
    return 0
