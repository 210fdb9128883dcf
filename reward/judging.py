"""Which judge, and what it is asked to look for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from episodes.dataset import Dataset, usable
from episodes.errors import ConfigError
from reward.clients.gemini import Gemini, GeminiConfig
from reward.clients.protocol import Judge
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.prompting import goal_phrase


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges."""

    judge: Literal["scripted", "gemini"] = "scripted"
    """scripted: a teacher who knows the simulation's reward and errs; gemini: Google's model, paid per
    answer."""
    goal: str = ""
    """What the robot is to do, as it completes "The goal is …"; known for the published tasks."""
    scripted: ScriptedConfig = field(default_factory=ScriptedConfig)
    """How the scripted teacher errs."""
    gemini: GeminiConfig = field(default_factory=GeminiConfig)
    """How Gemini is asked."""


def make_judge(config: JudgeConfig, dataset: Dataset) -> Judge:
    """The judge that `config` names.

    Raises:
        ConfigError: no goal is given, and none is known for the dataset's task.
        LabelError: there is no API key.
        MachineError: the provider's SDK is not installed.
    """
    if config.judge == "scripted":
        return ScriptedTeacher(config.scripted)
    return Gemini(config.gemini, config.goal or _known_goal(dataset))


def label_set_name(wanted: str, judge: Judge) -> str:
    """Name of the label set that a judge's answers go to."""
    return wanted or judge.name.replace("/", "-")


def _known_goal(dataset: Dataset) -> str:
    simulation = dataset.contract.simulation
    tasks = [simulation.environment] if simulation is not None else []
    tasks += sorted({str(info.attrs.get("task", "")) for info in usable(dataset)} - {""})
    for task in tasks:
        try:
            return goal_phrase(task)
        except ConfigError:
            continue
    return goal_phrase(tasks[0] if tasks else "")
