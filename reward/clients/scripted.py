"""The scripted teacher: a judge that knows the true performance and errs like a person.

B-Pref (Lee et al. 2021, "B-Pref: Benchmarking Preference-Based Reinforcement Learning", section 4):
stochastic preference with rationality β and myopia γ, mistakes with probability ε, skipped and equal pairs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, LabelError
from reward.clients.protocol import Errand, FreeJudge, Kind, Outcome, Question, Setting, Verdict


@dataclass(frozen=True)
class ScriptedConfig:
    """How the scripted teacher errs. Performances are in units of the environment's reward."""

    beta: float | None = None
    """Rationality of the Boltzmann teacher, P(second) = σ(β·(R2 − R1)); None answers by order alone."""
    gamma: float = 1.0
    """Myopia: weight γ^(L−1−t) of step t in a segment of L steps (no effect on single frames)."""
    mistakes: float = 0.1
    """Probability that the answer is the wrong way round, whatever the pair."""
    unsure_within: float = 0.2
    """Returns nearer than this: UNSURE, no label."""
    equal_within: float = 0.0
    """Returns nearer than this: TIE, a label of one half (tested after `unsure_within`)."""
    skip_below: float | None = None
    """Both returns below this: UNSURE, the teacher skips pairs that show nothing; None never skips."""
    seed: int = 0
    """Seed of mistakes and Boltzmann draws."""

    def __post_init__(self) -> None:
        if self.beta is not None and not self.beta > 0:
            raise ConfigError(
                f"beta {self.beta} is out of range: greater than 0, or None for a teacher by order."
            )
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"gamma {self.gamma} is out of range: 0 < gamma <= 1.")
        if not 0 <= self.mistakes < 0.5:
            raise ConfigError(f"mistakes {self.mistakes} is out of range: 0 <= mistakes < 0.5.")
        if self.unsure_within < 0 or self.equal_within < 0:
            raise ConfigError("unsure_within and equal_within are distances: 0 or greater.")


class ScriptedTeacher(FreeJudge):
    """Judge by true performance.

    The draw of an answer is fixed by the seed and the content of the two pictures, not by the order of the
    questions, so a run that was interrupted gives the labels of one that was not.
    """

    def __init__(self, config: ScriptedConfig, kind: Kind = Kind.PREFERENCE) -> None:
        """Prepare.

        Raises:
            ConfigError: for a kind of question that true performance alone does not answer.
        """
        if kind is not Kind.PREFERENCE:
            raise ConfigError(
                f"the scripted teacher compares pairs; for --question {kind.value} choose another judge."
            )
        self._config = config

    @property
    def name(self) -> str:
        """Always "scripted"."""
        return "scripted"

    @property
    def prompt_version(self) -> str:
        """No prompt."""
        return "none"

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The noise model."""
        return asdict(self._config)

    def ask(self, question: Question, errand: Errand) -> Verdict:
        """Answer by the true performance of both pictures.

        Raises:
            LabelError: a picture without true performance.
        """
        if (
            question.second is None
            or question.first.performance is None
            or question.second.performance is None
        ):
            raise LabelError(
                "the scripted teacher needs the true reward of every frame (the extra stream 'truth' of "
                "simulated episodes): label recordings of a real robot with --judge gemini or openai."
            )
        first = discounted_return(question.first.performance, self._config.gamma)
        second = discounted_return(question.second.performance, self._config.gamma)
        if not (math.isfinite(first) and math.isfinite(second)):
            raise LabelError(
                "a frame has no true performance (frame 0 of an episode never has): draw pairs from "
                "frames 1 to T."
            )
        outcome = teach(first, second, self._config, _uniforms(question, self._config.seed))
        return Verdict(outcome, f"true performance {first:.6g} and {second:.6g}")


def discounted_return(performance: NDArray[np.float64], gamma: float) -> float:
    """Σ_t γ^(L−1−t)·r_t of a segment of L steps."""
    weights = gamma ** np.arange(len(performance) - 1, -1, -1, dtype=np.float64)
    return float(weights @ performance)


def teach(first: float, second: float, config: ScriptedConfig, uniforms: tuple[float, float]) -> Outcome:
    """One answer of the noise model; `uniforms` in [0, 1) decide the Boltzmann draw and the mistake."""
    if config.skip_below is not None and max(first, second) < config.skip_below:
        return Outcome.UNSURE
    if abs(second - first) < config.unsure_within:
        return Outcome.UNSURE
    if abs(second - first) < config.equal_within or first == second:
        return Outcome.TIE
    if config.beta is None:
        says_second = second > first
    else:
        margin = config.beta * (second - first)
        says_second = uniforms[0] < (1 / (1 + math.exp(-margin)) if margin > -700 else 0.0)
    if uniforms[1] < config.mistakes:
        says_second = not says_second
    return Outcome.SECOND if says_second else Outcome.FIRST


def _uniforms(question: Question, seed: int) -> tuple[float, float]:
    text = f"{seed}:{':'.join(question.digests)}"
    if question.vote:
        text += f":{question.vote}"
    raw = hashlib.sha256(text.encode()).digest()
    scale = 2.0**-53
    return (
        (int.from_bytes(raw[:8], "little") >> 11) * scale,
        (int.from_bytes(raw[8:16], "little") >> 11) * scale,
    )
