"""From stage records to the figures of report.json, and the files of the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from armchair import VERSION
from bench.legs import Leg
from bench.report import write_report
from bench.stages import StageRecord
from episodes.contract import load_contract

TITLES = {
    "collect-ros": "collect the expert episodes over ROS 2",
    "collect": "collect the other episodes in process",
    "judge": "judge pairs and fit the reward model",
    "held-out": "collect held-out episodes",
    "quality": "measure the reward on them",
    "relabel": "relabel every episode",
    "prepare": "prepare the training file",
    "learn": "learn every policy",
    "export": "export their bundles",
    "evaluate": "evaluate them in process",
    "deploy": "deploy over ROS 2",
}


def figures_of(
    settings: Mapping[str, Any],
    legs: Sequence[Leg],
    records: Mapping[str, StageRecord],
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that report.json holds."""
    judged, evaluated = records["judge"].result, records["evaluate"].result
    last = judged["rounds"][-1]
    success = [
        {
            "leg": leg.name,
            "title": leg.title,
            "successes": evaluated["summary"][leg.name]["successes"],
            "episodes": evaluated["summary"][leg.name]["episodes"],
            "rate": evaluated["summary"][leg.name]["success_rate"],
            "interval": evaluated["summary"][leg.name]["success_interval"],
            "by_goal": [bool(result["success"]) for result in evaluated["results"][leg.name]],
        }
        for leg in legs
    ]
    deployed = records["deploy"].result if "deploy" in records else None
    quality = {**records["relabel"].result["quality"], "held_out_accuracy": last["held_out_accuracy"]}
    return {
        "armchair": VERSION,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": _task(Path(settings["contract"])),
        "seed": settings["seed"],
        "settings": dict(settings),
        "headline": _headline(success),
        "success": success,
        "deployment": deployed,
        "judge": {**judged, "summary": _judge_summary(judged)},
        "reward_quality": quality,
        "held_out_quality": records["quality"].result if "quality" in records else None,
        "runs": records["learn"].result["runs"],
        "bundles": records["export"].result["bundles"],
        "parity": records["export"].result["parity"]["iql-learned"],
        "stages": [
            {"name": r.name, "title": TITLES[r.name], "seconds": r.seconds, "reused": r.reused}
            for r in records.values()
        ],
        "warnings": [*quality.get("warnings", ()), *_warnings(deployed)],
        "machine": dict(machine),
    }


def write_figures(folder: Path, figures: Mapping[str, Any]) -> Path:
    """Write report.json and report.html into `folder`; the path of the page."""
    partial = folder / "report.json.partial"
    partial.write_text(json.dumps(figures, indent=1, default=str) + "\n")
    os.replace(partial, folder / "report.json")
    deployed = figures["deployment"]
    page = folder / "report.html"
    write_report(
        page,
        figures,
        filmstrip=Path(deployed["filmstrip"]) if deployed else None,
        video=Path(deployed["video"]) if deployed else None,
    )
    return page


def _task(contract: Path) -> str:
    simulation = load_contract(contract).simulation
    return "" if simulation is None else simulation.environment


def _headline(success: Sequence[Mapping[str, Any]]) -> str:
    by_leg = {leg["leg"]: leg for leg in success}
    learned, cloned = by_leg["iql-learned"], by_leg["bc"]
    return (
        f"IQL with the reward learned from judgements succeeds on {learned['successes']} of "
        f"{learned['episodes']} unseen goals; behaviour cloning of the same recordings on "
        f"{cloned['successes']}."
    )


def _judge_summary(judged: Mapping[str, Any]) -> str:
    last = judged["rounds"][-1]
    cost = f" for {judged['cost_usd']:.2f} USD" if judged["cost_usd"] else ""
    return (
        f"The {judged['judge']} judge compared {last['pairs']} pairs of frames in "
        f"{len(judged['rounds'])} rounds{cost}; {last['labelled']} answers became labels, "
        "in the others it saw no difference."
    )


def _warnings(deployed: Mapping[str, Any] | None) -> list[str]:
    if deployed is None or deployed["equal_in_process"]:
        return []
    return [f"the deployment differs from the same policy in process on goals {deployed['different_goals']}"]
