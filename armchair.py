"""The front door: `armchair VERB …`. Each verb is a lazy import of the folder that owns it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from episodes.errors import ArmchairError, did_you_mean

VERSION = "0.1.0"


class Verb(NamedTuple):
    """Where a verb lives: `module` holds the frozen dataclass `config` and `main(config) -> int`."""

    module: str
    config: str
    help: str
    function: str = "main"
    in_simulation: bool = False
    """Whether the function takes `make_env` and `make_judge`, which make a simulation by name."""


VERBS = {
    "demo": Verb("bench.pipeline", "DemoConfig", "the whole loop on this machine, with a report"),
    "collect": Verb("sim.collect", "CollectConfig", "collect episodes in simulation"),
    "episodes": Verb("episodes.cli", "EpisodesConfig", "list, check, edit, view, import and export episodes"),
    "record": Verb(
        "ros_nodes.record", "RecordConfig", "record a robot: live table, single keys, SSH will do"
    ),
    "label": Verb(
        "reward.label", "LabelConfig", "let a judge compare or rate frames; label status|cost|export|import"
    ),
    "review": Verb(
        "reward.review.page", "ReviewConfig", "a page for people: answer, overrule judges, see agreement"
    ),
    "fit": Verb("reward.fit", "FitConfig", "fit a reward model to the labels"),
    "relabel": Verb("reward.relabel", "RelabelConfig", "write a reward label file for every episode"),
    "reward": Verb("reward.listing", "ListConfig", "the labellers of a dataset side by side"),
    "prepare": Verb(
        "episodes.prepare", "PrepareConfig", "write one aligned training file (robomimic layout)"
    ),
    "train": Verb("policy.train", "TrainConfig", "learn a policy offline", in_simulation=True),
    "diagnose": Verb(
        "policy.diagnosis.main",
        "DiagnoseConfig",
        "overfitting? underfitting? which checkpoint, what next",
        in_simulation=True,
    ),
    "export": Verb("policy.export", "ExportConfig", "export a checkpoint as an ONNX bundle"),
    "rollout": Verb("sim.rollout", "RolloutConfig", "evaluate a bundle in simulation, in process"),
    "sim": Verb("sim.verbs", "SimConfig", "simulated environments: list, show, render, collect, rollout"),
    "up": Verb("ros_nodes.up", "UpConfig", "run a ROS 2 stack: simulation, recording, deployment"),
}
SUBVERBS = {
    ("label", "status"): Verb("reward.label_store", "StatusConfig", "where the label sets stand", "status"),
    ("label", "cost"): Verb("reward.label_store", "CostConfig", "what the answers took", "cost"),
    ("label", "prices"): Verb("reward.label_store", "PricesConfig", "what 1,000 questions cost", "prices"),
    ("label", "export"): Verb("reward.label_store", "ExportConfig", "answers as JSON lines", "export"),
    ("label", "import"): Verb("reward.label_store", "ImportConfig", "merge answers in", "bring_in"),
    ("reward", "eval"): Verb(
        "reward.evaluate.main", "EvalConfig", "is the reward, and the judge behind it, any good?"
    ),
    ("sim", "list"): Verb("sim.listing", "ListConfig", "environments by family, and pictures of them"),
    ("sim", "show"): Verb("sim.show", "ShowConfig", "one environment: spaces, cameras, horizon, source"),
    ("sim", "render"): Verb(
        "sim.picture", "RenderConfig", "a still, a film, or a recording from another camera"
    ),
    ("sim", "collect"): Verb("sim.collect", "CollectConfig", "collect episodes in simulation"),
    ("sim", "rollout"): Verb("sim.rollout", "RolloutConfig", "evaluate a bundle in simulation, in process"),
    ("reward", "list"): Verb("reward.listing", "ListConfig", "the labellers of a dataset side by side"),
}
BENCHES = {
    "train": Verb(
        "bench.train", "TrainBenchConfig", "gradient steps per second beside d3rlpy, and waits for pictures"
    ),
    "demo": Verb("bench.demo", "DemoBenchConfig", "success of every leg over several seeds"),
    "learning": Verb(
        "bench.learning",
        "LearningBenchConfig",
        "learned rewards on three tasks, and what a policy makes of them",
    ),
    "soft-learning": Verb(
        "bench.soft_learning",
        "SoftLearningConfig",
        "ropes, cloths and water: rewards from pictures, and what policies make of them",
    ),
    "dataset": Verb(
        "bench.dataset", "DatasetBenchConfig", "reading windows and importing bags, beside robomimic"
    ),
    "record": Verb("bench.record", "RecordBenchConfig", "what recording takes, and what a kill costs"),
    "lockstep": Verb("bench.lockstep", "LockstepConfig", "ticks per second in lock-step over DDS"),
    "control": Verb(
        "bench.control", "ControlBenchConfig", "periods of the control loop, and from picture to command"
    ),
    "drills": Verb("bench.drills.main", "DrillsConfig", "from a fault to a standing arm, fault by fault"),
    "reward-models": Verb(
        "bench.reward_models", "RewardModelsConfig", "what each part of the reward recipe does"
    ),
    "sim": Verb(
        "bench.sim", "SimBenchConfig", "soft bodies against real time, frames and episodes per second"
    ),
    "label": Verb(
        "bench.label", "LabelBenchConfig", "questions per second to a paid judge, and what kills cost"
    ),
    "workflow": Verb(
        "bench.workflow", "WorkflowBenchConfig", "does the diagnosis of a run say what simulation says?"
    ),
    "clip": Verb("bench.clip", "ClipBenchConfig", "zero-shot rewards beside the bare forward of open_clip"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Exit codes: 0 done, 1 ran but failed, 2 a mistake to mend, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"armchair {VERSION}")
        return 0
    name, rest, table = words[0], words[1:], VERBS
    if name == "bench":
        if not rest or rest[0] in ("-h", "--help"):
            print(_table("armchair bench NAME: figures, as one JSON object on the last line", BENCHES))
            return 0
        name, rest, table = rest[0], rest[1:], BENCHES
    if table is VERBS and rest and (name, rest[0]) in SUBVERBS:
        return _run(f"{name} {rest[0]}", SUBVERBS[name, rest[0]], rest[1:])
    verb = table.get(name)
    if verb is None:
        print(f"armchair: there is no {name!r}; {did_you_mean(name, table)}", file=sys.stderr)
        return 2
    return _run(f"{'bench ' if table is BENCHES else ''}{name}", verb, rest)


def _run(title: str, verb: Verb, arguments: list[str]) -> int:
    # Threads that spin while they wait starve the other processes of a small machine: 133 against 25 steps/s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A shell without job control starts background jobs deaf to SIGINT, and every child with them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        module = importlib.import_module(verb.module)
        import tyro

        config = tyro.cli(getattr(module, verb.config), prog=f"armchair {title}", args=arguments)
        rest = {"make_env": _make_env, "make_judge": _make_judge} if verb.in_simulation else {}
        return int(getattr(module, verb.function)(config, **rest))
    except ArmchairError as error:
        print(f"armchair {title}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"\narmchair {title}: interrupted; what was finished is kept, the same command goes on.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _make_env(name: str, *, horizon: int) -> object:
    """What learning asks of a simulation (`policy.protocols.Env`), filled by one of ours."""
    from sim.make import make_env

    return make_env(name, horizon=horizon)


def _make_judge(env: str, *, contract: Path, streams: Sequence[str], **settings: Any) -> object:
    """What learning asks of rollouts (`policy.protocols.MakeJudge`), filled by our simulations."""
    from sim.judge import Judge, JudgeConfig

    return Judge(JudgeConfig(env, **settings), contract, streams)


def _overview() -> str:
    lines = [
        _table("armchair VERB …: record, let a vision-language model judge, learn offline, deploy", VERBS),
        "  bench      measure: " + ", ".join(BENCHES),
        "",
        "Each verb explains itself: armchair VERB --help. First time: armchair demo.",
    ]
    return "\n".join(lines)


def _table(title: str, table: dict[str, Verb]) -> str:
    return "\n".join([title, "", *(f"  {name:<10} {verb.help}" for name, verb in table.items())])


if __name__ == "__main__":
    sys.exit(main())
