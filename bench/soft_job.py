"""One task and data seed of bench `soft-learning`: record, judge, fit, relabel, learn, export, try."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import held_out
from bench.legs import complete, train_legs
from bench.soft_tasks import ACTORS, CAMERA, STREAMS, Sees, Task
from bench.soft_trials import SEED, Openings, try_all
from bench.stages import ProgressCallback, Stages
from sim.env import Split
from sim.softgym.task import PREFIX

if TYPE_CHECKING:
    from reward.rounds import RoundsConfig


@dataclass
class Job:
    """The stages, and where their results lie."""

    name: str
    """As in SoftGym's registry."""
    task: Task
    seed: int
    """Of recordings, pairs, networks and batches."""
    mistakes: float
    """How often the teacher's answer is the wrong way round."""
    sees: tuple[Sees, ...]
    """What the policies see; each has policies of its own on the same recordings and rewards."""
    split: Split
    """Openings to try policies on."""
    folder: Path
    stages: Stages
    workers: int

    @property
    def data(self) -> Path:
        """The recordings."""
        return self.folder / "data"

    @property
    def contract(self) -> Path:
        """The robot contract, made for the environment."""
        return self.folder / "contract.yaml"

    @property
    def openings(self) -> Openings:
        """Those to try: of data seed k the k-th lot of evaluation openings, or the training openings that
        follow the recorded ones."""
        goals, task = self.task.goals, self.task
        if self.split == "train":
            return Openings(self.name, self.seed, tuple(range(task.episodes, task.episodes + goals)), "train")
        return Openings(self.name, SEED, tuple(range(self.seed * goals, (self.seed + 1) * goals)), self.split)

    def run(self) -> dict[str, Any]:
        """Run every stage; the figures of this task and data seed."""
        task = self.task
        settings = {
            "task": self.name, "seed": self.seed, "episodes": task.episodes, "mix": asdict(task.mix),
            "size": task.size,
        }  # fmt: skip
        self._run("collect", "record", settings, self._collect, outputs=[self.data, self.contract])
        rounds = asdict(self._rounds())
        model = self.folder / "reward-model"
        self._run("judge", "judge pairs, fit the reward", rounds, self._judge, ["collect"], [model])
        self._run("relabel", "relabel every episode", {}, self._relabel, ["judge"])
        if task.held_out:
            apart = self.folder / "held-out"
            self._run(
                "held-out", "record others to measure it on", settings | {"episodes": task.held_out},
                self._held_out, ["collect"], [apart],
            )  # fmt: skip
            self._run("quality", "measure the reward on them", {}, self._quality, ["judge", "held-out"])
        for sees in self.sees:
            self._learn(sees)
        actors = {"openings": asdict(self.openings)}
        self._run("actors", "try chance and the script", actors, self._try_actors)
        return self._figures()

    def _learn(self, sees: Sees) -> None:
        task, folder = self.task, self.folder / sees
        stream, steps = STREAMS[sees], task.steps[sees]
        prepared, runs, bundles = folder / "train.h5", folder / "runs", folder / "bundles"
        options = ("--data.streams", stream, *task.options.get(sees, ()))

        def prepare(progress: ProgressCallback) -> dict[str, Any]:
            from episodes.prepare import prepare as write

            folder.mkdir(exist_ok=True)
            done = write(self.data, prepared, [stream], "truth", progress, validation_fraction=0.0)
            return {"episodes": done.episodes, "transitions": done.transitions}

        def learn(progress: ProgressCallback) -> dict[str, Any]:
            return {
                "runs": train_legs(
                    task.legs, runs, prepared, steps=steps, seed=self.seed, workers=self.workers,
                    progress=progress, options=options,
                )
            }  # fmt: skip

        def export(progress: ProgressCallback) -> dict[str, Any]:
            from policy.export import ExportConfig
            from policy.export import export as write

            parity = {}
            for done, leg in enumerate(task.legs, start=1):
                bundle = write(ExportConfig(runs / leg.name, bundles / leg.name))
                parity[leg.name] = asdict(bundle.parity)
                progress(done, len(task.legs))
            return {"parity": parity}

        def trials(progress: ProgressCallback) -> dict[str, Any]:
            made = {leg.name: bundles / leg.name for leg in task.legs}
            return try_all(made, (), self.contract, self.openings, workers=self.workers, progress=progress)

        how = {"steps": steps, "seed": self.seed, "legs": complete(task.legs), "options": list(options)}
        opened = {"openings": asdict(self.openings)}
        self._run(f"prepare-{sees}", f"prepare: {sees}", {}, prepare, ["relabel"], [prepared])
        self._run(f"learn-{sees}", f"learn from {sees}", how, learn, [f"prepare-{sees}"], [runs])
        self._run(f"export-{sees}", f"export: {sees}", {}, export, [f"learn-{sees}"], [bundles])
        self._run(f"try-{sees}", f"try: {sees}", opened, trials, [f"export-{sees}"])

    def _run(
        self,
        name: str,
        title: str,
        settings: dict[str, Any],
        work: Callable[[ProgressCallback], dict[str, Any]],
        after: list[str] | None = None,
        outputs: list[Path] | None = None,
    ) -> None:
        def timed(progress: ProgressCallback) -> dict[str, Any]:
            before = _processor_s()
            found = work(progress)
            return {"found": found, "processor_s": round(_processor_s() - before, 2)}

        self.stages.run(name, title, settings, timed, after=after or [], outputs=outputs or [])

    def found(self, stage: str) -> dict[str, Any]:
        """What a stage that ran came to."""
        found: dict[str, Any] = self.stages.records[stage].result["found"]
        return found

    def _collect(self, progress: ProgressCallback) -> dict[str, Any]:
        from sim.collect import CollectConfig, collect
        from sim.contracts import contract_text
        from sim.make import make_env

        env = make_env(PREFIX + self.name)
        text = contract_text(env.spec, (CAMERA,), (self.task.size, self.task.size))
        env.close()
        self.contract.write_text(text)
        done = collect(
            CollectConfig(
                dataset=self.data, contract=self.contract, episodes=self.task.episodes, seed=self.seed,
                mix=self.task.mix, workers=self.workers,
            ),
            progress,
        )  # fmt: skip
        return {"recorded": len(done.recorded), "kept": len(done.kept), "renderer": done.renderer}

    def _held_out(self, progress: ProgressCallback) -> dict[str, Any]:
        from sim.collect import CollectConfig, collect

        done = collect(
            CollectConfig(
                dataset=self.folder / "held-out", contract=self.contract, episodes=self.task.held_out,
                seed=held_out.SEED_OFFSET + self.seed, mix=self.task.mix, split="evaluation",
                workers=self.workers,
            ),
            progress,
        )  # fmt: skip
        return {"recorded": len(done.recorded), "kept": len(done.kept)}

    def _rounds(self) -> RoundsConfig:
        from reward.clients.scripted import ScriptedConfig
        from reward.fitting import RewardConfig
        from reward.judging import JudgeConfig
        from reward.rounds import RoundsConfig

        teacher = ScriptedConfig(
            mistakes=self.mistakes, unsure_within=self.task.unsure_within, seed=self.seed
        )
        return RoundsConfig(
            dataset=self.data, out=self.folder / "reward-model", who=JudgeConfig(scripted=teacher),
            pairs=self.task.pairs, seed=self.seed, labels="teacher", stream=CAMERA,
            model=RewardConfig(seed=self.seed),
        )  # fmt: skip

    def _judge(self, progress: ProgressCallback) -> dict[str, Any]:
        from reward.rounds import run

        rounds = run(self._rounds(), progress).rounds
        return {
            "rounds": [
                {"pairs": r.pairs, "labelled": r.labelled, "epochs": r.epochs, **r.quality.as_json()}
                for r in rounds
            ]
        }

    def _relabel(self, progress: ProgressCallback) -> dict[str, Any]:
        from reward.relabel import RelabelConfig, relabel

        done = relabel(RelabelConfig(self.data, reward=self.folder / "reward-model"), progress)
        return {"labeller": done.labeller, "quality": done.quality.as_json()}

    def _quality(self, progress: ProgressCallback) -> dict[str, Any]:
        model = self.folder / "reward-model"
        return held_out.measure(
            self.folder / "held-out", model, seed=self.seed, progress=progress,
            apart=self.task.unsure_within,
        )  # fmt: skip

    def _try_actors(self, progress: ProgressCallback) -> dict[str, Any]:
        openings = self.openings
        return try_all({}, tuple(ACTORS), self.contract, openings, workers=self.workers, progress=progress)

    def _figures(self) -> dict[str, Any]:
        records = self.stages.records
        trials: dict[str, Any] = {name: self.found("actors")[name] for name in ACTORS}
        for sees in self.sees:
            trials |= {f"{sees}/{leg}": found for leg, found in self.found(f"try-{sees}").items()}
        return {
            "task": self.name,
            "seed": self.seed,
            "settings": {**asdict(self.task), "mistakes": self.mistakes},
            "openings": asdict(self.openings),
            "trials": trials,
            "rounds": self.found("judge")["rounds"],
            "held_out_quality": self.found("quality") if "quality" in records else None,
            "parity": {sees: self.found(f"export-{sees}")["parity"] for sees in self.sees},
            "renderer": self.found("collect")["renderer"],
            "stages": [
                {"name": r.name, "wall_s": r.seconds, "processor_s": r.result["processor_s"]}
                for r in records.values()
            ],
        }


def _processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
