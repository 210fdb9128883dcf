"""Which judge, and what it is asked to look for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from episodes.dataset import Dataset, usable
from episodes.errors import ConfigError
from reward.ballots import VoteConfig
from reward.clients.gemini import GeminiConfig, gemini_judge
from reward.clients.gemini_legacy import GeminiLegacyConfig, gemini_legacy_judge
from reward.clients.openai_compatible import OpenAIConfig, openai_judge
from reward.clients.protocol import Judge, Kind, Task
from reward.clients.replay import Replay, ReplayConfig
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.clients.sending import SendConfig
from reward.clients.vlm import VlmConfig
from reward.prompting import goal_phrase

JudgeName = Literal["scripted", "gemini", "openai", "gemini-legacy", "replay"]


@dataclass(frozen=True)
class JudgeConfig:
    """Who judges."""

    judge: JudgeName = "scripted"
    """scripted: a teacher who knows the simulation's reward and errs. gemini: Google's models, paid per
    answer. openai: OpenAI's models, or any server that speaks their protocol (vLLM, Ollama, LM Studio).
    gemini-legacy: Gemini through google-generativeai. replay: labels that are there already."""
    question: Literal["preference", "score", "progress", "success"] = "preference"
    """preference: which of two is better. Of single frames: score from 0 to 1, progress from 1 to 5,
    success yes or no."""
    goal: str = ""
    """What the robot is to do, as it completes "The goal is …"; known for the published tasks."""
    vlm: VlmConfig = field(default_factory=VlmConfig)
    """How a vision-language model is asked."""
    send: SendConfig = field(default_factory=SendConfig)
    """How requests are sent to a paid judge."""
    scripted: ScriptedConfig = field(default_factory=ScriptedConfig)
    """How the scripted teacher errs."""
    gemini: GeminiConfig = field(default_factory=GeminiConfig)
    """Google's models."""
    openai: OpenAIConfig = field(default_factory=OpenAIConfig)
    """OpenAI's models and servers like theirs."""
    gemini_legacy: GeminiLegacyConfig = field(default_factory=GeminiLegacyConfig)
    """Gemini through google-generativeai, for those who still have it."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """Where remembered labels are."""

    @property
    def kind(self) -> Kind:
        """The question."""
        return Kind(self.question)


def make_judge(
    config: JudgeConfig,
    dataset: Dataset,
    *,
    layout: str = "",
    votes: VoteConfig | None = None,
    asks: bool = True,
) -> Judge:
    """The judge that `config` names.

    Args:
        config: who judges.
        dataset: its task has a goal.
        layout: how pictures are composed, for the judge.
        votes: how often it is asked the same.
        asks: False for a judge that only says what it would take: it needs no key.

    Raises:
        ConfigError: no goal is given, and none is known for the dataset's task; or votes that would all
        be the
            same.
        LabelError: there is no API key.
        MachineError: the provider's SDK is not installed.
    """
    several = votes is not None and votes.votes > 1
    if config.judge == "scripted":
        return ScriptedTeacher(config.scripted, config.kind)
    if config.judge == "replay":
        return Replay(config.replay, config.kind, config.goal)
    if several and config.vlm.temperature == 0:
        raise ConfigError(
            "--votes above 1 at temperature 0 buys the same answer again: give --vlm.temperature 0.7 or "
            "so, or --swap alone."
        )
    task = Task(config.goal or known_goal(dataset), config.kind, layout)
    key = None if asks else "none"
    if config.judge == "openai":
        return openai_judge(config.openai, task, config.vlm, config.send, key=key)
    if config.judge == "gemini-legacy":
        return gemini_legacy_judge(config.gemini_legacy, task, config.vlm, config.send, key=key)
    return gemini_judge(config.gemini, task, config.vlm, config.send, key=key)


def label_set_name(wanted: str, judge: Judge, kind: Kind = Kind.PREFERENCE) -> str:
    """Name of the label set that a judge's answers go to."""
    suffix = "" if kind is Kind.PREFERENCE else f"-{kind.value}"
    return wanted or judge.name.replace("/", "-").replace(":", "-") + suffix


def known_goal(dataset: Dataset) -> str:
    """The goal phrase of a dataset's task.

    Raises:
        ConfigError: none is known.
    """
    simulation = dataset.contract.simulation
    tasks = [simulation.environment] if simulation is not None else []
    tasks += sorted({str(info.attrs.get("task", "")) for info in usable(dataset)} - {""})
    for task in tasks:
        try:
            return goal_phrase(task)
        except ConfigError:
            continue
    return goal_phrase(tasks[0] if tasks else "")
